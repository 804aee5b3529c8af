"""Routes: pauses and bookings that every process must respect, kept where they survive Redis."""

from typing import Any

from sqlalchemy import Connection, Row, text

from broadcaster.store.database import now_ms


def pause(connection: Connection, name: str, until: int, reason: str, *, refused: bool) -> None:
    """Nothing is sent on the route before ``until``; never shortens a pause. ``refused``: it refused us, not one message."""
    sql = f"""
    INSERT INTO routes (name, paused_until, pause_reason, refusals, updated_at)
    VALUES (:name, :until, :reason, :refused, {now_ms(connection)})
    ON CONFLICT (name) DO UPDATE SET
      pause_reason = CASE WHEN excluded.paused_until > routes.paused_until
                     THEN excluded.pause_reason ELSE routes.pause_reason END,
      paused_until = CASE WHEN excluded.paused_until > routes.paused_until
                     THEN excluded.paused_until ELSE routes.paused_until END,
      refusals = routes.refusals + excluded.refusals, updated_at = excluded.updated_at"""
    connection.execute(text(sql), {"name": name, "until": until, "reason": reason, "refused": int(refused)})


def book(connection: Connection, name: str, until: int) -> None:
    """The route's rate limit is booked until then: batches that are not critical need not try before."""
    sql = f"""
    INSERT INTO routes (name, busy_until, updated_at) VALUES (:name, :until, {now_ms(connection)})
    ON CONFLICT (name) DO UPDATE SET busy_until = excluded.busy_until, updated_at = excluded.updated_at"""
    connection.execute(text(sql), {"name": name, "until": until})


def works_again(connection: Connection, name: str) -> None:
    """The route took a message: refusals in a row start from none."""
    connection.execute(text("UPDATE routes SET refusals = 0 WHERE name = :name AND refusals > 0"), {"name": name})


def paused(connection: Connection) -> list[Row[Any]]:
    """Routes that are paused now: name, pause_reason, paused_until."""
    sql = f"SELECT name, pause_reason, paused_until FROM routes WHERE paused_until > {now_ms(connection)} ORDER BY name"
    return list(connection.execute(text(sql)))


def refusals(connection: Connection, name: str) -> int:
    value = connection.execute(text("SELECT refusals FROM routes WHERE name = :name"), {"name": name}).scalar()
    return int(value or 0)
