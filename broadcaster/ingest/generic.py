"""Any JSON. Without options, our own plain shape::

    {"key": "mail-1", "status": "firing|acknowledged|resolved", "title": "Email is down", "body": …, "url": …,
     "severity": "critical|high|normal|low", "labels": {"site": "Northmoor"}, "at": "2026-10-12T07:31:00Z"}

``key`` and ``status`` must be there. The envelope of Standard Webhooks, ``{"type", "timestamp", "data"}``
(https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md), may be around it.

Options say where things stand in another shape (RFC 6901 pointers into the whole body) and what its words mean::

    key, status, title, body, severity, url, at    where; left out: as in the plain shape
    labels                                         where an object of labels stands
    label.<name>                                   where this label stands
    firing, acknowledged, resolved                 words of the status, separated by commas; "*" is any other word, or none.
                                                   Left out: the status's own name
    severity.critical, .high, .normal, .low        words of the severity; our own are always known

Words are compared without regard to case. Options of other names are somebody else's.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from broadcaster.domain.messages import Severity
from broadcaster.domain.signal import NotThisFormat, Post, Signal, Status
from broadcaster.ingest.signals import severity, signal
from broadcaster.ingest.texts import quoted
from broadcaster.ingest.times import moment
from broadcaster.ingest.trees import Node, pointer, read_json

_PLACES: Final = ("key", "status", "title", "body", "severity", "url", "at", "labels")
_LABEL: Final = "label."
_ANY: Final = "*"

T = TypeVar("T")
Steps = tuple[str, ...]


class Generic:
    name: Final = "generic"
    label: Final = "Any JSON"

    def check(self, options: Mapping[str, str]) -> None:
        Layout.of(options)

    def read(self, post: Post, options: Mapping[str, str]) -> Sequence[Signal]:
        layout, body = Layout.of(options), read_json(post.body)
        if layout.is_plain and body["key"].missing and not body["data"].missing:
            return [read_one(body["data"], layout, at=body["timestamp"].text())]
        return [read_one(body, layout)]


@dataclass(frozen=True, slots=True)
class Layout:
    """Where things stand in a body, and what its words mean. Words are in lower case."""

    places: Mapping[str, Steps]
    labels: Mapping[str, Steps]
    statuses: Mapping[str, Status]
    severities: Mapping[str, Severity]
    is_plain: bool  # no place is given

    @classmethod
    def of(cls, options: Mapping[str, str]) -> "Layout":
        """Raises NotThisFormat, naming the option."""
        labels = {name.removeprefix(_LABEL): _pointer(name, at) for name, at in options.items() if name.startswith(_LABEL)}
        return cls(
            places={name: _pointer(name, options.get(name, f"/{name}")) for name in _PLACES},
            labels=labels,
            statuses=_words((status, f"{status}", options.get(status, status)) for status in Status),
            severities={level.value: level for level in Severity}
            | _words((level, f"severity.{level}", options.get(f"severity.{level}", "")) for level in Severity),
            is_plain=not labels and not any(name in options for name in _PLACES),
        )


def read_one(body: Node, layout: Layout, *, key: str = "", at: str = "", labels: Mapping[str, str] | None = None) -> Signal:
    """The signal of one document. ``key``, ``at`` and ``labels``: what an envelope says, for what the document does not."""
    found = {name: body.follow(steps) for name, steps in layout.places.items()}
    return signal(
        found["key"].word() or key or found["key"].required().word(),
        _status(found["status"], layout),
        titles=(found["title"].word(),),
        body=found["body"].word(),
        severity=severity(layout.severities, found["severity"].word()),
        labels=dict(labels or {})
        | found["labels"].words()
        | {name: body.follow(steps).word() for name, steps in layout.labels.items()},
        at=moment(found["at"].word() or at),
        url=found["url"].word(),
    )


def _status(node: Node, layout: Layout) -> Status:
    word = node.word()
    status = layout.statuses.get(word.lower()) or layout.statuses.get(_ANY)
    if status is None:
        raise node.fault(f"{quoted(word)} is neither firing, acknowledged nor resolved" if word else "missing")
    return status


def _pointer(option: str, text: str) -> Steps:
    try:
        return pointer(text)
    except ValueError as error:
        raise NotThisFormat(f"The option {option}: {error}.") from None


def _words(lists: Iterable[tuple[T, str, str]]) -> dict[str, T]:
    """Lists of words, turned round. A word cannot mean two things."""
    meanings: dict[str, T] = {}
    for meaning, option, words in lists:
        for word in filter(None, (word.strip().lower() for word in words.split(","))):
            if meanings.setdefault(word, meaning) != meaning:
                raise NotThisFormat(f"The option {option}: {quoted(word)} means something else already.")
    return meanings
