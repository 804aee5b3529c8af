"""HTTP for monitors: one session for one look, bounded answers, no metadata addresses, no proxy of the environment.

What lives here: the client, and what its faults mean. What does not: what an answer means (``http``, ``microsoft365``, …).
"""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import aiohttp
from aiohttp.abc import AbstractResolver

from broadcaster.monitors import connecting, findings, tls
from broadcaster.monitors.findings import Trouble

if TYPE_CHECKING:
    from aiohttp.abc import ResolveResult
    from aiohttp.client import ClientTimeout
    from aiohttp.client_reqrep import ClientRequest
    from aiohttp.connector import Connection
    from aiohttp.tracing import Trace

#: Bytes of an answer that are read.
LONGEST: Final = 1_048_576
AGENT: Final = "alert-broadcaster-monitor"


class Client:
    """A session for one look. Use as ``async with``.

    ``certificate``: what ``getpeercert()`` gave for the server that we spoke to; of several (redirects), the one that ends
    first. ``connected``: whether any connection came about.
    """

    def __init__(self, certificates: str | None = None) -> None:
        self.certificate: dict[str, Any] | None = None
        self.connected = False
        self.resolving = False
        self.forbidden = False
        self.routed = True
        self._session = aiohttp.ClientSession(
            connector=_Connector(self, certificates),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),  # the look's own deadline rules
            trust_env=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": AGENT, "Accept-Encoding": "identity"},
            max_line_size=8190,
            max_field_size=8190,
        )

    async def __aenter__(self) -> "Client":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    def request(
        self, method: str, url: str, *, redirects: int = 0, **options: Any
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        """Follows at most ``redirects`` redirects; with 0 a redirect is an answer like any other."""
        return self._session.request(method, url, allow_redirects=redirects > 0, max_redirects=redirects + 1, **options)

    def learn(self, certificate: dict[str, Any] | None) -> None:
        ends = None if certificate is None else tls.days_left(certificate, 0.0)
        known = None if self.certificate is None else tls.days_left(self.certificate, 0.0)
        if ends is not None and (known is None or ends < known):
            self.certificate = certificate

    def socket(self, info: Any) -> socket.socket:
        """aiohttp asks here for the socket to the very address that it then connects to."""
        family, kind, protocol, _, address = info
        if connecting.forbidden(address[0]):
            self.forbidden = True
            raise PermissionError("forbidden address")
        self.routed = connecting.has_route(family, address)
        return socket.socket(family, kind, protocol)


class _Resolver(AbstractResolver):
    """Tells the client while a name is being resolved: a resolver that hangs is our own."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def close(self) -> None: ...

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> "list[ResolveResult]":
        self._client.resolving = True
        found = await connecting.addresses(host, port, family=family)
        self._client.resolving = False
        return [
            {
                "hostname": host, "host": str(address[0]), "port": int(address[1]), "family": kind, "proto": protocol,
                "flags": socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            }
            for kind, _, protocol, _, address in found
        ]  # fmt: skip


class _Connector(aiohttp.TCPConnector):
    def __init__(self, client: Client, certificates: str | None) -> None:
        super().__init__(
            ssl=tls.context(certificates),
            socket_factory=client.socket,
            resolver=_Resolver(client),
            force_close=True,
            limit=2,
        )
        self._client = client

    async def connect(self, req: "ClientRequest", traces: "list[Trace]", timeout: "ClientTimeout") -> "Connection":
        """An answer without a body has given its connection back by the time that we see it; so look at it here."""
        connection = await super().connect(req, traces, timeout)
        self._client.connected = True
        secured = connection.transport.get_extra_info("ssl_object") if connection.transport else None
        self._client.learn(secured.getpeercert() if secured is not None else None)
        return connection


@asynccontextmanager
async def at(name: str, client: Client, until: float) -> AsyncIterator[None]:
    """One exchange, named ``name`` in the detail; its faults become Trouble."""
    try:
        async with asyncio.timeout_at(until):
            yield
    except Trouble:
        raise
    except TimeoutError:
        code = "resolver_failed" if client.resolving else "no_answer" if client.connected else "connect_timeout"
        raise Trouble(code, detail={"at": name}) from None
    except (aiohttp.ClientError, OSError, EOFError, ValueError) as error:
        trouble = _fault(error, client)
        trouble.detail.setdefault("at", name)
        raise trouble from None


def _fault(error: BaseException, client: Client) -> Trouble:
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return findings.of(error.certificate_error)
    if isinstance(error, aiohttp.ClientConnectorError):  # and ClientConnectorDNSError, ClientConnectorSSLError
        if client.forbidden:
            return Trouble("forbidden_address")
        return findings.of(error.os_error, routed=client.routed)
    if isinstance(error, aiohttp.TooManyRedirects):
        return Trouble("too_many_redirects")
    if isinstance(error, aiohttp.ClientPayloadError | aiohttp.ServerDisconnectedError | aiohttp.ClientOSError):
        return Trouble("connection_lost")
    if isinstance(error, aiohttp.ClientResponseError | aiohttp.InvalidURL | aiohttp.NonHttpUrlClientError | ValueError):
        return Trouble("not_http")
    return findings.of(error) if isinstance(error, OSError) else Trouble("connection_lost")


async def body(response: aiohttp.ClientResponse, longest: int = LONGEST) -> bytes:
    """The first ``longest`` bytes; the rest is never read."""
    parts, size = [], 0
    while size < longest and (part := await response.content.read(longest - size)):
        parts.append(part)
        size += len(part)
    return b"".join(parts)


async def json_object(response: aiohttp.ClientResponse) -> dict[str, Any]:
    """The JSON object of an answer; empty where there is none, whatever it is instead."""
    try:
        found = json.loads(await body(response))
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
