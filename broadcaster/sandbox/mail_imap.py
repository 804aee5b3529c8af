"""The mail system's mailbox server: IMAP4rev1 (RFC 3501) as far as a monitor or a small client needs it.

Spoken: CAPABILITY, NOOP, LOGOUT, STARTTLS, LOGIN, AUTHENTICATE PLAIN (SASL-IR, RFC 4959), SELECT, EXAMINE, CLOSE, SEARCH,
FETCH, STORE and EXPUNGE, with their UID forms (UIDPLUS, RFC 4315). Not spoken: other folders, APPEND, COPY, LIST, STATUS.
Strict: what is not in the grammar, or not spoken, is BAD; LOGIN before STARTTLS is refused (LOGINDISABLED).
"""

from __future__ import annotations

import base64
import binascii
import ssl
from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime

from broadcaster.sandbox import mail_search
from broadcaster.sandbox.mail_parse import Bad, Parser, literal_at_end
from broadcaster.sandbox.mail_post import Mailbox, Message, Post
from broadcaster.sandbox.mail_wire import TooLong, Wire

MAX_ERRORS = 10
MAX_REFUSALS = 3
"""Passwords that may be tried in one conversation."""
IDLE = 300.0
"""Seconds without a command; RFC 3501 §5.4 asks for 30 minutes, which no stand-in needs."""
_MAX_LINE = 8_192
_MAX_LITERAL = 8_192
_MAX_COMMAND = 32_768
_FLAGS = ("\\Answered", "\\Flagged", "\\Deleted", "\\Seen", "\\Draft")


class No(Exception):
    """The command is understood and refused; the text follows NO."""


class Goodbye(Exception):
    """The conversation ends; the first text follows "* BYE", others follow as they are."""


class Session:
    """One conversation. Sequence numbers are its own (§2.3.1.2): others' changes show at NOOP and the like only."""

    def __init__(self, wire: Wire, post: Post, context: ssl.SSLContext) -> None:
        self._wire = wire
        self._post = post
        self._context = context
        self._errors = self._refusals = 0
        self._user: str | None = None
        self._box: Mailbox | None = None
        self._writable = False
        self._seen: list[Message] = []

    async def serve(self) -> None:
        """Until the client says LOGOUT, goes, or makes too many mistakes."""
        await self._say(f"* OK [CAPABILITY {self._offers}] sandbox ready")
        try:
            while True:
                await self._one()
                if self._errors > MAX_ERRORS:
                    raise Goodbye("too many errors")
                if self._refusals >= MAX_REFUSALS:
                    raise Goodbye("too many wrong passwords")
        except Goodbye as goodbye:
            await self._say(f"* BYE {goodbye.args[0]}", *goodbye.args[1:])

    async def _say(self, *lines: str) -> None:
        await self._wire.write("".join(f"{line}\r\n" for line in lines).encode())

    @property
    def _offers(self) -> str:
        return "IMAP4rev1 SASL-IR UIDPLUS " + ("AUTH=PLAIN" if self._wire.secure else "STARTTLS LOGINDISABLED")

    # -- one command

    async def _one(self) -> None:
        """Reads a command and answers it."""
        tag = "*"
        try:
            parser = Parser(await self._whole_command())
            tag = parser.tag()
            parser.space()
            name = parser.atom().upper()
            if name == "UID":
                parser.space()
                name = "UID " + parser.atom().upper()
            command, needs = _COMMANDS.get(name, (None, ""))
            if command is None:
                raise Bad(f"unknown command {name}")
            if needs == "user" and self._user is None:
                raise Bad("sign in first")
            if needs == "box" and self._box is None:
                raise Bad("select a mailbox first")
            done = await command(self, parser, tag)
            if done is not None:
                await self._say(f"{tag} OK {done or name + ' completed'}")
        except No as refused:
            await self._say(f"{tag} NO {refused}")
        except Bad as fault:
            self._errors += 1
            await self._say(f"{tag} BAD {fault}")

    async def _whole_command(self) -> bytes:
        """A line with its literals, each as it came: "{3}", CR LF and three octets (§4.3). Raises Bad."""
        whole = line = await self._line()
        while (size := literal_at_end(line)) is not None:
            if size > _MAX_LITERAL or len(whole) + size > _MAX_COMMAND:
                raise Bad("literal too large")
            await self._say("+ go on")
            literal = await self._wire.exactly(size, IDLE)
            line = await self._line()
            whole += b"\r\n" + literal + line
        return whole

    async def _line(self) -> bytes:
        try:
            line = await self._wire.line(_MAX_LINE, IDLE)
        except TooLong:
            raise Bad("line too long") from None
        if not line.endswith(b"\r\n"):
            raise Goodbye("lines end in CR LF")
        return line[:-2]

    # -- in any state

    async def _capability(self, parser: Parser, _tag: str) -> str:
        parser.end()
        await self._say(f"* CAPABILITY {self._offers}")
        return ""

    async def _noop(self, parser: Parser, _tag: str) -> str:
        parser.end()
        await self._tell_changes()
        return ""

    async def _logout(self, parser: Parser, tag: str) -> str:
        parser.end()
        raise Goodbye("logging out", f"{tag} OK LOGOUT completed")

    # -- signing in

    async def _starttls(self, parser: Parser, tag: str) -> None:
        parser.end()
        if self._wire.secure or self._user is not None:
            raise Bad("encrypted already")
        if self._wire.pending:  # see CVE-2011-0411
            raise Goodbye("nothing may follow STARTTLS before its answer")
        await self._say(f"{tag} OK begin TLS")
        await self._wire.start_tls(self._context)

    async def _login(self, parser: Parser, _tag: str) -> str:
        parser.space()
        user = parser.astring()
        parser.space()
        password = parser.astring()
        parser.end()
        if not self._wire.secure:
            raise No("[PRIVACYREQUIRED] LOGIN is disabled before STARTTLS")
        return self._sign_in(user, password)

    async def _authenticate(self, parser: Parser, _tag: str) -> str:
        parser.space()
        method = parser.atom().upper()
        initial = None
        if not parser.at_end:
            parser.space()
            initial = parser.base64()
        parser.end()
        if not self._wire.secure:
            raise No("[PRIVACYREQUIRED] only after STARTTLS")
        if method != "PLAIN":
            raise No("no such mechanism")
        if initial is None:
            await self._say("+ ")
            initial = (await self._line()).decode("latin-1")
        try:
            parts = base64.b64decode("" if initial == "=" else initial, validate=True).decode().split("\0")
        except (binascii.Error, ValueError):
            raise Bad("not base64, or cancelled") from None
        if len(parts) != 3 or parts[0] not in ("", parts[1]):
            raise No("[AUTHENTICATIONFAILED] Authentication failed.")
        return self._sign_in(parts[1], parts[2])

    def _sign_in(self, user: str, password: str) -> str:
        if self._user is not None:
            raise Bad("signed in already")
        if not self._post.admits(user, password, "lookup"):
            self._refusals += 1
            raise No("[AUTHENTICATIONFAILED] Authentication failed.")
        self._user = user
        return f"[CAPABILITY {self._offers}] Logged in"

    # -- a mailbox

    async def _select(self, parser: Parser, _tag: str) -> str:
        return await self._open(parser, writable=True)

    async def _examine(self, parser: Parser, _tag: str) -> str:
        return await self._open(parser, writable=False)

    async def _open(self, parser: Parser, *, writable: bool) -> str:
        parser.space()
        name = parser.astring()
        parser.end()
        self._box, self._seen = None, []  # also where it fails (§6.3.1)
        if name.upper() != "INBOX":
            raise No(f"[NONEXISTENT] there is no folder {name}" if name.isprintable() else "[NONEXISTENT] no such folder")
        assert self._user is not None
        self._box, self._writable = self._post.boxes[self._user], writable
        self._seen = list(self._box.messages)
        await self._say(
            f"* FLAGS ({' '.join(_FLAGS)})",
            f"* OK [PERMANENTFLAGS ({' '.join(_FLAGS) if writable else ''})] limited",
            f"* {len(self._seen)} EXISTS",
            "* 0 RECENT",
            f"* OK [UIDVALIDITY {self._box.validity}] UIDs valid",
            f"* OK [UIDNEXT {self._box.next_uid}] predicted next UID",
        )
        return "[READ-WRITE] selected" if writable else "[READ-ONLY] examined"

    async def _close(self, parser: Parser, _tag: str) -> str:
        """Removes what is marked, and says nothing of it (§6.4.2)."""
        parser.end()
        assert self._box is not None
        if self._writable:
            self._box.remove([m for m in self._seen if "\\Deleted" in m.flags])
        self._box, self._seen = None, []
        return ""

    async def _tell_changes(self) -> None:
        """Messages that went, from the last on so that numbers stay right, and how many there are."""
        if self._box is None:
            return
        before = len(self._seen)
        for n in range(before, 0, -1):
            if self._seen[n - 1].gone:
                del self._seen[n - 1]
                await self._say(f"* {n} EXPUNGE")
        known = {id(m) for m in self._seen}
        new = [m for m in self._box.messages if id(m) not in known]
        if new:
            self._seen += new
            await self._say(f"* {len(self._seen)} EXISTS")

    # -- messages

    async def _search(self, parser: Parser, _tag: str) -> str:
        return await self._find(parser, uid=False)

    async def _uid_search(self, parser: Parser, _tag: str) -> str:
        return await self._find(parser, uid=True)

    async def _find(self, parser: Parser, *, uid: bool) -> str:
        parser.space()
        try:
            wanted = mail_search.program(parser)
        except mail_search.BadCharset:
            raise No("[BADCHARSET (US-ASCII UTF-8)] no such charset") from None
        numbered = list(enumerate(self._seen, 1))
        last = (len(numbered), numbered[-1][1].uid if numbered else 0)
        found = [m.uid if uid else n for n, m in numbered if not m.gone and wanted(mail_search.Candidate(n, m, last))]
        await self._say(" ".join(["* SEARCH", *map(str, found)]))
        return ""

    async def _fetch(self, parser: Parser, _tag: str) -> str:
        return await self._give(parser, uid=False)

    async def _uid_fetch(self, parser: Parser, _tag: str) -> str:
        return await self._give(parser, uid=True)

    async def _give(self, parser: Parser, *, uid: bool) -> str:
        parser.space()
        chosen = self._chosen(parser, uid=uid)
        parser.space()
        items = mail_search.items(parser)
        parser.end()
        if uid and "UID" not in [item.name for item in items]:
            items.insert(0, mail_search.Item("UID"))
        for n, message in chosen:
            if not message.gone:
                await self._wire.write(self._fetched(n, message, items))
        return ""

    def _fetched(self, n: int, message: Message, items: list[mail_search.Item]) -> bytes:
        parts = []
        if self._writable and any(item.marks_seen for item in items):
            message.flags.add("\\Seen")
        for item in items:
            if item.name == "UID":
                parts.append(b"UID %d" % message.uid)
            elif item.name == "FLAGS":
                parts.append(_flags(message))
            elif item.name == "INTERNALDATE":
                parts.append(b'INTERNALDATE "%s"' % _internal_date(message.at).encode())
            elif item.name == "RFC822.SIZE":
                parts.append(b"RFC822.SIZE %d" % len(message.raw))
            else:
                section = item.of(message)
                parts.append(b"%s {%d}\r\n%s" % (item.label.encode(), len(section), section))
        return b"* %d FETCH (%s)\r\n" % (n, b" ".join(parts))

    async def _store(self, parser: Parser, _tag: str) -> str:
        return await self._flag(parser, uid=False)

    async def _uid_store(self, parser: Parser, _tag: str) -> str:
        return await self._flag(parser, uid=True)

    async def _flag(self, parser: Parser, *, uid: bool) -> str:
        parser.space()
        chosen = self._chosen(parser, uid=uid)
        parser.space()
        what = parser.atom().upper()
        silent = what.endswith(".SILENT")
        if what.removesuffix(".SILENT") not in ("FLAGS", "+FLAGS", "-FLAGS"):
            raise Bad(f"unknown data item {what}")
        parser.space()
        flags = {_known(flag) for flag in parser.flags()}
        parser.end()
        self._insist_on_writing()
        for n, message in chosen:
            if what[0] == "F":
                message.flags = set(flags)
            elif what[0] == "+":
                message.flags |= flags
            else:
                message.flags -= flags
            if not silent:
                told = _flags(message) + (b" UID %d" % message.uid if uid else b"")
                await self._wire.write(b"* %d FETCH (%s)\r\n" % (n, told))
        return ""

    async def _expunge(self, parser: Parser, _tag: str) -> str:
        parser.end()
        return await self._remove(self._seen)

    async def _uid_expunge(self, parser: Parser, _tag: str) -> str:
        parser.space()
        chosen = self._chosen(parser, uid=True)
        parser.end()
        return await self._remove(m for _, m in chosen)

    async def _remove(self, messages: Iterable[Message]) -> str:
        self._insist_on_writing()
        assert self._box is not None
        self._box.remove([m for m in messages if "\\Deleted" in m.flags])
        await self._tell_changes()
        return ""

    def _insist_on_writing(self) -> None:
        if not self._writable:
            raise No("[READ-ONLY] the mailbox was opened for reading")

    def _chosen(self, parser: Parser, *, uid: bool) -> list[tuple[int, Message]]:
        """(number, message) of a sequence set. A number that there is not is BAD, a UID is merely not there (§6.4.8)."""
        wanted = parser.sequence_set()
        last = (self._seen[-1].uid if self._seen else 0) if uid else len(self._seen)
        if not uid and any(max(low or last, high or last) > last or not last for low, high in wanted):
            raise Bad("there is no message with this number")
        numbered = enumerate(self._seen, 1)
        return [(n, m) for n, m in numbered if mail_search.within(m.uid if uid else n, wanted, last)]


_Command = Callable[[Session, Parser, str], Awaitable[str | None]]
"""Takes the rest of the command and its tag; gives what follows OK, None where that is said already."""
_COMMANDS: dict[str, tuple[_Command, str]] = {
    "CAPABILITY": (Session._capability, ""),
    "NOOP": (Session._noop, ""),
    "LOGOUT": (Session._logout, ""),
    "STARTTLS": (Session._starttls, ""),
    "LOGIN": (Session._login, ""),
    "AUTHENTICATE": (Session._authenticate, ""),
    "SELECT": (Session._select, "user"),
    "EXAMINE": (Session._examine, "user"),
    "CLOSE": (Session._close, "box"),
    "SEARCH": (Session._search, "box"),
    "FETCH": (Session._fetch, "box"),
    "STORE": (Session._store, "box"),
    "EXPUNGE": (Session._expunge, "box"),
    "UID SEARCH": (Session._uid_search, "box"),
    "UID FETCH": (Session._uid_fetch, "box"),
    "UID STORE": (Session._uid_store, "box"),
    "UID EXPUNGE": (Session._uid_expunge, "box"),
}


def _known(flag: str) -> str:
    """A system flag as we write it. Raises No for \\Recent and for keywords, which PERMANENTFLAGS does not offer."""
    for known in _FLAGS:
        if known.upper() == flag.upper():
            return known
    raise No(f"flag {flag} cannot be set")


def _flags(message: Message) -> bytes:
    return b"FLAGS (%s)" % " ".join(sorted(message.flags)).encode()


_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")  # never a locale's


def _internal_date(at: float) -> str:
    """ "25-Nov-2025 09:10:00 +0000", the day in two places (§9 date-time)."""
    moment = datetime.fromtimestamp(at, UTC)
    return f"{moment.day:2}-{_MONTHS[moment.month - 1]}-{moment:%Y %H:%M:%S} +0000"
