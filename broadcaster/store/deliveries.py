"""Deliveries: reading the rows that are due, and the guarded ways to move them between states.

Every transition goes through ``apply``: the rows' change, their events and their batches' counts in one transaction. The
three that nearly every delivery makes, its first marking, its acceptance and its arrival, have statements of their own
that do the same without reading the rows first (``mark_first``, ``accept``, ``arrive``).
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, Row, Select, and_, func, select

from broadcaster.domain.lifecycle import State, allowed
from broadcaster.store.database import is_postgresql, now_sql, read_clock, swiftly
from broadcaster.store.tables import alerts, attempts, contacts, deliveries, recipients


class LostRace(Exception):
    """Somebody else changed a row in between. The transaction must be rolled back; nothing has happened."""


@dataclass(frozen=True, slots=True)
class DeliveryRow:
    """One delivery as the engine needs it. Times in ms since the epoch."""

    id: int
    alert_id: int
    batch_id: int
    contact_id: int
    state: State
    attempt: int
    tries: int
    lookups: int
    absences: int
    doubt: int
    void: int
    avoid: str | None
    route: str | None
    provider_id: str | None
    cost: int | None
    code: str | None
    reason: str | None
    next_at: int | None
    sent_at: int | None


@dataclass(frozen=True, slots=True)
class Change:
    """What becomes of one row: its new state and columns. ``None`` in provider_id and cost keeps what is known."""

    row: DeliveryRow
    new: State
    next_at: int | None
    attempt: int
    tries: int
    lookups: int = 0
    absences: int = 0
    doubt: int = 0
    void: int = 0
    avoid: str | None = None
    route: str | None = None
    provider_id: str | None = None
    cost: int | None = None
    code: str | None = None
    reason: str | None = None
    sent_at: int | None = None


class Ready(NamedTuple):
    """A delivery that may leave now, and no more of it than sending takes. ``usable``: its address was not disabled."""

    id: int
    contact_id: int
    state: str
    attempt: int
    avoid: str | None
    address: str
    usable: bool


_COLUMNS: Final = tuple(deliveries.c[name] for name in DeliveryRow.__dataclass_fields__)
_FIELDS: Final = (
    "state", "next_at", "attempt", "tries", "lookups", "absences", "doubt", "void", "avoid", "route",
    "provider_id", "cost", "code", "reason", "sent_at",
)  # fmt: skip
_PG_TYPES: Final = (
    "text", "bigint", "smallint", "smallint", "smallint", "smallint", "smallint", "smallint", "text", "text", "text",
    "bigint", "text", "text", "bigint",
)  # fmt: skip
_KEPT: Final = ("provider_id", "cost")  # of the current attempt: known once, and never of the one before


def lock(connection: Connection, ids: Sequence[int]) -> list[DeliveryRow]:
    """These rows, locked until the transaction's end, in the order of their ids (so that lockers never deadlock)."""
    query = select(*_COLUMNS).where(deliveries.c.id.in_(ids)).order_by(deliveries.c.id)
    return _rows(connection, query.with_for_update())


def due(connection: Connection, batch: int, states: Iterable[State], now: int, limit: int) -> list[DeliveryRow]:
    """Rows of the batch in one of these states whose time has come."""
    wanted = and_(
        deliveries.c.batch_id == batch,
        deliveries.c.state.in_([s.value for s in states]),
        deliveries.c.next_at <= now,
    )
    return _rows(connection, select(*_COLUMNS).where(wanted).order_by(deliveries.c.id).limit(limit))


def disabled(connection: Connection, contact_ids: Sequence[int]) -> set[int]:
    """Those of these addresses that are out of use by now."""
    gone = and_(contacts.c.id.in_(contact_ids), contacts.c.disabled_at.is_not(None))
    return set(connection.execute(select(contacts.c.id).where(gone)).scalars())


_READY: Final = """
SELECT d.id, d.contact_id, d.state, d.attempt, d.avoid, c.address, c.disabled_at IS NULL
FROM deliveries d JOIN contacts c ON c.id = d.contact_id
WHERE d.batch_id = ? AND d.state IN ('queued', 'retrying', 'accepted', 'uncertain') AND d.next_at <= ? ORDER BY d.id
"""


def ready(connection: Connection, batch: int, now: int, *, tidy: bool = False) -> list[Ready] | None:
    """What of the batch may leave now.

    None unless ``tidy`` when something else comes first: a receipt did not come in time, or a doubt may be cleared up.
    """
    rows = [Ready(*row) for row in swiftly(connection, _READY, (batch, now))]
    unsent = [row for row in rows if row.state in _UNSENT]
    return unsent if tidy or len(unsent) == len(rows) else None


_UNSENT: Final = (State.QUEUED.value, State.RETRYING.value)


class Marked(NamedTuple):
    """``going``: the alert was neither cancelled nor out of time; else nothing was marked. ``ids``: what was marked."""

    going: bool
    ids: set[int]


_USABLE: Final = "NOT EXISTS (SELECT 1 FROM contacts c WHERE c.id = deliveries.contact_id AND c.disabled_at IS NOT NULL)"

#: PostgreSQL's way: one statement, one journey, one transaction. The lease is held before anything is marked.
_MARK_FIRST: Final = f"""
WITH held AS (
  SELECT a.cancelled_at IS NULL AND a.expires_at > {{now}} AS going FROM batches b JOIN alerts a ON a.id = b.alert_id
  WHERE b.id = %(batch)s AND b.owner = %(owner)s AND b.fence = %(fence)s FOR UPDATE OF b FOR SHARE OF a
), moved AS (
  UPDATE deliveries SET state = 'sending', attempt = 1, next_at = NULL, route = %(route)s, sent_at = {{now}},
    updated_at = {{now}}
  WHERE (SELECT going FROM held) AND state = 'queued' AND attempt = 0 AND id = ANY(%(ids)s::bigint[]) AND {_USABLE}
  RETURNING id, sent_at
), noted AS (
  INSERT INTO delivery_events (delivery_id, attempt, at, old, new) SELECT id, 1, sent_at, 'queued', 'sending' FROM moved
), counted AS (
  UPDATE batches SET n_queued = n_queued - m.n, n_sending = n_sending + m.n
  FROM (SELECT count(*) AS n FROM moved) m WHERE id = %(batch)s AND m.n > 0
)
SELECT (SELECT going FROM held), (SELECT array_agg(id) FROM moved)
"""


def mark_first(connection: Connection, batch: int, fence: int, owner: str, ids: Sequence[int], route: str) -> Marked | None:
    """The first attempt of these begins: queued -> sending, for those of them that still are so and may be sent.

    None: the batch's lease is not ours. One statement on PostgreSQL (``Database.once``).
    """
    if is_postgresql(connection):
        values = {"batch": batch, "owner": owner, "fence": fence, "route": route, "ids": _array(ids)}
        [(going, moved)] = swiftly(connection, _MARK_FIRST.format(now=now_sql(connection)), values)
        return None if going is None else Marked(going, set(moved or ()))
    now = read_clock(connection)
    lease = "SELECT a.cancelled_at IS NULL AND a.expires_at > ? FROM batches b JOIN alerts a ON a.id = b.alert_id"
    held = connection.exec_driver_sql(f"{lease} WHERE b.id = ? AND b.owner = ? AND b.fence = ?", (now, batch, owner, fence))
    going = held.scalar()
    if not going:
        return None if going is None else Marked(False, set())
    sql = (
        "UPDATE deliveries SET state = 'sending', attempt = 1, next_at = NULL, route = ?, sent_at = ?, updated_at = ?"
        f" WHERE state = 'queued' AND attempt = 0 AND id {_IN_JSON} AND {_USABLE} RETURNING id, attempt, batch_id"
    )
    moved = connection.exec_driver_sql(sql, (route, now, now, json.dumps(ids))).all()
    return Marked(True, _moved(connection, moved, now, State.QUEUED, State.SENDING))


@dataclass(frozen=True, slots=True)
class _Step:
    """A step that whole sets of rows take. ``columns``: what is given of each, with PostgreSQL's types."""

    old: State
    new: State
    columns: Mapping[str, str]
    sets: str
    where: str

    def update(self, given: str, now: str) -> str:
        """``given``: the table ``v``. One value is wanted before those of ``v``: in how many ms it is due, or NULL."""
        return (
            f"UPDATE deliveries SET state = '{self.new}', next_at = {now} + CAST(? AS BIGINT), updated_at = {now}, "
            f"code = NULL, reason = NULL, {self.sets} FROM {given} "
            f"WHERE deliveries.id = v.id AND deliveries.attempt = v.attempt AND state = '{self.old}' AND {self.where} "
            "RETURNING deliveries.id, deliveries.attempt, batch_id, updated_at, next_at"
        )

    def all_in_one(self, now: str) -> str:
        """PostgreSQL's way: one statement, one journey, one transaction."""
        arrays = ", ".join(f"?::{kind}[]" for kind in self.columns.values())
        update = self.update(f"unnest({arrays}) AS v({', '.join(self.columns)})", now)
        return f"""
        WITH moved AS ({update}),
        noted AS (
          INSERT INTO delivery_events (delivery_id, attempt, at, old, new)
          SELECT id, attempt, updated_at, '{self.old}', '{self.new}' FROM moved),
        counted AS (
          UPDATE batches b SET n_{self.old} = b.n_{self.old} - m.n, n_{self.new} = b.n_{self.new} + m.n,
            next_at = least(b.next_at, m.due)
          FROM (SELECT batch_id, count(*) AS n, min(next_at) AS due FROM moved GROUP BY batch_id ORDER BY batch_id) m
          WHERE b.id = m.batch_id)
        SELECT id FROM moved"""


_ACCEPTANCE: Final = _Step(
    State.SENDING,
    State.ACCEPTED,
    {"id": "bigint", "attempt": "smallint", "provider_id": "text", "cost": "bigint"},
    "provider_id = coalesce(v.provider_id, deliveries.provider_id), cost = coalesce(v.cost, deliveries.cost)",
    "void < v.attempt",
)
_ARRIVAL: Final = _Step(
    State.ACCEPTED,
    State.DELIVERED,
    {"id": "bigint", "attempt": "smallint", "route": "text", "provider_id": "text"},
    "provider_id = coalesce(v.provider_id, deliveries.provider_id)",
    "deliveries.route = v.route",
)


def accept(
    connection: Connection, taken: Sequence[tuple[int, int, str | None, int | None]], deadline: int | None
) -> set[int]:
    """Those of ``taken`` (delivery, attempt, provider's id, cost) that were still being sent in that attempt are accepted.

    ``deadline``: ms within which a receipt must come. Returns what it moved; of the others there is something else to be
    said. One statement on PostgreSQL (``Database.once``).
    """
    return _take_step(connection, _ACCEPTANCE, taken, deadline)


def arrive(connection: Connection, receipts: Sequence[tuple[int, int, str, str | None]]) -> set[int]:
    """Those of ``receipts`` (delivery, attempt, route, provider's id) that stood accepted there have arrived.

    Returns what it moved; of the others there is something else to be said. One statement on PostgreSQL.
    """
    return _take_step(connection, _ARRIVAL, receipts, None)


def _take_step(connection: Connection, step: _Step, rows: Sequence[Sequence[Any]], due: int | None) -> set[int]:
    ordered = sorted(rows, key=lambda row: row[0])
    if is_postgresql(connection):
        arrays = [_array(column) for column in zip(*ordered, strict=True)]
        return {row[0] for row in swiftly(connection, step.all_in_one(now_sql(connection)), (due, *arrays))}
    extracted = ", ".join(f"json_extract(value, '$[{n}]') AS {name}" for n, name in enumerate(step.columns))
    now = read_clock(connection)
    sql = step.update(f"(SELECT {extracted} FROM json_each(?)) AS v", str(now))
    moved = connection.exec_driver_sql(sql, (due, json.dumps([list(row) for row in ordered]))).all()
    return _moved(connection, [row[:3] for row in moved], now, step.old, step.new, None if due is None else now + due)


def _moved(
    connection: Connection, moved: Sequence[Sequence[Any]], now: int, old: State, new: State, due: int | None = None
) -> set[int]:
    """Events and counts for rows (id, attempt, batch) that went from ``old`` to ``new``; their ids."""
    rows = [(delivery, n, now, old.value, new.value) for delivery, n, _ in moved]
    if rows:
        names = "delivery_id, attempt, at, old, new"
        connection.exec_driver_sql(f"INSERT INTO delivery_events ({names}) VALUES (?,?,?,?,?)", rows)
    for batch, n in sorted(Counter(batch for _, _, batch in moved).items()):
        _shift(connection, batch, {old: -n, new: n}, due)
    return {row[0] for row in rows}


_IN_JSON: Final = "IN (SELECT value FROM json_each(?))"  # for SQLite, which takes no arrays


def in_state(connection: Connection, batch: int, states: Iterable[State], limit: int = 5000) -> list[DeliveryRow]:
    """Rows of the batch in one of these states, due or not."""
    wanted = and_(deliveries.c.batch_id == batch, deliveries.c.state.in_([s.value for s in states]))
    return _rows(connection, select(*_COLUMNS).where(wanted).order_by(deliveries.c.id).limit(limit))


def unsent_of_alert(connection: Connection, alert: int, limit: int) -> list[DeliveryRow]:
    """Rows of the alert that have not left (queued, retrying), locked."""
    wanted = and_(deliveries.c.alert_id == alert, deliveries.c.state.in_([State.QUEUED.value, State.RETRYING.value]))
    query = select(*_COLUMNS).where(wanted).order_by(deliveries.c.id).limit(limit)
    return _rows(connection, query.with_for_update(skip_locked=True))


def addresses(connection: Connection, contact_ids: Sequence[int]) -> dict[int, tuple[str, bool]]:
    """contact id -> (address, whether it may be used)."""
    query = select(contacts.c.id, contacts.c.address, contacts.c.disabled_at).where(contacts.c.id.in_(contact_ids))
    return {row.id: (row.address, row.disabled_at is None) for row in connection.execute(query)}


def disable_contacts(connection: Connection, contact_ids: Sequence[int], reason: str, at: int) -> None:
    """Takes addresses out of use, from now on, for every alert."""
    mine = and_(contacts.c.id.in_(contact_ids), contacts.c.disabled_at.is_(None))
    connection.execute(contacts.update().where(mine).values(disabled_at=at, disabled_reason=reason))


def next_due(connection: Connection, batch: int) -> int | None:
    """The earliest time anything in the batch is due; None when nothing ever is."""
    value = swiftly(connection, "SELECT min(next_at) FROM deliveries WHERE batch_id = ?", (batch,))[0][0]
    return None if value is None else int(value)


def apply(connection: Connection, changes: Sequence[Change], at: int) -> None:
    """Makes the changes, appends their events and moves the batches' counts. Raises LostRace (roll back).

    The caller holds the rows' locks (``lock``), or is content to lose the race. A change between two states that the
    lifecycle does not allow is a bug and raises ValueError before anything is written.
    """
    if not changes:
        return
    for change in changes:
        if change.row.state is not change.new and not allowed(change.row.state, change.new):
            raise ValueError(f"no way from {change.row.state} to {change.new}")
    changed = (
        _update_postgresql(connection, changes, at) if is_postgresql(connection) else _update_sqlite(connection, changes, at)
    )
    if changed != len(changes):
        raise LostRace(f"{len(changes) - changed} of {len(changes)} rows had changed")
    moved = [change for change in changes if change.row.state is not change.new]
    _append_events(connection, moved, at)
    _move_counts(connection, moved)


def keep_attempts(connection: Connection, rows: Sequence[DeliveryRow], at: int) -> None:
    """Writes attempts down that are about to be followed by another, so that their receipts still find them."""
    values = [
        {"delivery_id": r.id, "n": r.attempt, "route": r.route, "provider_id": r.provider_id, "cost": r.cost,
         "code": r.code, "outcome": r.state.value, "at": r.sent_at or at}
        for r in rows if r.attempt > 0
    ]  # fmt: skip
    if not values:
        return
    connection.exec_driver_sql(
        _placeholders(
            connection,
            "INSERT INTO attempts (delivery_id, n, route, provider_id, cost, code, outcome, at) VALUES (?,?,?,?,?,?,?,?)"
            " ON CONFLICT (delivery_id, n) DO NOTHING",
        ),
        [tuple(v.values()) for v in values],
    )


def _rows(connection: Connection, query: Select[Any]) -> list[DeliveryRow]:
    return [_row(row) for row in connection.execute(query)]


def _row(row: Row[Any]) -> DeliveryRow:
    values = dict(row._mapping)
    values["state"] = State(values["state"])
    return DeliveryRow(**values)


def _values(change: Change) -> tuple[Any, ...]:
    return (
        change.new.value, change.next_at, change.attempt, change.tries, change.lookups, change.absences, change.doubt,
        change.void, change.avoid, change.route, change.provider_id, change.cost, change.code, change.reason, change.sent_at,
    )  # fmt: skip


def _update_sqlite(connection: Connection, changes: Sequence[Change], at: int) -> int:
    at_attempt, n = _FIELDS.index("attempt") + 1, len(_FIELDS)
    kept = f"{{0}} = coalesce(?{{1}}, CASE WHEN attempt = ?{at_attempt} THEN {{0}} END)"
    sets = ", ".join(kept.format(f, i) if f in _KEPT else f"{f} = ?{i}" for i, f in enumerate(_FIELDS, 1))
    fence = f"id = ?{n + 2} AND state = ?{n + 3} AND attempt = ?{n + 4}"
    sql = f"UPDATE deliveries SET {sets}, updated_at = ?{n + 1} WHERE {fence}"
    rows = [(*_values(c), at, c.row.id, c.row.state.value, c.row.attempt) for c in changes]
    return connection.exec_driver_sql(sql, rows).rowcount


def _update_postgresql(connection: Connection, changes: Sequence[Change], at: int) -> int:
    # One statement over arrays: five times as fast as VALUES lists, and the plan is cached.
    kept = "{0} = coalesce(v.{0}, CASE WHEN v.attempt = d.attempt THEN d.{0} END)"
    sets = ", ".join(kept.format(f) if f in _KEPT else f"{f} = v.{f}" for f in _FIELDS)
    arrays = ", ".join(f"%s::{t}[]" for t in (*_PG_TYPES, "bigint", "text", "smallint"))
    sql = (
        f"UPDATE deliveries d SET {sets}, updated_at = %s FROM unnest({arrays})"
        f" AS v({', '.join(_FIELDS)}, id, old_state, old_attempt)"
        " WHERE d.id = v.id AND d.state = v.old_state AND d.attempt = v.old_attempt"
    )
    columns = list(zip(*((*_values(c), c.row.id, c.row.state.value, c.row.attempt) for c in changes), strict=True))
    return connection.exec_driver_sql(sql, (at, *(_array(column) for column in columns))).rowcount


def _append_events(connection: Connection, moved: Sequence[Change], at: int) -> None:
    if not moved:
        return
    rows = [(c.row.id, c.attempt, at, c.row.state.value, c.new.value, c.code, c.reason) for c in moved]
    names = "delivery_id, attempt, at, old, new, code, reason"
    if is_postgresql(connection):
        types = ("bigint", "smallint", "bigint", "text", "text", "text", "text")
        arrays = ", ".join(f"%s::{t}[]" for t in types)
        sql = f"INSERT INTO delivery_events ({names}) SELECT * FROM unnest({arrays})"
        connection.exec_driver_sql(sql, tuple(_array(column) for column in zip(*rows, strict=True)))
    else:
        connection.exec_driver_sql(f"INSERT INTO delivery_events ({names}) VALUES (?,?,?,?,?,?,?)", rows)


def _move_counts(connection: Connection, moved: Sequence[Change]) -> None:
    deltas: dict[int, Counter[State]] = defaultdict(Counter)
    soonest: dict[int, int] = {}
    for change in moved:
        if change.next_at is not None:
            soonest[change.row.batch_id] = min(change.next_at, soonest.get(change.row.batch_id, change.next_at))
        deltas[change.row.batch_id][change.row.state] -= 1
        deltas[change.row.batch_id][change.new] += 1
    for batch in sorted(deltas):  # always in this order, so that two transactions never wait for each other
        _shift(connection, batch, deltas[batch], soonest.get(batch))


def _shift(connection: Connection, batch: int, deltas: Mapping[State, int], due: int | None) -> None:
    """Moves a batch's counts. ``due``: late evidence may give a batch that was done something to look at again."""
    moves = {state: n for state, n in deltas.items() if n}
    sets = [f"n_{state} = n_{state} + ?" for state in moves]
    values: list[Any] = list(moves.values())
    if due is not None:
        sets.append("next_at = CASE WHEN next_at IS NULL OR next_at > ? THEN ? ELSE next_at END")
        values += [due, due]
    if sets:
        sql = _placeholders(connection, f"UPDATE batches SET {', '.join(sets)} WHERE id = ?")
        connection.exec_driver_sql(sql, (*values, batch))


_ESCAPED: Final = str.maketrans({"\\": "\\\\", '"': '\\"'})


def _array(values: Iterable[Any]) -> str:
    """PostgreSQL's text form of an array (PostgreSQL 8.15.6): the driver writes lists five times as slowly."""
    return "{" + ",".join(map(_element, values)) + "}"


def _element(value: Any) -> str:
    if value is None:
        return "NULL"
    return f'"{value.translate(_ESCAPED)}"' if isinstance(value, str) else str(value)


def _placeholders(connection: Connection, sql: str) -> str:
    return sql.replace("?", "%s") if is_postgresql(connection) else sql


def page(
    connection: Connection, alert: int, *, state: str | None, channel: str | None, after: int, limit: int
) -> list[Row[Any]]:
    """Deliveries of an alert with names and masked addresses, by number, after number ``after``."""
    query = (
        select(
            deliveries.c.id, deliveries.c.state, deliveries.c.attempt, deliveries.c.code, deliveries.c.reason,
            deliveries.c.step, deliveries.c.updated_at, recipients.c.uid.label("recipient"), recipients.c.name,
            contacts.c.channel, contacts.c.masked,
        )
        .join(contacts, contacts.c.id == deliveries.c.contact_id)
        .join(recipients, recipients.c.id == deliveries.c.recipient_id)
        .where(deliveries.c.alert_id == alert, deliveries.c.id > after)
        .order_by(deliveries.c.id)
        .limit(limit)
    )  # fmt: skip
    if state is not None:
        query = query.where(deliveries.c.state == state)
    if channel is not None:
        query = query.where(contacts.c.channel == channel)
    return list(connection.execute(query))


def alert_of(connection: Connection, delivery: int) -> Row[Any] | None:
    """The alert a delivery belongs to."""
    query = select(alerts).join(deliveries, deliveries.c.alert_id == alerts.c.id).where(deliveries.c.id == delivery)
    return connection.execute(query).one_or_none()


def route_of_attempt(connection: Connection, row: DeliveryRow, n: int) -> str | None:
    """The route that attempt ``n`` went over; None where there was no such attempt."""
    if n == row.attempt:
        return row.route
    query = select(attempts.c.route).where(attempts.c.delivery_id == row.id, attempts.c.n == n)
    value: str | None = connection.execute(query).scalar_one_or_none()
    return value


def earlier_ids(connection: Connection, rows: Sequence[DeliveryRow]) -> dict[int, tuple[str, ...]]:
    """Delivery -> the provider's ids of the attempts before its current one."""
    again = [r.id for r in rows if r.attempt > 1]
    if not again:
        return {}
    known = and_(attempts.c.delivery_id.in_(again), attempts.c.provider_id.is_not(None))
    found: dict[int, tuple[str, ...]] = {}
    for row in connection.execute(select(attempts.c.delivery_id, attempts.c.provider_id).where(known)):
        found[row.delivery_id] = (*found.get(row.delivery_id, ()), row.provider_id)
    return found


def times_ended_as(connection: Connection, rows: Sequence[DeliveryRow], code: str) -> dict[int, int]:
    """Delivery -> how many attempts before its current one ended with this code; of those with any."""
    again = [r.id for r in rows if r.attempt > 1]
    if not again:
        return {}
    query = select(attempts.c.delivery_id, func.count()).where(attempts.c.delivery_id.in_(again), attempts.c.code == code)
    return {row[0]: int(row[1]) for row in connection.execute(query.group_by(attempts.c.delivery_id))}


def tried_here_and_beside(connection: Connection, ids: Sequence[int], route: str) -> set[int]:
    """Those of these deliveries of which earlier attempts went over this route, and over another."""
    mine, other = attempts.c.delivery_id.in_(ids), func.count().filter(attempts.c.route != route)
    tried = select(attempts.c.delivery_id).where(mine).group_by(attempts.c.delivery_id)
    return set(connection.execute(tried.having(other > 0, func.count() > other)).scalars())


def move(connection: Connection, row: DeliveryRow, batch: int) -> None:
    """The row belongs to another batch from now on; its counts are the caller's business (``batches.split``)."""
    connection.execute(deliveries.update().where(deliveries.c.id == row.id).values(batch_id=batch))


def note_attempt(
    connection: Connection,
    delivery: int,
    n: int,
    *,
    code: str | None = None,
    provider_id: str | None = None,
    cost: int | None = None,
) -> None:
    """What comes late of an attempt that was followed by another. ``None`` keeps what is known."""
    sql = "UPDATE attempts SET code = coalesce(?, code), provider_id = coalesce(provider_id, ?), cost = coalesce(cost, ?)"
    sql = _placeholders(connection, f"{sql} WHERE delivery_id = ? AND n = ?")
    connection.exec_driver_sql(sql, (code, provider_id, cost, delivery, n))


def last_move_ago(connection: Connection) -> int | None:
    """Ms since any delivery last changed its state; None: none ever did."""
    sql = f"SELECT {now_sql(connection)} - at FROM delivery_events ORDER BY id DESC LIMIT 1"
    found = connection.exec_driver_sql(sql).scalar()
    return None if found is None else int(found)
