"""The import's lease, its rows in bulk, and cleaning up after one that broke off.

An import writes at revision + 1, which nobody reads yet, and then moves the revision. While ``import_owner`` is set such rows
may exist, so no other writer may move it: whoever finds the lease expired cleans up first.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Row, Table, bindparam, func, or_, select, update

from broadcaster.store.database import is_postgresql, now_ms
from broadcaster.store.tables import contacts, directory, group_members, groups, recipient_tags, recipients

#: Children first. Rows that others may refer to are emptied, not deleted: their foreign keys have no index.
_DELETED: Final[tuple[Table, ...]] = (group_members, recipient_tags)
_EMPTIED: Final[tuple[tuple[Table, dict[str, Any]], ...]] = (
    (contacts, {"address": "", "identity": "", "masked": ""}),
    (groups, {"name": "", "description": None}),
    (recipients, {"name": "", "external_id": None}),
)
DIRTY: Final[tuple[Table, ...]] = (*_DELETED, *(table for table, _ in _EMPTIED))


@dataclass(frozen=True, slots=True)
class Lease:
    """Who imports; ``left``: ms until the lease runs out, not positive once it has."""

    owner: str
    left: int


def lease(connection: Connection) -> Lease | None:
    query = select(directory.c.import_owner, directory.c.import_lease_until - now_ms(connection))
    owner, left = connection.execute(query).one()
    return None if owner is None else Lease(owner, int(left))


def take(connection: Connection, owner: str, ms: int) -> int | None:
    """The directory's revision, now that the lease is ours; None where somebody has it, or has left rows behind."""
    return _take(connection, owner, ms, expired=False)


def take_over(connection: Connection, owner: str, ms: int) -> int | None:
    """The same for a lease that has run out; its rows are to be cleaned."""
    return _take(connection, owner, ms, expired=True)


def renew(connection: Connection, owner: str, ms: int) -> bool:
    """Whether the lease is still ours. Locks the directory's row until commit: slices are fenced by it."""
    mine = directory.c.import_owner == owner
    until = now_ms(connection) + ms
    return connection.execute(update(directory).where(mine).values(import_lease_until=until)).rowcount == 1


def publish(connection: Connection, owner: str) -> int | None:
    """Makes the import's rows visible: the new revision, or None where the lease was lost."""
    statement = (
        update(directory)
        .where(directory.c.import_owner == owner)
        .values(revision=directory.c.revision + 1, import_owner=None, import_lease_until=0)
        .returning(directory.c.revision)
    )
    return connection.execute(statement).scalar_one_or_none()


def release(connection: Connection, owner: str) -> None:
    """Only when nothing of the import is left."""
    mine = directory.c.import_owner == owner
    connection.execute(update(directory).where(mine).values(import_owner=None, import_lease_until=0))


# ---- cleaning ------------------------------------------------------------------------------------------------------


def leftovers(connection: Connection, table: Table, revision: int) -> tuple[int, int] | None:
    """The first and the last row id that an unfinished import has touched in ``table``."""
    touched = or_(table.c.from_rev > revision, table.c.to_rev > revision)
    first, last = connection.execute(select(func.min(table.c.id), func.max(table.c.id)).where(touched)).one()
    return None if first is None else (int(first), int(last))


def clean_new(connection: Connection, table: Table, first: int, last: int, revision: int) -> None:
    """Removes what an unfinished import has added among these ids."""
    mine = (table.c.id.between(first, last)) & (table.c.from_rev > revision)
    for emptied, blanks in _EMPTIED:
        if table is emptied:
            connection.execute(update(table).where(mine).values(from_rev=0, to_rev=0, **blanks))
            return
    connection.execute(table.delete().where(mine))


def clean_ended(connection: Connection, table: Table, first: int, last: int, revision: int) -> None:
    """Gives back what an unfinished import has ended among these ids. After ``clean_new``: current rows are unique."""
    mine = (table.c.id.between(first, last)) & (table.c.to_rev > revision)
    connection.execute(update(table).where(mine).values(to_rev=None))


# ---- rows in bulk --------------------------------------------------------------------------------------------------


def known(connection: Connection, external_ids: Sequence[str]) -> Sequence[Row[Any]]:
    """Current people of these external ids: rows of (id, external_id, name)."""
    query = select(recipients.c.id, recipients.c.external_id, recipients.c.name).where(
        recipients.c.external_id.in_(external_ids), recipients.c.to_rev.is_(None)
    )
    return connection.execute(query).all()


def new_numbers(connection: Connection, n: int) -> Iterable[int]:
    """Numbers for ``n`` new recipients. Under the lease nobody else adds any."""
    if is_postgresql(connection):
        sql = "SELECT nextval(pg_get_serial_sequence('recipients', 'id')) FROM generate_series(1, %s)"
        return [row[0] for row in connection.exec_driver_sql(sql, (n,))]
    last = connection.execute(select(func.coalesce(func.max(recipients.c.id), 0))).scalar_one()
    return range(last + 1, last + 1 + n)


def add(connection: Connection, table: Table, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> None:
    """Many rows: COPY on PostgreSQL, one prepared statement on SQLite."""
    if not rows:
        return
    names = ", ".join(columns)
    if is_postgresql(connection):
        driver: Any = connection.connection.driver_connection
        with driver.cursor() as cursor, cursor.copy(f"COPY {table.name} ({names}) FROM STDIN") as copy:
            for row in rows:
                copy.write_row(row)
        return
    marks = ", ".join("?" * len(columns))
    connection.exec_driver_sql(f"INSERT INTO {table.name} ({names}) VALUES ({marks})", list(rows))


def rename(connection: Connection, names: Sequence[tuple[int, str]]) -> None:
    if names:
        statement = update(recipients).where(recipients.c.id == bindparam("number")).values(name=bindparam("new_name"))
        connection.execute(statement, [{"number": number, "new_name": name} for number, name in names])


def _take(connection: Connection, owner: str, ms: int, *, expired: bool) -> int | None:
    now = now_ms(connection)
    free = directory.c.import_owner.is_(None)
    if expired:
        free = directory.c.import_owner.is_not(None) & (directory.c.import_lease_until <= now)
    values = {"import_owner": owner, "import_lease_until": now + ms}
    statement = update(directory).where(free).values(**values).returning(directory.c.revision)
    return connection.execute(statement).scalar_one_or_none()
