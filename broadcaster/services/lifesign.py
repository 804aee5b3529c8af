"""Who watches the watcher: a heartbeat to a dead-man service, which falls silent when deliveries are no longer consumed.

That a process lives says nothing. It is sent while what is due is being worked on, by one process of all at a time; whoever
misses it raises the alarm, over a way that is not ours.
"""

import time
from typing import Final

import aiohttp
import structlog
from sqlalchemy import Connection

from broadcaster.services.flights import Loop
from broadcaster.store import alerts, batches, chores, deliveries, incidents
from broadcaster.store.database import Database

log = structlog.get_logger(__name__)

NAME: Final = "heartbeat"
STUCK_MS: Final = {True: 30_000, False: 120_000}  # critical, other: due for so long, and nothing has moved meanwhile
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
            log.error("lifesign.withheld", reason=stuck)
            return False
        self._loop.submit(_call(self._url))
        return True


def what_is_stuck(connection: Connection) -> str | None:
    """What has been due for too long while no delivery moved; None: all goes its way."""
    if incidents.any_fault(connection):
        return "an outage could not be told to everybody who was to be told"
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
