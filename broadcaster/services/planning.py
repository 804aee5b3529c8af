"""From an audience to deliveries: slice by slice, repeatable after a crash.

A slice and the cursor behind it commit together, under the step's lease; each committed batch is woken at once.
"""

import json
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import structlog
from sqlalchemy import Connection, Row

from broadcaster.domain import audience as audiences
from broadcaster.domain.channel import Channel, ChannelSet
from broadcaster.queue import WakeUps
from broadcaster.store import alerts as store
from broadcaster.store import planning as rows
from broadcaster.store.audiences import members, people_slice
from broadcaster.store.database import UNAVAILABLE, Database, is_postgresql

log = structlog.get_logger(__name__)

LEASE_MS: Final = {True: 5_000, False: 15_000}  # critical, other
BATCH: Final = 500
#: Where many more follow: two chunks, so that the second is marked and the books of the first are written while one flies.
#: The last slice, which all processes share out among them, keeps to the smaller ones.
LONG_BATCH: Final = {"sqlite": 500, "postgresql": 1_000}
BATCH_SECONDS: Final = 5.0
WAKE_AT_ONCE: Final = 4  # per slice: each wake-up makes a process work for seconds, and slice follows slice
#: People per transaction. SQLite's one write lock is held for 20 ms at most; PostgreSQL gains from larger slices.
SLICE: Final = {"sqlite": 1_000, "postgresql": 5_000}


class _Planned(NamedTuple):
    """What a slice came to: ``batches`` with something to send, and the step's ``people`` in all if it was the last."""

    alert: str
    step: int
    priority: int
    batches: int
    people: int | None


class Planner:
    """Plans one step at a time; any number of processes may run one."""

    def __init__(self, database: Database, channels: ChannelSet, wake_ups: WakeUps, owner: str) -> None:
        self._database = database
        self._channels = channels
        self._wake_ups = wake_ups
        self._owner = owner

    def run_one(self, *, lowest: int, grace: int = 0, go_on: Callable[[], bool] = lambda: True) -> bool:
        """Plans the most urgent due step to its end, or while ``go_on`` says so. False: there was none.

        Of its last slice's batches one has not been told to anybody: the caller delivers next.
        """
        if self._database.dialect == "sqlite":  # its one write lock is not taken in vain
            with self._database.read() as connection:
                if not store.any_step_due(connection):
                    return False
        leases = (LEASE_MS[True], LEASE_MS[False])
        try:
            with self._database.write() as connection:
                step = store.claim_step(connection, self._owner, leases=leases, lowest=lowest, grace=grace)
                if step is None:
                    return False
                claim = store.StepClaim(step.alert_id, step.step, step.fence)
                planned = self._slice(connection, claim, step)  # most alerts are one slice: its lease need not be seen
        except UNAVAILABLE:
            raise
        except Exception:  # what cannot be planned must not stand before everything else: it waits for a lease
            with self._database.write() as connection:
                store.claim_step(connection, self._owner, leases=leases, lowest=lowest, grace=grace)
            raise
        while self._tell(planned):
            if not go_on():
                with self._database.write() as connection:
                    store.leave_step(connection, claim, self._owner)
                break
            with self._database.write() as connection:
                step = store.step(connection, claim)  # before its alert, as cancelling locks them
                planned = self._slice(connection, claim, step)
        return True

    def _tell(self, planned: "_Planned | None") -> bool:
        """Wakes workers for what was planned. Whether there is more to plan."""
        if planned is None:
            return False
        others = planned.batches if planned.people is None else planned.batches - 1  # of the last slice the caller takes one
        self._wake_ups.deliver(planned.priority, times=min(max(0, others), WAKE_AT_ONCE))
        if planned.people is not None:
            log.info("planning.done", alert=planned.alert, step=planned.step, people=planned.people)
        return planned.people is None

    def _slice(self, connection: Connection, claim: store.StepClaim, step: Row[Any]) -> "_Planned | None":
        """One slice in one transaction. None when the step is planned, dropped, or no longer ours."""
        alert = store.hold(connection, claim.alert_id)
        now = alert.now
        if step.next_at is None:
            return None
        if alert.cancelled_at is not None or alert.expires_at <= now:
            store.drop_steps(connection, claim.alert_id)
            return None
        people, names = self._people(connection, alert, step), json.loads(step.channels)
        last = len(people) < SLICE[connection.dialect.name]
        planned = reachable = 0
        if people:
            most = BATCH if last else LONG_BATCH[connection.dialect.name]
            written = [self._write(connection, alert, step.step, people, name, most) for name in names]
            planned = sum(part.batches for part in written)
            counted = written[0].people if len(written) == 1 else None
            reachable = rows.reachable(connection, people, names, alert.revision) if counted is None else counted
        told_of = step.people + len(people)
        advanced = store.advance_step(
            connection,
            claim,
            self._owner,
            LEASE_MS[alert.priority == 0],
            people=told_of,
            unreachable=step.unreachable + len(people) - reachable,
            cursor=people[-1] if people else step.cursor,
            planned_at=now if last else None,
        )
        if not advanced:
            connection.rollback()
            log.warning("planning.lease_lost", alert=alert.uid, step=step.step)
            return None
        return _Planned(alert.uid, step.step, alert.priority, planned, told_of if last else None)

    def _people(self, connection: Connection, alert: Row[tuple[object]], step: Row[tuple[object]]) -> list[int]:
        condition = members(audiences.parse(json.loads(alert.audience)), alert.revision)
        return people_slice(
            connection,
            condition,
            after=step.cursor,
            limit=SLICE["postgresql" if is_postgresql(connection) else "sqlite"],
            not_reached_by=(alert.id, step.step) if step.step > 0 else None,
        )

    def _write(
        self, connection: Connection, alert: Row[Any], step: int, people: Sequence[int], name: str, most: int
    ) -> rows.Written:
        """Writes one channel's batches and deliveries."""
        channel = self._channels.get(name, sandbox=alert.sandbox)
        size = batch_size(channel, most)
        return rows.write(connection, alert, step, people, channel=name, route=channel.route, size=size)


def batch_size(channel: Channel, most: int = BATCH) -> int:
    """min(``most``, 5 s of the sender's rate): a batch is small enough to end soon, and large enough to be worth a claim."""
    rate = channel.traits.rate
    return most if rate is None else max(1, min(most, int(BATCH_SECONDS * rate)))
