"""A delivery's short reference: what every SMS carries, and what a person reads out to the help desk.

A reversible scramble of the delivery's number in Crockford's base 32 (no I, L, O, U: they are misheard and misread),
so it needs no column, is unique, and does not tell how many messages went before. It is no secret.
"""

from typing import Final

_ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_LENGTH: Final = 7
_SPACE: Final = 32**_LENGTH  # 3.4e10 deliveries
_FACTOR: Final = 21_695_142_013  # odd, so invertible modulo a power of two
_INVERSE: Final = pow(_FACTOR, -1, _SPACE)
_MISREAD: Final = str.maketrans("ILO", "110")


def reference(delivery: int) -> str:
    """The 7 characters for a delivery's number (1 ≤ number < 32**7)."""
    if not 0 < delivery < _SPACE:
        raise ValueError("delivery number out of range")
    n = delivery * _FACTOR % _SPACE
    out = ""
    for _ in range(_LENGTH):
        n, digit = divmod(n, 32)
        out = _ALPHABET[digit] + out
    return out


def delivery_number(text: str) -> int | None:
    """The delivery behind a reference as a person might type it, or None when it cannot be one."""
    cleaned = text.strip().replace("-", "").replace(" ", "").upper().translate(_MISREAD)
    if len(cleaned) != _LENGTH:
        return None
    n = 0
    for char in cleaned:
        digit = _ALPHABET.find(char)
        if digit < 0:
            return None
        n = n * 32 + digit
    return n * _INVERSE % _SPACE or None
