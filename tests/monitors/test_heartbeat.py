"""Heartbeats: pure rules, so a whole life of one is played through."""

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from broadcaster.domain.monitor import Circumstances, Verdict
from broadcaster.monitors.heartbeat import Config, Heartbeat, judge
from tests.monitors.looks import check, look, run

DAY = 86_400.0
NOW = 1_795_599_674.0


def at(now: float, since: float, seen: float | None) -> Circumstances:
    return Circumstances(due=now, now=now, timeout=10.0, since=since, last_seen=seen)


@given(
    interval=st.floats(10, 31 * DAY),
    grace=st.floats(1, 7 * DAY),
    since_ago=st.floats(0, 90 * DAY),
    seen_ago=st.none() | st.floats(0, 90 * DAY),
)
def test_interval_and_grace(interval: float, grace: float, since_ago: float, seen_ago: float | None) -> None:
    allowed = interval + grace
    for ago in (since_ago, seen_ago or 0.0):
        assume(abs(ago - allowed) > 0.001)
    config = Config(interval=interval, grace=grace)
    reading = judge(config, at(NOW, NOW - since_ago, None if seen_ago is None else NOW - seen_ago))
    check(Heartbeat(), config, reading)
    if seen_ago is not None and seen_ago < allowed:
        assert (reading.verdict, reading.code) == (Verdict.OK, "ok")
    elif since_ago < allowed:
        assert (reading.verdict, reading.code) == (Verdict.UNKNOWN, "never_seen")
    else:
        late = (Verdict.UNKNOWN, "never_seen") if seen_ago is None else (Verdict.FAILED, "missing")
        assert (reading.verdict, reading.code) == late


def london(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo("Europe/London")).timestamp()


@pytest.mark.parametrize(
    ("cron", "seen", "now", "code"),
    [
        ("0 2 * * *", "2026-11-24 02:00:05", "2026-11-25 02:09:59", "ok"),
        ("0 2 * * *", "2026-11-24 02:00:05", "2026-11-25 02:10:01", "missing"),
        ("0 9 * * MON-FRI", "2026-11-20 09:00:30", "2026-11-23 09:05:00", "ok"),  # no weekend duty
        ("0 9 * * MON-FRI", "2026-11-20 09:00:30", "2026-11-23 09:11:00", "missing"),
        # The night that has no 01:30 (29 March 2026), and the one that has two (25 October 2026).
        ("30 1 * * *", "2026-03-28 01:30:30", "2026-03-29 02:05:00", "ok"),
        ("30 1 * * *", "2026-03-28 01:30:30", "2026-03-29 02:11:00", "missing"),
        ("30 1 * * *", "2026-10-25 01:30:30", "2026-10-26 01:35:00", "ok"),
        ("30 1 * * *", "2026-10-25 01:30:30", "2026-10-26 01:45:00", "missing"),
    ],
)
def test_timetables_follow_the_clocks_of_their_zone(cron: str, seen: str, now: str, code: str) -> None:
    config = Config(cron=cron, timezone="Europe/London", grace=600)
    reading = judge(config, at(london(now), london(seen) - 400 * DAY, london(seen)))
    assert reading.code == code, reading


CRONS = st.tuples(
    st.sampled_from(["*", "0", "*/15", "5,35"]), st.sampled_from(["*", "2", "8-18", "*/6"]),
    st.sampled_from(["*", "1", "15", "L"]), st.sampled_from(["*", "1", "*/3"]), st.sampled_from(["*", "MON", "1-5"]),
).map(" ".join)  # fmt: skip


@given(
    cron=CRONS, zone=st.sampled_from(["UTC", "Europe/London", "America/New_York", "Australia/Lord_Howe"]),
    heard=st.floats(NOW - 700 * DAY, NOW + 400 * DAY), waited=st.floats(0, 40 * DAY), grace=st.floats(1, DAY),
)  # fmt: skip
def test_a_timetables_verdict_never_gets_better_by_waiting(
    cron: str, zone: str, heard: float, waited: float, grace: float
) -> None:
    config = Config(cron=cron, timezone=zone, grace=grace)
    assert judge(config, at(heard, heard - 400 * DAY, heard)).code == "ok"
    earlier, later = (judge(config, at(heard + t, heard - 400 * DAY, heard)).code for t in (waited, waited + DAY))
    assert (earlier, later) != ("missing", "ok")


def test_as_a_kind() -> None:
    async def main() -> None:
        reading = await look(Heartbeat(), {"interval": 300}, last_seen=None)
        assert (reading.verdict, reading.code) == (Verdict.UNKNOWN, "never_seen")

    run(main)


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"interval": 300, "cron": "* * * * *"},
        {"cron": "* * * *"},
        {"cron": "0 0 30 2 *"},
        {"cron": "61 * * * *"},
        {"cron": "* * * * * *"},
        {"interval": 1},
        {"interval": 300, "timezone": "Mars/Olympus"},
        {"interval": 300, "timezone": "../../etc/passwd"},
    ],
)
def test_nonsense_is_no_configuration(config: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="validation error"):
        Config(**config)
