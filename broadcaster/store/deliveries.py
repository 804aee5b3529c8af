"""Deliveries: reading the rows that are due, and the guarded ways to move them between states.

Every transition goes through ``apply``: the rows' change, their events and their batches' counts in one transaction. The
two that nearly every delivery makes, its first marking and its acceptance, have statements of their own that do the same
without reading the rows first (``mark_first``, ``accept``).
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, Row, Select, and_, func, select

from broadcaster.domain.lifecycle import State, allowed
from broadcaster.store.database import is_postgresql
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
WHERE d.batch_id = ? AND d.state IN ('queued', 'retrying') AND d.next_at <= ? ORDER BY d.id
"""


def ready(connection: Connection, batch: int, now: int) -> list[Ready]:
    """What of the batch may leave now."""
    return [Ready(*row) for row in connection.exec_driver_sql(_placeholders(connection, _READY), (batch, now))]


def any_overdue(connection: Connection, batch: int, now: int) -> bool:
    """Whether a receipt did not come in time, or the time to clear up a doubt has come."""
    sql = "SELECT 1 FROM deliveries WHERE batch_id = ? AND state IN ('accepted', 'uncertain') AND next_at <= ? LIMIT 1"
    return connection.exec_driver_sql(_placeholders(connection, sql), (batch, now)).first() is not None


def mark_first(connection: Connection, batch: int, ids: Sequence[int], route: str, now: int) -> None:
    """The first attempt of these begins: queued -> sending. Raises LostRace (roll back) if any was no longer so."""
    wanted, given = ("= ANY(?::bigint[])", _array(ids)) if is_postgresql(connection) else (_IN_JSON, json.dumps(ids))
    sql = (
        "UPDATE deliveries SET state = 'sending', attempt = 1, next_at = NULL, route = ?, sent_at = ?, updated_at = ?"
        f" WHERE state = 'queued' AND attempt = 0 AND id {wanted}"
    )
    changed = connection.exec_driver_sql(_placeholders(connection, sql), (route, now, now, given)).rowcount
    if changed != len(ids):
        raise LostRace(f"{len(ids) - changed} of {len(ids)} rows had changed")
    _append_same(connection, ids, [1] * len(ids), now, State.QUEUED, State.SENDING)
    _shift(connection, batch, {State.QUEUED: -len(ids), State.SENDING: len(ids)}, None)


_ACCEPT: Final = """
UPDATE deliveries SET state = 'accepted', next_at = ?, updated_at = ?, code = NULL, reason = NULL,
  provider_id = coalesce(v.provider_id, deliveries.provider_id), cost = coalesce(v.cost, deliveries.cost)
FROM {given}
WHERE deliveries.id = v.id AND deliveries.attempt = v.attempt AND state = 'sending' AND void < v.attempt
RETURNING deliveries.id, deliveries.attempt, deliveries.batch_id
"""


def accept(
    connection: Connection, taken: Sequence[tuple[int, int, str | None, int | None]], due: int | None, now: int
) -> set[int]:
    """Those of ``taken`` (delivery, attempt, provider's id, cost) that were still being sent in that attempt are accepted.

    ``due``: by when a receipt must come. Returns what it moved; of the others there is something else to be said.
    """
    columns = [list(column) for column in zip(*sorted(taken), strict=True)]
    if is_postgresql(connection):
        v = "unnest(?::bigint[], ?::smallint[], ?::text[], ?::bigint[]) AS v(id, attempt, provider_id, cost)"
        given = [_array(column) for column in columns]
    else:
        v = f"(SELECT {_JSON_COLUMNS} FROM json_each(?)) AS v"
        given = [json.dumps(list(zip(*columns, strict=True)))]
    sql = _placeholders(connection, _ACCEPT.format(given=v))
    moved = connection.exec_driver_sql(sql, (due, now, *given)).all()
    if moved:
        ids, attempts_of, of_batch = zip(*moved, strict=True)
        _append_same(connection, ids, attempts_of, now, State.SENDING, State.ACCEPTED)
        for batch, n in sorted(Counter(of_batch).items()):
            _shift(connection, batch, {State.SENDING: -n, State.ACCEPTED: n}, due)
    return {row[0] for row in moved}


#: For SQLite, which takes no arrays.
_IN_JSON: Final = "IN (SELECT value FROM json_each(?))"
_JSON_COLUMNS: Final = ", ".join(
    f"json_extract(value, '$[{n}]') AS {name}" for n, name in enumerate(("id", "attempt", "provider_id", "cost"))
)


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
    value = connection.execute(select(func.min(deliveries.c.next_at)).where(deliveries.c.batch_id == batch)).scalar_one()
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


def _append_same(
    connection: Connection, ids: Sequence[int], attempts_of: Sequence[int], at: int, old: State, new: State
) -> None:
    """The same event for each of these."""
    names = "delivery_id, attempt, at, old, new"
    if is_postgresql(connection):
        given = "unnest(%s::bigint[], %s::smallint[]) AS v(id, n)"
        sql = f"INSERT INTO delivery_events ({names}) SELECT v.id, v.n, %s, %s, %s FROM {given}"
        connection.exec_driver_sql(sql, (at, old.value, new.value, _array(ids), _array(attempts_of)))
    else:
        rows = [(delivery, n, at, old.value, new.value) for delivery, n in zip(ids, attempts_of, strict=True)]
        connection.exec_driver_sql(f"INSERT INTO delivery_events ({names}) VALUES (?,?,?,?,?)", rows)


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
