"""Opening the database, its clock, and the two shapes of a transaction. SQLite and PostgreSQL through one code path."""

import math
import random
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Engine, create_engine, event, literal_column
from sqlalchemy.engine import URL, make_url
from sqlalchemy.engine.interfaces import IsolationLevel
from sqlalchemy.exc import (  # noqa: A004 - the pool's
    DBAPIError,
    DisconnectionError,
    InterfaceError,
    InternalError,
    OperationalError,
    TimeoutError,
)

#: The database could not be reached, was busy for too long, is read-only just now, or has no room: later may help.
UNAVAILABLE: Final = (OperationalError, InterfaceError, InternalError, TimeoutError)

SQLITE_BUSY_SECONDS: Final = 15.0
PG_CONNECT_SECONDS: Final = 5
PG_TRUSTED_SECONDS: Final = 1.0
SINGLE_POOL: Final = 4  # connections for transactions of a single statement, which are short

# Both read the wall clock at this statement, not at the transaction's start: leases are compared with them.
_NOW: Final = {
    "sqlite": "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)",
    "postgresql": "CAST(extract(epoch from clock_timestamp()) * 1000 AS BIGINT)",
}


_TRY_AGAIN: Final = ("40001", "40P01")  # PostgreSQL: serialization failure, deadlock


def lost_a_race(error: OperationalError) -> bool:
    """Whether the same again, at once, may well go through: others were in the way, or the connection has just died."""
    return error.connection_invalidated or getattr(error.orig, "sqlstate", None) in _TRY_AGAIN


class Database:
    """An engine and its transactions. Made once per process, after any fork.

    ``read``: a transaction that must not write. ``write``: on SQLite it takes the write lock at once (BEGIN IMMEDIATE),
    so that what is read in it stays true until its commit. ``glance`` and ``once`` are these for a single statement, which
    on PostgreSQL is a transaction by itself: one journey to the server instead of three.
    """

    def __init__(self, url: str, *, pool_size: int = 8, busy_seconds: float = SQLITE_BUSY_SECONDS) -> None:
        """``busy_seconds``: how long SQLite's write lock is waited for."""
        self.url: URL = normalise_url(url)
        self.engine: Engine = (
            _sqlite(self.url, busy_seconds) if self.is_sqlite(self.url) else _postgresql(self.url, pool_size)
        )
        self._single: Engine | None = None  # has a pool of its own: nothing is set or undone when one is taken or returned
        if not self.is_sqlite(self.url):
            self._single = _postgresql(self.url, SINGLE_POOL, isolation_level="AUTOCOMMIT", pool_reset_on_return=None)

    @staticmethod
    def is_sqlite(url: URL) -> bool:
        return url.get_backend_name() == "sqlite"

    @property
    def dialect(self) -> str:
        return self.engine.dialect.name

    @contextmanager
    def read(self) -> Iterator[Connection]:
        with self.engine.connect() as connection:
            if self.dialect == "postgresql":
                # One snapshot for all statements, as SQLite has it: counts and steps must be of the same instant.
                connection.execution_options(isolation_level="REPEATABLE READ")
            yield connection
            connection.rollback()

    @contextmanager
    def write(self) -> Iterator[Connection]:
        with self.engine.connect() as connection:
            if self.dialect == "sqlite":
                connection.execution_options(immediate=True)
            with connection.begin():
                yield connection

    @contextmanager
    def glance(self) -> Iterator[Connection]:
        if self._single is None:
            with self.read() as connection:
                yield connection
            return
        with self._single.connect() as connection:
            yield connection

    @contextmanager
    def once(self) -> Iterator[Connection]:
        """On PostgreSQL what the statement has done stays done, whatever comes after it."""
        if self._single is None:
            with self.write() as connection:
                yield connection
            return
        with self._single.connect() as connection:
            yield connection

    def close(self) -> None:
        self.engine.dispose()
        if self._single is not None:
            self._single.dispose()


def now_ms(connection: Connection) -> ColumnElement[int]:
    """The database's wall clock in ms since the epoch, as an SQL expression."""
    return literal_column(_NOW[connection.dialect.name])


def now_sql(connection: Connection) -> str:
    """The same as text, for statements that are written out."""
    return _NOW[connection.dialect.name]


def read_clock(connection: Connection) -> int:
    """The database's wall clock in ms since the epoch, now."""
    return int(swiftly(connection, f"SELECT {_NOW[connection.dialect.name]}")[0][0])


def swiftly(connection: Connection, sql: str, values: Sequence[Any] | Mapping[str, Any] = ()) -> Sequence[Any]:
    """The rows of one statement that has some and is written out, ``?`` for a value: for what every message makes happen.

    The driver's own cursor in the connection's transaction: what SQLAlchemy adds for a statement takes three times as long
    as the driver. Its exceptions are what SQLAlchemy would raise.
    """
    dialect, driver = connection.dialect, connection.connection
    if dialect.name == "postgresql":
        sql = sql.replace("?", "%s")
    elif not connection.in_transaction():
        connection.begin()
    cursor = None
    try:
        cursor = driver.cursor()
        cursor.execute(sql, values)
        return cursor.fetchall()
    except dialect.loaded_dbapi.Error as error:
        lost = dialect.is_disconnect(error, driver.dbapi_connection, cursor)
        if lost:
            connection.invalidate(error)
            connection.engine.dispose()  # the others of the pool, which have rested: they are most likely dead too
        raise DBAPIError.instance(
            sql, None, error, dialect.loaded_dbapi.Error, hide_parameters=True, connection_invalidated=lost, dialect=dialect
        ) from error
    finally:
        if cursor is not None:
            cursor.close()


def is_postgresql(connection: Connection) -> bool:
    return connection.dialect.name == "postgresql"


def normalise_url(url: str) -> URL:
    """``postgres://`` and ``postgresql://`` become SQLAlchemy's psycopg 3 form; a plain path becomes SQLite."""
    if "://" not in url:
        return URL.create("sqlite", database=str(Path(url)))
    parsed = make_url(url.replace("postgres://", "postgresql://", 1) if url.startswith("postgres://") else url)
    if parsed.get_backend_name() not in ("sqlite", "postgresql"):
        raise ValueError("BROADCASTER_DATABASE_URL must be a sqlite:// or postgresql:// URL")
    if parsed.drivername == "postgresql":
        parsed = parsed.set(drivername="postgresql+psycopg")
    return parsed


def _sqlite(url: URL, busy_seconds: float) -> Engine:
    if url.database:
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    connect_args = {"timeout": busy_seconds, "check_same_thread": False}
    engine = create_engine(url, connect_args=connect_args, hide_parameters=True)

    @event.listens_for(engine, "connect")
    def on_connect(connection: Any, _record: object) -> None:
        # The driver's own BEGIN comes late and without IMMEDIATE: SQLAlchemy's documented way is to take it over.
        connection.isolation_level = None
        connection.create_function("lower", 1, _lower, deterministic=True)  # its own knows ASCII only
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=FULL")  # a 202 survives a power cut
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.execute("PRAGMA temp_store=MEMORY")
        cursor.execute("PRAGMA cache_size=-16000")
        cursor.close()

    @event.listens_for(engine, "begin")
    def on_begin(connection: Connection) -> None:
        if connection.get_execution_options().get("immediate", False):
            _begin_immediate(connection, busy_seconds)
        else:
            connection.exec_driver_sql("BEGIN")

    return engine


def _begin_immediate(connection: Connection, busy_seconds: float) -> None:
    """Waits for the write lock with the same short pauses however long it takes.

    SQLite's own busy handler waits longer and longer, up to 100 ms: among many short writers whoever has waited
    longest has the worst chances, and a provider's receipt was turned away after 5 s.
    """
    cursor = connection.connection.cursor()
    deadline = time.monotonic() + busy_seconds
    try:
        cursor.execute("PRAGMA busy_timeout = 2")
        while time.monotonic() < deadline:
            try:
                cursor.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                    break
                time.sleep(random.uniform(0.0005, 0.003))  # noqa: S311
            else:
                return
        connection.exec_driver_sql("BEGIN IMMEDIATE")  # once more, for SQLAlchemy's own error
    finally:
        cursor.execute(f"PRAGMA busy_timeout = {int(busy_seconds * 1000)}")
        cursor.close()


def _lower(text: str | None) -> str | None:
    return None if text is None else text.lower()


def _postgresql(url: URL, pool_size: int, *, isolation_level: IsolationLevel = "READ COMMITTED", **options: Any) -> Engine:
    engine = create_engine(
        url,
        **options,
        hide_parameters=True,  # an error is logged, and a parameter may be an address
        pool_size=pool_size,
        max_overflow=2,
        pool_timeout=10,
        isolation_level=isolation_level,
        connect_args={
            "connect_timeout": PG_CONNECT_SECONDS,
            "application_name": "alert-broadcaster",
            "options": "-c statement_timeout=30000 -c lock_timeout=10000 -c idle_in_transaction_session_timeout=60000",
            "prepare_threshold": 2,
        },
    )

    @event.listens_for(engine, "checkin")
    def on_checkin(_connection: Any, record: Any) -> None:
        record.info["rests_since"] = time.monotonic()

    @event.listens_for(engine, "checkout")
    def on_checkout(connection: Any, record: Any, _proxy: object) -> None:
        # One that rested may have died unseen; asking one that was used a moment ago costs a hot path a tenth of its time.
        if time.monotonic() - record.info.get("rests_since", math.inf) > PG_TRUSTED_SECONDS:
            try:
                engine.dialect.do_ping(connection)
            except engine.dialect.loaded_dbapi.Error as error:
                raise DisconnectionError from error

    return engine
