"""Which outbound addresses that came from outside may be posted to (push endpoints): the guard against SSRF.

A subscription's endpoint is whatever a browser, or somebody who pretends to be one, handed us. So: known push services
only, by exact host or true suffix; https on its own port; no credentials; and no private address behind the name,
checked on the very addresses that are then connected to. Redirects are refused in ``channels.wire``.
"""

import ipaddress
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import DefaultResolver
from yarl import URL

from broadcaster.domain.messages import InvalidAddress

#: Browsers' push services: Chrome and other Chromiums, Firefox.
HOSTS: Final = frozenset({"fcm.googleapis.com", "updates.push.services.mozilla.com"})
#: Safari (web.push.apple.com), Edge (wns2-….notify.windows.com). The dot makes it a true suffix.
SUFFIXES: Final = (".push.apple.com", ".notify.windows.com")

_LONGEST: Final = 2048


@dataclass(frozen=True, slots=True)
class Allowed:
    """The allow-list. ``extra_hosts``: further push services ("push.example.org", or "*.example.org" for all below it).

    ``origins``: exact origins that may be http and may be private, for the sandbox ("http://127.0.0.1:8092").
    """

    extra_hosts: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()

    def permits_host(self, host: str) -> bool:
        host = host.lower()
        suffixes = SUFFIXES + tuple(extra[1:].lower() for extra in self.extra_hosts if extra.startswith("*."))
        return host in HOSTS or host in self.extra_hosts or host.endswith(suffixes)

    def private_hosts(self) -> frozenset[str]:
        """Names of the configured origins: these alone may resolve to private addresses."""
        return frozenset(host for origin in self.origins if (host := URL(origin).host))


_ORIGIN: Final = re.compile(r"[^/?#]*//[^/?#]*")


def endpoint(raw: str, allowed: Allowed) -> URL:
    """The URL to post to, byte for byte as given. Raises InvalidAddress, which never repeats it."""
    if len(raw) > _LONGEST or not raw.isascii() or not raw.isprintable() or "\\" in raw or " " in raw or "#" in raw:
        raise InvalidAddress("The endpoint is not a plain URL")
    origin = _ORIGIN.match(raw)
    if origin is None:
        raise InvalidAddress("The endpoint is not a plain URL")
    refused = _refusal(origin.group(), allowed)
    if refused is not None:
        raise InvalidAddress(refused)
    try:
        return URL(raw, encoded=True)
    except ValueError:
        raise InvalidAddress("The endpoint is not a URL") from None


@lru_cache(maxsize=1024)  # a nation's browsers have a dozen push services
def _refusal(origin: str, allowed: Allowed) -> str | None:
    """Why nothing may be posted below this origin; None where it may."""
    try:
        url = URL(origin, encoded=True)
        host, port, exact = url.host, url.port, str(url.origin())
    except ValueError:
        return "The endpoint is not a URL"
    if not host or url.user is not None or url.password is not None:
        return "The endpoint is not a plain URL"
    if exact in (str(URL(item).origin()) for item in allowed.origins):
        return None
    if url.scheme != "https" or port != 443:
        return "The endpoint must be https on port 443"
    return None if allowed.permits_host(host) else "The endpoint's host is not a known push service"


class GuardedResolver(AbstractResolver):
    """Refuses names with a private, loopback, link-local or otherwise special address among their addresses."""

    def __init__(self, exempt: frozenset[str], inner: AbstractResolver | None = None) -> None:
        self._exempt = exempt
        self._inner = inner or DefaultResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = await self._inner.resolve(host, port, family)
        if host not in self._exempt and not all_public([result["host"] for result in found]):
            raise OSError(None, "name resolves to an address that is not public")
        return found

    async def close(self) -> None:
        await self._inner.close()


def all_public(addresses: Sequence[str]) -> bool:
    """Whether every address is globally routable; IPv4 inside IPv6 (mapped, 6to4, NAT64) is looked into."""
    return all(_is_public(ipaddress.ip_address(address.partition("%")[0])) for address in addresses)


_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")  # RFC 6052


def _is_public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return _is_public(inner)
    return address.is_global and not address.is_multicast
