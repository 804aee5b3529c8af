"""What another system tells us, in our own words. Each foreign format is one module in ``ingest`` that makes these."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol, runtime_checkable

from broadcaster.domain.messages import Severity


class Status(StrEnum):
    """``firing``: it is so, or still so. ``acknowledged``: somebody there has it in hand. ``resolved``: it is over."""

    FIRING = "firing"
    ACKNOWLEDGED = "acknowledged"
    RESOLVED = "resolved"


@dataclass(frozen=True, slots=True)
class Signal:
    """One fact of one source. ``key`` names the thing it is about and is the same from firing to resolved (at most 255
    characters; longer ones are hashed by ``ingest``).

    ``severity`` None: the source did not say. ``at``: seconds since the epoch, where the source says it. ``began``: that is
    when the thing began, which a firing one says as long as it lasts, also after an end that was only supposed. Texts are
    cut to the limits of an alert (title 120, body 1,200), without control characters but line breaks.
    """

    key: str
    status: Status
    title: str
    body: str
    severity: Severity | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    at: float | None = None
    began: bool = False
    url: str | None = None


@dataclass(frozen=True, slots=True)
class Post:
    """An HTTP request as it arrived. Names of headers in lower case."""

    headers: Mapping[str, str]
    body: bytes


class NotThisFormat(ValueError):
    """The body is not what the format says; the text says what is wrong and where (RFC 6901 pointer or XPath), in one
    sentence that never repeats more than 40 characters of the body."""


@runtime_checkable
class TakesOptions(Protocol):
    """A format that a source can be adjusted to."""

    def check(self, options: Mapping[str, str]) -> None:
        """Raises NotThisFormat, naming the option: when they are entered, not when the first alert comes."""


class Format(Protocol):
    """One foreign format. Pure: no I/O, no clock."""

    @property
    def name(self) -> str:
        """As in the URL: "alertmanager"."""

    @property
    def label(self) -> str:
        """As people read it: "Prometheus Alertmanager"."""

    def read(self, post: Post, options: Mapping[str, str]) -> Sequence[Signal]:
        """The signals of one request, in its order; empty for one that says nothing (a test ping). Raises NotThisFormat.

        ``options``: the source's own settings, e.g. the generic format's mapping.
        """
