"""Codes with their verdicts, how a look ends early, and how a fault of the network becomes a code.

What lives here: the vocabulary that kinds share. What does not: what only one kind can find (its own module's table).

    Trouble     the look has its answer: no more steps. A kind's ``look`` turns it into a reading; nobody else sees it.

Whose fault is it? A target that refuses, resets, stays silent or talks nonsense has FAILED. Where we have no route, no
working resolver or no file descriptors left, the look says nothing about the target: UNKNOWN.
"""

import asyncio
import errno
import socket
import ssl
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from broadcaster.domain.monitor import Circumstances, Reading, Verdict
from broadcaster.monitors import words

Detail = Mapping[str, str | int | float | bool | None]


@dataclass(frozen=True, slots=True)
class Code:
    """What a look may come to. ``meaning``: one sentence, for the documentation and for want of a better reason."""

    verdict: Verdict
    meaning: str


Codes = Mapping[str, Code]

_OK, _DEGRADED, _FAILED, _UNKNOWN = Verdict.OK, Verdict.DEGRADED, Verdict.FAILED, Verdict.UNKNOWN

#: Our own side; nothing is known of the target.
OURS: Final[Codes] = {
    "no_network": Code(_UNKNOWN, "Our own machine has no way to the target's network."),
    "resolver_failed": Code(_UNKNOWN, "Our own name resolution failed for now."),
    "our_limits": Code(_UNKNOWN, "Our own machine has no sockets, files or memory left for this look."),
    "forbidden_address": Code(
        _UNKNOWN, "The name leads to a link-local or cloud metadata address; those are never looked at."
    ),
}
#: On the way to a TCP connection, and when it ends too soon.
CONNECTING: Final[Codes] = {
    **OURS,
    "name_not_found": Code(_FAILED, "The server's name does not exist in the DNS."),
    "connection_refused": Code(_FAILED, "The server refused the connection."),
    "host_unreachable": Code(_FAILED, "The network says that the server cannot be reached."),
    "connect_timeout": Code(_FAILED, "The server did not answer when we connected."),
    "connection_lost": Code(_FAILED, "The server closed or reset the connection in the middle."),
    "no_answer": Code(_FAILED, "The server took the connection, then did not answer in time."),
}
TLS: Final[Codes] = {
    "tls_failed": Code(_FAILED, "No encrypted connection could be agreed."),
    "certificate_expired": Code(_FAILED, "The server's certificate has expired."),
    "certificate_untrusted": Code(
        _FAILED, "The server's certificate is not signed by anybody whom we trust, or not valid yet."
    ),
    "certificate_wrong_name": Code(_FAILED, "The server's certificate is for another name."),
    "certificate_ends_soon": Code(_DEGRADED, "All works, but the server's certificate ends soon."),
}
SIGNING_IN: Final[Codes] = {
    "auth_refused": Code(_FAILED, "The server refused our user name and password, or token."),
    "auth_unavailable": Code(_FAILED, "The server could not check our password for now."),
    "auth_not_offered": Code(_FAILED, "The server does not offer our way of signing in."),
}
#: OAuth tokens come from a service of its own: without one nothing is known of the target.
TOKENS: Final[Codes] = {
    "token_refused": Code(_UNKNOWN, "The token service refused our client id and secret."),
    "token_unavailable": Code(_UNKNOWN, "The token service gave no token for now."),
}
WELL: Final[Codes] = {
    "ok": Code(_OK, "It works."),
    "slow": Code(_DEGRADED, "It works, but took longer than it should."),
}


class Trouble(Exception):
    """The look ends here. ``reason`` None: the code's meaning. ``verdict`` None: the code's own."""

    def __init__(
        self,
        code: str,
        reason: str | None = None,
        *,
        detail: Detail | None = None,
        verdict: Verdict | None = None,
        refused: bool = False,
    ) -> None:
        super().__init__(code)
        self.code = code
        self.reason = reason
        self.detail: dict[str, str | int | float | bool | None] = dict(detail or {})
        self.verdict = verdict
        self.refused = refused

    def reading(self, codes: Codes, **detail: str | int | float | bool | None) -> Reading:
        known = codes[self.code]
        return Reading(
            verdict=self.verdict or known.verdict,
            code=self.code,
            reason=self.reason or known.meaning,
            detail={**detail, **self.detail},
            refused=self.refused,
        )


def meanings(codes: Codes) -> Mapping[str, str]:
    """As ``Kind.codes`` wants it."""
    return {name: code.meaning for name, code in codes.items()}


def clock() -> float:
    """For how long things take. The loop's own clock will not do: uvloop's stands still between two rounds of the loop."""
    return time.perf_counter()


def deadline(circumstances: Circumstances) -> float:
    """When the look has to be over, on the loop's clock: a little before it would be cancelled, to have the last word."""
    return asyncio.get_running_loop().time() + circumstances.timeout - min(0.5, circumstances.timeout * 0.1)


def remaining(until: float) -> float:
    """Seconds left, never below zero."""
    return max(until - asyncio.get_running_loop().time(), 0.0)


@asynccontextmanager
async def step(at: str, until: float, *, late: str = "no_answer") -> AsyncIterator[None]:
    """One step of a look, named ``at`` in the detail. Its faults become Trouble; past ``until`` the code is ``late``."""
    try:
        async with asyncio.timeout_at(until):
            yield
    except Trouble as trouble:
        trouble.detail.setdefault("at", at)
        raise
    except TimeoutError:
        raise Trouble(late, detail={"at": at}) from None
    except (OSError, EOFError, RuntimeError, asyncio.InvalidStateError) as error:
        # RuntimeError: uvloop's word for a transport that was closed under it.
        found = of(error)
        found.detail.setdefault("at", at)
        raise found from None


_GAI_NAMELESS: Final = frozenset(
    getattr(socket, name) for name in ("EAI_NONAME", "EAI_NODATA", "EAI_ADDRFAMILY") if hasattr(socket, name)
)
_BY_ERRNO: Final = {
    errno.ECONNREFUSED: "connection_refused",
    errno.EHOSTUNREACH: "host_unreachable",
    errno.ENETUNREACH: "host_unreachable",
    errno.EHOSTDOWN: "host_unreachable",
    errno.ETIMEDOUT: "connect_timeout",
    errno.ENETDOWN: "no_network",
    errno.EADDRNOTAVAIL: "no_network",
    errno.EAFNOSUPPORT: "no_network",
    errno.EACCES: "no_network",  # our own firewall
    errno.EPERM: "no_network",
    errno.EMFILE: "our_limits",
    errno.ENFILE: "our_limits",
    errno.ENOBUFS: "our_limits",
    errno.ENOMEM: "our_limits",
}
#: OpenSSL's X509_V_ERR_*: https://docs.openssl.org/3.0/man3/X509_STORE_CTX_get_error/
_BY_VERIFY_CODE: Final = {10: "certificate_expired", 62: "certificate_wrong_name", 64: "certificate_wrong_name"}


def of(error: BaseException, *, routed: bool = True) -> Trouble:
    """A fault of the network as Trouble. ``routed``: whether we had a route at all when the network said "unreachable"."""
    if isinstance(error, ssl.SSLError):
        return of_tls(error)
    if isinstance(error, socket.gaierror):
        return Trouble("name_not_found" if error.errno in _GAI_NAMELESS else "resolver_failed")
    if isinstance(error, OSError):
        number = error.errno or 0
        if number in (errno.ENETUNREACH, errno.EHOSTUNREACH) and not routed:
            return Trouble("no_network")
        if number in _BY_ERRNO:
            return Trouble(_BY_ERRNO[number])
        if isinstance(error, TimeoutError):
            return Trouble("no_answer")
    return Trouble("connection_lost")


def of_tls(error: ssl.SSLError) -> Trouble:
    """A failed handshake. ``tls`` in the detail is OpenSSL's word for it, not the server's."""
    if isinstance(error, ssl.SSLCertVerificationError):
        code = _BY_VERIFY_CODE.get(error.verify_code, "certificate_untrusted")
        return Trouble(code, detail={"tls": words.printable(error.verify_message)})
    if isinstance(error, ssl.SSLZeroReturnError | ssl.SSLEOFError):
        return Trouble("connection_lost")
    return Trouble("tls_failed", detail={"tls": words.printable(error.reason or "")})


def well(
    codes: Codes,
    reason: str,
    *,
    latency: float,
    degraded_after: float | None = None,
    days: float | None = None,
    certificate_days: int = 0,
    detail: Detail | None = None,
) -> Reading:
    """It works: "ok", or "slow" above ``degraded_after`` seconds, or a certificate with less than ``certificate_days`` left.

    ``days``: what the certificate has left; None without TLS. Raises KeyError where ``codes`` lacks one of these.
    """
    evidence = dict(detail or {})
    if days is not None:
        evidence["certificate_days"] = round(days, 1)
    code = "ok"
    if degraded_after is not None and latency > degraded_after:
        code = "slow"
        reason = f"It works, but took {words.seconds(latency)}, more than {words.seconds(degraded_after)}."
    elif days is not None and days < certificate_days:
        code = "certificate_ends_soon"
        reason = f"All works, but the certificate ends in {days:.0f} days. Renew it." if days >= 1 else (
            "All works, but the certificate ends within a day. Renew it now."
        )  # fmt: skip
    return Reading(codes[code].verdict, code, reason, latency=round(latency, 4), detail=evidence)
