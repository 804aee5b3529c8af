"""Five hundred monitors at ten seconds: do they keep their pace, and what does it cost?"""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any, Final

from broadcaster.domain.monitor import Verdict
from broadcaster.services.monitors import Watch
from broadcaster.wiring import Wiring
from tests.bench import machine
from tests.bench.ground import Ground
from tests.bench.product import Live, Product

MONITORS: Final = (500, 100)  # full, quick
SECONDS: Final = (60, 20)
INTERVAL: Final = 10.0
START_UP: Final = 12.0  # s before it is measured: the first looks are all due at once


def run(ground: Ground) -> dict[str, Any]:
    """{monitors, cores, late_ms, readings, missing, twice} on PostgreSQL. ``cores``: of all processes of the product but
    the API, idle cost included; ``idle_cores``: the same without a monitor."""
    count, seconds = ground.options.pick(*MONITORS), ground.options.pick(*SECONDS)
    product = ground.product("watching", count=0)
    with _port() as port, product.up() as live:
        idle = _cores(live, 5.0)
        _make(product, port, count)
        time.sleep(START_UP)
        began = live.books.last_look()
        cores = _cores(live, seconds)
        rows = live.books.looks_since(began)
    late = sorted(int(row[2]) for row in rows)
    looks = {(row[0], row[1]) for row in rows}
    ground.say(f"{count} monitors: {cores:.3f} cores, looks {late[int(len(late) * 0.99)]} ms late at p99")
    return {
        "monitors": count, "interval": INTERVAL, "seconds": seconds, "readings": len(rows),
        "expected": round(count * seconds / INTERVAL), "twice": len(rows) - len(looks),
        "not_ok": sum(row[3] != Verdict.OK for row in rows), "cores": round(cores, 3), "idle_cores": round(idle, 3),
        "late_ms": {"p50": late[len(late) // 2], "p99": late[int(len(late) * 0.99)], "max": late[-1]},
        "includes": "TCP looks at a port of this machine; workers, Redis and PostgreSQL count, the API does not",
    }  # fmt: skip


def _make(product: Product, port: int, count: int) -> None:
    wiring = Wiring(product.settings())
    for n in range(count):
        config = {"host": "127.0.0.1", "port": port}
        wiring.monitors.create(Watch(f"Port {n}", "tcp", config, interval=INTERVAL, timeout=5.0))
    wiring.database.close()


def _cores(live: Live, seconds: float) -> float:
    """CPU seconds a second of all parts but the API, and of the database."""

    def used() -> float:
        parts = live.processes()
        return machine.cpu_seconds([p for name, found in parts.items() if name != "api" for p in found])

    before, began = used(), time.monotonic()
    time.sleep(seconds)
    return (used() - before) / (time.monotonic() - began)


@contextlib.contextmanager
def _port() -> Iterator[int]:
    """A port of this machine that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=512) as server:
        threading.Thread(target=_take, args=(server,), daemon=True).start()
        yield server.getsockname()[1]


def _take(server: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while True:
            server.accept()[0].close()
