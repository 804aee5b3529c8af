"""One connection of the sandbox's mail servers: lines in, bytes out, both bounded.

What lives here: bytes, lines and TLS. What they mean is in `mail_smtp` and `mail_imap`.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

_HIGH = 65_536
"""Octets that may wait unread; beyond that we stop reading, and TCP stops the client."""


class Ended(Exception):
    """The client has gone, or said nothing for too long."""


class TooLong(Exception):
    """A line beyond its bound. It was read to its end and thrown away."""


class Wire(asyncio.Protocol):
    """`serve` is called with the connection, in a task of its own; when it returns the connection is closed."""

    def __init__(self, serve: Callable[[Wire], Awaitable[None]]) -> None:
        self._serve = serve
        self._buffer = bytearray()
        self._transport = cast("asyncio.Transport", None)
        self._ended = False
        self._reading = True
        self._read: asyncio.Future[None] | None = None
        self._room = asyncio.Event()
        self.secure = False
        self.task: asyncio.Task[None] | None = None

    # -- asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begins the conversation."""
        self._transport = cast("asyncio.Transport", transport)
        self._room.set()
        self.task = asyncio.get_running_loop().create_task(self._converse())

    def data_received(self, data: bytes) -> None:
        """Keeps what came; stops reading when nobody takes it."""
        self._buffer += data
        if len(self._buffer) > _HIGH and self._reading:
            self._reading = False
            self._transport.pause_reading()
        self._wake()

    def eof_received(self) -> bool:
        """What was sent before is still answered, where the connection can be open one way only: TLS cannot."""
        self._ended = True
        self._wake()
        return not self.secure

    def connection_lost(self, _error: Exception | None) -> None:
        """Whoever waits is told."""
        self._ended = True
        self._room.set()
        self._wake()

    def pause_writing(self) -> None:
        """The client reads more slowly than we write."""
        self._room.clear()

    def resume_writing(self) -> None:
        """It has caught up."""
        self._room.set()

    def _wake(self) -> None:
        if self._read is not None and not self._read.done():
            self._read.set_result(None)

    async def _converse(self) -> None:
        try:
            await self._serve(self)
        except (Ended, TooLong, ssl.SSLError, OSError):
            pass  # a client that goes, or does not speak TLS, is no fault of ours
        finally:
            self._transport.close()

    # -- the server's side

    async def line(self, longest: int, seconds: float) -> bytes:
        """The next line with its end. Raises `Ended` after `seconds` without one, and `TooLong`."""
        too_long = False
        async with _patience(seconds):
            while (end := self._buffer.find(b"\n")) < 0:
                if len(self._buffer) >= longest:
                    too_long = True
                    self._buffer.clear()
                await self._more()
        found = bytes(self._buffer[: end + 1])
        del self._buffer[: end + 1]
        if too_long or len(found) > longest:
            raise TooLong
        return found

    async def exactly(self, count: int, seconds: float) -> bytes:
        """The next `count` octets. Raises `Ended`."""
        async with _patience(seconds):
            while len(self._buffer) < count:
                await self._more()
        found = bytes(self._buffer[:count])
        del self._buffer[:count]
        return found

    async def _more(self) -> None:
        if self._ended:
            raise Ended
        if not self._reading:
            self._reading = True
            self._transport.resume_reading()
        self._read = asyncio.get_running_loop().create_future()
        try:
            await self._read
        finally:
            self._read = None

    async def write(self, data: bytes) -> None:
        """Sends, and waits while the client lags behind. Raises `Ended`."""
        self._transport.write(data)
        async with _patience(60):
            await self._room.wait()
        if self._transport.is_closing():
            raise Ended

    @property
    def pending(self) -> bool:
        """Whether something came that was not read yet."""
        return bool(self._buffer)

    async def start_tls(self, context: ssl.SSLContext) -> None:
        """From here on encrypted, as the server. Raises `Ended`, ssl.SSLError, OSError."""
        loop = asyncio.get_running_loop()
        secured: Any = await loop.start_tls(self._transport, self, context, server_side=True, ssl_handshake_timeout=10)
        if secured is None:
            raise Ended
        self._transport = secured
        self.secure = True

    def abort(self) -> None:
        """At once, whatever is under way."""
        if self.task is not None:
            self.task.cancel()
        self._transport.abort()


@asynccontextmanager
async def _patience(seconds: float) -> AsyncIterator[None]:
    """`asyncio.timeout`, whose end is that of the conversation."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise Ended from None
