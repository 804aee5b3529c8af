"""What a stranger wrote, made fit to be shown: cut, printable, and without addresses or secrets of ours."""

import re
from collections.abc import Iterable
from typing import Final

#: Characters of a stranger's text that are kept.
LONGEST: Final = 200
_ADDRESS: Final = re.compile(r"[^\s<>@\"',;:()\[\]]+@[^\s<>@\"',;:()\[\]]+")


def printable(text: str | bytes, hide: Iterable[str] = ()) -> str:
    """At most 200 printable characters. Mailbox addresses and the texts in ``hide`` become "…"."""
    if isinstance(text, bytes):
        text = text.decode("utf-8", "replace")
    text = text[: 20 * LONGEST]
    for secret in sorted(filter(None, hide), key=len, reverse=True):
        text = text.replace(secret, "…")
    text = _ADDRESS.sub("…", text)
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def seconds(value: float) -> str:
    """A length of time as people say it: "31 ms", "0.4 s", "12 s", "3 min", "2 h"."""
    if value < 0.0995:
        return f"{value * 1000:.0f} ms"
    if value < 10:
        return f"{value:.1f} s"
    if value < 120:
        return f"{value:.0f} s"
    return f"{value / 60:.0f} min" if value < 7200 else f"{value / 3600:.0f} h"
