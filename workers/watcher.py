"""The threads that watch: they look at what is monitored, take the next steps of incidents, and say that we live.

The database says what is due, and whoever is free takes it. Looks run on an event loop of their own: what they measure must
not wait behind a broadcast.
"""

import random
import threading
from collections.abc import Callable
from typing import Final

import structlog

from broadcaster.store.database import UNAVAILABLE
from broadcaster.wiring import Wiring
from workers.loop import EventLoop

log = structlog.get_logger(__name__)

LOOK: Final = 0.25  # s between looks at the schedule
BUSY_LOOK: Final = 1.0  # for incidents, where others have them in view
#: ms that a worker which is kept free has before one that may be busy with a broadcast takes a look.
BUSY_GRACE: Final = 1_000
TROUBLE_SECONDS: Final = 1.0


class Watcher:
    """One per worker process: a thread that looks, and one for incidents, whose steps may take longer."""

    def __init__(self, wiring: Wiring, *, lowest: int) -> None:
        """``lowest``: the least urgent priority that this process takes."""
        self._incidents = wiring.incidents
        self._patience = LOOK if lowest == 0 else BUSY_LOOK
        self._loop = EventLoop("looks")
        self._looker = wiring.looker(self._loop, grace=0 if lowest == 0 else BUSY_GRACE)
        self._lifesign = wiring.lifesign(self._loop)
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(step,), name=name, daemon=True)
            for name, step in (("watcher", self._look), ("incidents", self._follow))
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Looks under way are given up: their leases end with this process."""
        self._stopping.set()

    def _look(self) -> None:
        self._looker.tick(LOOK)

    def _follow(self) -> None:
        if not self._incidents.run_one():
            self._stopping.wait(self._patience * random.uniform(0.8, 1.2))
        self._lifesign.tick()

    def _run(self, step: Callable[[], None]) -> None:
        while not self._stopping.is_set():
            try:
                step()
            except UNAVAILABLE as error:
                log.warning("watcher.database_unavailable", error=type(error).__name__)
                self._stopping.wait(TROUBLE_SECONDS)
            except Exception as error:  # noqa: BLE001 - a watcher that dies sees nothing any more
                log.error("watcher.bug", error=type(error).__name__, exc_info=error)
                self._stopping.wait(TROUBLE_SECONDS)
