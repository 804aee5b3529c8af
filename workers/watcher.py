"""The thread that watches: it looks at what is monitored, takes the next steps of incidents, and says that we live.

The database says what is due, and whoever is free takes it. Looks run on an event loop of their own: what they measure must
not wait behind a broadcast.
"""

import threading
from typing import TYPE_CHECKING, Final

import structlog

from broadcaster.store.database import UNAVAILABLE
from workers.loop import EventLoop

if TYPE_CHECKING:
    from workers.runtime import Runtime

log = structlog.get_logger(__name__)

LOOK: Final = 0.25  # s between looks at the schedule
#: ms that a worker which is kept free has before one that may be busy with a broadcast takes a look.
BUSY_GRACE: Final = 1_000
TROUBLE_SECONDS: Final = 1.0


class Watcher:
    """One per worker process."""

    def __init__(self, runtime: "Runtime") -> None:
        self._runtime = runtime
        self._loop = EventLoop("looks")
        self._looker = runtime.wiring.looker(self._loop, grace=0 if runtime.lowest == 0 else BUSY_GRACE)
        self._lifesign = runtime.wiring.lifesign(self._loop)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watcher", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Looks under way are given up: their leases end with this process."""
        self._stopping.set()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._looker.tick(LOOK)
                while not self._stopping.is_set() and self._runtime.wiring.incidents.run_one():
                    pass
                self._lifesign.tick()
            except UNAVAILABLE as error:
                log.warning("watcher.database_unavailable", error=type(error).__name__)
                self._stopping.wait(TROUBLE_SECONDS)
            except Exception as error:  # noqa: BLE001 - a watcher that dies sees nothing any more
                log.error("watcher.bug", error=type(error).__name__, exc_info=error)
                self._stopping.wait(TROUBLE_SECONDS)
