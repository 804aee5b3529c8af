"""Browsers that enrol: each once, however often it says so; and its address stays out of the log."""

import json
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
import structlog
from sqlalchemy.exc import IntegrityError

from broadcaster.services.directory import Person
from broadcaster.wiring import Wiring, without_details
from tests.channels.rig import subscription

ENDPOINT = "https://updates.push.services.mozilla.com/wpush/v2/one-of-its-own"


def test_a_browser_that_says_it_many_times_at_once_is_enrolled_once(books: Wiring) -> None:
    person = books.directory.create(Person("Nurse"))
    at_once = Barrier(8)

    def say(_: int) -> tuple[str, bool]:
        at_once.wait(10)
        done = books.subscriptions.subscribe(person.id, json.loads(subscription(ENDPOINT)), "Firefox")
        return done.id, done.created

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(say, range(8)))
    assert len({uid for uid, _ in answers}) == 1
    assert sorted(created for _, created in answers) == [False] * 7 + [True]


def test_what_the_database_says_of_a_row_is_not_logged(books: Wiring) -> None:
    """The traceback is; what PostgreSQL tells in it of the row, and SQLAlchemy of parameters, is not."""
    books.directory.create(Person("Nurse", addresses={"sms": ["+447700900123"]}))
    columns = "recipient_id, channel, address, identity, masked, created_at, from_rev"
    twice = f"INSERT INTO contacts (uid, {columns}) SELECT 'new', {columns} FROM contacts"
    with books.database.write() as connection, pytest.raises(IntegrityError) as refused:
        connection.exec_driver_sql(twice)
    event = structlog.processors.format_exc_info(None, "error", {"event": "bug", "exc_info": refused.value})
    assert ("+447700900123" in event["exception"]) == (books.database.dialect == "postgresql")
    told = without_details(None, "error", event)["exception"]
    assert "IntegrityError" in told
    assert "exec_driver_sql" in told
    assert "+447700900123" not in told
