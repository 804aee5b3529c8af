"""Reading the directory as it was at one revision."""

from sqlalchemy import ColumnElement, Connection, Table, and_, or_, select

from broadcaster.store.database import now_sql, swiftly
from broadcaster.store.tables import directory


def valid(table: Table, revision: int) -> ColumnElement[bool]:
    """Rows of a directory table that stand at ``revision``: from_rev <= revision < to_rev (NULL: never ended)."""
    return and_(table.c.from_rev <= revision, or_(table.c.to_rev.is_(None), table.c.to_rev > revision))


def current_and_clock(connection: Connection) -> tuple[int, int]:
    """The directory's revision now, and the database's clock (ms since the epoch)."""
    [(revision, now)] = swiftly(connection, f"SELECT revision, {now_sql(connection)} FROM directory")
    return int(revision), int(now)


def current(connection: Connection) -> int:
    """The directory's revision now."""
    return int(connection.execute(select(directory.c.revision)).scalar_one())
