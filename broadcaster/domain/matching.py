"""Which signals a rule means: by source, severity, labels and words. The first rule that means a signal takes it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from broadcaster.domain.messages import Severity
from broadcaster.domain.signal import Signal

LONGEST_PATTERN: Final = 200


@dataclass(frozen=True, slots=True)
class Match:
    """Empty parts mean everything. ``labels``: name -> a text in which * stands for anything. ``text``: stands in the title
    or body, capitals do not count. ``severities``: None in it means signals that state none."""

    sources: tuple[str, ...] = ()
    severities: tuple[Severity | None, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    text: str = ""

    def means(self, signal: Signal, source: str) -> bool:
        """``source``: the source's name."""
        if self.sources and source not in self.sources:
            return False
        if self.severities and signal.severity not in self.severities:
            return False
        if self.text and self.text.casefold() not in f"{signal.title}\n{signal.body}".casefold():
            return False
        return all(like(pattern, signal.labels.get(name)) for name, pattern in self.labels.items())

    def to_json(self) -> dict[str, Any]:
        return {
            "sources": list(self.sources), "severities": [s and s.value for s in self.severities],
            "labels": dict(self.labels), "text": self.text,
        }  # fmt: skip

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Match":
        severities = tuple(None if s is None else Severity(s) for s in values.get("severities", ()))
        return cls(tuple(values.get("sources", ())), severities, dict(values.get("labels", {})), values.get("text", ""))


def like(pattern: str, text: str | None) -> bool:
    """Whether the whole text is as the pattern says, * standing for anything. Takes time in proportion to both: the parts
    between the stars are looked for one after the other, and never again."""
    if text is None:
        return False
    first, *rest = pattern.split("*")
    if not rest:
        return text == pattern
    *middle, last = rest
    if not text.startswith(first) or not text.endswith(last) or len(text) < len(first) + len(last):
        return False
    at, end = len(first), len(text) - len(last)
    for part in middle:
        found = text.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return True


_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.:/-]{0,99}")


def is_label(name: str) -> bool:
    return _NAME.fullmatch(name) is not None
