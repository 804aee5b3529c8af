"""Errors that a caller can do something about. Each becomes an RFC 9457 problem document, or one sentence in the CLI.

``Problem`` and its children are the whole list; ``slug`` is the stable end of the document's ``type``.
"""

from typing import Any, ClassVar


class Problem(Exception):
    """One sentence that says what is wrong and what to do. ``extra`` becomes members of the problem document."""

    status: ClassVar[int] = 400
    slug: ClassVar[str] = "bad-request"
    title: ClassVar[str] = "The request cannot be read"

    def __init__(self, detail: str, **extra: Any) -> None:
        super().__init__(detail)
        self.detail = detail
        self.extra = extra


class Invalid(Problem):
    status, slug, title = 422, "invalid", "The request is not valid"


class NotSignedIn(Problem):
    status, slug, title = 401, "unauthorized", "A valid API key is needed"


class Forbidden(Problem):
    status, slug, title = 403, "forbidden", "This API key may not do that"


class NotFound(Problem):
    status, slug, title = 404, "not-found", "There is no such thing here"


class Conflict(Problem):
    status, slug, title = 409, "conflict", "It does not fit what is already there"


class TooLarge(Problem):
    status, slug, title = 413, "too-large", "The request is too large"


class KeyReused(Problem):
    status, slug, title = 422, "idempotency-key-reused", "This Idempotency-Key came with another body before"


class Unavailable(Problem):
    """Not now; repeating it later may help. ``retry_after`` is in seconds."""

    status, slug, title = 503, "unavailable", "Not now"

    def __init__(self, detail: str, retry_after: int = 2, **extra: Any) -> None:
        super().__init__(detail, **extra)
        self.retry_after = retry_after


class TooMany(Unavailable):
    status, slug, title = 429, "too-many", "Too many requests"
