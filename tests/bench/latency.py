"""One critical alert to one person over SMS: from the POST to the provider, idle and during a broadcast."""

from dataclasses import replace
from typing import Any, Final

from tests.bench import broadcast, words
from tests.bench.critical import Steady
from tests.bench.ground import Ground

PER_SECOND: Final = 5.0
ALERTS: Final = (300, 40)  # full, quick
BROADCAST: Final = (100_000, 10_000)


def run(ground: Ground) -> dict[str, Any]:
    """{idle, during: {n, p50, p95, p99, max (ms), lost, refused}}."""
    product = replace(ground.crowded, sandbox_url=f"{ground.sink.origin}/watched")
    people = ground.options.pick(*BROADCAST)
    with product.up() as live:
        with Steady(live, ground.sink, PER_SECOND, most=10) as alerts:  # imports, connections
            alerts.wait()
        with Steady(live, ground.sink, PER_SECOND, most=ground.options.pick(*ALERTS)) as idle:
            idle.wait()
        ground.say(f"idle: {idle.latencies()}")
        with Steady(live, ground.sink, PER_SECOND, wait_for_word=True) as during:
            body = words.alert({"tag": f"size:{people}"}, ["push"], "normal")
            limit = ground.options.limit
            sent = broadcast.send(live, ground.sink, body, people, limit, ground.postgres.pid, on_first=during.begin)
        ground.say(f"during {people:,} pushes at {sent.per_second:,.0f}/s: {during.latencies()}")
    return {
        "idle": idle.latencies(),
        "during": during.latencies(),
        "broadcast": sent.as_dict(),
        "includes": f"{PER_SECOND:g} alerts a second, from before the POST until the sink has read the request with it",
    }
