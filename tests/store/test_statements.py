"""A statement that goes to the database by the driver's own cursor behaves as one of SQLAlchemy's."""

from collections.abc import Callable, Iterator

import pytest
from sqlalchemy.exc import IntegrityError, OperationalError, ProgrammingError

from broadcaster.store.database import Database, lost_a_race, swiftly

SECRET = "+447700900123"


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    make: Callable[[], str] | None = request.getfixturevalue("postgres_url") if request.param == "postgresql" else None
    database = Database(make() if make else f"sqlite:///{tmp_path_factory.mktemp('statements')}/x.db")
    with database.write() as connection:
        connection.exec_driver_sql("CREATE TABLE notes (id integer PRIMARY KEY, words text NOT NULL)")
    yield database
    database.close()


def note(database: Database, number: int, words: str | None = "x") -> None:
    with database.write() as connection:
        swiftly(connection, "INSERT INTO notes (id, words) VALUES (?, ?) RETURNING id", (number, words))


def count(database: Database) -> int:
    with database.glance() as connection:
        return int(swiftly(connection, "SELECT count(*) FROM notes")[0][0])


def test_it_is_part_of_the_transaction(database: Database) -> None:
    note(database, 1)
    with database.write() as connection:
        assert [tuple(row) for row in swiftly(connection, "INSERT INTO notes VALUES (2, 'y') RETURNING words")] == [("y",)]
        connection.rollback()
    assert count(database) == 1


def test_what_is_read_first_and_last_is_of_one_instant(database: Database) -> None:
    with database.read() as connection:
        before = swiftly(connection, "SELECT count(*) FROM notes")[0][0]
        note(database, 1)
        after = swiftly(connection, "SELECT count(*) FROM notes")[0][0]
    assert (before, after, count(database)) == (0, 0, 1)


def test_its_errors_are_those_that_callers_know_and_quote_nobody(database: Database) -> None:
    note(database, 1)
    with pytest.raises(IntegrityError) as twice:
        note(database, 1, SECRET)
    with pytest.raises(IntegrityError):
        note(database, 2, None)
    with pytest.raises((OperationalError, ProgrammingError)), database.read() as connection:
        swiftly(connection, "SELECT nothing FROM nowhere WHERE x = ?", (SECRET,))
    assert SECRET not in str(twice.value)
    assert count(database) == 1


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_a_connection_that_died_is_not_used_again(database: Database) -> None:
    """Nor is any other that rests beside it: a server that was started again has ended all."""

    def dies() -> None:
        with database.write() as connection:
            with database.write() as beside:
                both = [swiftly(c, "SELECT pg_backend_pid()")[0][0] for c in (connection, beside)]
            with database.once() as other:
                for backend in both:
                    swiftly(other, "SELECT pg_terminate_backend(?, 5000)", (backend,))
            swiftly(connection, "SELECT 1")

    with pytest.raises(OperationalError) as died:
        dies()
    assert lost_a_race(died.value)
    note(database, 1)
    assert count(database) == 1
