"""The reach curve: how many had the message after how many seconds. Geometry only; ``parts.html`` draws it as SVG.

It is drawn twice, wide and narrow, because the text of a drawing shrinks with it; the style sheet shows the one that fits.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from broadcaster.console import words
from broadcaster.console.live import final_when_taken, is_complete
from broadcaster.domain.lifecycle import State
from broadcaster.services.progress import AlertView, Sample

_POINTS: Final = 200  # as many as the eye can tell apart; a long alert has a sample each second
_TABLE: Final = 8
_WIDE: Final = (900, 340)
_NARROW: Final = (358, 300)
_LABEL_GAP: Final = 17  # between the names at the lines' ends

Point = tuple[float, int]  # ms since the alert was made, messages


@dataclass(frozen=True, slots=True)
class Series:
    name: str  # CSS class of the line
    label: str
    points: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class Tick:
    at: int  # position in the drawing
    text: str


@dataclass(frozen=True, slots=True)
class Line:
    name: str
    label: str
    points: str  # of a polyline
    end_x: int
    end_y: int
    label_y: int


@dataclass(frozen=True, slots=True)
class Drawing:
    size: str  # wide or narrow
    width: int
    height: int
    left: int
    right: int
    top: int
    bottom: int
    across: tuple[Tick, ...]
    up: tuple[Tick, ...]
    x_title: str
    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class Curve:
    """``head`` and ``rows`` say the same as a table; ``says`` in one sentence."""

    drawings: tuple[Drawing, ...]
    legend: tuple[tuple[str, str], ...]
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    says: str


def curve(view: AlertView, samples: Sequence[Sample], now: int) -> Curve | None:
    """None while there is nothing to draw. Times are ms since the epoch."""
    if not view.channels or not view.targeted:
        return None
    series = _series(view, samples, now)
    end = max(1000.0, *(s.points[-1][0] for s in series))
    top = max(1, view.targeted, *(n for s in series for _, n in s.points))
    return Curve(
        drawings=tuple(_drawing(name, size, series, end, top) for name, size in (("wide", _WIDE), ("narrow", _NARROW))),
        legend=tuple((s.name, s.label) for s in series),
        head=("Time", *(s.label for s in series)),
        rows=_rows(series, end),
        says=_says(view, series[-1]),
    )


# ---- what is drawn ------------------------------------------------------------------------------------------------


def _series(view: AlertView, samples: Sequence[Sample], now: int) -> list[Series]:
    labels = {c.name: c.label for c in view.channels}
    by_taken = {c.name for c in view.channels if final_when_taken(c)}
    reached: dict[str, int] = dict.fromkeys(labels, 0)
    taken: dict[str, int] = dict.fromkeys(labels, 0)
    lines: dict[str, list[Point]] = {name: [(0.0, 0)] for name in (*labels, "taken", "total")}

    def mark(at: int) -> None:
        ms = float(max(at - view.created_at, 0))
        for name in labels:
            lines[name].append((ms, reached[name]))
        lines["taken"].append((ms, sum(taken.values())))
        lines["total"].append((ms, sum(reached.values())))

    seen = next((s.at for s in samples if s.accepted), now)
    if view.first_reached_at is not None and view.first_reached_at <= seen:  # where the line leaves the ground
        mark(max(view.first_reached_at - 1, view.created_at))
    for at, group in groupby(samples, key=lambda s: s.at):
        for s in group:
            if s.channel in labels:
                taken[s.channel] = s.accepted
                reached[s.channel] = s.accepted if s.channel in by_taken else s.delivered
        mark(at)
    for c in view.channels:
        reached[c.name], taken[c.name] = c.reached, c.counts[State.ACCEPTED] + c.counts[State.DELIVERED]
    mark(_last_moment(view, samples, now))
    named = {**labels, "taken": "Taken by providers", "total": "Arrived, all channels"}
    if lines["taken"][-1][1] == lines["total"][-1][1] and is_complete(view):
        del named["taken"]  # it says nothing that the total does not
    if len(labels) == 1:
        del named[next(iter(labels))]
    return [Series(name, label, _thinned(lines[name])) for name, label in named.items()]


def _last_moment(view: AlertView, samples: Sequence[Sample], now: int) -> int:
    if not is_complete(view):
        return now
    known = [view.last_reached_at or view.created_at, *(s.at for s in samples[-1:])]
    return max(known)


def _thinned(points: list[Point]) -> tuple[Point, ...]:
    """Sorted by time, without the middles of straight runs, and no more than the eye can use."""
    points.sort(key=lambda p: p[0])
    kept = [p for i, p in enumerate(points) if i in (0, len(points) - 1) or not points[i - 1][1] == p[1] == points[i + 1][1]]
    step = max(1, -(-len(kept) // _POINTS))
    return tuple(kept[:-1:step]) + (kept[-1],)


# ---- where it is drawn ----------------------------------------------------------------------------------------------


def _drawing(name: str, size: tuple[int, int], series: Sequence[Series], end: float, top: int) -> Drawing:
    width, height = size
    wide = name == "wide"
    up_step, across_step = nice(top / 5), _nice_time(end / (8 if wide else 4))
    ceiling = -(-top // up_step) * up_step
    left = 14 + 9 * len(words.count(ceiling))
    right, above, bottom = width - (170 if wide else 12), 14, height - 46
    unit, unit_ms = _time_unit(end)

    def x(ms: float) -> int:
        return round(left + (right - left) * ms / end)

    def y(n: float) -> int:
        return round(bottom - (bottom - above) * n / ceiling)

    lines = [
        Line(s.name, s.label, " ".join(f"{x(ms)},{y(n)}" for ms, n in s.points), x(s.points[-1][0]), y(s.points[-1][1]), 0)
        for s in series
    ]
    across = [Tick(x(ms), _plain(ms / unit_ms)) for ms in steps(across_step, end)]
    up = [Tick(y(n), words.count(int(n))) for n in steps(up_step, ceiling)]
    return Drawing(
        name, width, height, left, right, above, bottom, tuple(across), tuple(up),
        f"{unit} since the alert was raised", tuple(_spread(lines, above, bottom)),
    )  # fmt: skip


def _spread(lines: list[Line], top: int, bottom: int) -> list[Line]:
    """Names beside the ends of their lines, moved apart so that they can be read."""
    order = sorted(range(len(lines)), key=lambda i: (lines[i].end_y, -i))
    at = {}
    floor = top
    for i in order:
        at[i] = max(lines[i].end_y, floor)
        floor = at[i] + _LABEL_GAP
    ceiling = bottom
    for i in reversed(order):
        at[i] = min(at[i], ceiling)
        ceiling = at[i] - _LABEL_GAP
    return [Line(s.name, s.label, s.points, s.end_x, s.end_y, at[i] + 5) for i, s in enumerate(lines)]


def nice(rough: float) -> int:
    """The next of 1, 2, 5, 10, 20, 50 …"""
    power = 1
    while True:
        for factor in (1, 2, 5):
            if factor * power >= rough:
                return factor * power
        power *= 10


def _nice_time(rough: float) -> int:
    """ms: a step that clocks use."""
    seconds = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400)
    return next((round(s * 1000) for s in seconds if s * 1000 >= rough), nice(rough / 3_600_000) * 3_600_000)


def _time_unit(end: float) -> tuple[str, int]:
    if end <= 180_000:
        return "Seconds", 1000
    return ("Minutes", 60_000) if end <= 3 * 3_600_000 else ("Hours", 3_600_000)


def steps(step: int, end: float) -> list[int]:
    return list(range(0, int(end) + 1, step))


def _plain(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


# ---- the same in words ----------------------------------------------------------------------------------------------


def _rows(series: Sequence[Series], end: float) -> tuple[tuple[str, ...], ...]:
    step = max(end / (_TABLE - 1), 1)
    times = sorted({min(round(step * n), int(end)) for n in range(_TABLE)})
    return tuple((words.duration(t), *(words.count(_at(s, t)) for s in series)) for t in times)


def _at(series: Series, ms: float) -> int:
    return next((n for at, n in reversed(series.points) if at <= ms), 0)


def _says(view: AlertView, total: Series) -> str:
    half = next((at for at, n in total.points if 2 * n >= view.targeted), None)
    said = f"{words.count(view.reached)} of {words.count(view.targeted)} messages have arrived."
    return f"{said} Half of them had arrived after {words.duration(int(half))}." if half is not None else said
