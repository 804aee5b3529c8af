"""The kind that is called: somebody tells us that they are alive, by interval or by timetable. Pure; no network.

Cron expressions are read as Debian's cron reads them, in a time zone of one's choice, with its changes of the clock.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError
from pydantic import Field, model_validator

from broadcaster.domain.monitor import Circumstances, Reading, Verdict
from broadcaster.monitors import fields, findings
from broadcaster.monitors.findings import Code, Codes
from broadcaster.monitors.words import seconds

CODES: Final[Codes] = {
    "ok": Code(Verdict.OK, "The heartbeat came in time."),
    "missing": Code(Verdict.FAILED, "The heartbeat is overdue."),
    "never_seen": Code(Verdict.UNKNOWN, "No heartbeat has ever come: whoever is to call has yet to be told the address."),
}


class Config(fields.Settings):
    """When a heartbeat is due: every ``interval`` seconds, or at the times of ``cron``."""

    interval: float | None = Field(None, ge=10, le=31 * 86_400, description="Seconds between heartbeats.")
    cron: fields.Line | None = Field(None, description='Or a cron expression with five fields: "0 2 * * *".')
    timezone: fields.Line = Field("UTC", description='The time zone of cron: "Europe/London".')
    grace: float = Field(60.0, ge=1, le=7 * 86_400, description="Seconds that a heartbeat may be late.")

    @model_validator(mode="after")
    def _whole(self) -> "Config":
        if (self.interval is None) == (self.cron is None):
            raise ValueError("give either interval or cron")
        try:
            ZoneInfo(self.timezone)
        except (ValueError, OSError, LookupError):
            raise ValueError("timezone must be a name of the IANA time zone database") from None
        if self.cron is not None:
            if len(self.cron.split()) != 5:
                raise ValueError("cron must have five fields: minute, hour, day, month, weekday")
            try:
                next(CronSim(self.cron, datetime(2024, 1, 1, tzinfo=UTC)))
            except (CronSimError, StopIteration):
                raise ValueError("cron is no expression that ever comes true") from None
        return self


class Heartbeat:
    """Kind. Knows no state: what was heard is in the circumstances."""

    name: Final = "heartbeat"
    label: Final = "Somebody reports to us (heartbeat)"
    config: Final = Config
    codes: Final = findings.meanings(CODES)

    async def look(self, config: Config, circumstances: Circumstances) -> Reading:
        return judge(config, circumstances)


def judge(config: Config, circumstances: Circumstances) -> Reading:
    """The reading at ``now``.

    Heard in time: ok. Else, a monitor that was just made, changed or resumed has its first turn before it counts as failed;
    and one that was never heard at all is not set up yet, which is no outage.
    """
    now, seen, since = circumstances.now, circumstances.last_seen, circumstances.since
    following = _following(config)
    if seen is not None and now <= (overdue := following(seen) + config.grace):
        return _reading("ok", Verdict.OK, "The heartbeat came in time.", seen_ago=now - seen, overdue_in=overdue - now)
    first = following(since) + config.grace
    if now <= first:
        reason = "No heartbeat has come yet since the monitor was made, changed or resumed; the first may still come."
        return _reading("never_seen", Verdict.UNKNOWN, reason, overdue_in=first - now)
    if seen is None:
        reason = f"No heartbeat has ever come; the first was due {seconds(now - first + config.grace)} ago."
        return _reading("never_seen", Verdict.UNKNOWN, reason, late_by=now - first)
    due = following(seen)
    reason = f"The heartbeat is missing: the last came {seconds(now - seen)} ago, the next was due {seconds(now - due)} ago."
    return _reading("missing", Verdict.FAILED, reason, seen_ago=now - seen, late_by=now - due)


def _following(config: Config) -> Callable[[float], float]:
    """When the heartbeat after a moment is due, as seconds since the epoch."""
    if config.interval is not None:
        interval = config.interval
        return lambda moment: moment + interval
    assert config.cron is not None
    expression, zone = config.cron, ZoneInfo(config.timezone)
    return lambda moment: next(CronSim(expression, datetime.fromtimestamp(moment, zone))).timestamp()


def _reading(code: str, verdict: Verdict, reason: str, **detail: float) -> Reading:
    return Reading(verdict, code, reason, detail={name: round(value, 1) for name, value in detail.items()})
