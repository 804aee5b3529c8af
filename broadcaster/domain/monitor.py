"""The shape of a monitor's kind: it observes one thing and returns a reading. It decides nothing.

A new kind is one module in ``monitors`` that satisfies ``Kind``, and one line in ``wiring``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol


class Verdict(StrEnum):
    """What one look came to.

    ``ok``: it works. ``degraded``: it works, but something wants attention (slow, a certificate that ends soon).
    ``failed``: it does not work. ``unknown``: this look says nothing about it (our own network, a limit of ours).
    """

    OK = "ok"
    DEGRADED = "degraded"
    FAILED = "failed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Reading:
    """One look at one thing.

    ``code``: stable, snake_case, one of the kind's ``codes`` ("ok" when all is well). ``reason``: one plain sentence for a
    tired person; no password, token or mailbox address in it, and nothing of a stranger's text but cut and printable.
    ``latency``: seconds that the thing took, where it can be said. ``detail``: evidence as flat JSON values.
    ``refused``: our credentials were refused; looks again and again would lock the mailbox, so they become rare.
    """

    verdict: Verdict
    code: str
    reason: str
    latency: float | None = None
    detail: Mapping[str, str | int | float | bool | None] = field(default_factory=dict)
    refused: bool = False


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What a look may know. Times are seconds since the epoch.

    ``due``: when this look was due. ``timeout``: seconds that it has in all. ``since``: when the monitor was made, changed
    or resumed. ``last_seen``: when its heartbeat was last heard, for kinds that are called. ``vantage``: where we look from.
    """

    due: float
    now: float
    timeout: float
    since: float
    last_seen: float | None = None
    vantage: str = "main"


class Kind(Protocol):
    """One way to look. ``Config`` is what the API takes and what is kept; its ``SecretStr`` fields are write-only.

    ``look`` never raises for a fault of what it looks at, and ends within ``timeout``: past it, it is cancelled and the
    reading is ``timeout``.
    """

    @property
    def name(self) -> str:
        """As in the API's ``kind``: "smtp"."""

    @property
    def label(self) -> str:
        """As people read it: "Sending mail (SMTP)"."""

    @property
    def codes(self) -> Mapping[str, str]:
        """code -> what it means, one sentence: the documentation's table."""

    @property
    def config(self) -> type[Any]:
        """A pydantic model (``extra="forbid"``)."""

    async def look(self, config: Any, circumstances: Circumstances) -> Reading: ...
