"""What a text costs as SMS: alphabet, septets, segments. Pure.

Rules: 3GPP TS 23.038 §6.2.1 (default alphabet and its extension table), TS 23.040 §9.2.3.24 (a concatenated message
gives 7 septets or 6 octets of each part to its header: 153 and 67 instead of 160 and 70).
"""

import unicodedata
from typing import Final

GSM_7: Final = "GSM-7"
UCS_2: Final = "UCS-2"

#: The default alphabet without its escape character, which is no text.
BASIC: Final = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
#: Two septets each: the escape and the character.
EXTENSION: Final = frozenset("\f^{}\\[~]|€")
ALPHABET: Final = BASIC | EXTENSION

_SINGLE: Final = {GSM_7: 160, UCS_2: 70}
_PART: Final = {GSM_7: 153, UCS_2: 67}

#: Characters that word processors and chat programs put in, and the GSM character that says the same.
_TWINS: Final[dict[str, str]] = {
    **dict.fromkeys("\u2018\u2019\u201a\u201b\u2032\u02bc\u02b9\u2039\u203a`\u00b4", "'"),
    **dict.fromkeys("\u201c\u201d\u201e\u201f\u2033\u00ab\u00bb", '"'),
    **dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2043\u2212\u2022", "-"),
    **dict.fromkeys(
        "\t\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000", " "
    ),
    **dict.fromkeys("\u0085\u2028\u2029", "\n"),
    **dict.fromkeys("\u00ad\u200b\u2060\ufeff", ""),  # zero width; not U+200C/D, which change what is seen
    **dict.fromkeys("\u2044\u2215", "/"),
    "\u2024": ".",
    "\u2025": "..",
    "\u2026": "...",
    "\u2192": "->",
    "\u00d7": "x",
    "\ufb00": "ff",
    "\ufb01": "fi",
    "\ufb02": "fl",
    "\ufb03": "ffi",
    "\ufb04": "ffl",
}
_TABLE: Final = str.maketrans(_TWINS)
#: Direction marks say nothing in a text that runs left to right only; pasted telephone numbers carry them.
_DIRECTION: Final = dict.fromkeys(map(ord, "\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"))
_RIGHT_TO_LEFT: Final = frozenset({"R", "AL", "AN"})


def normalise(text: str) -> str:
    """Curly quotes, dashes, ellipses, odd spaces and the like as their GSM twins; everything else stays. Idempotent."""
    if ALPHABET.issuperset(text):
        return text
    text = unicodedata.normalize("NFC", text.translate(_TABLE)).translate(_TABLE)
    if not any(unicodedata.bidirectional(char) in _RIGHT_TO_LEFT for char in text):
        text = unicodedata.normalize("NFC", text.translate(_DIRECTION))
    return text


def encoding(text: str) -> str:
    """``GSM-7``, or ``UCS-2`` when one character is outside the GSM alphabet."""
    return GSM_7 if ALPHABET.issuperset(text) else UCS_2


def culprits(text: str) -> tuple[str, ...]:
    """The characters that force UCS-2, each once, in order of appearance."""
    return tuple(dict.fromkeys(char for char in text if char not in ALPHABET))


def length(text: str) -> int:
    """Septets in GSM-7, UTF-16 code units in UCS-2."""
    return _length(text, encoding(text))


def segments(text: str) -> int:
    """How many SMS the text takes (at least 1): what is charged for, and what the rate limit counts."""
    code = encoding(text)
    units = _length(text, code)
    if units <= _SINGLE[code]:
        return 1
    if units == len(text):  # no pairs: nothing can be split
        return -(-units // _PART[code])
    return len(_pack(text, code))


def split(text: str) -> tuple[str, ...]:
    """The parts as a phone receives them. No escape or surrogate pair is split, so a part may be one unit short."""
    code = encoding(text)
    if _length(text, code) <= _SINGLE[code]:
        return (text,)
    return tuple(_pack(text, code))


def _length(text: str, code: str) -> int:
    if code == GSM_7:
        return len(text) + sum(map(text.count, EXTENSION))
    return len(text) + sum(char > "\uffff" for char in text)


def _pack(text: str, code: str) -> list[str]:
    """Greedy: each part takes whole characters until the next one does not fit."""
    room = _PART[code]
    parts: list[str] = []
    start = used = 0
    for at, char in enumerate(text):
        units = 2 if (char in EXTENSION if code == GSM_7 else char > "\uffff") else 1
        if used + units > room:
            parts.append(text[start:at])
            start, used = at, 0
        used += units
    parts.append(text[start:])
    return parts
