"""The sink that notes when each request came: ``python -m tests.bench.sink_server PORT``.

An asyncio protocol over httptools, no framework: it must not be what is measured. Times are ``time.monotonic``, which
all processes of a machine share. What comes under /watched is noted, the rest only counted.
"""

import asyncio
import json
import sys
import time
import uuid
from typing import Any, Final, cast
from urllib.parse import parse_qs

import httptools
import uvloop

from tests.bench.sink import EMPTY_PAGE, LOCATION, MESSAGE

_TWILIO: Final = json.dumps(MESSAGE, separators=(",", ":"))
_PAGE: Final = json.dumps(EMPTY_PAGE).encode()
_REFUSED: Final = json.dumps({"code": 20429, "message": "Too Many Requests", "more_info": "", "status": 429}).encode()


class Notes:
    """What came, and whether requests are refused just now."""

    def __init__(self) -> None:
        self.requests = 0
        self.arrivals: list[dict[str, Any]] = []
        self.refuse_until = 0.0
        self.retry_after = 0.0


class Connection(asyncio.Protocol):
    """One kept-alive connection."""

    def __init__(self, notes: Notes) -> None:
        self._notes = notes
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._url = b""
        self._body = b""
        self._watched = False

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    # httptools' side

    def on_message_begin(self) -> None:
        self._url = self._body = b""

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        assert self._transport is not None
        self._notes.requests += 1
        self._transport.write(self._answer(self._parser.get_method(), self._url.decode()))

    def _answer(self, method: bytes, url: str) -> bytes:
        path = url.partition("?")[0]
        self._watched, path = path.startswith("/watched/"), path.removeprefix("/watched")
        if path.startswith("/push/"):
            self._note("push", path, "")
            return _http(201, b"", f"Location: {LOCATION.replace('$id', uuid.uuid4().hex)}\r\n")
        if path.startswith("/twilio/"):
            return _http(200, _PAGE) if method == b"GET" else self._twilio()
        if path.startswith("/slack/"):
            return self._slack(path)
        return _http(200, self._own(path))

    def _twilio(self) -> bytes:
        form = {name: values[0] for name, values in parse_qs(self._body.decode()).items()}
        refused = time.monotonic() < self._notes.refuse_until
        self._note("refused" if refused else "sms", form.get("To", ""), form.get("Body", ""))
        if refused:
            return _http(429, _REFUSED, f"Retry-After: {self._notes.retry_after:g}\r\n")
        return _http(201, _TWILIO.replace("$id", uuid.uuid4().hex).encode())

    def _slack(self, path: str) -> bytes:
        if not path.endswith("/chat.postMessage"):
            return _http(200, b'{"ok":true}')
        self._note("slack", "", "")
        return _http(
            200, json.dumps({"ok": True, "channel": "D0BENCH", "ts": f"{time.time():.6f}.{uuid.uuid4().hex}"}).encode()
        )

    def _own(self, path: str) -> bytes:
        notes = self._notes
        if path == "/_arrivals":
            taken, notes.arrivals = notes.arrivals, []
            return json.dumps(taken).encode()
        if path == "/_refuse":
            asked = json.loads(self._body)
            now = time.monotonic()
            notes.refuse_until, notes.retry_after = now + asked["seconds"], asked["retry_after"]
            return json.dumps({"at": now}).encode()
        return f"server accepts handled requests\n 0 0 {notes.requests}\n".encode()

    def _note(self, kind: str, to: str, text: str) -> None:
        if self._watched:
            self._notes.arrivals.append({"at": time.monotonic(), "kind": kind, "to": to, "text": text})


def _http(status: int, body: bytes, headers: str = "") -> bytes:
    head = f"HTTP/1.1 {status} -\r\nContent-Length: {len(body)}\r\nContent-Type: application/json\r\n{headers}\r\n"
    return head.encode() + body


async def main() -> None:
    notes = Notes()
    server = await asyncio.get_running_loop().create_server(
        lambda: Connection(notes), "127.0.0.1", int(sys.argv[1]), backlog=4096
    )
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
