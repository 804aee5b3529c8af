"""No request body is read beyond what its route could want: without a key, memory must not be anybody's to fill."""

from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from broadcaster.api.problems import document
from broadcaster.domain.errors import TooLarge

LIMIT: Final = 1 << 20  # bytes; the largest alert is below 700 kB (10,000 named people)
_STREAMED: Final = ("/api/v1/recipients/import",)  # checks its key first and spools to disk


class BodyLimit:
    """ASGI middleware: 413 for a declared length above the limit; an undeclared one is cut off there (400)."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in _STREAMED:
            await self._app(scope, receive, send)
            return
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > LIMIT:
            await document(TooLarge("A request is at most 1 MiB; people come by import."))(scope, receive, send)
            return
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > LIMIT:
                raise TooLarge("A request is at most 1 MiB; people come by import.")
            return message

        await self._app(scope, counted, send)
