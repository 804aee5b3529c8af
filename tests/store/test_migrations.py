"""Migrations and tables are one truth, on both databases."""

from collections.abc import Callable
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from broadcaster.store import migrate
from broadcaster.store.database import Database
from broadcaster.store.tables import metadata


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_migrations_make_exactly_the_tables_and_running_them_again_changes_nothing(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    make: Callable[[], str] | None = request.getfixturevalue("postgres_url") if kind == "postgresql" else None
    database = Database(make() if make else f"sqlite:///{tmp_path / 'x.db'}")
    assert migrate.upgrade(database)
    assert not migrate.upgrade(database)
    assert migrate.is_current(database)
    with database.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    database.close()


def test_a_database_of_a_newer_version_is_worked_with_and_left_alone(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'x.db'}")
    migrate.upgrade(database)
    with database.write() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    assert not migrate.upgrade(database)
    assert migrate.is_current(database)
    database.close()
