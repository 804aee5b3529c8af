"""Routes: pauses, bookings and circuit breakers that every process must respect, kept where they survive Redis."""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, select, text

from broadcaster.domain.breaking import BUCKET, RECEIPT_WINDOW, SUBMIT_WINDOW, Cause, Counts, rest
from broadcaster.store.database import now_sql, read_clock, swiftly
from broadcaster.store.tables import routes


@dataclass(frozen=True, slots=True)
class Standing:
    """How one route stands. Times in ms since the epoch.

    ``trips`` 0: its breaker is closed. Else it is open until ``open_until``, and after that tried by one process at a
    time, until ``probe_until``.
    """

    name: str
    paused_until: int = 0
    pause_reason: str | None = None
    busy_until: int = 0
    refusals: int = 0
    open_until: int = 0
    probe_until: int = 0
    trips: int = 0
    tripped_by: str | None = None
    trip_reason: str | None = None


_STANDINGS = f"SELECT {{now}}, {', '.join(f'r.{name}' for name in Standing.__dataclass_fields__)} FROM (SELECT 1) one"


def standings(connection: Connection) -> tuple[int, dict[str, Standing]]:
    """Now, and every route that anything was ever written of, by name. One statement."""
    sql = f"{_STANDINGS.format(now=now_sql(connection))} LEFT JOIN routes r ON 1 = 1 ORDER BY r.name"
    rows = swiftly(connection, sql)
    return int(rows[0][0]), {row[1]: Standing(*row[1:]) for row in rows if row[1] is not None}


def pause(connection: Connection, name: str, until: int, reason: str, *, refused: bool) -> None:
    """Nothing is sent on the route before ``until``; never shortens a pause. ``refused``: it refused us, not one message."""
    sql = f"""
    INSERT INTO routes (name, paused_until, pause_reason, refusals, updated_at)
    VALUES (:name, :until, :reason, :refused, {now_sql(connection)})
    ON CONFLICT (name) DO UPDATE SET
      pause_reason = CASE WHEN excluded.paused_until > routes.paused_until
                     THEN excluded.pause_reason ELSE routes.pause_reason END,
      paused_until = CASE WHEN excluded.paused_until > routes.paused_until
                     THEN excluded.paused_until ELSE routes.paused_until END,
      refusals = routes.refusals + CASE WHEN routes.paused_until <= excluded.updated_at THEN excluded.refusals ELSE 0 END,
      updated_at = excluded.updated_at"""
    connection.execute(text(sql), {"name": name, "until": until, "reason": reason, "refused": int(refused)})


def book(connection: Connection, name: str, until: int) -> None:
    """The route's rate limit is booked until then: batches that are not critical need not try before."""
    sql = f"""
    INSERT INTO routes (name, busy_until, updated_at) VALUES (:name, :until, {now_sql(connection)})
    ON CONFLICT (name) DO UPDATE SET busy_until = excluded.busy_until, updated_at = excluded.updated_at"""
    connection.execute(text(sql), {"name": name, "until": until})


def works_again(connection: Connection, name: str) -> None:
    """The route took a message: refusals in a row start from none."""
    connection.execute(text("UPDATE routes SET refusals = 0 WHERE name = :name AND refusals > 0"), {"name": name})


def refusals(connection: Connection, name: str) -> int:
    value = connection.execute(text("SELECT refusals FROM routes WHERE name = :name"), {"name": name}).scalar()
    return int(value or 0)


# ---- circuit breakers ------------------------------------------------------------------------------------------------


def count(connection: Connection, seen: Mapping[str, Counts]) -> None:
    """Adds what a process saw since it last told."""
    now = read_clock(connection)
    sql = """
    INSERT INTO route_health (route, at, good, bad, delivered, undelivered)
    VALUES (:route, :at, :good, :bad, :delivered, :undelivered)
    ON CONFLICT (route, at) DO UPDATE SET
      good = route_health.good + excluded.good, bad = route_health.bad + excluded.bad,
      delivered = route_health.delivered + excluded.delivered,
      undelivered = route_health.undelivered + excluded.undelivered"""
    for route in sorted(seen):  # always in this order, so that two processes never wait for each other
        c = seen[route]
        values = {"good": c.good, "bad": c.bad, "delivered": c.delivered, "undelivered": c.undelivered}
        connection.execute(text(sql), {"route": route, "at": now - now % BUCKET, **values})
    connection.execute(text("DELETE FROM route_health WHERE at < :old"), {"old": now - 2 * RECEIPT_WINDOW})


def counts(connection: Connection, name: str) -> tuple[Counts, Counts]:
    """The route's counts in the windows of (requests, receipts)."""
    sql = """
    SELECT coalesce(sum(good), 0), coalesce(sum(bad), 0), coalesce(sum(delivered), 0), coalesce(sum(undelivered), 0)
    FROM route_health WHERE route = :name AND at > :since"""
    now = read_clock(connection)
    found = [
        Counts(*(int(n) for n in connection.execute(text(sql), {"name": name, "since": now - window}).one()))
        for window in (SUBMIT_WINDOW, RECEIPT_WINDOW)
    ]
    return found[0], found[1]


def trip(connection: Connection, name: str, cause: Cause, reason: str) -> None:
    """Opens the breaker. What was counted so far has had its say."""
    now = read_clock(connection)
    row = connection.execute(select(routes.c.trips).where(routes.c.name == name)).one_or_none()
    times = (row.trips if row else 0) + 1
    sql = """
    INSERT INTO routes (name, open_until, trips, tripped_by, trip_reason, updated_at)
    VALUES (:name, :until, :trips, :cause, :reason, :now)
    ON CONFLICT (name) DO UPDATE SET open_until = excluded.open_until, trips = excluded.trips, probe_until = 0,
      tripped_by = excluded.tripped_by, trip_reason = excluded.trip_reason, updated_at = excluded.updated_at"""
    values = {"name": name, "until": now + rest(times), "trips": times, "cause": cause.value, "reason": reason, "now": now}
    connection.execute(text(sql), values)
    connection.execute(text("DELETE FROM route_health WHERE route = :name"), {"name": name})


def close(connection: Connection, name: str) -> None:
    """The route is used again as before."""
    values = {"trips": 0, "open_until": 0, "probe_until": 0, "tripped_by": None, "trip_reason": None}
    connection.execute(routes.update().where(routes.c.name == name).values(**values))
    connection.execute(text("DELETE FROM route_health WHERE route = :name"), {"name": name})


def take_probe(connection: Connection, name: str, until: int) -> bool:
    """Whether this process may try the half-open route now; nobody else does before ``until``."""
    sql = f"""
    UPDATE routes SET probe_until = :until
    WHERE name = :name AND trips > 0 AND open_until <= {now_sql(connection)} AND probe_until <= {now_sql(connection)}"""
    # Only what comes from now on tells how it is doing. First, as in ``count``: two locks, always in this order.
    connection.execute(text("DELETE FROM route_health WHERE route = :name"), {"name": name})
    return connection.execute(text(sql), {"name": name, "until": until}).rowcount == 1
