"""Batches: claiming under a lease, renewing, giving back, and what is due."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Row, case, func, insert, or_, select, text, update

from broadcaster.domain.lifecycle import STATES, State
from broadcaster.store.database import is_postgresql, now_ms, now_sql, swiftly
from broadcaster.store.tables import batches


@dataclass(frozen=True, slots=True)
class Claim:
    """A batch that this process may work on until its lease ends. ``fence`` grows with every claim."""

    id: int
    alert_id: int
    channel: str
    route: str
    priority: int
    size: int
    fence: int
    losses: int
    sending: int  # left by a former owner


@dataclass(frozen=True, slots=True)
class Blocked:
    """First routes of channels over which nothing can be sent now: what a batch of theirs waits for.

    ``critical`` is the shorter list: a booked rate limit does not hold a critical batch back.
    """

    critical: tuple[str, ...] = ()
    other: tuple[str, ...] = ()


NOTHING_BLOCKED: Final = Blocked()
#: The lease is ours: its values are (batch, owner, fence).
_MINE: Final = "id = ? AND owner = ? AND fence = ?"
_MOST_LOSSES: Final = 1_000  # counted

_CLAIM: Final = """
UPDATE batches SET owner = ?, fence = fence + 1,
       lease_until = {now} + CASE WHEN priority = 0 THEN {critical} ELSE {other} END,
       losses = losses + CASE WHEN owner IS NULL OR losses >= {most} THEN 0 ELSE 1 END, {runs} = {runs} + 1
WHERE id = (
  SELECT b.id FROM batches b
  WHERE b.next_at <= {now} - {grace} AND b.woken_at <= {now} - {grace} AND b.lease_until <= {now} AND b.priority <= {lowest}
    AND CASE WHEN b.priority = 0 THEN b.route NOT IN ({blocked_critical}) ELSE b.route NOT IN ({blocked}) END
  ORDER BY b.priority, b.next_at, b.id LIMIT 1 {lock})
RETURNING id, alert_id, channel, route, priority, size, fence, losses, n_sending
"""


def claim(
    connection: Connection,
    owner: str,
    *,
    leases: tuple[int, int],
    lowest: int,
    grace: int,
    by_task: bool,
    blocked: Blocked = NOTHING_BLOCKED,
) -> Claim | None:
    """The most urgent batch that is due and free, now leased to ``owner``.

    ``leases``: ms for a critical batch, and for any other. ``lowest``: the least urgent priority wanted. ``grace``: ms a
    batch must have been due (and its wake-up been out).
    """
    routes = [[*names, ""] for names in (blocked.critical, blocked.other)]
    sql = _CLAIM.format(
        now=now_sql(connection),
        critical=int(leases[0]),
        other=int(leases[1]),
        lowest=int(lowest),
        grace=int(grace),
        most=_MOST_LOSSES,
        runs="runs_task" if by_task else "runs_poller",
        lock="FOR UPDATE OF b SKIP LOCKED" if is_postgresql(connection) else "",
        blocked_critical=", ".join("?" * len(routes[0])),
        blocked=", ".join("?" * len(routes[1])),
    )
    rows = swiftly(connection, sql, (owner, *routes[0], *routes[1]))
    return Claim(*rows[0]) if rows else None


def renew(connection: Connection, claim: Claim, owner: str, lease: int) -> bool:
    """Whether the lease was still ours and runs on for ``lease`` ms."""
    sql = f"UPDATE batches SET lease_until = {now_sql(connection)} + ? WHERE {_MINE} RETURNING 1"
    return bool(swiftly(connection, sql, (lease, claim.id, owner, claim.fence)))


def hold(connection: Connection, claim: Claim, owner: str) -> bool:
    """Whether the lease is ours; if so nobody can take it before this transaction ends."""
    lock = "FOR UPDATE" if is_postgresql(connection) else ""
    return bool(swiftly(connection, f"SELECT 1 FROM batches WHERE {_MINE} {lock}", (claim.id, owner, claim.fence)))


def hold_with_alert(connection: Connection, claim: Claim, owner: str) -> tuple[int | None, int] | None:
    """Likewise; and its alert's (cancelled_at, expires_at), which nobody can change before the end either."""
    lock = "FOR UPDATE OF batches FOR SHARE OF alerts" if is_postgresql(connection) else ""
    sql = f"""
    SELECT alerts.cancelled_at, alerts.expires_at FROM batches JOIN alerts ON alerts.id = batches.alert_id
    WHERE batches.{_MINE} {lock}"""
    rows = swiftly(connection, sql, (claim.id, owner, claim.fence))
    return tuple(rows[0]) if rows else None


def give_back(connection: Connection, claim: Claim, owner: str, next_at: int | None) -> bool:
    """Ends the lease; the batch is due again at ``next_at``."""
    sql = f"UPDATE batches SET owner = NULL, lease_until = 0, next_at = ?, losses = 0 WHERE {_MINE} RETURNING 1"
    return bool(swiftly(connection, sql, (next_at, claim.id, owner, claim.fence)))


def put_off(connection: Connection, claim: Claim, owner: str, wait: int) -> bool:
    """Ends the lease without a word on the batch: it is due in ``wait`` ms, and what its sender left is recovered then."""
    sql = f"UPDATE batches SET owner = NULL, lease_until = 0, next_at = {now_sql(connection)} + ? WHERE {_MINE} RETURNING 1"
    return bool(swiftly(connection, sql, (wait, claim.id, owner, claim.fence)))


def to_wake(connection: Connection, blocked: Blocked, *, again_after: int, limit: int) -> list[tuple[int, int]]:
    """(batch, priority) of those due and free whose last wake-up is older than ``again_after`` ms; marks them woken."""
    now = now_ms(connection)
    ids = (
        select(batches.c.id)
        .where(*_free_and_due(now, blocked), batches.c.woken_at <= now - again_after)
        .order_by(batches.c.priority, batches.c.next_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
        .scalar_subquery()
    )
    woken = update(batches).where(batches.c.id.in_(ids)).values(woken_at=now).returning(batches.c.id, batches.c.priority)
    return [(row.id, row.priority) for row in connection.execute(woken)]


def any_due(
    connection: Connection, blocked: Blocked = NOTHING_BLOCKED, *, lowest: int | None = None, grace: int = 0
) -> bool:
    """Whether any batch is due and free: a cheap look before taking a write lock. ``lowest`` and ``grace`` as in claim."""
    now = now_ms(connection)
    query = select(batches.c.id).where(*_free_and_due(now, blocked), batches.c.next_at <= now - grace).limit(1)
    if lowest is not None:
        query = query.where(batches.c.priority <= lowest)
    return connection.execute(query).first() is not None


#: Priorities one by one: of each the index is read as far as something is due, and not through all that waits for receipts.
_ANY_WORK: Final = """
SELECT EXISTS (SELECT 1 FROM batches WHERE next_at <= {now} - {grace} AND lease_until <= {now} AND priority IN ({which}))
    OR EXISTS (SELECT 1 FROM alert_steps WHERE next_at <= {now} - {grace} AND lease_until <= {now} AND priority IN ({which}))
"""


def any_work(connection: Connection, *, lowest: int, grace: int = 0) -> bool:
    """Whether any batch or step is due and free, sendable or not. One statement; the cheapest look there is."""
    which = ", ".join(map(str, range(lowest + 1)))
    sql = _ANY_WORK.format(now=now_sql(connection), grace=int(grace), which=which)
    return bool(swiftly(connection, sql)[0][0])


def count_due(connection: Connection) -> int:
    """How many batches have something due."""
    query = select(func.count()).select_from(batches).where(batches.c.next_at <= now_ms(connection))
    return int(connection.execute(query).scalar_one())


def owners(connection: Connection) -> list[tuple[str, bool]]:
    """Every owner of a lease that was not ended yet, and whether any of its leases has run out."""
    now = now_ms(connection)
    expired = func.max(text("CASE WHEN lease_until <= " + str(now) + " THEN 1 ELSE 0 END"))
    held = (batches.c.owner.is_not(None), batches.c.lease_until > 0)
    query = select(batches.c.owner, expired).where(*held).group_by(batches.c.owner)
    return [(row[0], bool(row[1])) for row in connection.execute(query)]


def release_owner(connection: Connection, owner: str) -> int:
    """Ends the leases of a process that is known to be dead. The owner stays, so that the loss is counted."""
    return connection.execute(update(batches).where(batches.c.owner == owner).values(lease_until=0)).rowcount


def add(connection: Connection, rows: Sequence[dict[str, Any]]) -> list[int]:
    """New batches; their ids in the order of ``rows``."""
    result = connection.execute(insert(batches).returning(batches.c.id, sort_by_parameter_order=True), list(rows))
    return [row.id for row in result]


def split(connection: Connection, claim: Claim, states: Sequence[tuple[State, int | None]], *, losses: int) -> list[int]:
    """Takes rows in these (state, next_at) out of the batch, each into a batch of its own; their ids in order.

    The caller moves the rows (``deliveries.move``) in the same transaction. ``losses``: what the new batches begin with.
    """
    old = connection.execute(select(batches).where(batches.c.id == claim.id)).one()
    kept = ("alert_id", "step", "channel", "route", "priority", "created_at")
    base = {"losses": losses, **{name: getattr(old, name) for name in kept}}
    rows = [{**base, "size": 1, "next_at": due, **{f"n_{s}": int(s is state) for s in STATES}} for state, due in states]
    gone = Counter(state for state, _ in states)
    less = {f"n_{s}": batches.c[f"n_{s}"] - n for s, n in gone.items()}
    connection.execute(update(batches).where(batches.c.id == claim.id).values(size=batches.c.size - len(rows), **less))
    return add(connection, rows)


def make_due(connection: Connection, alert: int, at: int) -> None:
    """Every batch of the alert with something unsent is looked at, now."""
    mine = (
        batches.c.alert_id == alert,
        batches.c.n_queued + batches.c.n_retrying > 0,
        or_(batches.c.next_at > at),
    )
    connection.execute(update(batches).where(*mine).values(next_at=at))


def counts(connection: Connection, alerts: Iterable[int]) -> list[Row[Any]]:
    """Per alert and channel: ``targeted`` and ``n_<state>``, as sums over batches."""
    columns = [func.sum(batches.c[f"n_{s}"]).label(f"n_{s}") for s in STATES]
    query = (
        select(batches.c.alert_id, batches.c.channel, func.sum(batches.c.size).label("targeted"), *columns)
        .where(batches.c.alert_id.in_(list(alerts)))
        .group_by(batches.c.alert_id, batches.c.channel)
    )
    return list(connection.execute(query))


def totals(connection: Connection) -> list[tuple[str, str, int]]:
    """(channel, state, deliveries) over all alerts."""
    sums = [func.sum(batches.c[f"n_{s}"]) for s in STATES]
    rows = connection.execute(select(batches.c.channel, *sums).group_by(batches.c.channel))
    return [(row[0], state.value, int(n or 0)) for row in rows for state, n in zip(STATES, row[1:], strict=True)]


def runs(connection: Connection) -> tuple[int, int]:
    """(runs begun by Celery tasks, runs begun by pollers), ever."""
    row = connection.execute(select(func.sum(batches.c.runs_task), func.sum(batches.c.runs_poller))).one()
    return int(row[0] or 0), int(row[1] or 0)


def _free_and_due(now: ColumnElement[int], blocked: Blocked) -> tuple[ColumnElement[bool], ...]:
    """The claim's own condition: a batch that can go nowhere is not worth a wake-up."""
    sendable = case(
        (batches.c.priority == 0, batches.c.route.not_in(blocked.critical)), else_=batches.c.route.not_in(blocked.other)
    )
    return batches.c.next_at <= now, batches.c.lease_until <= now, sendable
