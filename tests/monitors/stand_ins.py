"""Servers that misbehave, on loopback: what a stranger may do to whoever connects."""

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serving(handler: Handler, context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """The port of a server that treats each connection with ``handler``, then closes it. Ends with all its connections."""
    tasks: set[asyncio.Task[None]] = set()

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await handler(reader, writer)
        except OSError:
            pass
        finally:
            writer.transport.abort()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.get_running_loop().create_task(one(reader, writer)))

    server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def nobody() -> AsyncIterator[int]:
    """A port that refuses connections: bound, never listening."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


@asynccontextmanager
async def listening() -> AsyncIterator[int]:
    """A port whose connections the system takes; nobody ever looks at them."""
    with socket.create_server(("127.0.0.1", 0)) as held:
        yield held.getsockname()[1]


def says(*parts: bytes, then: Handler | None = None) -> Handler:
    """Says its parts one by one, each after the first when a line has come, then closes (or goes on as ``then``)."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for n, part in enumerate(parts):
            if n and not await reader.readline():
                return
            writer.write(part)
            await writer.drain()
        if then is not None:
            await then(reader, writer)

    return handler


def once_asked(handler: Handler) -> Handler:
    """Waits for a request of HTTP, then misbehaves."""

    async def asked(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await handler(reader, writer)

    return asked


async def closes(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
    """Takes the connection and closes it."""


async def resets(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A TCP reset."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def is_silent(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    """Listens for as long as the other side likes, and says nothing."""
    while await reader.read(65_536):
        pass


async def never_ends(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One line without an end."""
    while True:
        writer.write(b"A" * 65_536)
        await writer.drain()


def repeats(line: bytes) -> Handler:
    """The same line for ever."""

    async def handler(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(line * 1000)
            await writer.drain()

    return handler


GARBAGE: Final = bytes(range(256)) * 4 + b"\r\n"
