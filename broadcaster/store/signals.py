"""Sources of signals, the rules that take them, and what each source said last."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Connection, Row, delete, exists, insert, literal, not_, select, update
from sqlalchemy.dialects import postgresql, sqlite

from broadcaster.store.database import is_postgresql, now_ms
from broadcaster.store.tables import incident_causes, signal_requests, signal_rules, signal_sources, signals

LIVE: Final = signal_sources.c.deleted_at.is_(None)
KEPT_MS: Final = 30 * 86_400_000  # signals that are over, or were never heard of again and raise nothing
REQUESTS_KEPT_MS: Final = 3_600_000


# ---- sources -------------------------------------------------------------------------------------------------------


def add_source(connection: Connection, values: Mapping[str, Any]) -> None:
    connection.execute(insert(signal_sources).values(**values))


def sources(connection: Connection) -> list[Row[Any]]:
    return list(connection.execute(select(signal_sources).where(LIVE).order_by(signal_sources.c.name)))


def source(connection: Connection, *, uid: str = "", name: str = "", digest: str = "") -> Row[Any] | None:
    """By one of these."""
    columns = signal_sources.c
    given = columns.uid == uid if uid else columns.name == name if name else columns.token_hash == digest
    return connection.execute(select(signal_sources).where(LIVE, given)).one_or_none()


def hold_source(connection: Connection, number: int) -> bool:
    """Whether it is there; if so nobody can delete it before this transaction ends."""
    query = select(signal_sources.c.id).where(signal_sources.c.id == number, LIVE)
    return connection.execute(query.with_for_update()).first() is not None


def end_source(connection: Connection, number: int) -> None:
    values = {"deleted_at": now_ms(connection), "secrets": None}
    connection.execute(update(signal_sources).where(signal_sources.c.id == number).values(**values))


def heard(connection: Connection, number: int, *, refused: bool = False) -> None:
    column = signal_sources.c.refused if refused else signal_sources.c.heard
    values = {column.name: column + 1, "heard_at": now_ms(connection)}
    connection.execute(update(signal_sources).where(signal_sources.c.id == number).values(**values))


def was_taken(connection: Connection, number: int, request: str) -> bool:
    """Whether a request of this source had this id."""
    mine = (signal_requests.c.source_id == number, signal_requests.c.request_id == request)
    return connection.execute(select(signal_requests.c.at).where(*mine)).first() is not None


def remember(connection: Connection, number: int, request: str) -> None:
    make = postgresql.insert if is_postgresql(connection) else sqlite.insert
    row = {"source_id": number, "request_id": request, "at": now_ms(connection)}
    connection.execute(make(signal_requests).values(**row).on_conflict_do_nothing())


# ---- rules ---------------------------------------------------------------------------------------------------------


def add_rule(connection: Connection, values: Mapping[str, Any]) -> None:
    connection.execute(insert(signal_rules).values(**values))


def rules(connection: Connection) -> list[Row[Any]]:
    """In their order."""
    query = select(signal_rules).where(signal_rules.c.deleted_at.is_(None))
    return list(connection.execute(query.order_by(signal_rules.c.position, signal_rules.c.id)))


def change_rule(connection: Connection, number: int, values: Mapping[str, Any]) -> None:
    connection.execute(update(signal_rules).where(signal_rules.c.id == number).values(**values))


# ---- signals -------------------------------------------------------------------------------------------------------


def known(connection: Connection, number: int, keys: Sequence[str], *, lock: bool = True) -> dict[str, Row[Any]]:
    """key -> what this source said last of it. Locked in one order."""
    query = select(signals).where(signals.c.source_id == number, signals.c.key.in_(keys)).order_by(signals.c.key)
    return {row.key: row for row in connection.execute(query.with_for_update() if lock else query)}


def keep(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """New ones, or what is said of known ones now."""
    make = postgresql.insert if is_postgresql(connection) else sqlite.insert
    new = make(signals)
    changed = ("status", "title", "body", "severity", "labels", "rule_id", "last_at", "said_at")
    values: dict[str, Any] = {name: new.excluded[name] for name in changed}
    values["times"] = signals.c.times + 1
    connection.execute(new.on_conflict_do_update(index_elements=["source_id", "key"], set_=values), list(rows))


def page(connection: Connection, *, before: int | None, limit: int) -> list[Row[Any]]:
    """The newest first, each with its source's name."""
    query = select(signals, signal_sources.c.name.label("source")).join(
        signal_sources, signal_sources.c.id == signals.c.source_id
    )
    query = query if before is None else query.where(signals.c.id < before)
    return list(connection.execute(query.order_by(signals.c.id.desc()).limit(limit)))


def lasting_of(connection: Connection, number: int) -> list[str]:
    """Keys of what this source has not taken back."""
    mine = (signals.c.source_id == number, signals.c.status != "resolved")
    return list(connection.execute(select(signals.c.key).where(*mine)).scalars())


def sweep(connection: Connection, limit: int) -> None:
    """Forgets what was over long ago, and old requests, a few at a time."""
    now = now_ms(connection)
    key = literal("signal:").concat(signal_sources.c.uid).concat(":").concat(signals.c.key)
    lasts = exists().where(incident_causes.c.key_open == key)
    over = (signals.c.last_at < now - KEPT_MS, not_(lasts))
    joined = select(signals.c.id).join(signal_sources, signal_sources.c.id == signals.c.source_id)
    old = joined.where(*over).limit(limit).scalar_subquery()
    connection.execute(delete(signals).where(signals.c.id.in_(old)))
    connection.execute(delete(signal_requests).where(signal_requests.c.at < now - REQUESTS_KEPT_MS))
