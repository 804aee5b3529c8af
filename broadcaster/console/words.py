"""States, severities and times in words that people on a ward or at a service desk understand (tables and formats only)."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from zoneinfo import ZoneInfo

from broadcaster.domain.lifecycle import State
from broadcaster.domain.messages import Severity


@dataclass(frozen=True, slots=True)
class Word:
    """``label`` stands in tables, ``meaning`` explains it, ``tone`` is the bar's CSS class."""

    label: str
    meaning: str
    tone: str


#: In the order of the bars and tables: the best first.
STATES: Final[dict[State, Word]] = {
    State.DELIVERED: Word("Delivered", "A receipt proves that it arrived", "arrived"),
    State.ACCEPTED: Word("Taken by provider", "On its way; no receipt yet", "taken"),
    State.SENDING: Word("Sending", "Being handed to the provider right now", "moving"),
    State.RETRYING: Word("Trying again", "It did not leave; the next try is planned", "moving"),
    State.QUEUED: Word("Waiting", "Not sent yet", "waiting"),
    State.UNCERTAIN: Word("Not certain", "It may have been sent; we are finding out", "unsure"),
    State.UNCONFIRMED: Word("No proof", "It may have arrived, but no receipt came", "unsure"),
    State.FAILED: Word("Failed", "Refused, or could not be delivered", "failed"),
    State.EXPIRED: Word("Too late", "Its time ran out before it left", "stopped"),
    State.CANCELLED: Word("Stopped", "The alert was cancelled before it left", "stopped"),
    State.SKIPPED: Word("Not wanted", "Opted out, or the address no longer works", "stopped"),
}
#: ``accepted`` on a channel that gives no receipts: as much as can be known.
TAKEN_FOR_GOOD: Final = Word("Taken by provider", "This channel gives no receipts: taken counts as arrived", "arrived")

#: Severity -> (words, tag colour)
SEVERITIES: Final = {
    Severity.CRITICAL: ("Critical", "red"),
    Severity.HIGH: ("High", "orange"),
    Severity.NORMAL: ("Normal", "blue"),
    Severity.LOW: ("Low", "grey"),
}
#: An alert's state -> (words, tag colour)
ALERT_STATES: Final = {
    "planning": ("Finding people", "yellow"),
    "sending": ("Sending", "blue"),
    "sent": ("Sent, waiting for receipts", "aqua-green"),
    "completed": ("Finished", "green"),
    "cancelled": ("Cancelled", "grey"),
}


def count(n: int) -> str:
    return f"{n:,}"


def percent(part: int, whole: int) -> str:
    """Whole percents that never claim 100 % or 0 % too early."""
    if whole <= 0:
        return "0%"
    value = 100 * part / whole
    if 0 < value < 1:
        return "under 1%"
    return "over 99%" if 99 < value < 100 else f"{int(value)}%"


def seconds(ms: int | None) -> str:
    """How long something took, with as much detail as matters."""
    if ms is None:
        return "–"
    s = max(ms, 0) / 1000
    if s < 9.95:
        return f"{s:.1f}"
    return f"{round(s):,}"


def duration(ms: int) -> str:
    s = round(max(ms, 0) / 1000)
    if s < 120:
        return f"{seconds(ms)} seconds"
    if s < 7200:
        return f"{s // 60} min {s % 60:02} s"
    return f"{s // 3600} h {s % 3600 // 60:02} min"


def moment(ms: int, zone: str) -> str:
    """NHS style: 5 March 2026 at 3:04:05pm."""
    at = datetime.fromtimestamp(ms / 1000, ZoneInfo(zone))
    clock = f"{at.hour % 12 or 12}:{at:%M:%S}{'am' if at.hour < 12 else 'pm'}"
    return f"{at.day} {at:%B %Y} at {clock}"


def machine_time(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds")
