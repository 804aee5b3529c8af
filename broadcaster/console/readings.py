"""Looks as drawings: the small one of the last forty, and the chart of how long each took. Geometry; the templates draw.

What went wrong is told by shape as well as by colour.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Final
from zoneinfo import ZoneInfo

from broadcaster.console import words
from broadcaster.console.curve import Tick, nice, steps
from broadcaster.services.monitors import SPARK, Seen

_STEP: Final = 4  # from bar to bar
_BASE: Final = 24  # the small drawing's ground: what failed goes through it, what says nothing hangs below
_HEIGHT: Final = 32
_WIDE: Final = (900, 260)
_NARROW: Final = (358, 240)
_STRIP: Final = 14  # where marks stand, above the lines
_MARK_GAP: Final = 7  # marks that stand closer are drawn once
_STYLES: Final = 4  # of lines, in the style sheet
_LISTED: Final = 20


@dataclass(frozen=True, slots=True)
class Bar:
    verdict: str
    x: int
    y: int
    height: int


@dataclass(frozen=True, slots=True)
class Spark:
    """``says`` is the same in words."""

    width: int
    height: int
    base: int
    bars: tuple[Bar, ...]
    says: str


@dataclass(frozen=True, slots=True)
class Line:
    """One vantage's. ``runs``: points of polylines, broken where a look failed or said nothing. ``style``: 1 to 4."""

    style: int
    label: str
    runs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Drawing:
    size: str  # wide or narrow
    width: int
    height: int
    left: int
    right: int
    top: int
    bottom: int
    strip: int
    across: tuple[Tick, ...]
    up: tuple[Tick, ...]
    lines: tuple[Line, ...]
    marks: tuple[tuple[str, int], ...]  # verdict, x


@dataclass(frozen=True, slots=True)
class Look:
    """A line of the table."""

    at: str
    vantage: str
    mark: words.Mark
    reason: str
    latency: str


@dataclass(frozen=True, slots=True)
class Chart:
    """``looks`` says the same as a table, of the last ones; ``says`` in one sentence."""

    drawings: tuple[Drawing, ...]
    legend: tuple[tuple[int, str], ...]
    marked: tuple[str, ...]
    looks: tuple[Look, ...]
    says: str


def spark(seen: Sequence[Seen]) -> Spark:
    """``seen``: the oldest first."""
    last = seen[-SPARK:]
    slowest = max((s.latency_ms or 0 for s in last if _worked(s)), default=0) or 1
    first = SPARK - len(last)
    bars = tuple(_bar(s, (first + n) * _STEP, slowest) for n, s in enumerate(last))
    return Spark(SPARK * _STEP, _HEIGHT, _BASE, bars, _says(last))


def chart(seen: Sequence[Seen], now: int, zone: str) -> Chart | None:
    """``seen``: the newest first; None without any. ``now``: ms since the epoch."""
    if not seen:
        return None
    rising = sorted(seen, key=lambda s: s.at)
    places = tuple(dict.fromkeys(sorted(s.vantage for s in seen)))
    sizes = (("wide", _WIDE), ("narrow", _NARROW))
    return Chart(
        drawings=tuple(_drawing(name, size, rising, places, zone) for name, size in sizes),
        legend=tuple((n % _STYLES + 1, place) for n, place in enumerate(places)),
        marked=tuple(v for v in ("failed", "degraded", "unknown") if any(s.verdict == v for s in seen)),
        looks=tuple(_look(s, now, zone) for s in seen[:_LISTED]),
        says=_says(rising),
    )


def _worked(seen: Seen) -> bool:
    return seen.verdict in ("ok", "degraded") and seen.latency_ms is not None


def _bar(seen: Seen, x: int, slowest: int) -> Bar:
    if seen.verdict == "failed":
        return Bar("failed", x, 0, _HEIGHT)
    if seen.verdict == "unknown":
        return Bar("unknown", x, _BASE + 2, _HEIGHT - _BASE - 2)
    height = max(2, round((_BASE - 4) * (seen.latency_ms or 0) / slowest))
    return Bar(seen.verdict, x, _BASE - height, height)


def _says(seen: Sequence[Seen]) -> str:
    if not seen:
        return "It has not been looked at yet."
    counts = {name: sum(s.verdict == name for s in seen) for name in words.VERDICTS}
    said = [f"{n} {words.VERDICTS[name].label.lower()}" for name, n in counts.items() if n]
    times = [s.latency_ms for s in seen if _worked(s) and s.latency_ms is not None]
    took = "" if not times else f" It took {words.latency(min(times))} to {words.latency(max(times))}."
    return f"The last {words.count(len(seen))} {words.plural(len(seen), 'look')}: {', '.join(said)}.{took}"


def _look(seen: Seen, now: int, zone: str) -> Look:
    at, latency = words.exact(seen.at, now, zone), words.latency(seen.latency_ms)
    return Look(at, seen.vantage, words.VERDICTS[seen.verdict], seen.reason, latency)


# ---- the chart --------------------------------------------------------------------------------------------------------


def _drawing(name: str, size: tuple[int, int], seen: Sequence[Seen], places: Sequence[str], zone: str) -> Drawing:
    width, height = size
    slowest = max((s.latency_ms or 0 for s in seen if _worked(s)), default=0)
    step = nice(max(slowest, 4) / 4)
    ceiling = max(-(-slowest // step), 1) * step
    left, right, top, bottom = 20 + 8 * len(words.count(ceiling)), width - 14, 28, height - 30
    begin, end = seen[0].at, max(seen[-1].at, seen[0].at + 1000)

    def x(at: int) -> int:
        return round(left + (right - left) * (at - begin) / (end - begin))

    def y(ms: int) -> int:
        return round(bottom - (bottom - top) * ms / ceiling)

    lines = []
    for n, place in enumerate(places):
        here = groupby((s for s in seen if s.vantage == place), key=_worked)
        runs = [[(x(s.at), y(s.latency_ms or 0)) for s in run] for worked, run in here if worked]
        lines.append(Line(n % _STYLES + 1, place, tuple(_points(run) for run in runs)))
    return Drawing(
        name, width, height, left, right, top, bottom, _STRIP,
        across=tuple(Tick(x(at), text) for at, text in _times(begin, end, 6 if name == "wide" else 3, zone)),
        up=tuple(Tick(y(ms), words.count(ms)) for ms in steps(step, ceiling)),
        lines=tuple(lines),
        marks=tuple(_marks([(s.verdict, x(s.at)) for s in seen if s.verdict != "ok"])),
    )  # fmt: skip


def _points(run: Sequence[tuple[int, int]]) -> str:
    """One point alone is drawn as a line of no length, whose round ends make a dot."""
    return " ".join(f"{x},{y}" for x, y in (run if len(run) > 1 else [*run, *run]))


def _marks(all_of_them: Sequence[tuple[str, int]]) -> list[tuple[str, int]]:
    """The worst of those that would lie on each other."""
    kept: list[tuple[str, int]] = []
    for verdict, x in all_of_them:
        if not kept or x - kept[-1][1] >= _MARK_GAP:
            kept.append((verdict, x))
        elif verdict == "failed":
            kept[-1] = (verdict, kept[-1][1])
    return kept


def _times(begin: int, end: int, about: int, zone: str) -> list[tuple[int, str]]:
    """Round clock times between two moments (ms since the epoch), and how they are written."""
    rough = (end - begin) / about / 1000
    step = (
        next((s for s in (1, 5, 15, 30, 60, 300, 900, 1800, 3600, 7200, 21_600, 43_200, 86_400) if s >= rough), 604_800)
        * 1000
    )
    tz, found = ZoneInfo(zone), []
    for ms in range(-(-begin // step) * step, end + 1, step):
        at = datetime.fromtimestamp(ms / 1000, tz)
        seconds = f":{at:%S}" if step < 60_000 else ""
        clock = f"{at.hour % 12 or 12}:{at:%M}{seconds}{'am' if at.hour < 12 else 'pm'}"
        found.append((ms, f"{at.day} {at:%b}" if step >= 86_400_000 else clock))
    return found
