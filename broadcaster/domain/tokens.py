"""Short signed tokens: who may say what about which attempt.

``<delivery>.<attempt>.<signature>``, numbers in base 36, the signature the first 80 bits of HMAC-SHA-256 over purpose and
numbers, base64url. 80 bits cannot be guessed over HTTP, and the token has to fit into an SMS.
"""

import base64
import hashlib
import hmac

_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


def sign(secret: bytes, purpose: str, *numbers: int) -> str:
    """A token for ``purpose`` ("receipt", "message", "enrol") over one or more non-negative numbers."""
    body = ".".join(_base36(n) for n in numbers)
    return f"{body}.{_signature(secret, purpose, body)}"


def verify(secret: bytes, purpose: str, token: str) -> tuple[int, ...] | None:
    """The numbers in a token that we signed for this purpose, else None. Compares in constant time."""
    body, _, signature = token.rpartition(".")
    if not hmac.compare_digest(signature.encode(), _signature(secret, purpose, body).encode()):
        return None
    return tuple(int(part, 36) for part in body.split("."))


def _signature(secret: bytes, purpose: str, body: str) -> str:
    digest = hmac.digest(secret, f"{purpose}:{body}".encode(), hashlib.sha256)
    return base64.urlsafe_b64encode(digest[:10]).decode().rstrip("=")


def _base36(n: int) -> str:
    if n < 0:
        raise ValueError("numbers in tokens are not negative")
    out = ""
    while True:
        n, digit = divmod(n, 36)
        out = _DIGITS[digit] + out
        if n == 0:
            return out
