"""What is said, to whom and when, once a monitor or a signal finds something down: from a state to an alert."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from broadcaster.domain import audience as audiences
from broadcaster.domain import templates
from broadcaster.domain.audience import Audience
from broadcaster.domain.messages import Severity

TITLE: Final = 120  # characters
BODY: Final = 1_200
DEFAULT_TITLE: Final = "{{name}} is down"
DEFAULT_BODY: Final = "{{reasons}} Since {{since}}."
DEFAULT_CLEAR_TITLE: Final = "{{name}} works again"
DEFAULT_CLEAR_BODY: Final = "It was down for {{duration}}, since {{since}}."
DEFAULT_REMINDER_TITLE: Final = "{{name}} is still down"


class Release(StrEnum):
    """``now``: at once. ``hold``: after a time in which somebody may dismiss it. ``approve``: when somebody says so."""

    NOW = "now"
    HOLD = "hold"
    APPROVE = "approve"


@dataclass(frozen=True, slots=True)
class Policy:
    """Times in seconds. ``steps``: (channels, seconds after acceptance), the first at 0.

    ``group``: incidents of one group are one alert; empty: the monitor alone. ``group_wait``: what fails within it is told
    together. ``remind_every``: 0 for never. ``update_after``: what joins later is told when the last word is so old, at once
    if it is more severe; 0: never. ``on_degraded``: degraded is a cause as well.
    """

    audience: Audience
    steps: tuple[tuple[tuple[str, ...], int], ...]
    severity: Severity
    title: str = DEFAULT_TITLE
    body: str = DEFAULT_BODY
    clear_title: str = DEFAULT_CLEAR_TITLE
    clear_body: str = DEFAULT_CLEAR_BODY
    reminder_title: str = DEFAULT_REMINDER_TITLE
    release: Release = Release.NOW
    hold: int = 120
    group: str = ""
    group_wait: float = 0.5
    remind_every: int = 0
    update_after: int = 600
    all_clear: bool = True
    on_degraded: bool = False
    expires_in: int | None = None
    source: str | None = None
    drill: bool = False

    def check(self) -> None:
        """Raises InvalidTemplate for a variable that there is not."""
        for text in (self.title, self.body, self.clear_title, self.clear_body, self.reminder_title):
            templates.check(text)

    def to_json(self) -> dict[str, Any]:
        """``from_json(p.to_json()) == p``."""
        values: dict[str, Any] = {name: getattr(self, name) for name in self.__dataclass_fields__}
        values["audience"] = audiences.to_json(self.audience)
        values["steps"] = [[list(channels), after] for channels, after in self.steps]
        return values

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Policy":
        """Raises what reading a mangled row raises: policies are checked when they are made."""
        known = {name: values[name] for name in cls.__dataclass_fields__ if name in values}
        known["audience"] = audiences.parse(values["audience"])
        known["steps"] = tuple((tuple(channels), after) for channels, after in values["steps"])
        known["severity"] = Severity(values["severity"])
        known["release"] = Release(values.get("release", Release.NOW))
        return cls(**known)
