"""One broadcast through the product, from its POST to its last outcome in the database."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from tests.bench import machine
from tests.bench.product import Live
from tests.bench.sink import Sink

_LOOK: Final = 0.2  # s between looks at the counts, which must cost nothing
_CLOSE_LOOK: Final = 0.02  # near the end, for the figure's sake
_NEAR: Final = 0.97
_SAY: Final = 10.0  # s between lines of progress
_FIRST_LOOK: Final = 0.004  # s between looks at the sink until the first request is there


@dataclass(frozen=True, slots=True)
class Sent:
    """``seconds`` is from the POST until every outcome was committed; ``first_out_seconds`` until the sink had the first
    request. ``at_the_sink`` counts requests there. ``cpu_us`` is CPU time per delivery by who used it, microseconds;
    ``others_cores`` is how many cores anybody else used meanwhile. ``curve``: (s since the POST, recorded)."""

    uid: str
    people: int
    done: int
    seconds: float
    per_second: float
    accepted_seconds: float
    first_out_seconds: float
    planned_seconds: float | None
    at_the_sink: int
    cpu_us: dict[str, float]
    others_cores: float
    curve: tuple[tuple[float, int], ...]

    def as_dict(self) -> dict[str, Any]:
        """Without the curve, rounded."""
        found = {name: round(v, 3) if isinstance(v, float) else v for name, v in asdict(self).items()}
        del found["curve"]
        return found


class Meter:
    """CPU seconds of the product, its database and the sink."""

    def __init__(self, live: Live, sink: Sink, postgres: int | None) -> None:
        self._live, self._sink, self._postgres = live, sink, postgres

    def read(self) -> dict[str, float]:
        used = {part: machine.cpu_seconds(processes) for part, processes in self._live.processes().items()}
        if self._postgres is not None:
            used["postgresql"] = machine.cpu_seconds(machine.tree(self._postgres))
        used["sink"] = sum(machine.cpu_seconds(machine.tree(pid)) for pid in self._sink.pids.values())
        return used


def send(
    live: Live,
    sink: Sink,
    body: dict[str, Any],
    people: int,
    limit: float,
    postgres: int | None = None,
    *,
    on_raised: Callable[[str], None] = lambda _: None,
    on_first: Callable[[], None] = lambda: None,
    say: Callable[[str], None] = lambda _: None,
) -> Sent:
    """Raises the alert and waits until all are accepted, or ``limit`` seconds are over (``done`` < ``people`` then).

    ``on_raised`` hears the alert's id; ``on_first`` is called once the sink has a request: others would be taken for it.
    """
    meter = Meter(live, sink, postgres)
    before, used = sink.requests(), meter.read()
    others = machine.Others(lambda: sum(meter.read().values()))
    began = time.monotonic()
    uid = live.post(body)
    accepted_seconds = time.monotonic() - began
    on_raised(uid)
    first = _first_request(sink, before, began, limit)
    on_first()
    curve = _follow(live, uid, people, began, limit, say)
    seconds, done = curve[-1]
    others_cores = others.cores()
    spent = {part: now - used.get(part, 0.0) for part, now in meter.read().items()}
    return Sent(
        uid=uid, people=people, done=done, seconds=seconds, per_second=done / seconds, accepted_seconds=accepted_seconds,
        first_out_seconds=first, planned_seconds=live.books.planned_seconds(uid), at_the_sink=sink.requests() - before,
        cpu_us={part: round(s * 1e6 / max(1, done), 1) for part, s in spent.items()},
        others_cores=others_cores, curve=tuple(curve),
    )  # fmt: skip


def thinned(curve: Sequence[tuple[float, int]], most: int) -> list[tuple[float, int]]:
    """At most so many of its points, the last one always."""
    step = max(1, -(-len(curve) // most))
    return [(round(at, 2), done) for at, done in curve[:-1:step]] + [(round(curve[-1][0], 2), curve[-1][1])]


def _follow(
    live: Live, uid: str, people: int, began: float, limit: float, say: Callable[[str], None]
) -> list[tuple[float, int]]:
    curve = [(0.0, 0)]
    said = time.monotonic()
    while curve[-1][1] < people and time.monotonic() - began < limit:
        time.sleep(_CLOSE_LOOK if curve[-1][1] >= _NEAR * people else _LOOK)
        done = live.books.counts(uid)["taken"]
        curve.append((time.monotonic() - began, done))
        if time.monotonic() - said >= _SAY:
            said = time.monotonic()
            say(f"{done:,} of {people:,} after {curve[-1][0]:.0f} s")
    return curve


def _first_request(sink: Sink, before: int, began: float, limit: float) -> float:
    while sink.requests() == before and time.monotonic() - began < limit:
        time.sleep(_FIRST_LOOK)
    return time.monotonic() - began
