"""Audiences by example on both databases, and reading them as of a revision."""

from typing import Any

import pytest

from broadcaster.domain.audience import parse
from broadcaster.services.directory import Person
from broadcaster.store import audiences, revisions
from broadcaster.wiring import Wiring

NAMES = ("Amina", "Bo", "Chidi", "Dora", "Eve")


@pytest.fixture
def ids(books: Wiring) -> dict[str, str]:
    """Amina and Bo are nurses, Bo and Chidi at Northmoor; Chidi and Dora are on call; Eve is nothing."""
    books.directory.create_group("On-call", None)
    made = {
        "Amina": Person("Amina", tags={"role": ["nurse"], "site": ["East"]}),
        "Bo": Person("Bo", tags={"role": ["nurse"], "site": ["Northmoor"]}),
        "Chidi": Person("Chidi", tags={"site": ["Northmoor"]}, groups=["On-call"]),
        "Dora": Person("Dora", groups=["On-call"]),
        "Eve": Person("Eve"),
    }
    return {name: books.directory.create(person).id for name, person in made.items()}


def now(books: Wiring) -> int:
    with books.database.read() as connection:
        return revisions.current(connection)


def reached(books: Wiring, tree: dict[str, Any], revision: int, size: int = 2) -> set[str]:
    """Names of the audience's people, read slice by slice."""
    condition, numbers = audiences.members(parse(tree), revision), list[int]()
    with books.database.read() as connection:
        while True:
            after = numbers[-1] if numbers else 0
            part = audiences.people_slice(connection, condition, after=after, limit=size, not_reached_by=None)
            if not part:
                break
            numbers += part
        assert numbers == sorted(set(numbers))
        assert len(numbers) == audiences.count_people(connection, condition)
    return {NAMES[number - 1] for number in numbers}


NURSE: dict[str, Any] = {"tag": "role:nurse"}
NORTH: dict[str, Any] = {"tag": {"key": "site", "value": "Northmoor"}}
ON_CALL: dict[str, Any] = {"group": "On-call"}


@pytest.mark.parametrize(
    ("tree", "who"),
    [
        ({"everyone": True}, set(NAMES)),
        (NURSE, {"Amina", "Bo"}),
        (ON_CALL, {"Chidi", "Dora"}),
        ({"all": [NURSE, NORTH]}, {"Bo"}),
        ({"any": [NURSE, ON_CALL]}, {"Amina", "Bo", "Chidi", "Dora"}),
        ({"not": NURSE}, {"Chidi", "Dora", "Eve"}),
        ({"all": [NORTH, {"not": ON_CALL}]}, {"Bo"}),
        ({"not": {"any": [NURSE, ON_CALL]}}, {"Eve"}),
        ({"tag": "role:surgeon"}, set()),
        ({"group": "No such group"}, set()),
        ({"all": [{"everyone": True}, {"not": {"everyone": True}}]}, set()),
    ],
)
def test_an_audience_is_exactly_these_people(
    books: Wiring, ids: dict[str, str], tree: dict[str, Any], who: set[str]
) -> None:
    assert reached(books, tree, now(books)) == who


def test_people_by_name_alone_and_combined(books: Wiring, ids: dict[str, str]) -> None:
    named = {"recipients": [ids["Amina"], ids["Eve"], "nobody"]}
    assert reached(books, named, now(books)) == {"Amina", "Eve"}
    assert reached(books, {"all": [named, NURSE]}, now(books)) == {"Amina"}
    with books.database.read() as connection:
        tree = parse({"any": [named, {"group": "Nowhere"}]})
        assert audiences.unknown_names(connection, tree, now(books)) == ["recipient 'nobody'", "group 'Nowhere'"]


def test_a_revision_reads_the_same_whatever_changes_later(books: Wiring, ids: dict[str, str]) -> None:
    then = now(books)
    trees = ({"everyone": True}, NURSE, NORTH, ON_CALL, {"not": NURSE})
    before = [reached(books, tree, then) for tree in trees]
    books.directory.change(ids["Amina"], Person(tags={"role": ["surgeon"]}))
    books.directory.change(ids["Eve"], Person(tags={"role": ["nurse"]}, groups=["On-call"]))
    books.directory.delete(ids["Bo"])
    group = books.directory.get_group("On-call")
    books.directory.remove_member(group.id, ids["Chidi"])
    assert reached(books, ON_CALL, now(books)) == {"Dora", "Eve"}
    books.directory.delete_group(group.id)
    assert [reached(books, tree, then) for tree in trees] == before
    assert reached(books, NURSE, now(books)) == {"Eve"}
    assert reached(books, ON_CALL, now(books)) == set()
    assert reached(books, {"everyone": True}, now(books)) == set(NAMES) - {"Bo"}
