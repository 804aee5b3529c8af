"""From 1,000 people to 100,000: what a delivery costs, on both databases, with one and with two worker processes.

1,500,000 are ``whole``'s. With one worker process planning ends before sending begins, so its rate is planning's alone.
"""

from typing import Any, Final

from tests.bench import broadcast, words
from tests.bench.ground import Ground
from tests.bench.product import Live

SIZES: Final = ((1_000, 10_000, 100_000), (1_000, 5_000))  # full, quick
WORKERS: Final = (1, 2)
WARM_UP: Final = 1_000
NOT_OURS: Final = ("sink",)


def run(ground: Ground) -> dict[str, Any]:
    """{postgresql, sqlite: {workers: {people: run}}, dearest: how much more a delivery costs at the largest size than at
    the middle one, at worst}. ``cpu_us`` of a run has its parts; ``cost_us`` is all of them but the sink."""
    quick = ground.options.quick
    sizes = SIZES[quick]
    found: dict[str, Any] = {}
    for database in ("postgresql", "sqlite"):
        product = ground.crowded if database == "postgresql" else ground.product("sqlite", count=sizes[-1], sqlite=True)
        found[database] = {}
        for workers in WORKERS[1:] if quick else WORKERS:
            with product.up(workers) as live:
                found[database][str(workers)] = _curve(ground, live, f"{database}, {workers} workers", sizes)
    dearest = max(_growth(runs, sizes) for curves in found.values() for runs in curves.values())
    return {
        **found,
        "dearest": round(dearest, 3),
        "includes": "push; CPU of API, workers, Redis and PostgreSQL per delivery",
    }


def _curve(ground: Ground, live: Live, name: str, sizes: tuple[int, ...]) -> dict[str, Any]:
    _send(ground, live, WARM_UP)
    runs = {}
    for size in sizes:
        sent = _send(ground, live, size)
        cost = sum(us for part, us in sent.cpu_us.items() if part not in NOT_OURS)
        planned = None if not sent.planned_seconds else round(size / sent.planned_seconds)
        runs[str(size)] = {**sent.as_dict(), "cost_us": round(cost, 1), "planned_per_second": planned}
        ground.say(f"{name}: {size:,} at {sent.per_second:,.0f}/s, {cost:.0f} µs of CPU each")
    return runs


def _send(ground: Ground, live: Live, size: int) -> broadcast.Sent:
    body = words.alert({"tag": f"size:{size}"}, ["push"])
    return broadcast.send(live, ground.sink, body, size, ground.options.limit, ground.postgres.pid)


def _growth(runs: dict[str, Any], sizes: tuple[int, ...]) -> float:
    return float(runs[str(sizes[-1])]["cost_us"] / runs[str(sizes[-2])]["cost_us"])
