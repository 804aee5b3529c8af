"""States, severities and times in words that people on a ward or at a service desk understand (tables and formats only)."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from zoneinfo import ZoneInfo

from broadcaster.domain import audience as audiences
from broadcaster.domain import templates
from broadcaster.domain.lifecycle import State
from broadcaster.domain.messages import Severity
from broadcaster.domain.policy import Release


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


@dataclass(frozen=True, slots=True)
class Mark:
    """A state three times over: in words, as a drawing (``symbol`` of ``watch-parts.html``), and as a tag's colour."""

    label: str
    symbol: str
    colour: str


#: What a monitor says of its target.
MONITOR_STATES: Final = {
    "down": Mark("Down", "cross", "red"),
    "degraded": Mark("Works badly", "warning", "orange"),
    "unknown": Mark("Not known", "question", "yellow"),
    "ok": Mark("Works", "tick", "green"),
}
PAUSED: Final = Mark("Paused", "pause", "grey")
UNWATCHED: Final = Mark("Not looked at", "question", "yellow")
#: What one look came to.
VERDICTS: Final = {
    "failed": Mark("Failed", "cross", "red"),
    "degraded": Mark("Worked badly", "warning", "orange"),
    "unknown": Mark("Cannot say", "question", "yellow"),
    "ok": Mark("Good", "tick", "green"),
}
INCIDENT_STATES: Final = {
    "waiting": Mark("Will be sent", "clock", "orange"),
    "asking": Mark("Waits for a decision", "question", "orange"),
    "told": Mark("People were told", "bell", "red"),
    "clearing": Mark("Over", "tick", "green"),
    "closed": Mark("Over", "tick", "green"),
    "dismissed": Mark("Not sent", "pause", "grey"),
}
OVER_UNTOLD: Final = Mark("Over, not sent", "tick", "grey")
COULD_NOT: Final = Mark("Could not be sent", "warning", "red")
#: What an alert of an incident was raised for.
TOLD: Final = {
    "alert": "Alert",
    "reminder": "Reminder",
    "update": "Update",
    "earlier": "Earlier alert",
    "all_clear": "All-clear",
}
RELEASES: Final = {
    Release.NOW: "at once",
    Release.HOLD: "after {hold}, in which somebody can stop it",
    Release.APPROVE: "only when somebody here says so",
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


def clock(ms: int, now: int, zone: str) -> str:
    """NHS style: 3:04am; with its day when that is not today's."""
    at, today = (datetime.fromtimestamp(t / 1000, ZoneInfo(zone)) for t in (ms, now))
    said = f"{at.hour % 12 or 12}:{at:%M}{'am' if at.hour < 12 else 'pm'}"
    return said if at.date() == today.date() else f"{said} on {at.day} {at:%B}"


def exact(ms: int, now: int, zone: str) -> str:
    """The same with seconds, for what is about to happen or has just happened."""
    at = datetime.fromtimestamp(ms / 1000, ZoneInfo(zone))
    hour_minute, half, day = clock(ms, now, zone).partition("am" if at.hour < 12 else "pm")
    return f"{hour_minute}:{at:%S}{half}{day}"


def since(ms: int, now: int, zone: str) -> str:
    return f"for {templates.duration(max(now - ms, 0) / 1000)}, since {clock(ms, now, zone)}"


def span(seconds: float) -> str:
    """A length of time that somebody has chosen: 90 seconds, 2 minutes, 1 hour 30 minutes."""
    return f"{seconds:g} {plural(seconds, 'second')}" if seconds < 120 or seconds % 60 else templates.duration(seconds)


def countdown(ms: int) -> str:
    minutes, s = divmod(max(0, -(-ms // 1000)), 60)
    parts = [f"{minutes} {plural(minutes, 'minute')}"] if minutes else []
    return " ".join([*parts, f"{s} {plural(s, 'second')}"])


def latency(ms: int | None) -> str:
    """With a space that does not break."""
    if ms is None:
        return "–"
    return f"{ms:,}\xa0ms" if ms < 1000 else f"{ms / 1000:.1f}\xa0s"


def plural(n: float, thing: str) -> str:
    return thing if n == 1 else f"{thing}s"


def listed(names: Sequence[str], last: str = "and") -> str:
    """SMS, Slack and web push."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} {last} {names[-1]}" if names else ""


def audience(of: audiences.Audience) -> str:
    """Who is meant, in words."""
    match of:
        case audiences.Everyone():
            return "everyone in the directory"
        case audiences.InGroup(group):
            return f"the group “{group}”"
        case audiences.HasTag(key, value):
            return f"people tagged “{key}: {value}”"
        case audiences.Named(recipients):
            return f"{count(len(recipients))} named {'person' if len(recipients) == 1 else 'people'}"
        case audiences.Had():
            return "everyone who may have got an earlier alert"
        case audiences.AllOf(parts):
            return f"those who belong to {'both' if len(parts) == 2 else 'all of'} {listed([audience(p) for p in parts])}"
        case audiences.AnyOf(parts):
            return listed([audience(part) for part in parts])
        case audiences.Not(part):
            return f"everyone but {audience(part)}"


def machine_time(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds")
