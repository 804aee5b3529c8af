"""A connection that talks in lines, with bounds: no stranger can fill our memory or keep us reading.

What lives here: bytes and lines. What does not: what they mean (``imap_talk``, ``tcp``).
"""

import asyncio
import socket
import ssl
from typing import Any, Final

from broadcaster.monitors.findings import Trouble

#: Reading stops above this many unread bytes.
HIGH: Final = 65_536


class TooLong(Exception):
    """A line, or an answer, beyond its bound."""


class Lines(asyncio.Protocol):
    """One connection. ``line`` and ``exactly`` raise OSError or EOFError when it ends, and TooLong."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._transport: Any = None
        self._waiter: asyncio.Future[None] | None = None
        self._ended = False
        self._error: Exception | None = None
        self._paused = False

    @property
    def transport(self) -> asyncio.Transport:
        transport: asyncio.Transport = self._transport
        return transport

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if len(self._buffer) > HIGH and not self._paused:
            self._paused = True
            self._transport.pause_reading()
        self._wake()

    def eof_received(self) -> bool:
        self._ended = True
        self._wake()
        return False

    def connection_lost(self, error: Exception | None) -> None:
        self._ended, self._error = True, error
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # Our side

    async def line(self, longest: int = 8192) -> bytes:
        """Up to the next line feed, without CR and LF."""
        while (end := self._buffer.find(b"\n", 0, longest + 2)) < 0:
            if len(self._buffer) > longest:
                raise TooLong
            await self._more()
        found = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return found.rstrip(b"\r")

    async def exactly(self, count: int) -> bytes:
        """The next ``count`` bytes, at most 64 KiB."""
        if count > HIGH:
            raise TooLong
        while len(self._buffer) < count:
            await self._more()
        found = bytes(self._buffer[:count])
        del self._buffer[:count]
        return found

    async def until(self, wanted: bytes, longest: int) -> bytes:
        """What has come once ``wanted`` is in it, ``longest`` bytes have come, or the other side has closed."""
        while wanted not in self._buffer and len(self._buffer) < longest:
            try:
                await self._more()
            except EOFError:
                break
        return bytes(self._buffer[:longest])

    def seen(self) -> bytes:
        """What has come and was not read."""
        return bytes(self._buffer)

    def write(self, data: bytes) -> None:
        self._transport.write(data)

    async def start_tls(self, context: ssl.SSLContext, host: str) -> None:
        """From here on encrypted. What came before in clear must have been read: it may be an intruder's (RFC 3207 §4.2,
        CVE-2011-0411)."""
        if self._buffer:
            raise Trouble(
                "tls_failed", "The server sent text between the end of plain text and the beginning of encryption."
            )
        loop = asyncio.get_running_loop()
        secured = await loop.start_tls(self._transport, self, context, server_hostname=host)
        if secured is None:
            raise ConnectionResetError
        self._transport = secured

    def close(self) -> None:
        """At once; a server that does not answer our goodbye must not keep a socket of ours."""
        if self._transport is not None:
            self._transport.abort()

    async def _more(self) -> None:
        if self._ended:
            raise self._error or EOFError
        if self._paused:
            self._paused = False
            self._transport.resume_reading()
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None


async def over(sock: socket.socket, context: ssl.SSLContext | None = None, host: str | None = None) -> Lines:
    """Lines over a connected socket, encrypted from the start if a context is given. The socket is closed on any fault."""
    loop = asyncio.get_running_loop()
    try:
        _, lines = await loop.create_connection(
            Lines, sock=sock, ssl=context, server_hostname=host if context is not None else None
        )
    except BaseException:
        sock.close()
        raise
    return lines
