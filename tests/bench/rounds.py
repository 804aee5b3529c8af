"""The blast limit, the naive way and the product, in turns, for push and for SMS.

In a round each comes once; the product is not running while the others are measured, so that nobody pays for anybody.
"""

import os
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
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
    tallies = {kind: _Tally(kind, ground.say) for kind in kinds}
    product = ground.crowded
    for _ in range(ground.options.rounds):
        for kind, tally in tallies.items():
            tally.add("blast", *_blast(ground, kind))
            tally.add("naive", *_naive(ground, kind))
        with product.up() as live:
            for kind, tally in tallies.items():
                _send(ground, live, kind, WARM_UP)
                sent = _send(ground, live, kind, ground.options.pick(*PRODUCT[kind]))
                tally.sent.append(sent.as_dict())
                tally.add("product", sent.per_second, sent.others_cores)
    return {kind: tally.summary() for kind, tally in tallies.items()}


class _Tally:
    """One kind's figures, round by round."""

    def __init__(self, kind: str, say: Callable[[str], None]) -> None:
        self._kind, self._say = kind, say
        self._rates: dict[str, list[float]] = defaultdict(list)
        self._others: dict[str, list[float]] = defaultdict(list)
        self.sent: list[dict[str, Any]] = []

    def add(self, name: str, rate: float, others: float) -> None:
        self._rates[name].append(rate)
        self._others[name].append(others)
        self._say(f"round {len(self._rates[name])}, {self._kind}: {name} {rate:,.0f}/s; others used {others} cores")

    def summary(self) -> dict[str, Any]:
        return {
            **{name: figures.spread(values, 0) for name, values in self._rates.items()},
            "of_blast": figures.spread(self._ratios("blast"), 3),
            "of_naive": figures.spread(self._ratios("naive"), 2),
            "of_a_like_machine": {
                name: round(figures.spread(self._rates[name])["median"] / LIKE[self._kind, name], 2)
                for name in ("blast", "naive")
            },
            "planned_per_second": figures.spread([run["people"] / run["planned_seconds"] for run in self.sent], 0),
            "others_cores": self._others,
            "runs": self.sent,
            "includes": INCLUDES,
        }

    def _ratios(self, other: str) -> list[float]:
        return [mine / theirs for mine, theirs in zip(self._rates["product"], self._rates[other], strict=True)]


def _send(ground: Ground, live: Any, kind: str, count: int) -> broadcast.Sent:
    body = words.alert({"tag": f"size:{count}"}, [kind])
    return broadcast.send(live, ground.sink, body, count, ground.options.limit, ground.postgres.pid)


def _blast(ground: Ground, kind: str) -> tuple[float, float]:
    """Deliveries a second of two processes together; cores that others used."""
    each = ground.options.pick(*BLAST[kind]) // 2
    arguments = [[kind, ground.sink.origin, str(ground.folder), str(n * each), str(each)] for n in range(2)]
    with running.runners("tests.bench.blast", arguments, ground.folder / "blast.log") as runners:
        others = machine.Others(lambda: _cpu(ground, [runner.pid for runner in runners]))
        for runner in runners:
            runner.go()
        results = [runner.result() for runner in runners]
        theirs = others.cores()
    return float(sum(r["n"] for r in results) / max(r["seconds"] for r in results)), theirs


def _cpu(ground: Ground, pids: list[int]) -> float:
    """Seconds that these, the sink and the broker have used."""
    return sum(machine.cpu_seconds(machine.tree(pid)) for pid in [*pids, ground.broker_pid, *ground.sink.pids.values()])


def _naive(ground: Ground, kind: str) -> tuple[float, float]:
    """Deliveries a second, from the first ``delay`` to the last request at the sink; cores that others used."""
    count = ground.options.pick(*NAIVE[kind])
    environment = {"BENCH_ORIGIN": ground.sink.origin, "BENCH_BROKER": ground.broker, "BENCH_VAPID_KEY": generate_vapid()[0]}
    with _worker(ground, environment) as worker:
        _publish(ground, kind, environment, 20, worker)  # imports, connections
        seconds, theirs = _publish(ground, kind, environment, count, worker)
        return count / seconds, theirs


@contextmanager
def _worker(ground: Ground, environment: dict[str, str]) -> Iterator[int]:
    """Its process's id."""
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
        yield worker.pid
    finally:
        running.stop(worker)


def _publish(ground: Ground, kind: str, environment: dict[str, str], count: int, worker: int) -> tuple[float, float]:
    """Seconds until the sink has seen all; cores that others used."""
    arguments = [kind, ground.sink.origin, str(ground.folder), str(count)]
    with running.runners("tests.bench.naive_view", [arguments], ground.folder / "naive.log", environment) as (view,):
        others = machine.Others(lambda: _cpu(ground, [worker, view.pid]))
        before, began = ground.sink.requests(), time.monotonic()
        view.go()
        running.until(lambda: ground.sink.requests() - before >= count, 120, f"naive {kind}", step=0.05)
        return time.monotonic() - began, others.cores()
