"""Which processes live: heartbeats in the database, for shares of a rate and for /readyz."""

from typing import Any

from sqlalchemy import Connection, Row, func, select, text

from broadcaster.store.database import now_ms
from broadcaster.store.tables import processes

ALIVE_MS = 5_000
SILENT_MS = 3_000


def beat(connection: Connection, owner: str, *, kind: str, name: str, redis_lost: bool, consumed: int) -> None:
    """This process lives, now. Redis's loss keeps the time it was first seen."""
    now = now_ms(connection)
    sql = f"""
    INSERT INTO processes (owner, kind, name, started_at, seen_at, redis_lost_at, consumed)
    VALUES (:owner, :kind, :name, {now}, {now}, CASE WHEN :lost = 1 THEN {now} END, :consumed)
    ON CONFLICT (owner) DO UPDATE SET seen_at = {now}, consumed = :consumed,
      redis_lost_at = CASE WHEN :lost = 1 THEN coalesce(processes.redis_lost_at, {now}) END"""
    values = {"owner": owner, "kind": kind, "name": name, "lost": int(redis_lost), "consumed": consumed}
    connection.execute(text(sql), values)


def leave(connection: Connection, owner: str) -> None:
    connection.execute(processes.delete().where(processes.c.owner == owner))


def sweep(connection: Connection) -> None:
    """Forgets processes not seen for an hour."""
    connection.execute(processes.delete().where(processes.c.seen_at < now_ms(connection) - 3_600_000))


def alive(connection: Connection, kind: str = "worker") -> tuple[int, bool]:
    """(live processes of the kind, whether any of them has lost Redis)."""
    seen = (processes.c.kind == kind, processes.c.seen_at >= now_ms(connection) - ALIVE_MS)
    row = connection.execute(select(func.count(), func.count(processes.c.redis_lost_at)).where(*seen)).one()
    return int(row[0]), bool(row[1])


def silent(connection: Connection) -> set[str]:
    """Owners that have not said for SILENT_MS that they live."""
    query = select(processes.c.owner).where(processes.c.seen_at < now_ms(connection) - SILENT_MS)
    return {row[0] for row in connection.execute(query)}


def listing(connection: Connection) -> list[Row[Any]]:
    return list(connection.execute(select(processes).order_by(processes.c.kind, processes.c.name)))
