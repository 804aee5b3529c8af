"""The thread that makes losing a wake-up harmless: it looks in the database for what is due.

It wakes a worker through Celery; when Redis is away, or a wake-up was lost, it does the work itself. So there is no
beat, no leader, and delivery goes on with Redis dead. It acts only while this process has had no task for the grace
time, so with Redis up Celery tasks run (nearly) everything.
"""

import os
import random
import threading
import time
from typing import TYPE_CHECKING, Final

import structlog

from broadcaster.services.processes import release_dead_owners
from broadcaster.store import alerts, batches, monitors, signals
from broadcaster.store import processes as process_store
from broadcaster.store.database import UNAVAILABLE

if TYPE_CHECKING:
    from workers.runtime import Runtime

log = structlog.get_logger(__name__)

CRITICAL_LOOK: Final = 0.25  # s between looks
LOOK: Final = 1.0
CRITICAL_GRACE: Final = 300  # ms that a wake-up has before the poller does it
GRACE: Final = 2_000
WAKE_AGAIN: Final = 5_000  # ms after which a due batch is woken once more
#: A wake-up makes a process work for seconds, on whatever is most urgent: a few at a time get everybody going.
WAKE_AT_ONCE: Final = 8
PROBE_SECONDS: Final = 2.0
SWEPT_AT_ONCE: Final = 2_000


class Poller:
    """One per worker process."""

    def __init__(self, runtime: "Runtime") -> None:
        self._runtime = runtime
        self._parent = os.getppid()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="poller", daemon=True)
        self._next_housekeeping = 0.0
        self._next_probe = 0.0
        self._next_wake = 0.0

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()

    def _run(self) -> None:
        while not self._stopping.wait(CRITICAL_LOOK * random.uniform(0.8, 1.2)):
            if os.getppid() != self._parent:
                self._runtime.end_orphaned()
            try:
                self._look()
            except UNAVAILABLE as error:
                log.warning("poller.database_unavailable", error=type(error).__name__)
                self._stopping.wait(1.0)
            except Exception as error:  # noqa: BLE001 - a poller that dies takes a promise with it
                log.error("poller.bug", error=type(error).__name__, exc_info=error)
                self._stopping.wait(1.0)

    def _look(self) -> None:
        runtime = self._runtime
        if time.monotonic() >= self._next_housekeeping:
            self._next_housekeeping = time.monotonic() + LOOK * random.uniform(0.8, 1.2)
            release_dead_owners(runtime.wiring.database)
            for chore in (self._sample, self._expire, self._forget):
                try:
                    chore()
                except UNAVAILABLE as error:  # the database: next second
                    log.info("poller.chore_put_off", chore=chore.__name__, error=type(error).__name__)
                except Exception as error:  # noqa: BLE001 - whatever it is, what waits is more urgent
                    log.error("poller.chore_failed", chore=chore.__name__, error=type(error).__name__, exc_info=error)
        wake_ups = runtime.wiring.wake_ups
        if wake_ups.down:
            self._probe()
        with runtime.wiring.database.glance() as connection:
            if not batches.any_work(connection, lowest=runtime.lowest):  # what is less urgent has pollers of its own
                return
            urgent = batches.any_work(connection, lowest=0)
        if not wake_ups.down and (urgent or not self._runtime.slot.locked() or time.monotonic() >= self._next_wake):
            self._next_wake = time.monotonic() + LOOK
            self._wake()
        self._do_what_waits(redis_down=wake_ups.down)

    def _probe(self) -> None:
        if time.monotonic() >= self._next_probe:
            self._next_probe = time.monotonic() + PROBE_SECONDS
            self._runtime.wiring.wake_ups.probe()

    def _wake(self) -> None:
        """Sends wake-ups for what came due by its time, or was woken long ago."""
        wiring = self._runtime.wiring
        with wiring.database.read() as connection:
            blocked = wiring.routing.blocked(wiring.routing.standings(connection))
            if not (batches.any_due(connection, blocked) or alerts.any_step_due(connection)):
                return
        with wiring.database.write() as connection:
            steps = alerts.steps_to_wake(connection, again_after=WAKE_AGAIN)
            due = batches.to_wake(connection, blocked, again_after=WAKE_AGAIN, limit=WAKE_AT_ONCE)
        for priority in steps:
            wiring.wake_ups.plan(priority)
        for _, priority in due:
            wiring.wake_ups.deliver(priority)

    def _do_what_waits(self, *, redis_down: bool) -> None:
        """Does the work where no task came for it. An idle slot and work past its grace: the wake-up was lost.

        Idle is who has had no task: what the poller does itself says nothing of whether wake-ups come.
        """
        runtime = self._runtime
        idle_ms = (time.monotonic() - runtime.last_task) * 1000
        for lowest, grace in ((0, CRITICAL_GRACE), (runtime.lowest, GRACE)):
            if runtime.slot.locked() or (not redis_down and idle_ms < grace):
                continue
            if self._anything_due():
                runtime.drain(by_task=False, lowest=lowest, grace=0 if redis_down else grace)

    def _anything_due(self) -> bool:
        wiring = self._runtime.wiring
        with wiring.database.read() as connection:
            blocked = wiring.routing.blocked(wiring.routing.standings(connection))
            return batches.any_due(connection, blocked) or alerts.any_step_due(connection)

    def _sample(self) -> None:
        """Points of the curves of reach; closes alerts of which nothing is left to do."""
        self._runtime.wiring.progress.sample()

    def _expire(self) -> None:
        """Makes what has run out of time due once more, to be ended."""
        database = self._runtime.wiring.database
        with database.glance() as connection:
            over = alerts.expired_with_work(connection)
        for alert in over:
            with database.write() as connection:
                alerts.drop_steps(connection, alert)
                batches.make_due(connection, alert, 0)

    def _forget(self) -> None:
        """Now and then: processes that are long gone, old readings and signals."""
        if random.random() < 0.05:
            with self._runtime.wiring.database.write() as connection:
                process_store.sweep(connection)
                monitors.sweep(connection, SWEPT_AT_ONCE)
                signals.sweep(connection, SWEPT_AT_ONCE)
