"""SMTP as a client speaks it: greeting, EHLO, STARTTLS, AUTH, one message. Over aiosmtplib, which bounds what it reads.

What lives here: the steps and their faults as Trouble. What does not: what they say about mail as a whole.
"""

import ipaddress
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

import aiosmtplib
from aiosmtplib import SMTP

from broadcaster.domain.monitor import Verdict
from broadcaster.monitors import connecting, findings, tls, words
from broadcaster.monitors.fields import Auth, Security
from broadcaster.monitors.findings import Code, Codes, Detail, Trouble, remaining, step

#: RFC 8314 §3.3, RFC 6409, RFC 5321.
PORTS: Final = {Security.TLS: 465, Security.STARTTLS: 587, Security.NONE: 25}

CODES: Final[Codes] = {
    **findings.CONNECTING,
    **findings.TLS,
    **findings.SIGNING_IN,
    "not_smtp": Code(Verdict.FAILED, "What answers there does not speak SMTP."),
    "greeting_refused": Code(Verdict.FAILED, "The server greeted us with a refusal."),
    "ehlo_refused": Code(Verdict.FAILED, "The server refused our EHLO."),
    "starttls_missing": Code(Verdict.FAILED, "The server does not offer STARTTLS."),
}
#: Replies to AUTH that mean "your credentials are no good" (RFC 4954 §6, RFC 5321); 4xx are the server's own trouble.
_UNAVAILABLE: Final = range(400, 500)


class Talk:
    """A conversation with one server. Each method raises Trouble. ``hide``: texts that never show, even if echoed."""

    def __init__(self, smtp: SMTP, host: str, hide: tuple[str, ...] = ()) -> None:
        self._smtp = smtp
        self._host = host
        self._hide = hide

    def certificate_days(self, now: float) -> float | None:
        return tls.days_left_of(self._smtp.transport, now)

    async def hello(self, security: Security, context: ssl.SSLContext, until: float) -> None:
        """EHLO, and for STARTTLS the change to encryption and EHLO again (RFC 3207 §4.2)."""
        await self._ehlo(until)
        if security is not Security.STARTTLS:
            return
        if not self._smtp.supports_extension("starttls"):
            raise Trouble("starttls_missing", detail={"at": "starttls"})
        async with self._step("starttls", until, "tls_failed"):
            await self._smtp.starttls(tls_context=context, server_hostname=self._host)
        await self._ehlo(until)

    async def _ehlo(self, until: float) -> None:
        async with self._step("ehlo", until, "ehlo_refused"):
            await self._smtp.ehlo()

    async def sign_in(self, auth: Auth, user: str, secret: str, until: float) -> None:
        """``secret``: the password, or the access token of XOAUTH2."""
        offered = set(self._smtp.server_auth_methods)
        wanted = {"xoauth2"} if auth is Auth.XOAUTH2 else {"plain", "login", "cram-md5"}
        if not offered & wanted:
            raise Trouble("auth_not_offered", detail={"at": "auth"})
        async with self._step("auth", until, "auth_refused"):
            if auth is Auth.XOAUTH2:
                await self._smtp.auth_xoauth2(user, secret)
            elif "plain" in offered:
                # One try only: aiosmtplib's own ``login`` goes on to the next method, and each counts towards a lock-out.
                await self._smtp.auth_plain(user, secret)
            elif "login" in offered:
                await self._smtp.auth_login(user, secret)
            else:
                await self._smtp.auth_crammd5(user, secret)

    async def submit(self, sender: str, recipient: str, message: bytes, until: float) -> str:
        """Hands one message in; the server's words when it took it. A refusal is ``submission_refused``."""
        async with self._step("submission", until, "submission_refused"):
            _, answer = await self._smtp.sendmail(sender, [recipient], message)
        return words.printable(answer, self._hide)

    @asynccontextmanager
    async def _step(self, at: str, until: float, refused: str) -> AsyncIterator[None]:
        """A step whose refusals by the server have the code ``refused``."""
        async with step(at, until):
            try:
                yield
            except aiosmtplib.SMTPRecipientsRefused as error:
                first = error.recipients[0]
                raise self._refusal(at, refused, first.code, first.message) from None
            except aiosmtplib.SMTPResponseException as error:
                raise self._refusal(at, refused, error.code, error.message) from None
            except ssl.SSLError:  # of a certificate it is a ValueError too
                raise
            except (aiosmtplib.SMTPException, ValueError) as error:
                raise _broken(error) from None

    def _refusal(self, at: str, code: str, reply: int, text: str) -> Trouble:
        if not 200 <= reply <= 599:  # aiosmtplib's -1: no reply of SMTP's form
            return Trouble("not_smtp", detail={"at": at})
        said = words.printable(text.encode("utf-8", "surrogateescape"), self._hide)
        detail: Detail = {"at": at, "smtp_code": reply, "said": said}
        if code == "auth_refused" and reply in _UNAVAILABLE:
            return Trouble("auth_unavailable", f"The server could not check our password for now ({reply}).", detail=detail)
        refused = code == "auth_refused"
        return Trouble(
            code, f"{CODES[code].meaning[:-1]} ({reply})." if code in CODES else None, detail=detail, refused=refused
        )


def _broken(error: BaseException) -> Trouble:
    """A fault that is no reply. aiosmtplib wraps what asyncio raised."""
    cause = error.__cause__
    if isinstance(cause, OSError) and not isinstance(cause, aiosmtplib.SMTPException):
        return findings.of(cause)
    if isinstance(error, ConnectionError):
        return Trouble("connection_lost")
    if isinstance(error, TimeoutError):
        return Trouble("no_answer")
    return Trouble("not_smtp")


@asynccontextmanager
async def talk(
    host: str, port: int, security: Security, context: ssl.SSLContext, until: float, hide: tuple[str, ...] = ()
) -> AsyncIterator[Talk]:
    """Connects, reads the greeting, says EHLO, encrypts; leaves with QUIT, and always closes."""
    sock = await connecting.connect(host, port, until)
    smtp = SMTP(
        hostname=host, sock=sock, local_hostname=_own_name(sock), timeout=None,
        use_tls=security is Security.TLS, start_tls=False, tls_context=context,
    )  # fmt: skip
    conversation = Talk(smtp, host, hide)
    transport = None
    try:
        async with conversation._step("greeting", until, "greeting_refused"):
            await smtp.connect()
        transport = smtp.transport
        await conversation.hello(security, context, until)
        transport = smtp.transport
        yield conversation
        with suppress(Trouble):
            async with conversation._step("quit", _soon(until), "not_smtp"):
                await smtp.quit()
    finally:
        for each in (transport, smtp.transport):
            if each is not None:
                each.abort()  # type: ignore[attr-defined]
        smtp.close()
        sock.close()


def _soon(until: float) -> float:
    """Goodbyes may take a second of what is left."""
    return until - max(remaining(until) - 1.0, 0.0)


def _own_name(sock: socket.socket) -> str:
    """Our address in brackets: an EHLO that is true without a look-up (RFC 5321 §4.1.3)."""
    address = ipaddress.ip_address(sock.getsockname()[0].partition("%")[0])
    return f"[{address}]" if address.version == 4 else f"[IPv6:{address}]"
