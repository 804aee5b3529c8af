"""Who watches the watcher: a heartbeat to a dead-man service, which falls silent when the work is no longer done.

That a process lives says nothing. It is sent while deliveries are consumed, looks are made and incidents take their steps,
by one process of all at a time; whoever misses it raises the alarm, over a way that is not ours.
"""

import time
from typing import Final

import aiohttp
import structlog
from sqlalchemy import Connection

from broadcaster.services.flights import Loop
from broadcaster.store import alerts, batches, chores, deliveries, incidents, monitors
from broadcaster.store.database import Database

log = structlog.get_logger(__name__)

NAME: Final = "heartbeat"
STUCK_MS: Final = {True: 30_000, False: 120_000}  # critical, other: due for so long, and nothing has moved meanwhile
UNWATCHED_MS: Final = 120_000  # a look is so late
AGAIN_MS: Final = 5_000  # until it is looked at again whether what was stuck moves
UNTOLD_MS: Final = 60_000  # an incident's next step is so late
SECONDS: Final = 10.0
LOOK: Final = 1.0


class Lifesign:
    """One per worker process. ``url`` is called with GET every ``interval`` seconds; empty: never."""

    def __init__(self, database: Database, loop: Loop, url: str, interval: float) -> None:
        self._database = database
        self._loop = loop
        self._url = url
        self._interval = interval
        self._looked = 0.0

    def tick(self) -> bool:
        """Sends it if it is due and deserved. Whether it was sent."""
        if not self._url or time.monotonic() - self._looked < LOOK:
            return False
        self._looked = time.monotonic()
        with self._database.glance() as connection:
            if not chores.is_due(connection, NAME):
                return False
        with self._database.write() as connection:
            if not chores.take(connection, NAME, int(self._interval * 1000)):
                return False
            stuck = what_is_stuck(connection)
            if stuck is not None:
                chores.again(connection, NAME, min(AGAIN_MS, int(self._interval * 1000)))
        if stuck is not None:
            log.error("lifesign.withheld", reason=stuck)
            return False
        self._loop.submit(_call(self._url))
        return True


def what_is_stuck(connection: Connection) -> str | None:
    """What has been due for too long, with nothing done about it; None: all goes its way."""
    if incidents.any_fault(connection):
        return "an outage could not be told to everybody who was to be told"
    if incidents.any_overdue(connection, UNTOLD_MS):
        return f"what is to be told of an outage has been due for {UNTOLD_MS // 1000} s"
    if late := monitors.count_unwatched(connection, grace=UNWATCHED_MS):
        return f"{late} monitors have not been looked at for {UNWATCHED_MS // 1000} s"
    still = deliveries.last_move_ago(connection)
    for critical, grace in STUCK_MS.items():
        if still is not None and still < grace:
            continue
        lowest = 0 if critical else None
        if batches.any_due(connection, lowest=lowest, grace=grace) or alerts.any_step_due(
            connection, lowest=lowest, grace=grace
        ):
            return f"{'critical messages' if critical else 'messages'} have been due for {grace // 1000} s, and none moves"
    return None


async def _call(url: str) -> None:
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=SECONDS)) as session,
            session.get(url) as answer,
        ):
            if answer.status >= 400:
                log.warning("lifesign.refused", status=answer.status)
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        log.warning("lifesign.not_sent", error=type(error).__name__)
