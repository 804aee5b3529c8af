"""Alerts, their steps, their idempotency keys and the samples of their reach."""

from collections import namedtuple
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Row, Text, and_, bindparam, func, or_, select, text, tuple_, update
from sqlalchemy.dialects import postgresql, sqlite

from broadcaster.domain.lifecycle import OPEN
from broadcaster.store.database import is_postgresql, now_ms, now_sql, swiftly
from broadcaster.store.tables import (
    alert_samples,
    alert_steps,
    alerts,
    batches,
    deliveries,
    idempotency_keys,
)

# Rows of the hot path, with their columns' names.
_AlertNow: Final = namedtuple("_AlertNow", [*alerts.c.keys(), "now"])  # type: ignore[misc]
_StepRow: Final = namedtuple("_StepRow", alert_steps.c.keys())  # type: ignore[misc]


@dataclass(frozen=True, slots=True)
class StepClaim:
    """A step of an alert that this process plans."""

    alert_id: int
    step: int
    fence: int


def add(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> list[int]:
    """New alerts; their ids in the order of ``rows``, all of which give the same columns."""
    ids = dict(_insert(connection, "alerts", rows, "uid, id"))
    return [ids[row["uid"]] for row in rows]


def add_steps(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """New steps; all of ``rows`` give the same columns."""
    _insert(connection, "alert_steps", rows, "1")


def _insert(connection: Connection, table: str, rows: Sequence[Mapping[str, Any]], returning: str) -> Sequence[Any]:
    columns, marks = ", ".join(rows[0]), f"({', '.join('?' * len(rows[0]))})"
    sql = f"INSERT INTO {table} ({columns}) VALUES {', '.join([marks] * len(rows))} RETURNING {returning}"
    return swiftly(connection, sql, [value for row in rows for value in row.values()])


def by_uid(connection: Connection, uid: str) -> Row[Any] | None:
    return connection.execute(select(alerts).where(alerts.c.uid == uid)).one_or_none()


def by_ids(connection: Connection, ids: Iterable[int]) -> list[Row[Any]]:
    """These alerts."""
    return list(connection.execute(select(alerts).where(alerts.c.id.in_(list(ids)))))


def by_id(connection: Connection, alert: int) -> Any:
    """The alert, and ``now``, the database's clock (ms since the epoch)."""
    return _with_clock(connection, alert, "")


def page(connection: Connection, *, before: int | None, limit: int) -> list[Row[Any]]:
    """Alerts, the newest first, below number ``before``."""
    query = select(alerts).order_by(alerts.c.id.desc()).limit(limit)
    return list(connection.execute(query if before is None else query.where(alerts.c.id < before)))


def hold(connection: Connection, alert: int) -> Any:
    """The alert, which nobody can cancel before this transaction ends, and ``now``, as ``by_id`` has it."""
    return _with_clock(connection, alert, "FOR SHARE" if is_postgresql(connection) else "")


def _with_clock(connection: Connection, alert: int, lock: str) -> Any:
    sql = f"SELECT {', '.join(alerts.c.keys())}, {now_sql(connection)} FROM alerts WHERE id = ? {lock}"
    return _AlertNow._make(swiftly(connection, sql, (alert,))[0])


def cancel(connection: Connection, alert: int, by: str) -> bool:
    """Whether it was open and is cancelled now."""
    still = and_(alerts.c.id == alert, alerts.c.cancelled_at.is_(None))
    values = {"cancelled_at": now_ms(connection), "cancelled_by": by, "dedup_open": None}
    return connection.execute(update(alerts).where(still).values(**values)).rowcount == 1


def open_dedup(connection: Connection, key: str) -> Row[Any] | None:
    """The open alert with this dedup_key. An expired one is closed on the way and not returned."""
    gone = and_(alerts.c.dedup_open == key, alerts.c.expires_at <= now_ms(connection))
    connection.execute(update(alerts).where(gone).values(dedup_open=None))
    return connection.execute(select(alerts).where(alerts.c.dedup_open == key)).one_or_none()


def remember_requests(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> set[tuple[int, str]]:
    """Those (API key, Idempotency-Key) of ``rows`` that are new. Waits for a concurrent request with one (PostgreSQL)."""
    make = postgresql.insert if is_postgresql(connection) else sqlite.insert
    columns = (idempotency_keys.c.api_key_id, idempotency_keys.c.key)
    new = make(idempotency_keys).on_conflict_do_nothing().returning(*columns)
    return {(row.api_key_id, row.key) for row in connection.execute(new, list(rows))}


def remembered_requests(connection: Connection, keys: Sequence[tuple[int, str]]) -> dict[tuple[int, str], Row[Any]]:
    """What is known of these (API key, Idempotency-Key)."""
    mine = tuple_(idempotency_keys.c.api_key_id, idempotency_keys.c.key).in_(keys)
    return {(row.api_key_id, row.key): row for row in connection.execute(select(idempotency_keys).where(mine))}


# ---- planning ------------------------------------------------------------------------------------------------------

_CLAIM_STEP: Final = """
UPDATE alert_steps SET owner = ?, fence = fence + 1,
  lease_until = {now} + CASE WHEN priority = 0 THEN {critical} ELSE {other} END
WHERE (alert_id, step) IN (
  SELECT alert_id, step FROM alert_steps
  WHERE next_at <= {now} - {grace} AND woken_at <= {now} - {grace} AND lease_until <= {now} AND priority <= {lowest}
  ORDER BY priority, next_at LIMIT 1 {lock})
RETURNING {columns}
"""


def claim_step(connection: Connection, owner: str, *, leases: tuple[int, int], lowest: int, grace: int) -> Any:
    """The most urgent step whose planning is due and free, now leased to ``owner``, or None. ``leases``: ms for a critical
    one, and for any other."""
    sql = _CLAIM_STEP.format(
        now=now_sql(connection),
        critical=int(leases[0]),
        other=int(leases[1]),
        grace=int(grace),
        lowest=int(lowest),
        lock="FOR UPDATE SKIP LOCKED" if is_postgresql(connection) else "",
        columns=", ".join(alert_steps.c.keys()),
    )
    found = swiftly(connection, sql, (owner,))
    return _StepRow._make(found[0]) if found else None


def step(connection: Connection, claim: StepClaim) -> Row[Any]:
    """The step, locked until the transaction's end."""
    mine = and_(alert_steps.c.alert_id == claim.alert_id, alert_steps.c.step == claim.step)
    return connection.execute(select(alert_steps).where(mine).with_for_update()).one()


_ADVANCE: Final = """
UPDATE alert_steps SET people = ?, unreachable = ?, "cursor" = ?, lease_until = {now} + ?,
  next_at = CASE WHEN ? THEN NULL ELSE next_at END, owner = CASE WHEN ? THEN NULL ELSE owner END, planned_at = ?
WHERE alert_id = ? AND step = ? AND owner = ? AND fence = ? RETURNING 1
"""


def advance_step(
    connection: Connection,
    claim: StepClaim,
    holder: str,
    lease: int,
    *,
    people: int,
    unreachable: int,
    cursor: int,
    planned_at: int | None,
) -> bool:
    """Writes the step's progress and renews the lease; ``planned_at``: ends it. False: it is no longer ours (roll back)."""
    sql, over = _ADVANCE.format(now=now_sql(connection)), planned_at is not None
    mine = (claim.alert_id, claim.step, holder, claim.fence)
    return bool(swiftly(connection, sql, (people, unreachable, cursor, lease, over, over, planned_at, *mine)))


def steps_to_wake(connection: Connection, *, again_after: int) -> list[int]:
    """Priorities of steps that are due and free and not lately woken; marks them woken."""
    now = now_ms(connection)
    waiting = and_(
        alert_steps.c.next_at <= now, alert_steps.c.lease_until <= now, alert_steps.c.woken_at <= now - again_after
    )
    free = select(alert_steps.c.alert_id, alert_steps.c.step).where(waiting).with_for_update(skip_locked=True)
    mine = tuple_(alert_steps.c.alert_id, alert_steps.c.step).in_(free)
    woken = update(alert_steps).where(mine).values(woken_at=now).returning(alert_steps.c.priority)
    return list(connection.execute(woken).scalars())


def any_step_due(connection: Connection, *, lowest: int | None = None, grace: int = 0) -> bool:
    """Whether planning any step is due and free. ``lowest`` and ``grace`` as in ``claim_step``."""
    now = now_ms(connection)
    query = select(alert_steps.c.alert_id).where(alert_steps.c.next_at <= now - grace, alert_steps.c.lease_until <= now)
    if lowest is not None:
        query = query.where(alert_steps.c.priority <= lowest)
    return connection.execute(query.limit(1)).first() is not None


def step_owners(connection: Connection) -> list[str]:
    """Every owner of a step's lease that was not ended yet."""
    query = select(alert_steps.c.owner)
    held = (alert_steps.c.owner.is_not(None), alert_steps.c.next_at.is_not(None), alert_steps.c.lease_until > 0)
    return [row[0] for row in connection.execute(query.where(*held))]


def leave_step(connection: Connection, claim: StepClaim, holder: str) -> None:
    """Ends the lease; somebody else may go on from the cursor."""
    mine = (alert_steps.c.alert_id == claim.alert_id, alert_steps.c.step == claim.step, alert_steps.c.owner == holder)
    connection.execute(update(alert_steps).where(*mine).values(owner=None, lease_until=0))


def release_steps(connection: Connection, owner: str) -> None:
    """Ends the leases of a process that is known to be dead."""
    connection.execute(update(alert_steps).where(alert_steps.c.owner == owner).values(lease_until=0))


def drop_steps(connection: Connection, alert: int) -> None:
    """Steps that are not planned never will be: the alert was cancelled or has run out."""
    mine = and_(alert_steps.c.alert_id == alert, alert_steps.c.next_at.is_not(None))
    connection.execute(update(alert_steps).where(mine).values(next_at=None))


def unplanned_steps(connection: Connection, alert_ids: Sequence[int]) -> dict[int, int]:
    """alert -> how many of its steps are yet to be planned."""
    query = (
        select(alert_steps.c.alert_id, func.count())
        .where(alert_steps.c.alert_id.in_(alert_ids), alert_steps.c.next_at.is_not(None))
        .group_by(alert_steps.c.alert_id)
    )
    return {alert: int(n) for alert, n in connection.execute(query)}


# ---- reach over time -----------------------------------------------------------------------------------------------


#: Alerts in which something has moved since their last sample, and which may have another: every second at first, then at a
#: two-hundredth of their age (``step``, ms), but once in 5 s: then only are those looked at that are no longer young.
_MOVED: Final = """
WITH looked AS (
  SELECT a.id, CASE WHEN :now - a.created_at < 200000 THEN 1000 WHEN :now - a.created_at < 1000000 THEN 5000
    ELSE (:now - a.created_at) / 200 END AS step, (SELECT max(s.at) FROM alert_samples s WHERE s.alert_id = a.id) AS last
  FROM alerts a WHERE a.completed_at IS NULL AND {which}
), due AS (
  SELECT * FROM looked WHERE last IS NULL OR :now - last >= step * 9 / 10 OR :thinned = 0
), stands AS (
  SELECT b.alert_id, b.channel, sum(b.size) AS targeted, sum(b.n_accepted + b.n_delivered) AS accepted,
    sum(b.n_delivered) AS delivered
  FROM batches b JOIN due ON due.id = b.alert_id GROUP BY b.alert_id, b.channel
), moved AS (
  SELECT DISTINCT due.id, due.step, due.last FROM due JOIN stands n ON n.alert_id = due.id
  LEFT JOIN alert_samples s ON s.alert_id = due.id AND s.at = due.last AND s.channel = n.channel
  WHERE s.alert_id IS NULL OR s.targeted <> n.targeted OR s.accepted <> n.accepted OR s.delivered <> n.delivered
)"""

_SINCE: Final = "a.created_at > :since"
_THESE: Final = "a.id IN :ids"
_FIND_MOVED: Final = text(f"{_MOVED.format(which=_SINCE)} SELECT id FROM moved ORDER BY coalesce(last, 0), id LIMIT :limit")
#: After a time in which nothing moved, what stood until then comes first: the curve is flat there, and then rises.
_SAMPLE: Final = text(
    f"""{_MOVED.format(which=_THESE)}
INSERT INTO alert_samples (alert_id, at, channel, targeted, accepted, delivered)
SELECT n.alert_id, :now, n.channel, n.targeted, n.accepted, n.delivered FROM stands n JOIN moved m ON m.id = n.alert_id
UNION ALL
SELECT s.alert_id, :now - m.step, s.channel, s.targeted, s.accepted, s.delivered
FROM alert_samples s JOIN moved m ON s.alert_id = m.id AND s.at = m.last WHERE :now - m.last > 2 * m.step
ON CONFLICT DO NOTHING"""
).bindparams(bindparam("ids", expanding=True))


def moved(connection: Connection, now: int, *, since: int, limit: int) -> list[int]:
    """Open alerts made after ``since`` that are to be sampled. One statement; it locks nothing."""
    values = {"now": now, "since": since, "thinned": 1, "limit": limit}
    return list(connection.execute(_FIND_MOVED, values).scalars())


def add_samples(connection: Connection, ids: Sequence[int], now: int, *, thinned: bool = True) -> None:
    """Samples of those of these in which something has moved. ``thinned``: where it is time for another.

    Waits for nobody: whoever marks or plans has the alert's row locked, and a foreign key wants less than that.
    """
    connection.execute(_SAMPLE, {"ids": ids, "now": now, "thinned": int(thinned)})


_OPEN: Final = " + ".join(f"b.n_{state}" for state in sorted(OPEN))
_AT_REST: Final = text(
    f"""
SELECT a.id FROM alerts a WHERE a.completed_at IS NULL AND {_SINCE}
  AND NOT EXISTS (SELECT 1 FROM batches b WHERE b.alert_id = a.id AND ({_OPEN} > 0
    OR (b.n_accepted > 0 AND b.channel NOT IN :final AND a.cancelled_at IS NULL)))
  AND (a.cancelled_at IS NOT NULL
    OR NOT EXISTS (SELECT 1 FROM alert_steps s WHERE s.alert_id = a.id AND s.next_at IS NOT NULL))
ORDER BY a.id LIMIT :limit"""
).bindparams(bindparam("final", type_=Text, expanding=True))


def at_rest(connection: Connection, *, since: int, final: Collection[str], limit: int) -> list[int]:
    """Open alerts made after ``since`` of which nothing seems left to do; ``final``: channels that give no receipts."""
    return list(connection.execute(_AT_REST, {"since": since, "final": list(final), "limit": limit}).scalars())


def take_open(connection: Connection, ids: Sequence[int]) -> list[Row[Any]]:
    """Those of these that are open and in nobody's hands: nobody can plan or mark anything of them before this
    transaction ends."""
    mine = and_(alerts.c.id.in_(ids), alerts.c.completed_at.is_(None))
    return list(connection.execute(select(alerts).where(mine).order_by(alerts.c.id).with_for_update(skip_locked=True)))


def samples(connection: Connection, alert: int) -> list[Row[Any]]:
    query = select(alert_samples).where(alert_samples.c.alert_id == alert)
    return list(connection.execute(query.order_by(alert_samples.c.at, alert_samples.c.channel)))


def complete(connection: Connection, ids: Sequence[int], at: int) -> None:
    """Nothing is left to do for these, except late evidence."""
    mine = and_(alerts.c.id.in_(ids), alerts.c.completed_at.is_(None))
    connection.execute(update(alerts).where(mine).values(completed_at=at))


def expired_with_work(connection: Connection) -> list[int]:
    """Alerts past their time that still have unsent deliveries or unplanned steps."""
    now = now_ms(connection)
    work = select(batches.c.id).where(batches.c.alert_id == alerts.c.id, batches.c.n_queued + batches.c.n_retrying > 0)
    steps = select(alert_steps.c.step).where(alert_steps.c.alert_id == alerts.c.id, alert_steps.c.next_at.is_not(None))
    over = or_(alerts.c.expires_at <= now, alerts.c.cancelled_at.is_not(None))
    query = select(alerts.c.id).where(alerts.c.completed_at.is_(None), over, or_(work.exists(), steps.exists()))
    return list(connection.execute(query.limit(20)).scalars())


def reach_times(connection: Connection, alert_ids: Sequence[int]) -> dict[int, tuple[int, int]]:
    """alert -> when its first and its last delivery were taken by a provider or arrived (ms), from its samples."""
    times = select(alert_samples.c.alert_id, func.min(alert_samples.c.at), func.max(alert_samples.c.at))
    reached = times.where(alert_samples.c.alert_id.in_(alert_ids), alert_samples.c.accepted > 0)
    return {row[0]: (row[1], row[2]) for row in connection.execute(reached.group_by(alert_samples.c.alert_id))}


def people_reached(connection: Connection, alert: int) -> int:
    """Distinct people whom a delivery reached. A scan of the alert's deliveries: for the finished alert's report only."""
    reached = or_(deliveries.c.state == "delivered", and_(deliveries.c.state == "accepted", deliveries.c.next_at.is_(None)))
    query = select(func.count(func.distinct(deliveries.c.recipient_id))).where(deliveries.c.alert_id == alert, reached)
    return int(connection.execute(query).scalar_one())


def first_steps(connection: Connection, alert_ids: Sequence[int]) -> dict[int, Row[Any]]:
    """alert -> its step 0."""
    query = select(alert_steps).where(alert_steps.c.alert_id.in_(alert_ids), alert_steps.c.step == 0)
    return {row.alert_id: row for row in connection.execute(query)}
