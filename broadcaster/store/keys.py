"""API keys."""

from typing import Any

from sqlalchemy import Connection, Row, select, update

from broadcaster.store.tables import api_keys


def insert(connection: Connection, **values: Any) -> None:
    connection.execute(api_keys.insert().values(**values))


def by_prefix(connection: Connection, prefix: str) -> Row[Any] | None:
    return connection.execute(select(api_keys).where(api_keys.c.prefix == prefix)).one_or_none()


def by_uid(connection: Connection, uid: str) -> Row[Any] | None:
    return connection.execute(select(api_keys).where(api_keys.c.uid == uid)).one_or_none()


def all_keys(connection: Connection) -> list[dict[str, object]]:
    columns = [c for c in api_keys.columns if c.name not in ("id", "secret_hash")]
    rows = connection.execute(select(*columns).order_by(api_keys.c.id.desc()))
    return [dict(row._mapping) for row in rows]


def revoke(connection: Connection, uid: str, at: int) -> bool:
    """Whether a working key was revoked."""
    mine = (api_keys.c.uid == uid) & (api_keys.c.revoked_at.is_(None))
    return connection.execute(update(api_keys).where(mine).values(revoked_at=at)).rowcount == 1
