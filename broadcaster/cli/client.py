"""The command line's HTTP client: the public REST API, nothing else."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import click
import requests

from broadcaster.settings import Settings

TIMEOUT: Final = 15.0
KEY_FILE: Final = "cli.key"


class Refused(click.ClickException):
    """The API refused: its own sentence, exit code 2 (1 for a fault of the server's)."""

    def __init__(self, status: int, document: dict[str, Any]) -> None:
        super().__init__(str(document.get("detail") or document.get("title") or f"HTTP {status}"))
        self.status = status
        self.document = document

    exit_code = 2

    def __new__(cls, status: int, _document: dict[str, Any]) -> "Refused":
        return super().__new__(Broken if status >= 500 and cls is Refused else cls)


class Broken(Refused):
    """A fault of the server's."""

    exit_code = 1


class NoAnswer(click.ClickException):
    exit_code = 3


class Client:
    """Talks to ``url`` with an API key: BROADCASTER_API_KEY, else the one `broadcaster demo` left in the data directory."""

    def __init__(self, url: str, key: str) -> None:
        self.url = url.rstrip("/")
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.headers["Authorization"] = f"Bearer {key}"

    def call(self, method: str, path: str, **options: Any) -> Any:
        """The parsed answer; None where there is none. Raises Refused, NoAnswer."""
        answer = self._request(method, path, **options)
        return answer.json() if answer.content else None

    def lines(self, method: str, path: str, **options: Any) -> Iterator[dict[str, Any]]:
        """An NDJSON answer, line by line."""
        with self._request(method, path, stream=True, **options) as answer:
            for line in answer.iter_lines():
                if line:
                    yield json.loads(line)

    def parts(self, path: str, **options: Any) -> Iterator[bytes]:
        """An answer that may be large, as it comes."""
        with self._request("GET", path, stream=True, **options) as answer:
            yield from answer.iter_content(64 * 1024)

    def items(self, path: str, **query: str) -> Iterator[dict[str, Any]]:
        """A whole list, page by page."""
        cursor: str | None = None
        while True:
            page = self.call("GET", path, params={**query, **({"cursor": cursor} if cursor else {})})
            yield from page["items"]
            cursor = page["next_cursor"]
            if cursor is None:
                return

    def _request(self, method: str, path: str, **options: Any) -> requests.Response:
        options.setdefault("timeout", TIMEOUT)
        url = self.url + (path if path.startswith("/") else f"/api/v1/{path}")
        try:
            answer = self._session.request(method, url, allow_redirects=False, **options)
        except requests.RequestException as error:
            raise NoAnswer(
                f"No answer from {self.url} ({type(error).__name__}). Is it up? `broadcaster up` starts it."
            ) from None
        if answer.status_code >= 300:
            try:
                document = answer.json()
            except ValueError:
                document = {"detail": f"HTTP {answer.status_code} from {self.url}"}
            raise Refused(answer.status_code, document)
        return answer


def connect(settings: Settings, url: str | None, key: str | None) -> Client:
    """The client for this command. Raises UsageError where there is no key."""
    kept = settings.data_dir / KEY_FILE
    if not key and kept.exists():
        key = kept.read_text().strip()
    if not key:
        raise click.UsageError(
            "No API key. Set BROADCASTER_API_KEY, or make one with: broadcaster keys create NAME --scope alerts:send …"
        )
    return Client(url or settings.resolved_public_url, key)


def keep_key(path: Path, key: str) -> None:
    """Keeps a key for this user only."""
    path.touch(mode=0o600)
    path.write_text(key)
