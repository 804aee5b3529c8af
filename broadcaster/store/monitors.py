"""Monitors, where they look from, their readings, changes and maintenance."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Row, and_, case, distinct, func, insert, or_, select, tuple_, update
from sqlalchemy.dialects import postgresql, sqlite

from broadcaster.store.database import is_postgresql, now_ms
from broadcaster.store.tables import maintenance, monitor_changes, monitors, readings, vantages

LIVE: Final = monitors.c.deleted_at.is_(None)
_RANK: Final = {"down": 0, "degraded": 1, "unknown": 2, "ok": 3}
CLOCK_SLACK_MS: Final = 5_000
KEPT_MS: Final = 30 * 86_400_000  # readings


@dataclass(frozen=True, slots=True)
class Look:
    """A look that this process is to make. Times in ms since the epoch."""

    monitor_id: int
    vantage: str
    due_at: int
    fence: int


# ---- what is watched -----------------------------------------------------------------------------------------------


def add(connection: Connection, values: Mapping[str, Any], names: Sequence[str], first_at: int) -> int:
    """A new monitor, due at ``first_at`` from each of the vantages ``names``; its id."""
    number = int(connection.execute(insert(monitors).values(**values).returning(monitors.c.id)).scalar_one())
    set_vantages(connection, number, names, first_at)
    return number


def set_vantages(connection: Connection, monitor: int, names: Sequence[str], first_at: int | None) -> None:
    """From now on it is looked at from these, all of them afresh."""
    connection.execute(vantages.delete().where(vantages.c.monitor_id == monitor))
    rows = [{"monitor_id": monitor, "vantage": name, "next_at": first_at} for name in names]
    connection.execute(insert(vantages), rows)


def by_uid(connection: Connection, uid: str, *, lock: bool = False) -> Row[Any] | None:
    query = select(monitors).where(monitors.c.uid == uid, LIVE)
    return connection.execute(query.with_for_update() if lock else query).one_or_none()


def by_ids(connection: Connection, ids: Sequence[int], *, lock: bool = False) -> dict[int, Row[Any]]:
    """In the order of their ids, so that two who lock several never wait for each other."""
    query = select(monitors).where(monitors.c.id.in_(ids)).order_by(monitors.c.id)
    return {row.id: row for row in connection.execute(query.with_for_update() if lock else query)}


def by_ping(connection: Connection, digest: str) -> Row[Any] | None:
    return connection.execute(select(monitors).where(monitors.c.ping_hash == digest, LIVE)).one_or_none()


def page(connection: Connection, *, after: int, limit: int, name: str | None = None) -> list[Row[Any]]:
    query = select(monitors).where(LIVE, monitors.c.id > after).order_by(monitors.c.id).limit(limit)
    return list(connection.execute(query if name is None else query.where(monitors.c.name == name)))


def worst_first(connection: Connection, *, offset: int, limit: int) -> list[Row[Any]]:
    """What is down first, what is paused last; within that by name."""
    rank = case(_RANK, value=monitors.c.state, else_=len(_RANK))
    order = (monitors.c.paused_at.is_not(None), rank, func.lower(monitors.c.name), monitors.c.id)
    return list(connection.execute(select(monitors).where(LIVE).order_by(*order).offset(offset).limit(limit)))


def tally(connection: Connection) -> dict[str, int]:
    """How many are in each state, or "paused"."""
    state = case((monitors.c.paused_at.is_not(None), "paused"), else_=monitors.c.state).label("state")
    query = select(state, func.count()).where(LIVE).group_by(state)
    return {row[0]: row[1] for row in connection.execute(query)}


def count_unwatched(connection: Connection, *, grace: int) -> int:
    """How many are not looked at as they should be: a look was due ``grace`` ms ago, and its timeout is over too."""
    late = vantages.c.next_at < now_ms(connection) - grace - monitors.c.timeout_ms
    query = select(func.count(distinct(monitors.c.id))).join(vantages, vantages.c.monitor_id == monitors.c.id)
    return int(connection.execute(query.where(LIVE, monitors.c.paused_at.is_(None), late)).scalar_one())


def change(connection: Connection, monitor: int, values: Mapping[str, Any]) -> None:
    connection.execute(update(monitors).where(monitors.c.id == monitor).values(**values))


def heard(connection: Connection, monitor: int) -> None:
    """Its heartbeat came, now."""
    connection.execute(update(monitors).where(monitors.c.id == monitor).values(seen_at=now_ms(connection)))


def vantages_of(connection: Connection, ids: Sequence[int]) -> dict[int, list[Row[Any]]]:
    """monitor -> its vantages, by name."""
    found: dict[int, list[Row[Any]]] = {number: [] for number in ids}
    query = select(vantages).where(vantages.c.monitor_id.in_(ids)).order_by(vantages.c.monitor_id, vantages.c.vantage)
    for row in connection.execute(query):
        found[row.monitor_id].append(row)
    return found


def schedule(connection: Connection, monitor: int, at: int | None) -> None:
    """When every vantage looks next; None: not before it is resumed."""
    mine = vantages.c.monitor_id == monitor
    connection.execute(update(vantages).where(mine).values(next_at=at, owner=None, lease_until=0, n_refused=0))


# ---- looking -------------------------------------------------------------------------------------------------------


def any_due(connection: Connection, vantage: str, *, grace: int) -> bool:
    """Whether any look from here has been due for ``grace`` ms."""
    due = _due(vantage, now_ms(connection), grace)
    return connection.execute(select(vantages.c.monitor_id).where(*due).limit(1)).first() is not None


def claim(connection: Connection, vantage: str, owner: str, *, lease: int, limit: int, grace: int) -> list[Look]:
    """Looks that are due from here, the longest waiting first, leased to ``owner`` for ``lease`` ms and their timeout."""
    now = now_ms(connection)
    due = (
        select(vantages.c.monitor_id, vantages.c.vantage)
        .where(*_due(vantage, now, grace))
        .order_by(vantages.c.next_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    timeout = select(monitors.c.timeout_ms).where(monitors.c.id == vantages.c.monitor_id).scalar_subquery()
    taken = (
        update(vantages)
        .where(tuple_(vantages.c.monitor_id, vantages.c.vantage).in_(due))
        .values(owner=owner, lease_until=now + lease + timeout, fence=vantages.c.fence + 1)
        .returning(vantages.c.monitor_id, vantages.c.vantage, vantages.c.next_at, vantages.c.fence)
    )
    return [Look(row.monitor_id, row.vantage, row.next_at, row.fence) for row in connection.execute(taken)]


def hold(connection: Connection, look: Look, owner: str) -> Row[Any] | None:
    """The vantage's row, if the look is still ours to record; nobody can take it before this transaction ends."""
    mine = (
        vantages.c.monitor_id == look.monitor_id,
        vantages.c.vantage == look.vantage,
        vantages.c.owner == owner,
        vantages.c.fence == look.fence,
        vantages.c.next_at == look.due_at,
    )
    return connection.execute(select(vantages).where(*mine).with_for_update()).one_or_none()


def record(connection: Connection, row: Mapping[str, Any]) -> bool:
    """Whether the reading is new: a look that was due once is recorded once."""
    make = postgresql.insert if is_postgresql(connection) else sqlite.insert
    new = make(readings).values(**row).on_conflict_do_nothing().returning(readings.c.id)
    return connection.execute(new).first() is not None


def advance(connection: Connection, look: Look, values: Mapping[str, Any]) -> None:
    """Ends the lease and writes what the vantage has seen, and when it looks next."""
    mine = (vantages.c.monitor_id == look.monitor_id, vantages.c.vantage == look.vantage)
    connection.execute(update(vantages).where(*mine).values(owner=None, lease_until=0, **values))


def _due(vantage: str, now: ColumnElement[int], grace: int) -> tuple[ColumnElement[bool], ...]:
    # Further ahead than it was put: the clock was set back, and nobody would look for as long.
    due = or_(vantages.c.next_at <= now - grace, vantages.c.next_at > now + vantages.c.ahead_ms + CLOCK_SLACK_MS)
    return vantages.c.vantage == vantage, due, vantages.c.lease_until <= now


def release(connection: Connection, owner: str) -> None:
    """Ends the leases of a process that is gone."""
    connection.execute(update(vantages).where(vantages.c.owner == owner).values(lease_until=0))


def owners(connection: Connection) -> list[str]:
    """Who holds a lease that was not ended."""
    held = (vantages.c.owner.is_not(None), vantages.c.lease_until > 0)
    return [row[0] for row in connection.execute(select(vantages.c.owner).where(*held).distinct())]


# ---- history -------------------------------------------------------------------------------------------------------


def note_change(connection: Connection, row: Mapping[str, Any]) -> None:
    connection.execute(insert(monitor_changes).values(**row))


def readings_page(connection: Connection, monitor: int, *, before: int | None, limit: int) -> list[Row[Any]]:
    """The newest first."""
    query = select(readings).where(readings.c.monitor_id == monitor).order_by(readings.c.id.desc()).limit(limit)
    return list(connection.execute(query if before is None else query.where(readings.c.id < before)))


def latest_readings(connection: Connection, ids: Sequence[int], each: int) -> dict[int, list[Row[Any]]]:
    """monitor -> its last ``each`` readings, the oldest first."""
    found: dict[int, list[Row[Any]]] = {number: [] for number in ids}
    for number in ids:  # an index each; a window over all of them would read all
        found[number] = readings_page(connection, number, before=None, limit=each)[::-1]
    return found


def changes_page(connection: Connection, monitor: int, *, before: int | None, limit: int) -> list[Row[Any]]:
    """The newest first."""
    query = select(monitor_changes).where(monitor_changes.c.monitor_id == monitor).order_by(monitor_changes.c.id.desc())
    query = query if before is None else query.where(monitor_changes.c.id < before)
    return list(connection.execute(query.limit(limit)))


def sweep(connection: Connection, limit: int) -> int:
    """Forgets old readings, a few at a time; how many."""
    old = select(readings.c.id).where(readings.c.at < now_ms(connection) - KEPT_MS).limit(limit)
    return connection.execute(readings.delete().where(readings.c.id.in_(old.scalar_subquery()))).rowcount


# ---- maintenance ---------------------------------------------------------------------------------------------------


def add_maintenance(connection: Connection, values: Mapping[str, Any]) -> None:
    connection.execute(insert(maintenance).values(**values))


def maintenance_page(connection: Connection, limit: int) -> list[Row[Any]]:
    """What is or will be, and then the last that was."""
    return list(connection.execute(select(maintenance).order_by(maintenance.c.until_at.desc()).limit(limit)))


def end_maintenance(connection: Connection, uid: str) -> bool:
    """Whether it was there and is over now."""
    now = now_ms(connection)
    mine = (maintenance.c.uid == uid, maintenance.c.until_at > now)
    return connection.execute(update(maintenance).where(*mine).values(until_at=now)).rowcount == 1


def in_maintenance(connection: Connection, ids: Sequence[int]) -> set[int]:
    """Those of these monitors that nothing is raised for now."""
    now = now_ms(connection)
    query = select(maintenance.c.monitor_id).where(
        and_(maintenance.c.from_at <= now, maintenance.c.until_at > now),
        or_(maintenance.c.monitor_id.is_(None), maintenance.c.monitor_id.in_(ids)),
    )
    found = {row[0] for row in connection.execute(query)}
    return set(ids) if None in found else found
