"""Texts with ``{{variables}}``: what a monitor or a rule says when it raises an alert.

Not a programming language: a name in double braces is replaced by a text, and nothing else happens.
"""

import re
from collections.abc import Collection, Mapping
from typing import Final

_VARIABLE: Final = re.compile(r"\{\{\s*([a-z_]+(?:\.[a-z_]+)*)\s*\}\}")

#: Variable -> what stands in its place.
VARIABLES: Final[dict[str, str]] = {
    "name": "what is down: the monitor's or signal's name; several are joined by commas",
    "names": "the same",
    "reason": "why, in one sentence, of the first of them",
    "reasons": "why, of each, with its name",
    "count": "how many are down for this one cause",
    "since": "when it began, as a clock time",
    "duration": "for how long, in words",
    "source": "who says it",
    "monitor.name": "the same as name",
    "monitor.kind": "the kind of the first monitor, in words",
}


class InvalidTemplate(ValueError):
    """The text names a variable that there is not; the message says which there are."""


def check(text: str, known: Collection[str] = VARIABLES) -> None:
    """Raises InvalidTemplate."""
    for name in _VARIABLE.findall(text):
        if name not in known:
            raise InvalidTemplate(f"{{{{{name}}}}} is not known; use {', '.join(sorted(known))}")


def render(text: str, values: Mapping[str, str], longest: int) -> str:
    """The text with its variables replaced, cut at a word where it is longer. Unknown ones become nothing."""
    said = _VARIABLE.sub(lambda match: values.get(match[1], ""), text).strip()
    if len(said) <= longest:
        return said
    cut = said[: longest - 1]
    return (cut.rsplit(maxsplit=1)[0] if " " in cut[longest // 2 :] else cut).rstrip() + "…"


def duration(seconds: float) -> str:
    """For people: "3 minutes", "2 hours 5 minutes"."""
    minutes = int(seconds // 60)
    if minutes < 1:
        return "less than a minute"
    hours, rest = divmod(minutes, 60)
    parts = [_count(hours, "hour"), _count(rest, "minute")] if hours < 48 else [_count(hours // 24, "day")]
    return " ".join(part for part in parts if part)


def _count(n: int, unit: str) -> str:
    return "" if n == 0 else f"{n} {unit}" if n == 1 else f"{n} {unit}s"
