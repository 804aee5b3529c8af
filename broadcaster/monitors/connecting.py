"""From a name to a connected socket, never to a link-local or cloud metadata address.

The check is on the very address that is then connected to: a name may give another answer a moment later.
"""

import asyncio
import contextlib
import errno
import functools
import ipaddress
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from broadcaster.monitors import findings
from broadcaster.monitors.findings import Trouble, remaining, step

_RESOLVING: Final = ThreadPoolExecutor(200, thread_name_prefix="names")
#: Addresses of one name that are tried; the time is shared out among them.
MOST: Final = 4

#: Whoever can have a monitor made must not read a cloud machine's credentials with it.
FORBIDDEN: Final = tuple(
    ipaddress.ip_network(network)
    for network in (
        "169.254.0.0/16",  # link-local, RFC 3927; AWS, Azure, Google, Oracle metadata
        "fe80::/10",  # link-local, RFC 4291
        "fd00:ec2::/32",  # AWS metadata over IPv6
        "100.100.100.200/32",  # Alibaba metadata
        "168.63.129.16/32",  # Azure's wire server
        "192.0.0.192/32",  # Oracle metadata
    )
)
_EMBEDDED: Final = (ipaddress.ip_network("64:ff9b::/96"), ipaddress.ip_network("::/96"))  # RFC 6052, RFC 4291 §2.5.5.1

# family, type, protocol, canonical name, socket address: as getaddrinfo gives it
AddressInfo = tuple[int, int, int, str, tuple[Any, ...]]


def forbidden(address: str) -> bool:
    """Whether this IP address must not be connected to; IPv4 inside IPv6 (mapped, 6to4, NAT64) is looked into."""
    return _forbidden(ipaddress.ip_address(address.partition("%")[0]))


def _forbidden(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if inner is None and any(address in network for network in _EMBEDDED) and int(address) > 1:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None and _forbidden(inner):
            return True
    return any(address.version == network.version and address in network for network in FORBIDDEN)


def is_address(host: str) -> bool:
    """Whether it is an IP address, not a name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


async def resolve(host: str, port: int, until: float) -> list[AddressInfo]:
    """The addresses of a name, in the system's order. Raises Trouble. A dead resolver is our own trouble."""
    async with step("name", until, late="resolver_failed"):
        return await addresses(host, port)


async def addresses(host: str, port: int, *, family: int = socket.AF_UNSPEC) -> list[AddressInfo]:
    """``getaddrinfo`` in threads of our own: uvloop's are four, so that four names of a dead resolver would stop all others.

    An address asks nobody, and waits for no thread. Raises socket.gaierror.
    """
    if is_address(host):
        return list(socket.getaddrinfo(host, port, family, socket.SOCK_STREAM, 0, socket.AI_NUMERICHOST))
    ask = functools.partial(socket.getaddrinfo, host, port, family, socket.SOCK_STREAM)
    return list(await asyncio.get_running_loop().run_in_executor(_RESOLVING, ask))


async def connect(host: str, port: int, until: float) -> socket.socket:
    """A connected, non-blocking socket; the caller's to close. Raises Trouble.

    The addresses of a name are tried one after the other. If all fail, what is reported is the fault that says most about
    the server: one of the server's own before one of ours.
    """
    found = await resolve(host, port, until)
    allowed = [info for info in found if not forbidden(info[4][0])][:MOST]
    if not allowed:
        raise Trouble("forbidden_address" if found else "name_not_found")
    worst: Trouble | None = None
    for left, info in zip(range(len(allowed), 0, -1), allowed, strict=True):
        try:
            return await _connect(info, asyncio.get_running_loop().time() + remaining(until) / left)
        except Trouble as trouble:
            if worst is None or worst.code in findings.OURS:
                worst = trouble
    assert worst is not None
    raise worst


async def _connect(info: AddressInfo, until: float) -> socket.socket:
    family, kind, protocol, _, address = info
    made: socket.socket | None = None
    async with step("connecting", until, late="connect_timeout"):
        try:
            made = socket.socket(family, kind, protocol)
            made.setblocking(False)
            await asyncio.get_running_loop().sock_connect(made, address)
        except BaseException as error:
            if made is not None:
                made.close()
            if isinstance(error, OSError) and error.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH):
                raise findings.of(error, routed=has_route(family, address)) from None
            raise
    assert made is not None
    return made


def has_route(family: int, address: tuple[Any, ...]) -> bool:
    """Whether this machine knows a way there: connecting a UDP socket asks the routing table and sends nothing."""
    with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as asking:
        asking.connect(address)
        return True
    return False
