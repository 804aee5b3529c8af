"""An import that dies in mid-write: nobody sees any of it, others wait for its lease, and the next change cleans up."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import requests
from sqlalchemy import func, or_, select

from broadcaster.domain.errors import Unavailable
from broadcaster.services.directory import Person
from broadcaster.services.importing import Options, Progress, Result
from broadcaster.store import directory as store
from broadcaster.store import revisions
from broadcaster.store.tables import contacts, group_members, groups, recipient_tags, recipients
from broadcaster.wiring import Wiring
from tests.conftest import Stack

ROWS = 6_000  # the first slices are written before the second pass speaks for the first time


def csv_of(path: Path, names: str = "New") -> Path:
    lines = [f"{names} {n},x-{n},+447700{900_000 + n % 1000},Ward,imported" for n in range(ROWS)]
    path.write_text("\n".join(["name,external_id,phone,groups,site", *lines]))
    return path


def begun(books: Wiring, file: Path) -> Iterator[Progress | Result]:
    """An import that has written some slices and not finished."""
    steps = books.importer.run(file, Options())
    for step in steps:
        assert isinstance(step, Progress)
        if step.phase == "write":
            return steps
    raise AssertionError("the import did not write")


def lapse(books: Wiring) -> None:
    """What time does to a dead import's lease."""
    with books.database.write() as connection:
        store.hold_for_import(connection, store.peek(connection).import_owner, -1)


def above(books: Wiring) -> int:
    """Rows that no finished change has made."""
    with books.database.read() as connection:
        now, total = revisions.current(connection), 0
        for table in (recipients, contacts, recipient_tags, groups, group_members):
            unfinished = or_(table.c.from_rev > now, table.c.to_rev > now)
            total += connection.execute(select(func.count()).select_from(table).where(unfinished)).scalar_one()
    return total


def everybody(books: Wiring) -> Any:
    return books.directory.stats(), books.directory.search(text=None, tag=None, group=None, cursor=0, limit=500)


def test_a_dead_import_is_invisible_and_the_next_change_cleans_up(books: Wiring, tmp_path: Path) -> None:
    books.directory.create(Person("Here before", "x-1", {"sms": ["+447700900123"]}, {"site": ["old"]}))
    before = everybody(books)
    steps = begun(books, csv_of(tmp_path / "people.csv", "Here before"))
    assert above(books) > 1_000
    assert everybody(books)[0] == before[0]
    lapse(books)
    books.directory.create(Person("Here after"))
    assert above(books) == 0
    after = everybody(books)
    assert after[0][0] == before[0][0] + 1
    assert after[1][0][0].tags == {"site": ["old"]}
    assert len(after[1][0][0].contacts) == 1
    with pytest.raises(Unavailable, match="taken over"):  # the dead one wakes up: fenced
        list(steps)
    assert everybody(books) == after


def test_a_dead_import_has_renamed_nobody(books: Wiring, tmp_path: Path) -> None:
    made = books.directory.create(Person("Old name", "x-1"))
    with closing(begun(books, csv_of(tmp_path / "people.csv"))):  # type: ignore[type-var]
        assert books.directory.get(made.id).name == "Old name"
        lapse(books)
        books.directory.create(Person("Here after"))
        assert books.directory.get(made.id).name == "Old name"


def test_an_import_that_is_stopped_takes_its_rows_back_itself(books: Wiring, tmp_path: Path) -> None:
    before = everybody(books)
    begun(books, csv_of(tmp_path / "people.csv")).close()  # type: ignore[attr-defined]
    assert above(books) == 0
    assert everybody(books) == before
    results = list(books.importer.run(tmp_path / "people.csv", Options()))
    assert isinstance(results[-1], Result)
    assert results[-1].created == ROWS


def test_what_the_file_has_no_column_for_stays(books: Wiring, tmp_path: Path) -> None:
    books.directory.create_group("Night", None)
    made = books.directory.create(Person("A", "a", {"sms": ["+447700900123"]}, {"role": ["nurse"]}, ["Night"]))
    file = tmp_path / "names.csv"
    file.write_text("name,external_id,site\nB,a,Northmoor\n")
    list(books.importer.run(file, Options()))
    after = books.directory.get(made.id)
    assert after.name == "B"
    assert after.tags == {"role": ["nurse"], "site": ["Northmoor"]}
    assert len(after.contacts) == 1
    assert [g.name for g in after.groups] == ["Night"]


def test_writers_are_told_to_wait_while_an_import_holds_the_directory(stack: Stack) -> None:
    made = Wiring(stack.settings)
    with made.database.write() as connection:
        store.hold_for_import(connection, "an import of the test", 30_000)
    try:
        for path, body in (("recipients", {"name": "A"}), ("groups", {"name": "Waits"})):
            answer = stack.call("POST", path, 503, json=body)
            assert int(answer.headers["Retry-After"]) > 0
            assert answer.json()["type"].endswith(":unavailable")
        headers = {"Content-Type": "text/csv"}
        answer = stack.call("POST", "recipients/import", 503, data=b"name\nA\n", headers=headers)
        assert int(answer.headers["Retry-After"]) > 0
        stack.call("GET", "recipients", 200)  # readers do not wait
        assert requests.get(f"{stack.api}/healthz", timeout=5).ok
    finally:
        with made.database.write() as connection:
            store.hold_for_import(connection, None, 0)
        made.database.close()
    stack.call("POST", "recipients", 201, json={"name": "A"})
