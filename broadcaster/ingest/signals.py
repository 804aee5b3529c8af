"""The one place where foreign values become a Signal, so that its limits hold whatever a format hands in."""

from collections.abc import Iterable, Mapping
from typing import Final

from broadcaster.domain.messages import Severity
from broadcaster.domain.signal import Signal, Status
from broadcaster.ingest import texts

LABELS: Final = 100  # of one signal; more are left out
_LABEL_NAME: Final = 100  # characters
_LABEL_VALUE: Final = 255


def signal(
    key: str,
    status: Status,
    *,
    titles: Iterable[str],
    body: str = "",
    severity: Severity | None = None,
    labels: Mapping[str, str] | None = None,
    at: float | None = None,
    began: bool = False,
    url: str = "",
) -> Signal:
    """``titles``: the first that says something is the title; the key, if none does. Labels without a value are left out."""
    full = next((text for text in map(texts.clean, (*titles, key)) if text), "Untitled")
    title = texts.line(full, texts.TITLE)
    return Signal(
        key=texts.key(key),
        status=status,
        title=title,
        # What the title has no room for is not lost.
        body=texts.paragraphs(body, texts.BODY) or (texts.paragraphs(full, texts.BODY) if title.endswith("…") else ""),
        severity=severity,
        labels=_labels(labels or {}),
        at=at,
        began=began,
        url=texts.link(url),
    )


def severity(table: Mapping[str, Severity], word: str) -> Severity | None:
    """What this word means in a format's table (its words in lower case); None for a word that is not there."""
    return table.get(word.strip().lower())


def _labels(labels: Mapping[str, str]) -> dict[str, str]:
    kept: dict[str, str] = {}
    for name, value in labels.items():
        name, value = texts.line(name, _LABEL_NAME), texts.line(value, _LABEL_VALUE)
        if name and value:
            kept[name] = value
        if len(kept) == LABELS:
            break
    return kept
