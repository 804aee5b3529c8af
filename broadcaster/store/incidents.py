"""Incidents: what is down for one cause, and the alerts that were raised for it."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Row, and_, case, func, insert, or_, select, update

from broadcaster.domain.lifecycle import MAY_HAVE_IT, State
from broadcaster.store.database import now_ms
from broadcaster.store.tables import alerts, batches, incident_alerts, incident_causes, incidents

OPEN: Final = incidents.c.closed_at.is_(None)


# ---- causes --------------------------------------------------------------------------------------------------------


def open_for(connection: Connection, group: str) -> Row[Any] | None:
    """The incident that causes of this group join. Locked."""
    return connection.execute(select(incidents).where(incidents.c.group_open == group).with_for_update()).one_or_none()


def with_cause(connection: Connection, key: str) -> Row[Any] | None:
    """The incident in which this cause lasts. Locked."""
    mine = select(incident_causes.c.incident_id).where(incident_causes.c.key_open == key).scalar_subquery()
    return connection.execute(select(incidents).where(incidents.c.id == mine).with_for_update()).one_or_none()


def add(connection: Connection, values: Mapping[str, Any]) -> int:
    return int(connection.execute(insert(incidents).values(**values).returning(incidents.c.id)).scalar_one())


def add_cause(connection: Connection, values: Mapping[str, Any]) -> None:
    connection.execute(insert(incident_causes).values(**values))


def cause(connection: Connection, key: str) -> Row[Any] | None:
    """The cause, if it lasts."""
    return connection.execute(select(incident_causes).where(incident_causes.c.key_open == key)).one_or_none()


def say_again(connection: Connection, key: str, **values: Any) -> bool:
    """Whether the cause lasts; then these are what is said of it now."""
    mine = incident_causes.c.key_open == key
    return connection.execute(update(incident_causes).where(mine).values(**values)).rowcount == 1


def reopen(connection: Connection, incident: int, key: str, **values: Any) -> bool:
    """Whether this was a cause of the incident before; then it lasts again."""
    mine = (incident_causes.c.incident_id == incident, incident_causes.c.key == key)
    again = update(incident_causes).where(*mine).values(key_open=key, cleared_at=None, **values)
    return connection.execute(again).rowcount == 1


def mark_told(connection: Connection, causes: Iterable[int]) -> None:
    """People have been told of these, as they are now."""
    mine = incident_causes.c.id.in_(list(causes))
    connection.execute(update(incident_causes).where(mine).values(told_as=incident_causes.c.severity))


def clear(connection: Connection, key: str, at: int) -> None:
    mine = incident_causes.c.key_open == key
    connection.execute(update(incident_causes).where(mine).values(key_open=None, cleared_at=at))


def causes(connection: Connection, incident: int) -> list[Row[Any]]:
    """The oldest first."""
    query = select(incident_causes).where(incident_causes.c.incident_id == incident)
    return list(connection.execute(query.order_by(incident_causes.c.opened_at, incident_causes.c.id)))


def lasting(connection: Connection, incident: int) -> int:
    """How many of its causes last."""
    mine = (incident_causes.c.incident_id == incident, incident_causes.c.cleared_at.is_(None))
    return int(connection.execute(select(func.count()).select_from(incident_causes).where(*mine)).scalar_one())


def open_keys(connection: Connection, keys: Sequence[str]) -> set[str]:
    """Those of these causes that last."""
    query = select(incident_causes.c.key_open).where(incident_causes.c.key_open.in_(keys))
    return {row[0] for row in connection.execute(query)}


# ---- what is to be done --------------------------------------------------------------------------------------------


def any_due(connection: Connection) -> bool:
    now = now_ms(connection)
    query = select(incidents.c.id).where(OPEN, incidents.c.next_at <= now, incidents.c.lease_until <= now)
    return connection.execute(query.limit(1)).first() is not None


def any_overdue(connection: Connection, since: int) -> bool:
    """Whether anything has been due for ``since`` ms, whoever is at it. What only a test says is nothing."""
    late = incidents.c.next_at <= now_ms(connection) - since
    query = select(incidents.c.id).where(OPEN, late, incidents.c.sandbox.is_(False))
    return connection.execute(query.limit(1)).first() is not None


def claim(connection: Connection, owner: str, lease: int) -> Row[Any] | None:
    """An incident with something due, leased for ``lease`` ms."""
    now = now_ms(connection)
    due = (
        select(incidents.c.id)
        .where(OPEN, incidents.c.next_at <= now, incidents.c.lease_until <= now)
        .order_by(incidents.c.next_at)
        .limit(1)
        .with_for_update(skip_locked=True)
        .scalar_subquery()
    )
    taken = update(incidents).where(incidents.c.id == due)
    values = {"owner": owner, "lease_until": now + lease, "fence": incidents.c.fence + 1}
    return connection.execute(taken.values(**values).returning(incidents)).one_or_none()


def held(connection: Connection, incident: int, owner: str, fence: int) -> Row[Any] | None:
    """The incident as it is now, if the lease is ours; nobody can change it before this transaction ends."""
    mine = (incidents.c.id == incident, incidents.c.owner == owner, incidents.c.fence == fence)
    return connection.execute(select(incidents).where(*mine).with_for_update()).one_or_none()


def change(connection: Connection, incident: int, values: Mapping[str, Any]) -> None:
    connection.execute(update(incidents).where(incidents.c.id == incident).values(**values))


def end_lease(connection: Connection, incident: int, values: Mapping[str, Any]) -> None:
    change(connection, incident, {"owner": None, "lease_until": 0, **values})


def release(connection: Connection, owner: str) -> None:
    """Ends the leases of a process that is gone."""
    connection.execute(update(incidents).where(incidents.c.owner == owner).values(lease_until=0))


def any_fault(connection: Connection) -> bool:
    """Whether any open incident could not be told as it was laid down. What only a test says is none."""
    wrong = or_(incidents.c.fault.is_not(None), incidents.c.lacks.is_not(None))
    query = select(incidents.c.id).where(OPEN, wrong, incidents.c.sandbox.is_(False))
    return connection.execute(query.limit(1)).first() is not None


def owners(connection: Connection) -> list[str]:
    """Who holds a lease that was not ended."""
    query = select(incidents.c.owner).where(OPEN, incidents.c.owner.is_not(None), incidents.c.lease_until > 0)
    return [row[0] for row in connection.execute(query.distinct())]


# ---- its alerts ----------------------------------------------------------------------------------------------------


def add_alert(connection: Connection, incident: int, what: str, uid: str, at: int) -> None:
    """``what``: alert, reminder, update, all_clear or earlier (another incident's). The incident is locked."""
    n = select(func.count()).select_from(incident_alerts).where(incident_alerts.c.incident_id == incident).scalar_subquery()
    values = {"incident_id": incident, "n": n, "what": what, "alert_uid": uid, "at": at}
    connection.execute(insert(incident_alerts).values(**values))


def newer_told(connection: Connection, incident: Row[Any]) -> Row[Any] | None:
    """A later incident of the same group that people were told of, and that lasts. Locked."""
    same = (incidents.c.group_key == incident.group_key, incidents.c.id > incident.id)
    lasts = (OPEN, incidents.c.state == "told", incidents.c.cleared_at.is_(None))
    query = select(incidents).where(*same, *lasts).order_by(incidents.c.id).limit(1)
    return connection.execute(query.with_for_update()).one_or_none()


def move_alerts(connection: Connection, old: int, new: int) -> None:
    """What told of one incident counts for another, too, when that ends. Both are locked."""
    for row in alerts_of(connection, old):
        add_alert(connection, new, "earlier", row.alert_uid, row.at)


def alerts_of(connection: Connection, incident: int) -> list[Row[Any]]:
    query = select(incident_alerts).where(incident_alerts.c.incident_id == incident)
    return list(connection.execute(query.order_by(incident_alerts.c.n)))


def of_alert(connection: Connection, uid: str) -> Row[Any] | None:
    """The incident for which this alert was raised."""
    raised = (incident_alerts.c.alert_uid == uid, incident_alerts.c.what != "earlier")
    mine = select(incident_alerts.c.incident_id).where(*raised).limit(1).scalar_subquery()
    return connection.execute(select(incidents).where(incidents.c.id == mine)).one_or_none()


def unfinished(connection: Connection, incident: int) -> list[str]:
    """Alerts that told of it and go on."""
    query = select(alerts.c.uid).join(incident_alerts, incident_alerts.c.alert_uid == alerts.c.uid)
    going = (alerts.c.completed_at.is_(None), alerts.c.cancelled_at.is_(None))
    return list(connection.execute(query.where(*_told(incident), *going)).scalars())


def spread(connection: Connection, incident: int) -> tuple[int, int]:
    """Of the deliveries that told of it: how many may have arrived, and how many are being sent just now."""
    had = [func.sum(batches.c[f"n_{state}"]) for state in sorted(MAY_HAVE_IT)]
    query = select(func.sum(batches.c[f"n_{State.SENDING}"]), *had).join(alerts, alerts.c.id == batches.c.alert_id)
    query = query.join(incident_alerts, incident_alerts.c.alert_uid == alerts.c.uid)
    row = connection.execute(query.where(*_told(incident))).one()
    return sum(int(n or 0) for n in row[1:]), int(row[0] or 0)


def _told(incident: int) -> tuple[ColumnElement[bool], ...]:
    return incident_alerts.c.incident_id == incident, incident_alerts.c.what != "all_clear"


# ---- for people ----------------------------------------------------------------------------------------------------


def by_uid(connection: Connection, uid: str, *, lock: bool = False) -> Row[Any] | None:
    query = select(incidents).where(incidents.c.uid == uid)
    return connection.execute(query.with_for_update() if lock else query).one_or_none()


def page(connection: Connection, *, before: int | None, limit: int, only_open: bool) -> list[Row[Any]]:
    """The newest first."""
    query = select(incidents).order_by(incidents.c.id.desc()).limit(limit)
    query = query if before is None else query.where(incidents.c.id < before)
    return list(connection.execute(query.where(OPEN) if only_open else query))


def page_of_cause(connection: Connection, key: str, limit: int) -> list[Row[Any]]:
    """The newest first."""
    mine = select(incident_causes.c.incident_id).where(incident_causes.c.key == key)
    query = select(incidents).where(incidents.c.id.in_(mine)).order_by(incidents.c.id.desc()).limit(limit)
    return list(connection.execute(query))


def tally(connection: Connection) -> dict[str, int]:
    """How many of those that are open are in each state; "decided": what waits only until it is sent."""
    decided = and_(incidents.c.state == "waiting", incidents.c.decided_by.is_not(None))
    state = case((decided, "decided"), else_=incidents.c.state).label("state")
    query = select(state, func.count()).where(OPEN).group_by(state)
    return {row[0]: row[1] for row in connection.execute(query)}


def causes_of(connection: Connection, ids: Sequence[int]) -> dict[int, list[Row[Any]]]:
    found: dict[int, list[Row[Any]]] = {number: [] for number in ids}
    query = select(incident_causes).where(incident_causes.c.incident_id.in_(ids))
    for row in connection.execute(query.order_by(incident_causes.c.opened_at, incident_causes.c.id)):
        found[row.incident_id].append(row)
    return found


def alerts_by_incident(connection: Connection, ids: Sequence[int]) -> dict[int, list[Row[Any]]]:
    found: dict[int, list[Row[Any]]] = {number: [] for number in ids}
    query = select(incident_alerts).where(incident_alerts.c.incident_id.in_(ids)).order_by(incident_alerts.c.n)
    for row in connection.execute(query):
        found[row.incident_id].append(row)
    return found
