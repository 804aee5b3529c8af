"""Reading the directory as it was at one revision."""

from sqlalchemy import ColumnElement, Connection, Table, and_, or_, select

from broadcaster.store.database import now_ms
from broadcaster.store.tables import directory


def valid(table: Table, revision: int) -> ColumnElement[bool]:
    """Rows of a directory table that stand at ``revision``: from_rev <= revision < to_rev (NULL: never ended)."""
    return and_(table.c.from_rev <= revision, or_(table.c.to_rev.is_(None), table.c.to_rev > revision))


def current_and_clock(connection: Connection) -> tuple[int, int]:
    """The directory's revision now, and the database's clock (ms since the epoch)."""
    row = connection.execute(select(directory.c.revision, now_ms(connection))).one()
    return int(row[0]), int(row[1])


def current(connection: Connection) -> int:
    """The directory's revision now."""
    return int(connection.execute(select(directory.c.revision)).scalar_one())
