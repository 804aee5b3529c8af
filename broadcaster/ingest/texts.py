"""A stranger's texts made fit for an alert: cleaned, and cut at a word. Each function takes linear time and never raises."""

import re
from hashlib import sha256
from typing import Final
from urllib.parse import urlsplit

TITLE: Final = 120  # characters, an alert's limits
BODY: Final = 1_200
KEY: Final = 255
URL: Final = 2_000
QUOTED: Final = 40  # of the body, in an error's text

_BREAKS: Final = re.compile("\r\n?|[\x0b\x0c\x85\u2028\u2029]")
# The bidirectional overrides are no control characters to Unicode, but can make a text read as its opposite.
_REMOVED: Final = re.compile("[\x01-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\u202a-\u202e\u2066-\u2069\ufeff]")
# Neither can be stored: PostgreSQL takes no NUL, UTF-8 has no lone surrogates.
_REPLACED: Final = re.compile("[\x00\ud800-\udfff]")
_UNFIT_FOR_KEY: Final = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_UNFIT_FOR_URL: Final = re.compile('[\x00-\x20\x7f-\xa0"<>\\\\\ud800-\udfff]')


def clean(text: str) -> str:
    """Without control characters but line breaks; what cannot be stored becomes U+FFFD."""
    text = _BREAKS.sub("\n", text).replace("\t", " ")
    return _REPLACED.sub("\ufffd", _REMOVED.sub("", text)).strip()


def cut(text: str, limit: int) -> str:
    """At most ``limit`` characters, cut at a word (unless that would cost half of it), with "…" for the rest."""
    if len(text) <= limit:
        return text
    kept = text[: limit - 1]
    if not text[limit - 1].isspace():
        space = max(kept.rfind(" "), kept.rfind("\n"))
        kept = kept[:space] if space > limit // 2 else kept
    return kept.rstrip() + "…"


def line(text: str, limit: int) -> str:
    """Clean, on one line, cut."""
    return cut(" ".join(clean(text).split()), limit)


def paragraphs(text: str, limit: int) -> str:
    """Clean, with its line breaks, cut."""
    return cut(clean(text), limit)


def key(text: str) -> str:
    """``text`` itself, or its hash where it is too long or has characters that cannot be kept as they are.

    Hashed rather than cut or cleaned: two things must not become one.
    """
    return text if len(text) <= KEY and not _UNFIT_FOR_KEY.search(text) else hashed(text)


def hashed(text: str) -> str:
    """ "sha256:<hex>"."""
    return f"sha256:{sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()}"


def link(text: str) -> str | None:
    """An absolute http(s) address, or None: a page shows it as a link, so nothing else (javascript:, data:) may pass."""
    text = text.strip()
    if not text or len(text) > URL or _UNFIT_FOR_URL.search(text):
        return None
    try:
        parts = urlsplit(text)
        return text if parts.scheme in ("http", "https") and parts.hostname else None
    except ValueError:  # e.g. brackets that are no IPv6 address
        return None


def quoted(text: str) -> str:
    """At most 40 characters of what a stranger wrote, for an error's text."""
    return f'"{line(text[: 4 * QUOTED], QUOTED)}"'
