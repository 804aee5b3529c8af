"""TLS to servers: whom we trust, and how long a certificate is still good. (What a failed handshake means: ``findings``.)"""

import ssl
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final, Protocol

_DAY: Final = 86_400.0


class _HasInfo(Protocol):
    def get_extra_info(self, name: str, default: Any = None) -> Any: ...


@lru_cache(maxsize=128)  # reading the system's certificates takes 20 ms
def context(certificates: str | None = None) -> ssl.SSLContext:
    """Trusts the system's authorities and, if given, those in ``certificates`` (PEM). Always verifies chain and name.

    TLS 1.2 and above (RFC 8996 deprecates what is below). Raises ssl.SSLError or ValueError for what is no PEM.
    """
    made = ssl.create_default_context()
    # Debian's Python leaves it to the machine's OpenSSL, which may say nothing of it.
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    if certificates:
        made.load_verify_locations(cadata=certificates)
    return made


def is_pem(certificates: str) -> bool:
    """Whether there is a certificate in it, and nothing that OpenSSL cannot read."""
    bare = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        bare.load_verify_locations(cadata=certificates)
    except (ssl.SSLError, ValueError):
        return False
    return bare.cert_store_stats()["x509"] > 0


def days_left(certificate: Mapping[str, Any], now: float) -> float | None:
    """Days from ``now`` (seconds since the epoch) until ``notAfter`` of what ``getpeercert()`` gave; negative once over."""
    ends = certificate.get("notAfter")
    return None if not isinstance(ends, str) else (ssl.cert_time_to_seconds(ends) - now) / _DAY


def days_left_of(transport: _HasInfo | None, now: float) -> float | None:
    """The same for the server at the other end of a transport; None where there is no TLS."""
    secured = None if transport is None else transport.get_extra_info("ssl_object")
    certificate = None if secured is None else secured.getpeercert()
    return days_left(certificate, now) if certificate else None
