"""One broadcast through the product, from its POST to its last outcome in the database."""

import time
from dataclasses import asdict, dataclass
from typing import Any, Final

from tests.bench import machine
from tests.bench.product import Live
from tests.bench.sink import Sink

_LOOK: Final = 0.2  # s between looks at the counts, which must cost nothing
_CLOSE_LOOK: Final = 0.02  # near the end, for the figure's sake
_NEAR: Final = 0.97
_FIRST_LOOK: Final = 0.004  # s between looks at the sink until the first request is there


@dataclass(frozen=True, slots=True)
class Sent:
    """``seconds`` is from the POST until every outcome was committed; ``first_out_seconds`` until the sink had the first
    request. ``at_the_sink`` counts requests there. ``cpu_us`` is CPU time per delivery by who used it, microseconds."""

    people: int
    done: int
    seconds: float
    per_second: float
    accepted_seconds: float
    first_out_seconds: float
    planned_seconds: float | None
    at_the_sink: int
    cpu_us: dict[str, float]

    def as_dict(self) -> dict[str, Any]:
        return {
            name: round(v, 3) if isinstance(v, float) else v for name, v in asdict(self).items()
        }  # fmt: skip


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


def send(live: Live, sink: Sink, body: dict[str, Any], people: int, limit: float, postgres: int | None = None) -> Sent:
    """Raises the alert and waits until all are accepted, or ``limit`` seconds are over (``done`` < ``people`` then)."""
    meter = Meter(live, sink, postgres)
    before, used = sink.requests(), meter.read()
    began = time.monotonic()
    uid = live.post(body)
    accepted_seconds = time.monotonic() - began
    first = _first_request(sink, before, began, limit)
    done = 0
    while done < people and time.monotonic() - began < limit:
        time.sleep(_CLOSE_LOOK if done >= _NEAR * people else _LOOK)
        done = live.books.counts(uid)["accepted"]
    seconds = time.monotonic() - began
    spent = {part: now - used.get(part, 0.0) for part, now in meter.read().items()}
    return Sent(
        people=people, done=done, seconds=seconds, per_second=done / seconds, accepted_seconds=accepted_seconds,
        first_out_seconds=first, planned_seconds=live.books.planned_seconds(uid), at_the_sink=sink.requests() - before,
        cpu_us={part: round(s * 1e6 / max(1, done), 1) for part, s in spent.items()},
    )  # fmt: skip


def _first_request(sink: Sink, before: int, began: float, limit: float) -> float:
    while sink.requests() == before and time.monotonic() - began < limit:
        time.sleep(_FIRST_LOOK)
    return time.monotonic() - began
