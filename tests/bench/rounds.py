"""The blast limit, the naive way and the product, in turns, for push and for SMS.

In a round each comes once; the product is not running while the others are measured, so that nobody pays for anybody.
"""

import os
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from broadcaster.channels.push import generate_vapid
from tests.bench import broadcast, figures, machine, running, words
from tests.bench.ground import Ground

#: Deliveries: (full, quick). Enough for some seconds each.
BLAST: Final = {"push": (40_000, 10_000), "sms": (40_000, 10_000)}
NAIVE: Final = {"push": (3_000, 1_000), "sms": (3_000, 1_000)}
PRODUCT: Final = {"push": (40_000, 10_000), "sms": (20_000, 5_000)}
WARM_UP: Final = 1_000
#: Rates on a machine like the one where the bars were set (2 cores): who is far from it compares with care.
LIKE: Final = {("push", "blast"): 8_500, ("sms", "blast"): 9_600, ("push", "naive"): 411, ("sms", "naive"): 533}

INCLUDES: Final = {
    "blast": "2 processes; keys and addresses read, RFC 8291 or the Twilio SDK, POST, answer; nothing recorded",
    "naive": "Celery prefork 2, a task per person, from the first delay() to the last request at the sink; nothing recorded",
    "planned_per_second": "rows of deliveries, from the alert's row to its planning's end, sending under way meanwhile",
    "product": "POST /alerts to the last outcome committed: planning, marking, rendering, sending, results, events, counts",
}


def run(ground: Ground, kinds: list[str]) -> dict[str, Any]:
    """{kind: {blast, naive, product: spreads of deliveries a second; of_blast, of_naive: of each round}}."""
    rates: dict[str, dict[str, list[float]]] = {kind: defaultdict(list) for kind in kinds}
    sent: dict[str, list[dict[str, Any]]] = {kind: [] for kind in kinds}
    product = ground.crowded
    for number in range(ground.options.rounds):
        for kind in kinds:
            rates[kind]["blast"].append(_blast(ground, kind))
            rates[kind]["naive"].append(_naive(ground, kind))
            last = {name: values[-1] for name, values in rates[kind].items() if name != "product"}
            ground.say(f"round {number + 1}, {kind}: " + ", ".join(f"{name} {rate:,.0f}/s" for name, rate in last.items()))
        with product.up() as live:
            for kind in kinds:
                count = ground.options.pick(*PRODUCT[kind])
                _send(ground, live, kind, WARM_UP)
                done = _send(ground, live, kind, count)
                rates[kind]["product"].append(done.per_second)
                sent[kind].append(done.as_dict())
                share = done.per_second / rates[kind]["blast"][-1]
                ground.say(
                    f"round {number + 1}, {kind}: product {done.per_second:,.0f}/s, {share:.2f} of the blast limit"
                    f"; others used {done.others_cores} cores"
                )
    return {kind: _summary(kind, rates[kind], sent[kind]) for kind in kinds}


def _summary(kind: str, rates: dict[str, list[float]], sent: list[dict[str, Any]]) -> dict[str, Any]:
    def ratio(other: str) -> list[float]:
        return [mine / theirs for mine, theirs in zip(rates["product"], rates[other], strict=True)]

    return {
        **{name: figures.spread(values, 0) for name, values in rates.items()},
        "of_blast": figures.spread(ratio("blast"), 3),
        "of_naive": figures.spread(ratio("naive"), 2),
        "of_a_like_machine": {
            name: round(figures.spread(rates[name])["median"] / LIKE[kind, name], 2) for name in ("blast", "naive")
        },
        "planned_per_second": figures.spread([run["people"] / run["planned_seconds"] for run in sent], 0),
        "runs": sent,
        "includes": INCLUDES,
    }


def _send(ground: Ground, live: Any, kind: str, count: int) -> broadcast.Sent:
    body = words.alert({"tag": f"size:{count}"}, [kind])
    return broadcast.send(live, ground.sink, body, count, ground.options.limit, ground.postgres.pid)


def _blast(ground: Ground, kind: str) -> float:
    """Deliveries a second of two processes together."""
    each = ground.options.pick(*BLAST[kind]) // 2
    arguments = [[kind, ground.sink.origin, str(ground.folder), str(n * each), str(each)] for n in range(2)]
    with running.runners("tests.bench.blast", arguments, ground.folder / "blast.log") as runners:
        others = machine.Others(lambda: _cpu(ground, [runner.pid for runner in runners]))
        for runner in runners:
            runner.go()
        results = [runner.result() for runner in runners]
        ground.say(f"blast {kind}: others used {others.cores()} cores")
    return float(sum(r["n"] for r in results) / max(r["seconds"] for r in results))


def _cpu(ground: Ground, pids: list[int]) -> float:
    return sum(machine.cpu_seconds(machine.tree(pid)) for pid in [*pids, *ground.sink.pids.values()])


def _naive(ground: Ground, kind: str) -> float:
    """Deliveries a second, from the first ``delay`` to the last request at the sink."""
    count = ground.options.pick(*NAIVE[kind])
    environment = {"BENCH_ORIGIN": ground.sink.origin, "BENCH_BROKER": ground.broker, "BENCH_VAPID_KEY": generate_vapid()[0]}
    with _worker(ground, environment):
        _publish(ground, kind, environment, 20)  # imports, connections
        return count / _publish(ground, kind, environment, count)


@contextmanager
def _worker(ground: Ground, environment: dict[str, str]) -> Iterator[None]:
    command = [
        sys.executable,
        "-m",
        "celery",
        "-A",
        "tests.bench.naive",
        "worker",
        "-P",
        "prefork",
        "-c",
        "2",
        "-l",
        "WARNING",
    ]
    worker = running.start(command, log=ground.folder / "naive.log", env={**os.environ, **environment})
    try:
        yield
    finally:
        running.stop(worker)


def _publish(ground: Ground, kind: str, environment: dict[str, str], count: int) -> float:
    """Seconds until the sink has seen all."""
    arguments = [kind, ground.sink.origin, str(ground.folder), str(count)]
    with running.runners("tests.bench.naive_view", [arguments], ground.folder / "naive.log", environment) as (view,):
        before, began = ground.sink.requests(), time.monotonic()
        view.go()
        running.until(lambda: ground.sink.requests() - before >= count, 120, f"naive {kind}", step=0.05)
        return time.monotonic() - began
