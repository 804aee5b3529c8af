"""How many SMS segments a text takes (3GPP TS 23.038 §6.2.1 alphabet, TS 23.040 §9.2.3.24.1
concatenation)."""

from __future__ import annotations

_BASIC = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
_EXTENDED = frozenset("^{}\\[]~|€\f")

GSM_SINGLE, GSM_PART = 160, 153
UCS2_SINGLE, UCS2_PART = 70, 67


def count_segments(body: str) -> int:
    """Segments of `body`: GSM-7 at 160/153 septets when every character has one, else UCS-2 at 70/67 code
    units.

    An escape pair or a surrogate pair never straddles two segments, so parts are filled one by one.
    """
    if _BASIC.issuperset(body):
        return _parts([1] * len(body), GSM_SINGLE, GSM_PART)
    if all(c in _BASIC or c in _EXTENDED for c in body):
        return _parts([2 if c in _EXTENDED else 1 for c in body], GSM_SINGLE, GSM_PART)
    return _parts([2 if ord(c) > 0xFFFF else 1 for c in body], UCS2_SINGLE, UCS2_PART)


def _parts(widths: list[int], single: int, part: int) -> int:
    if sum(widths) <= single:
        return 1
    parts, used = 1, 0
    for width in widths:
        if used + width > part:
            parts, used = parts + 1, 0
        used += width
    return parts
