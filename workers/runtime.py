"""What one worker process has: its wiring, an event loop in a thread, the slot, the lease keeper and the poller."""

import gc
import os
import sys
import threading
import time
from typing import Final

import structlog

from broadcaster.domain.messages import PRIORITY, Severity
from broadcaster.queue import CRITICAL
from broadcaster.services.processes import owner
from broadcaster.settings import Settings
from broadcaster.store import alerts, batches, processes
from broadcaster.store.database import UNAVAILABLE
from broadcaster.wiring import Wiring
from workers.loop import EventLoop
from workers.poller import CRITICAL_GRACE, Poller
from workers.watcher import Watcher

log = structlog.get_logger(__name__)

DRAIN_SECONDS: Final = 5.0  # a task gives its slot back after this long; TERM waits for it
KEEPER_SECONDS: Final = 0.5
STOP_SECONDS: Final = 12.0
CRITICAL_LOOK: Final = 0.05  # s between looks, while busy, whether something critical waits
#: s a thread may hold the interpreter while another wants it. Python's 5 ms would make the thread that keeps the books wait
#: behind the event loop after every answer of the database.
SWITCH_SECONDS: Final = 0.0005


class Runtime:
    """One slot: a task and the poller never work at the same time, and the slot is taken before any lease."""

    def __init__(self, settings: Settings, *, lowest: int) -> None:
        self.wiring = Wiring(settings)
        self.lowest = lowest
        self.loop = EventLoop("loop")
        for channel in self.wiring.channels.all():
            self.loop.submit(channel.open()).result(10)
        self.planner = self.wiring.planner()
        self.deliverer = self.wiring.deliverer(self.loop)
        self.slot = threading.Lock()
        self.last_task = time.monotonic()  # when one ended
        self._looked_for_critical = 0.0
        self._stopping = threading.Event()
        self._done = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="keeper", daemon=True)
        self._keeper.start()
        self.poller = Poller(self)
        self.poller.start()
        self.watcher = Watcher(self.wiring, lowest=lowest)
        self.watcher.start()

    @property
    def stopping(self) -> bool:
        return self._stopping.is_set()

    def drain(self, *, by_task: bool, lowest: int | None = None, grace: int = 0) -> int:
        """Plans and delivers what is due, most urgent first, for DRAIN_SECONDS at most. How much it did."""
        lowest = self.lowest if lowest is None else lowest
        with self.slot:
            done, until = 0, time.monotonic() + DRAIN_SECONDS
            try:
                while not self.stopping and self._one(lowest, by_task=by_task, grace=grace, until=until):
                    done += 1
                    if time.monotonic() >= until:
                        self.wiring.wake_ups.deliver(self.lowest)  # there may be more: somebody look
                        break
            except UNAVAILABLE as error:
                # Whatever was claimed or marked stays so until its lease ends; the poller looks again in a moment.
                log.warning("runtime.database_unavailable", error=type(error).__name__)
            finally:
                if by_task:
                    self.last_task = time.monotonic()
        return done

    def stop_claiming(self) -> None:
        """Begins nothing new; what was written is waited for and committed, what was not stays."""
        self._stopping.set()
        self.deliverer.stop()
        self.poller.stop()
        self.watcher.stop()

    def stop(self) -> None:
        """Finishes the chunk under way, then leaves. Bounded: whatever hangs is left to the lease."""
        self.stop_claiming()
        idle = self.slot.acquire(timeout=STOP_SECONDS)
        self._done.set()
        self._keeper.join(2)
        if idle:
            for channel in self.wiring.channels.all():
                self.loop.submit(channel.close()).result(2)
            try:
                with self.wiring.database.write() as connection:
                    processes.leave(connection, owner())
            except UNAVAILABLE:
                log.warning("runtime.left_unsigned")
        self.wiring.wake_ups.close()
        self.loop.close()

    def end_orphaned(self) -> None:
        """The master is dead, so a new family is on its way. Celery has the kernel kill us with it, but only on Linux, and
        not if it died before it could ask for that."""
        log.error("runtime.orphaned")
        try:
            self.stop()
        finally:
            os._exit(1)

    def _one(self, lowest: int, *, by_task: bool, grace: int, until: float) -> bool:
        if lowest > 0 and self._critical_waits() and self._one(0, by_task=by_task, grace=0, until=until):
            return True
        planned = self.planner.run_one(lowest=lowest, grace=grace, go_on=self._go_on)
        grace = 0 if planned else grace  # nobody was told of what has just been planned
        delivered = self.deliverer.run_one(
            lowest=lowest, grace=grace, by_task=by_task, until=until, give_way=self._critical_waits
        )
        return planned or delivered

    def _go_on(self) -> bool:
        return not (self.stopping or self._critical_waits())

    def _critical_waits(self) -> bool:
        """Whether something critical was not taken in time: its own workers are busy, or have just died."""
        if time.monotonic() - self._looked_for_critical < CRITICAL_LOOK:
            return False
        with self.wiring.database.glance() as connection:
            waits = batches.any_work(connection, lowest=0, grace=CRITICAL_GRACE)
        if waits:  # which may be for a route that rests
            with self.wiring.database.read() as connection:
                blocked = self.wiring.routing.blocked(self.wiring.routing.standings(connection))
                waits = batches.any_due(connection, blocked, lowest=0, grace=CRITICAL_GRACE)
                waits = waits or alerts.any_step_due(connection, lowest=0, grace=CRITICAL_GRACE)
        if not waits:  # a yes is asked for again by whoever acts on it
            self._looked_for_critical = time.monotonic()
        return waits

    def _keep(self) -> None:
        """Renews the running batch's lease and says that this process lives."""
        beaten = -1.0
        name = f"{'critical' if self.lowest == 0 else 'bulk'}-{os.getpid()}"
        while not self._done.wait(KEEPER_SECONDS):  # to the end of the last chunk, or a neighbour takes us for frozen
            try:
                self.deliverer.keep_lease()
                self.wiring.routing.hand_in()
                if time.monotonic() - beaten >= 1.0:
                    self._beat(name)
                    beaten = time.monotonic()
            except UNAVAILABLE as error:
                log.warning("runtime.keeper_waits", error=type(error).__name__)
            except Exception as error:  # noqa: BLE001 - without a keeper every lease of this process is lost
                log.error("runtime.keeper_bug", error=type(error).__name__, exc_info=error)

    def _beat(self, name: str) -> None:
        lost = self.wiring.limiter.lost
        with self.wiring.database.write() as connection:
            processes.beat(connection, owner(), kind="worker", name=name, redis_lost=lost, consumed=self.deliverer.consumed)
            somebody = processes.alive(connection)[1]
        self.wiring.limiter.somebody_lost_redis(somebody and not lost)


_runtime: Runtime | None = None


def lowest_priority(queue: str) -> int:
    """The least urgent priority a worker of this queue takes: the critical worker keeps itself free for the rest."""
    return PRIORITY[Severity.CRITICAL] if queue == CRITICAL else PRIORITY[Severity.LOW]


def start(*, lowest: int) -> None:
    """Makes this process's runtime. Called in each worker child, after the fork."""
    global _runtime
    sys.setswitchinterval(SWITCH_SECONDS)
    _runtime = Runtime(Settings(), lowest=lowest)
    gc.collect()
    gc.freeze()  # what is there now stays: no collection during a broadcast needs to look through it


def current() -> Runtime:
    if _runtime is None:
        raise RuntimeError("this process is no worker child")
    return _runtime


def stop_claiming() -> None:
    if _runtime is not None:
        _runtime.stop_claiming()


def stop() -> None:
    if _runtime is not None:
        _runtime.stop()
