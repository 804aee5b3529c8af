"""IMAP (RFC 3501, 9051) as far as a monitor speaks it: sign in, select, search, fetch, delete; every answer bounded.

Ours, because the library for asyncio, aioimaplib 2.0.3, does not fit: it is GPL-3.0-only; has no STARTTLS; leaves commands
waiting when the connection ends in the middle; keeps a greeting that never ends whole in memory; and raises a refused
greeting in a task that nobody awaits.
"""

import base64
import re
import secrets
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final

from broadcaster.domain.monitor import Verdict
from broadcaster.monitors import connecting, findings, lines, tls, words
from broadcaster.monitors.fields import Auth, Security
from broadcaster.monitors.findings import Code, Codes, Trouble, remaining, step
from broadcaster.monitors.lines import Lines, TooLong

#: RFC 8314 §3.2, RFC 3501.
PORTS: Final = {Security.TLS: 993, Security.STARTTLS: 143, Security.NONE: 143}
#: One command's answer at most: lines, and bytes.
_MOST_LINES: Final = 4_000
_MOST_BYTES: Final = 1_048_576

CODES: Final[Codes] = {
    **findings.CONNECTING,
    **findings.TLS,
    **findings.SIGNING_IN,
    "not_imap": Code(Verdict.FAILED, "What answers there does not speak IMAP."),
    "greeting_refused": Code(Verdict.FAILED, "The server greeted us with a refusal."),
    "starttls_missing": Code(Verdict.FAILED, "The server does not offer STARTTLS."),
    "select_refused": Code(Verdict.FAILED, "The server let us in, but would not open the folder."),
    "command_refused": Code(Verdict.FAILED, "The server refused one of our commands."),
}
#: RFC 5530 §3: the server's own trouble, not our password's.
_UNAVAILABLE: Final = re.compile(rb"\[(UNAVAILABLE|INUSE|LIMIT|SERVERBUG|CONTACTADMIN)\b", re.IGNORECASE)
_QUOTED: Final = re.compile(rb'"(?:[^"\\]|\\.)*"')
_LITERAL: Final = re.compile(rb"\{(\d{1,9})\+?\}$")


class Refused(Exception):
    """A tagged NO or BAD."""

    def __init__(self, text: bytes) -> None:
        super().__init__("refused")
        self.text = text


@dataclass(frozen=True, slots=True)
class Answer:
    """An untagged answer without its "* ". ``text``: the server's own, literals cut out; ``literals``: those, joined."""

    text: bytes
    literals: bytes


class Talk:
    """A conversation with one server. Each method raises Trouble. ``hide``: texts that never show, even if echoed."""

    def __init__(self, connection: Lines, host: str, hide: tuple[str, ...] = ()) -> None:
        self._lines = connection
        self._host = host
        self._hide = hide
        self._tag = secrets.token_hex(4).upper()  # not to be guessed by who slips text in before encryption
        self._count = 0
        self.capabilities: frozenset[str] = frozenset()

    def certificate_days(self, now: float) -> float | None:
        return tls.days_left_of(self._lines.transport, now)

    # Steps

    async def greet(self, until: float) -> None:
        async with self._step("greeting", until):
            line = (await self._lines.line()).upper()
            if line.startswith((b"* BYE", b"* NO")):
                raise Trouble("greeting_refused", detail={"said": words.printable(line[2:], self._hide)})
            if not line.startswith(b"* OK"):  # PREAUTH is no greeting for those who want to sign in
                raise Trouble("not_imap")

    async def encrypt(self, context: ssl.SSLContext, until: float) -> None:
        """STARTTLS (RFC 3501 §6.2.1)."""
        await self._ask_capabilities(until)
        if "STARTTLS" not in self.capabilities:
            raise Trouble("starttls_missing", detail={"at": "starttls"})
        async with self._step("starttls", until, "tls_failed"):
            await self._command("STARTTLS")
            await self._lines.start_tls(context, self._host)

    async def sign_in(self, auth: Auth, user: str, secret: str, until: float) -> None:
        """``secret``: the password, or the access token of XOAUTH2."""
        await self._ask_capabilities(until)
        method = "XOAUTH2" if auth is Auth.XOAUTH2 else "PLAIN"
        has_method = f"AUTH={method}" in self.capabilities
        if not has_method and (auth is Auth.XOAUTH2 or "LOGINDISABLED" in self.capabilities):
            raise Trouble("auth_not_offered", detail={"at": "auth"})
        async with self._step("auth", until, "auth_refused"):
            if has_method:
                await self._authenticate(method, xoauth2(user, secret) if auth is Auth.XOAUTH2 else plain(user, secret))
            else:
                await self._command("LOGIN", _string(user), _string(secret))
        await self._ask_capabilities(until)  # more may be offered to who is let in: UIDPLUS

    async def select(self, folder: str, until: float) -> int:
        """How many messages are in it."""
        async with self._step("select", until, "select_refused"):
            answer = await self._command("SELECT", _string(folder))
        exists = [int(found[1]) for each in answer if (found := re.match(rb"(\d{1,10}) EXISTS$", each.text, re.IGNORECASE))]
        return exists[-1] if exists else 0

    async def search(self, *criteria: bytes, until: float) -> list[int]:
        """UIDs, ascending. The NOOP before it lets the server tell of new messages."""
        async with self._step("search", until):
            await self._command("NOOP")
            answer = await self._command("UID SEARCH", *criteria)
        return sorted(_numbers(answer))

    async def header(self, uids: Sequence[int], name: str, until: float) -> dict[int, tuple[bytes, bytes]]:
        """uid -> INTERNALDATE and the raw lines of one header field; messages that went in the meantime are left out."""
        if not uids:
            return {}
        async with self._step("fetch", until):
            wanted = f"(UID INTERNALDATE BODY.PEEK[HEADER.FIELDS ({name})])".encode()
            answer = await self._command("UID FETCH", _set(uids), wanted)
        found = {}
        for each in answer:
            # A sender writes what is quoted or a literal: no UID may be read from there, or it could have another deleted.
            own = _QUOTED.sub(b'""', each.text)
            uid = re.search(rb"\bUID (\d{1,10})\b", own, re.IGNORECASE)
            date = re.search(rb'INTERNALDATE "([^"]{1,40})"', each.text, re.IGNORECASE)
            if uid and b"FETCH" in own.upper() and int(uid[1]) in uids:
                found[int(uid[1])] = (date[1] if date else b"", each.text + b"\r\n" + each.literals)
        return found

    async def delete(self, uids: Sequence[int], until: float) -> None:
        """Marks them and removes them for good. Never anything else: where the server cannot remove by UID (RFC 4315) and
        another message is marked too, ours stay marked for their owner's next clean-up."""
        if not uids:
            return
        async with self._step("delete", until):
            await self._command("UID STORE", _set(uids), rb"+FLAGS.SILENT (\Deleted)")
            if "UIDPLUS" in self.capabilities:
                await self._command("UID EXPUNGE", _set(uids))
                return
            marked = await self._command("UID SEARCH", b"DELETED")
            if _numbers(marked) <= set(uids):
                await self._command("EXPUNGE")

    async def logout(self, until: float) -> None:
        with suppress(Trouble):
            async with self._step("logout", until):
                await self._command("LOGOUT")

    # Commands and answers

    @asynccontextmanager
    async def _step(self, at: str, until: float, refused: str = "command_refused") -> AsyncIterator[None]:
        async with step(at, until):
            try:
                yield
            except Refused as error:
                raise self._refusal(at, refused, error.text) from None
            except ssl.SSLError:  # of a certificate it is a ValueError too
                raise
            except (TooLong, ValueError):
                raise Trouble("not_imap") from None

    def _refusal(self, at: str, code: str, text: bytes) -> Trouble:
        detail = {"at": at, "said": words.printable(text, self._hide)}
        if code == "auth_refused" and _UNAVAILABLE.search(text):
            return Trouble("auth_unavailable", detail=detail)
        return Trouble(code, detail=detail, refused=code == "auth_refused")

    async def _ask_capabilities(self, until: float) -> None:
        async with self._step("capability", until):
            answer = await self._command("CAPABILITY")
        offered = [each.text for each in answer if each.text[:10].upper() == b"CAPABILITY"]
        self.capabilities = frozenset(b" ".join(offered).decode("ascii", "replace").upper().split())

    async def _authenticate(self, method: str, response: bytes) -> None:
        """SASL, with the response at once where the server takes that (RFC 4959)."""
        encoded = base64.b64encode(response)
        if "SASL-IR" in self.capabilities:
            await self._command("AUTHENTICATE", method.encode(), encoded)
        else:
            await self._command("AUTHENTICATE", method.encode(), prompted=encoded)

    async def _command(self, name: str, *parts: bytes, prompted: bytes | None = None) -> list[Answer]:
        """Sends one command; its untagged answers. Raises Refused.

        Parts that are literals ("{3}" CR LF "abc") are sent when the server asks for them. ``prompted``: the answer to the
        first "+"; any further "+" (XOAUTH2's error) is answered with an empty line, so that the refusal comes.
        """
        self._count += 1
        tag = f"{self._tag}{self._count}".encode()
        pieces = b" ".join((tag, name.encode(), *parts)).split(b"\0")  # see _string
        self._lines.write(pieces.pop(0) + b"\r\n")
        waiting = pieces if prompted is None else [prompted, *pieces]
        answers: list[Answer] = []
        size = 0
        while True:
            line, literals = await self._whole_line()
            size += len(line) + len(literals)
            if size > _MOST_BYTES or len(answers) > _MOST_LINES:
                raise TooLong
            if line.startswith(b"+"):
                self._lines.write((waiting.pop(0) if waiting else b"") + b"\r\n")
            elif line.startswith(b"* "):
                answers.append(Answer(line[2:], literals))
                if line[2:5].upper() == b"BYE" and name != "LOGOUT":
                    raise ConnectionResetError
            elif line.startswith(tag + b" "):
                status, _, text = line[len(tag) + 1 :].partition(b" ")
                if status.upper() == b"OK":
                    return answers
                raise Refused(text)
            else:
                raise Trouble("not_imap")

    async def _whole_line(self) -> tuple[bytes, bytes]:
        """A line to its very end, and the literals (RFC 3501 §4.3) that were in it."""
        line, literals = await self._lines.line(), b""
        for _ in range(16):
            announced = _LITERAL.search(line)
            if announced is None:
                return line, literals
            literals += await self._lines.exactly(int(announced[1])) + b"\r\n"
            line = line[: announced.start()] + await self._lines.line()
        raise TooLong


def _numbers(answer: Sequence[Answer]) -> set[int]:
    """UIDs of a SEARCH."""
    return {int(n) for each in answer if each.text[:6].upper() == b"SEARCH" for n in each.text[6:].split() if n.isdigit()}


def plain(user: str, password: str) -> bytes:
    """SASL PLAIN (RFC 4616)."""
    return b"\0" + user.encode() + b"\0" + password.encode()


def xoauth2(user: str, token: str) -> bytes:
    """https://developers.google.com/workspace/gmail/imap/xoauth2-protocol"""
    return f"user={user}\1auth=Bearer {token}\1\1".encode()


def quoted(text: str) -> bytes:
    """A quoted string (RFC 3501 §9) of printable ASCII."""
    return b'"' + text.replace("\\", "\\\\").replace('"', '\\"').encode("ascii") + b'"'


def _string(text: str) -> bytes:
    """A quoted string, or a literal where it would not fit one. NUL marks where the server's "+" is awaited."""
    if text.isascii() and text.isprintable():
        return quoted(text)
    raw = text.encode()
    if b"\0" in raw:
        raise ValueError("no NUL in a string of IMAP")
    return b"{%d}\0" % len(raw) + raw


def _set(uids: Sequence[int]) -> bytes:
    return ",".join(map(str, uids)).encode()


@asynccontextmanager
async def talk(
    host: str, port: int, security: Security, context: ssl.SSLContext, until: float, hide: tuple[str, ...] = ()
) -> AsyncIterator[Talk]:
    """Connects, reads the greeting, encrypts; leaves with LOGOUT, and always closes."""
    sock = await connecting.connect(host, port, until)
    async with step("tls" if security is Security.TLS else "greeting", until):
        connection = await lines.over(sock, context if security is Security.TLS else None, host)
    try:
        conversation = Talk(connection, host, hide)
        await conversation.greet(until)
        if security is Security.STARTTLS:
            await conversation.encrypt(context, until)
        yield conversation
        await conversation.logout(until - max(remaining(until) - 1.0, 0.0))
    finally:
        connection.close()
