"""The mail system's submission server: RFC 6409 over RFC 5321, with STARTTLS, AUTH PLAIN and LOGIN, SIZE and PIPELINING.

Strict where servers are strict: an unknown command is 500, a wrong argument 501, a wrong order 503; nothing but EHLO, NOOP,
STARTTLS and QUIT before encryption (RFC 3207 §4), nothing is taken in without signing in, only lines that end in CR LF
(a bare LF is how messages are smuggled: CVE-2023-51764), and only an account's own address as the sender.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
import secrets
import ssl
from collections.abc import Awaitable, Callable

from broadcaster.sandbox import credentials
from broadcaster.sandbox.mail_post import Full, Post
from broadcaster.sandbox.mail_wire import TooLong, Wire

NAME = "sandbox.invalid"
MAX_MESSAGE = 1_048_576
"""Octets, announced as SIZE (RFC 1870)."""
MAX_RECIPIENTS = 100
MAX_ERRORS = 10
"""Refusals in one conversation; a client beyond that is a fault, or guesses passwords."""
IDLE = 60.0
"""Seconds without a line."""
_MAX_COMMAND = 2_048
_MAX_AUTH = 12_288
_MAX_TEXT = 1_000
"""As long as Postfix reads; RFC 4954 §4; RFC 5321 §4.5.3.1.6. Each with its line end."""

_DOMAIN = r"[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*"
_HELLO = re.compile(rf"(?P<name>{_DOMAIN})|\[(?P<literal>[0-9A-Fa-f:.]+|IPv6:[0-9A-Fa-f:.]+)\]")
_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_PATH = rf"<(?P<address>{_ATOM}(\.{_ATOM})*@{_DOMAIN})>"
_MAIL = re.compile(rf"FROM:({_PATH}|<>)(?P<parameters>( [A-Za-z0-9][A-Za-z0-9-]*(=[\x21-\x3c\x3e-\x7e]+)?)*)", re.IGNORECASE)
_RCPT = re.compile(rf"TO:{_PATH}(?P<parameters>( [^ ]+)*)", re.IGNORECASE)

BAD_SYNTAX = "501 5.5.4 Syntax: {}"
_REFUSED = "535 5.7.8 Error: authentication failed"
_TOO_BIG = f"552 5.3.4 Message size exceeds the limit of {MAX_MESSAGE} octets"


class Goodbye(Exception):
    """The conversation ends; the text is the last reply."""


class Session:
    """One conversation."""

    def __init__(self, wire: Wire, post: Post, context: ssl.SSLContext) -> None:
        self._wire = wire
        self._post = post
        self._context = context
        self._errors = 0
        self._begin()

    def _begin(self) -> None:
        """As after connecting, and again after STARTTLS: what was said in clear counts for nothing."""
        self._hello = ""
        self._extended = False
        self._user: str | None = None
        self._reset()

    def _reset(self) -> None:
        self._sender: str | None = None
        self._recipients: list[str] = []

    async def serve(self) -> None:
        """Until the client says QUIT, goes, or makes too many mistakes."""
        await self._say(f"220 {NAME} ESMTP sandbox")
        try:
            while True:
                reply = await self._answer(await self._command())
                if reply:
                    await self._say(reply)
                if reply[:1] in ("4", "5"):
                    self._errors += 1
                    if self._errors > MAX_ERRORS:
                        raise Goodbye("421 4.7.0 Error: too many errors")
        except Goodbye as goodbye:
            await self._say(str(goodbye))

    async def _say(self, *lines: str) -> None:
        await self._wire.write("".join(f"{line}\r\n" for line in lines).encode())

    async def _command(self) -> str | None:
        """One command line without its end; None: it was too long. Raises Goodbye for one that ends otherwise."""
        try:
            return _ended(await self._wire.line(_MAX_COMMAND, IDLE)).decode("latin-1")
        except TooLong:
            return None

    async def _answer(self, line: str | None) -> str:
        """The reply; empty where it was given already."""
        if line is None:
            return "500 5.5.2 Error: line too long"
        if not line.isascii() or not line.isprintable():
            return "500 5.5.2 Error: bad character"
        verb, space, rest = line.partition(" ")
        command = _COMMANDS.get(verb.upper())
        if command is None:
            return "500 5.5.2 Error: command not recognized"
        if not self._wire.secure and verb.upper() not in _BEFORE_TLS:
            return "530 5.7.0 Must issue a STARTTLS command first"
        if space and not rest.strip():
            return BAD_SYNTAX.format("no space at the end")
        return await command(self, rest)

    # -- hello

    async def _ehlo(self, rest: str) -> str:
        if not _is_name(rest):
            return BAD_SYNTAX.format("EHLO hostname")
        self._reset()
        self._hello, self._extended = rest, True
        offered = ["PIPELINING", f"SIZE {MAX_MESSAGE}", "ENHANCEDSTATUSCODES", "8BITMIME"]
        offered.append("AUTH PLAIN LOGIN" if self._wire.secure else "STARTTLS")
        lines = [NAME, *offered]
        await self._say(*(f"250-{line}" for line in lines[:-1]), f"250 {lines[-1]}")
        return ""

    async def _helo(self, rest: str) -> str:
        if not _is_name(rest):
            return BAD_SYNTAX.format("HELO hostname")
        self._reset()
        self._hello, self._extended = rest, False
        return f"250 {NAME}"

    async def _starttls(self, rest: str) -> str:
        if rest:
            return BAD_SYNTAX.format("STARTTLS takes no argument")
        if self._wire.secure or not self._extended:
            return "503 5.5.1 Error: say EHLO first, and STARTTLS once"
        if self._wire.pending:  # an intruder's text must not be taken for the client's (CVE-2011-0411)
            raise Goodbye("554 5.5.1 Error: nothing may follow STARTTLS before its reply")
        await self._say("220 2.0.0 Ready to start TLS")
        await self._wire.start_tls(self._context)
        self._begin()
        return ""

    # -- signing in (RFC 4954)

    async def _auth(self, rest: str) -> str:
        if not self._extended or self._sender is not None:
            return "503 5.5.1 Error: AUTH comes after EHLO and not within a message"
        if self._user is not None:
            return "503 5.5.1 Error: already signed in"
        method, _, initial = rest.partition(" ")
        if " " in initial:
            return BAD_SYNTAX.format("AUTH mechanism [response]")
        if method.upper() == "PLAIN":
            return await self._auth_plain(initial)
        if method.upper() == "LOGIN":
            return await self._auth_login(initial)
        return "504 5.5.4 Error: no such mechanism"

    async def _auth_plain(self, initial: str) -> str:
        """RFC 4616: authorization identity, NUL, name, NUL, password."""
        response = await self._response(initial, "")
        if response is None:
            return "501 5.7.0 Error: authentication cancelled, or not base64"
        parts = response.split("\0")
        if len(parts) != 3 or not parts[1] or not parts[2]:
            return "501 5.5.2 Error: not a PLAIN response"
        return self._sign_in(parts[1], parts[2]) if parts[0] in ("", parts[1]) else _REFUSED

    async def _auth_login(self, initial: str) -> str:
        """draft-murchison-sasl-login: two questions, base64 both ways."""
        user = await self._response(initial, "Username:")
        password = None if user is None else await self._response("", "Password:")
        if user is None or password is None:
            return "501 5.7.0 Error: authentication cancelled, or not base64"
        return self._sign_in(user, password)

    async def _response(self, initial: str, prompt: str) -> str | None:
        """What the client answers, decoded; "=" is an empty one that came at once (RFC 4954 §4). None: it is nothing."""
        if not initial:
            await self._say("334 " + base64.b64encode(prompt.encode()).decode())
            try:
                initial = _ended(await self._wire.line(_MAX_AUTH, IDLE)).decode("latin-1")
            except TooLong:
                raise Goodbye("500 5.5.2 Error: line too long") from None
        try:
            return "" if initial == "=" else base64.b64decode(initial, validate=True).decode()
        except (binascii.Error, ValueError):
            return None

    def _sign_in(self, user: str, password: str) -> str:
        if not self._post.admits(user, password, "send"):
            return _REFUSED
        self._user = user
        return "235 2.7.0 Authentication successful"

    # -- a message

    async def _mail(self, rest: str) -> str:
        found = _MAIL.fullmatch(rest)
        if found is None:
            return BAD_SYNTAX.format("MAIL FROM:<address>")
        if not self._hello or self._sender is not None:
            return "503 5.5.1 Error: EHLO first, and one message at a time"
        if self._user is None:
            return "530 5.7.0 Authentication required"
        refused = self._parameters(found["parameters"].split())
        if refused:
            return refused
        sender = found["address"] or ""
        if self._post.knows(sender) != self._user:
            return f"553 5.7.1 <{sender}>: Sender address rejected: not owned by user {self._user}"
        self._sender = sender
        return "250 2.1.0 Ok"

    def _parameters(self, given: list[str]) -> str:
        """The refusal of MAIL's parameters (RFC 1870, RFC 6152); empty for none."""
        names = [parameter.partition("=")[0].upper() for parameter in given]
        if len(set(names)) < len(names) or (given and not self._extended):
            return BAD_SYNTAX.format("each parameter once, and none after HELO")
        for name, parameter in zip(names, given, strict=True):
            value = parameter.partition("=")[2]
            if name == "SIZE":
                if not value.isdigit() or len(value) > 20:
                    return BAD_SYNTAX.format("SIZE=octets")
                if int(value) > MAX_MESSAGE:
                    return _TOO_BIG
            elif name != "BODY" or value.upper() not in ("7BIT", "8BITMIME"):
                return "555 5.5.4 Unsupported parameter"
        return ""

    async def _rcpt(self, rest: str) -> str:
        found = _RCPT.fullmatch(rest)
        if found is None:
            return BAD_SYNTAX.format("RCPT TO:<address>")
        if found["parameters"]:
            return "555 5.5.4 Unsupported parameter"
        if self._sender is None:
            return "503 5.5.1 Error: need MAIL command"
        address = found["address"]
        if address.rpartition("@")[2].lower() != credentials.MAIL_DOMAIN:
            return f"554 5.7.1 <{address}>: Relay access denied"
        if self._post.knows(address) is None:
            return f"550 5.1.1 <{address}>: Recipient address rejected: User unknown"
        if len(self._recipients) >= MAX_RECIPIENTS:
            return "452 4.5.3 Error: too many recipients"
        self._recipients.append(address)
        return "250 2.1.5 Ok"

    async def _data(self, rest: str) -> str:
        if rest:
            return BAD_SYNTAX.format("DATA takes no argument")
        if self._sender is None:
            return "503 5.5.1 Error: need MAIL command"
        if not self._recipients:
            return "554 5.5.1 Error: no valid recipients"
        await self._say("354 End data with <CR><LF>.<CR><LF>")
        sender, recipients = self._sender, list(dict.fromkeys(self._recipients))
        self._reset()
        message, fault = await self._text()
        if fault:
            return fault
        number = secrets.token_hex(5).upper()
        trace = f"from {self._hello} by {NAME} with ESMTPSA id {number}"
        try:
            self._post.take(sender, recipients, message, trace)
        except Full:
            return "452 4.2.2 Mailbox full"
        return f"250 2.0.0 Ok: queued as {number}"

    async def _text(self) -> tuple[bytes, str]:
        """(the message, the refusal or ""): up to the line with only a dot, without the dots that hide others (§4.5.2)."""
        kept, size, fault = bytearray(), 0, ""
        while True:
            try:
                line = await self._wire.line(_MAX_TEXT, IDLE)
                _ended(line)
            except TooLong:
                fault = fault or "500 5.6.0 Error: a line of the message is too long"
                continue
            if line == b".\r\n":
                return bytes(kept), fault
            size += len(line)
            if size > MAX_MESSAGE:
                fault = fault or _TOO_BIG
                kept.clear()
            if not fault:
                kept += line[1:] if line[:1] == b"." else line

    # -- the rest

    async def _rset(self, rest: str) -> str:
        if rest:
            return BAD_SYNTAX.format("RSET takes no argument")
        self._reset()
        return "250 2.0.0 Ok"

    async def _noop(self, _rest: str) -> str:
        return "250 2.0.0 Ok"

    async def _vrfy(self, rest: str) -> str:
        """Never told: addresses are not to be fished for (§7.3)."""
        return "252 2.0.0 Cannot verify the user" if rest else BAD_SYNTAX.format("VRFY address")

    async def _quit(self, rest: str) -> str:
        if rest:
            return BAD_SYNTAX.format("QUIT takes no argument")
        raise Goodbye("221 2.0.0 Bye")


_COMMANDS: dict[str, Callable[[Session, str], Awaitable[str]]] = {
    "EHLO": Session._ehlo,
    "HELO": Session._helo,
    "STARTTLS": Session._starttls,
    "AUTH": Session._auth,
    "MAIL": Session._mail,
    "RCPT": Session._rcpt,
    "DATA": Session._data,
    "RSET": Session._rset,
    "NOOP": Session._noop,
    "VRFY": Session._vrfy,
    "QUIT": Session._quit,
}
_BEFORE_TLS = frozenset({"EHLO", "HELO", "NOOP", "STARTTLS", "QUIT"})


def _ended(line: bytes) -> bytes:
    """The line without CR LF. Raises Goodbye for any other end, and for a CR or NUL within."""
    if not line.endswith(b"\r\n") or b"\r" in line[:-2] or b"\0" in line:
        raise Goodbye("521 5.5.2 Error: bare <LF>, bare <CR> or NUL received")
    return line[:-2]


def _is_name(text: str) -> bool:
    """Whether it may follow EHLO: a domain, or an address in brackets (§4.1.3)."""
    found = _HELLO.fullmatch(text)
    if found is None:
        return False
    if found["literal"] is None:
        return len(text) <= 255
    try:
        ipaddress.ip_address(found["literal"].removeprefix("IPv6:"))
    except ValueError:
        return False
    return True
