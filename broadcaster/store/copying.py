"""Many rows at once into one table: COPY on PostgreSQL, a prepared statement on SQLite."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import psycopg
from sqlalchemy import Connection, Table, insert
from sqlalchemy.exc import DBAPIError

from broadcaster.store.database import is_postgresql

#: What COPY's text format has another meaning for (https://www.postgresql.org/docs/current/sql-copy.html, "Text Format").
_ESCAPED: Final = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})
_PART: Final = 250  # rows


def add_all(connection: Connection, table: Table, rows: Iterable[Mapping[str, Any]]) -> None:
    """New rows, all with the same columns."""
    if not is_postgresql(connection):
        made = list(rows)
        if made:
            connection.execute(insert(table), made)
        return
    remaining = iter(rows)
    first = next(remaining, None)
    if first is not None:
        copy(connection, table.name, list(first), (row.values() for row in itertools.chain([first], remaining)))


def copy(connection: Connection, table: str, columns: Sequence[str], rows: Iterable[Iterable[Any]]) -> None:
    """PostgreSQL only. Written as text by ourselves: the driver takes four times as long for it.

    It is sent in parts, for the server works on one while we make the next.
    """
    driver = connection.connection.driver_connection
    assert driver is not None
    lines = ("\t".join(map(_field, row)) + "\n" for row in rows)
    statement = f"COPY {table} ({', '.join(columns)}) FROM STDIN"
    try:
        with driver.cursor() as cursor, cursor.copy(statement) as stream:
            while part := "".join(itertools.islice(lines, _PART)):
                stream.write(part)
        return
    except psycopg.Error as error:  # SQLAlchemy saw nothing of it, and its errors are what callers know
        if connection.dialect.is_disconnect(error, driver, None):  # type: ignore[arg-type]
            connection.invalidate(error)
        # Its words may quote the row, and so an address: they go no further, not even as this one's context.
        plain = type(error)(f"COPY failed ({error.sqlstate or type(error).__name__})")
    raise DBAPIError.instance(statement, None, plain, psycopg.Error)


def _field(value: Any) -> str:
    if value is None:
        return "\\N"
    if not isinstance(value, str):
        return str(value)
    return value if value.isprintable() and "\\" not in value else value.translate(_ESCAPED)
