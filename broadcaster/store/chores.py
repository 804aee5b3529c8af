"""What one process of all does at a time, by name."""

from sqlalchemy import Connection, select, update
from sqlalchemy.dialects import postgresql, sqlite

from broadcaster.store.database import is_postgresql, now_ms
from broadcaster.store.tables import chores


def is_due(connection: Connection, name: str) -> bool:
    """Also when it was never done."""
    query = select(chores.c.next_at <= now_ms(connection)).where(chores.c.name == name)
    return connection.execute(query).scalar() in (None, True, 1)


def take(connection: Connection, name: str, every: int) -> bool:
    """Whether it is this process that does it now; then it is due again in ``every`` ms."""
    now = now_ms(connection)
    mine = update(chores).where(chores.c.name == name, chores.c.next_at <= now).values(next_at=now + every)
    if connection.execute(mine).rowcount == 1:
        return True
    make = postgresql.insert if is_postgresql(connection) else sqlite.insert
    first = make(chores).values(name=name, next_at=now + every).on_conflict_do_nothing().returning(chores.c.name)
    return connection.execute(first).first() is not None


def again(connection: Connection, name: str, wait: int) -> None:
    """It is due again in ``wait`` ms."""
    connection.execute(update(chores).where(chores.c.name == name).values(next_at=now_ms(connection) + wait))
