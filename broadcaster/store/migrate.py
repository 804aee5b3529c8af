"""Bringing a database to this version's tables (Alembic, in one transaction)."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from broadcaster.store.database import Database, is_postgresql

_LOCK = 727_163  # any number that only we use: one migration at a time


def upgrade(database: Database) -> bool:
    """Applies what is missing. Safe to call from many processes at once. Returns whether anything was missing."""
    with database.write() as connection:
        if is_postgresql(connection):
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
        if not _is_behind(connection):
            return False
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        return True


def is_current(database: Database) -> bool:
    """Whether the database has this version's tables, or a newer one's."""
    with database.read() as connection:
        return not _is_behind(connection)


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    return config


def _is_behind(connection: Connection) -> bool:
    """A revision that this version does not know is a newer one's: in a rolling deploy both work side by side.

    So migrations only ever make what the version before can work with: columns with defaults, tables, other indexes, less
    that is checked.
    """
    known = {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}
    current = _current(connection)
    return current is None or (current in known and current != _head())


def _head() -> str | None:
    return ScriptDirectory.from_config(_config()).get_current_head()


def _current(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()
