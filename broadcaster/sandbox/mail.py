"""A small mail system on this machine, for monitors to look at: submission and a mailbox, and the faults they must notice.

Two TCP servers, on ports that stay the same while it runs. Both want STARTTLS; the certificate is made at the start and told
by `GET /_sandbox/mail`, with all else that a client has to know. Faults are in `mail_post`.
"""

from __future__ import annotations

import asyncio
import ssl
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from broadcaster.sandbox import credentials, mail_certificate, mail_imap, mail_smtp
from broadcaster.sandbox.faults import Faults
from broadcaster.sandbox.mail_post import Post
from broadcaster.sandbox.mail_wire import Wire

MOST_CONVERSATIONS: Final = 200
"""At one time, of each server."""
_Serve = Callable[[Wire], Awaitable[None]]


class Mail:
    """The whole system. `follow_faults` is called when faults may have changed."""

    def __init__(self, host: str, smtp_port: int, imap_port: int, faults: Faults) -> None:
        """Port 0 takes a free one."""
        self._host = host
        self._faults = faults
        self._post = Post(faults)
        self._certificate = ""
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._smtp = _Door("send", smtp_port, self._serve_smtp, b"421 4.7.0 Error: too many connections\r\n")
        self._imap = _Door("lookup", imap_port, self._serve_imap, b"* BYE too many connections\r\n")

    async def start(self) -> None:
        """Opens both ports. Raises OSError where one is taken."""
        self._certificate = _certify(self._context, self._host)
        try:
            await self._smtp.open(self._host)
            await self._imap.open(self._host)
        except OSError:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Closes both ports and cuts what is under way."""
        await self._smtp.close()
        await self._imap.close()

    def clear(self) -> None:
        """Every mailbox is empty."""
        self._post.clear()

    async def follow_faults(self) -> None:
        """Ports are as the faults in force want them, and what no fault keeps back any more is delivered. Raises OSError."""
        for door in (self._smtp, self._imap):
            if self._faults.has_mail("down", door.operation):
                await door.close()
            else:
                await door.open(self._host)
        self._post.release()

    def as_json(self) -> dict[str, Any]:
        """The body of `GET /_sandbox/mail`: how to use it, and what became of the messages."""
        user = credentials.MAIL_USER
        return {
            "smtp": {"host": self._host, "port": self._smtp.port, "open": self._smtp.is_open},
            "imap": {"host": self._host, "port": self._imap.port, "open": self._imap.is_open},
            "user": user,
            "password": credentials.MAIL_PASSWORD,
            "address": f"{user}@{credentials.MAIL_DOMAIN}",
            "certificate": self._certificate,
            "counts": {**self._post.counts, "held": self._post.held},
            "mailboxes": {user: len(box.messages) for user, box in self._post.boxes.items()},
        }

    async def _serve_smtp(self, wire: Wire) -> None:
        await mail_smtp.Session(wire, self._post, self._context).serve()

    async def _serve_imap(self, wire: Wire) -> None:
        await mail_imap.Session(wire, self._post, self._context).serve()


@dataclass(slots=True, eq=False)
class _Door:
    """One port, and the conversations that came through it."""

    operation: str
    port: int
    serve: _Serve
    full: bytes
    server: asyncio.Server | None = None
    wires: set[Wire] = field(default_factory=set)

    @property
    def is_open(self) -> bool:
        return self.server is not None

    async def open(self, host: str) -> None:
        """Once open, the port is always the same. Raises OSError."""
        if self.server is None:
            loop = asyncio.get_running_loop()
            self.server = await loop.create_server(lambda: Wire(self._converse), host, self.port)
            self.port = int(self.server.sockets[0].getsockname()[1])

    async def _converse(self, wire: Wire) -> None:
        if len(self.wires) >= MOST_CONVERSATIONS:
            await wire.write(self.full)
            return
        self.wires.add(wire)
        try:
            await self.serve(wire)
        finally:
            self.wires.discard(wire)

    async def close(self) -> None:
        """Nobody gets in, and who is in is cut off."""
        server, self.server = self.server, None
        if server is None:
            return
        server.close()
        tasks = [wire.task for wire in self.wires if wire.task is not None]
        for wire in list(self.wires):
            wire.abort()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()


def _certify(context: ssl.SSLContext, host: str) -> str:
    """Gives the context a key and a certificate of its own; the certificate as PEM. The key is nowhere else."""
    certificate, key = mail_certificate.make(host)
    with tempfile.TemporaryDirectory(prefix="sandbox-mail-") as folder:  # ssl reads files only; the folder is ours alone
        file = Path(folder) / "both.pem"
        file.write_text(certificate + key)
        context.load_cert_chain(file)
    return certificate
