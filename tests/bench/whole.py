"""The whole service: everybody is told over push, while critical alerts come and somebody watches the counts."""

import threading
import time
from dataclasses import replace
from typing import Any, Final

from tests.bench import broadcast, figures, machine, words
from tests.bench.critical import Steady
from tests.bench.ground import Ground
from tests.bench.product import Live

CRITICAL_PER_SECOND: Final = 1.0
COUNTS_EVERY: Final = 0.5  # s
WARM_UP: Final = 1_000


def run(ground: Ground) -> dict[str, Any]:
    """The broadcast, what critical alerts took meanwhile, the counts page, memory, and the audit."""
    people = ground.options.count
    product = ground.product("whole", count=people, phones=1_000)
    product = replace(product, sandbox_url=f"{ground.sink.origin}/watched")
    with product.up() as live:
        tag = {"tag": f"size:{WARM_UP}"}
        broadcast.send(live, ground.sink, words.alert(tag, ["push"]), WARM_UP, ground.options.limit)
        critical = Steady(live, ground.sink, CRITICAL_PER_SECOND, wait_for_word=True)
        with machine.Watch(live.processes) as watch, Counts(live) as counts, critical as alerts:
            sent = broadcast.send(
                live,
                ground.sink,
                words.alert({"everyone": True}, ["push"]),
                people,
                ground.options.limit,
                ground.postgres.pid,
                on_raised=counts.watch,
                on_first=alerts.begin,
                say=ground.say,
            )
    ground.say(f"{sent.done:,} of {people:,} recorded in {sent.seconds:.1f} s; auditing")
    return {
        **sent.as_dict(),
        "curve": broadcast.thinned(sent.curve, 200),
        "critical_ms": alerts.latencies(),
        "counts_page_ms": counts.latencies(),
        "memory": watch.memory(),
        "audit": product.audit(ground.options.pick(900, 40)),
        "includes": "really encrypted, to distinct endpoints with keys of a pool; every outcome in PostgreSQL; critical "
        f"alerts {CRITICAL_PER_SECOND:g} a second and the counts read every {COUNTS_EVERY:g} s meanwhile",
    }


class Counts:
    """Reads an alert's counts over the API, as the operator's page does, and notes how long each answer took."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self._uid = ""
        self._took: list[float] = []
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="counts", daemon=True)

    def __enter__(self) -> "Counts":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def watch(self, uid: str) -> None:
        self._uid = uid

    def latencies(self) -> dict[str, Any]:
        return figures.quantiles(self._took)

    def _run(self) -> None:
        with self._live.session() as session:
            while not self._done.wait(COUNTS_EVERY):
                if self._uid:
                    began = time.monotonic()
                    answer = session.get(f"{self._live.api}/alerts/{self._uid}", timeout=30)
                    self._took.append((time.monotonic() - began) * 1000)
                    assert answer.status_code == 200, answer.text
