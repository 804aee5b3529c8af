"""HTTP to providers, so that we always know whether a request may have left.

What lives here: the session every channel opens, the one place where the lease is checked between "a connection is
there" and "the request is written", and the reading of transport faults and Retry-After. What does not: provider codes.

    NotWritten        the check said no: carries the outcome
    Redirected        a 3xx answer: never followed
    aiohttp / OSError transport faults: ``fault`` tells them apart by ``Flight.written``, not by their class
"""

import asyncio
import math
import ssl
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextvars import ContextVar
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final

import aiohttp
from aiohttp.abc import AbstractResolver

from broadcaster.domain.outcomes import Ambiguous, Deferred, Outcome

if TYPE_CHECKING:
    from aiohttp.client import ClientTimeout
    from aiohttp.client_proto import ResponseHandler
    from aiohttp.client_reqrep import ClientRequest
    from aiohttp.connector import Connection
    from aiohttp.tracing import Trace

#: Seconds. Below domain.retrying.REQUEST_DEADLINE, which look-ups count on.
TOTAL: Final = 7.5
CONNECT: Final = 3.0
#: aiohttp rounds longer time-outs up to whole seconds; 7.5 s has to stay 7.5 s.
_CEIL: Final = 60.0
#: Longest pause that a provider's Retry-After may impose: a nonsensical value must not silence a route for a day.
LONGEST_PAUSE: Final = 3600.0

_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)  # macOS: its monotonic clock counts sleep too


def boottime() -> float:
    """Seconds on the clock of ``Envelope.not_before`` and ``not_after``; it goes on while the machine is suspended."""
    return time.clock_gettime(_CLOCK)


class Flight(ABC):
    """A request that carries a message; one task may make one after the other."""

    __slots__ = ("retry_after", "written")

    def __init__(self) -> None:
        self.written = False
        self.retry_after: str | None = None  # header of the answer, kept because the Twilio SDK's exception drops it

    @abstractmethod
    def check(self) -> Outcome | None:
        """Asked at the last moment: None means go."""


#: The flight of the current task. Concurrent sends run in tasks of their own, so that they cannot mix.
flight: ContextVar[Flight | None] = ContextVar("flight", default=None)


class NotWritten(Exception):
    """The last check before the socket said no; nothing was sent."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__("not written")
        self.outcome = outcome


class Redirected(Exception):
    """The answer was a redirect. Following it could post a message twice, or to a stranger."""

    def __init__(self, status: int) -> None:
        super().__init__(f"status {status}")
        self.status = status


class _Connector(aiohttp.TCPConnector):
    """``connect`` returns just before aiohttp writes the request: DNS, TCP, TLS and the wait for the pool are over."""

    async def _create_connection(
        self, req: "ClientRequest", traces: "list[Trace]", timeout: "ClientTimeout"
    ) -> "ResponseHandler":
        # The session's ``sock_connect`` leaves out DNS; its ``connect`` would start a timer for each request.
        async with asyncio.timeout(CONNECT):
            return await super()._create_connection(req, traces, timeout)

    async def connect(self, req: "ClientRequest", traces: "list[Trace]", timeout: "ClientTimeout") -> "Connection":
        connection = await super().connect(req, traces, timeout)
        current = flight.get()
        if current is not None:
            if (outcome := current.check()) is not None:
                connection.release()
                raise NotWritten(outcome)
            current.written = True
        return connection


def refuse_redirect(response: aiohttp.ClientResponse) -> None:
    """Raises Redirected for a 3xx."""
    if 300 <= response.status < 400:
        response.close()
        raise Redirected(response.status)


async def _no_redirects(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    response = await handler(request)
    refuse_redirect(response)
    return response


def session(
    *, connections: int = 256, resolver: AbstractResolver | None = None, follows: bool = True
) -> aiohttp.ClientSession:
    """A kept-alive session for one provider: no proxy or netrc from the environment, no cookies, no redirects.

    ``follows``: whether its user may ask for redirects to be followed, as SDKs do; they are refused then. Who passes
    ``allow_redirects=False`` and ``refuse_redirect``s himself saves a twentieth of a request.
    """
    return aiohttp.ClientSession(
        connector=_Connector(
            limit=connections, resolver=resolver, keepalive_timeout=30.0, timeout_ceil_threshold=_CEIL, ttl_dns_cache=60
        ),
        timeout=aiohttp.ClientTimeout(total=TOTAL, sock_connect=CONNECT, ceil_threshold=_CEIL),
        trust_env=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        middlewares=(_no_redirects,) if follows else (),
    )


def is_transport(error: BaseException) -> bool:
    """Whether ``fault`` can read it. Anything else is a bug."""
    return isinstance(error, aiohttp.ClientError | OSError | asyncio.TimeoutError | Redirected)


def fault(error: BaseException, written: bool) -> Outcome:
    """A transport fault as an outcome.

    Not written: certainly not sent. Written: the provider may have taken it, also when a stale kept-alive connection
    was closed by the server just then (RFC 9112 §9.3.1: a client cannot know whether a POST was processed). A 307 or
    308 asks for the same request elsewhere (RFC 9110 §15.4.8), so it was not taken; others may follow a success.
    """
    if isinstance(error, Redirected):
        if error.status in (307, 308):
            return Deferred("redirected", "The provider's address redirects; redirects are not followed")
        return Ambiguous("redirected", "The provider's answer was a redirect")
    if not written:
        return _before(error)
    if isinstance(error, TimeoutError):
        return Ambiguous("timeout", "No answer in time after the request was written")
    if isinstance(error, aiohttp.ClientPayloadError | aiohttp.ClientResponseError):
        return Ambiguous("broken_answer", "The answer broke off or could not be read")
    return Ambiguous("disconnected", "The connection was lost after the request was written")


def _before(error: BaseException) -> Deferred:
    if isinstance(error, TimeoutError):
        return Deferred("connect_timeout", "No connection to the provider in time")
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return Deferred("dns_failed", "The provider's name could not be resolved")
    if isinstance(error, aiohttp.ClientSSLError | ssl.SSLError):
        return Deferred("tls_failed", "No trusted TLS connection to the provider")
    return Deferred("connect_failed", "No connection to the provider")


def retry_after(header: str | None, default: float, now: Callable[[], float] = time.time) -> float:
    """Seconds to wait, from a Retry-After in seconds or as an HTTP date (RFC 9110 §10.2.3), within 0 and an hour."""
    if not header:
        return default
    try:
        seconds = float(header)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(header).timestamp() - now()
        except ValueError:
            return default
    if math.isnan(seconds):
        return default
    return min(max(seconds, 0.0), LONGEST_PAUSE)
