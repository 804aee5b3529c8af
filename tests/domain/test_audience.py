import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broadcaster.domain.audience import (
    MAX_DEPTH,
    MAX_NODES,
    AllOf,
    AnyOf,
    Audience,
    Everyone,
    HasTag,
    InGroup,
    InvalidAudience,
    Named,
    Not,
    parse,
    to_json,
    walk,
)

names = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), min_size=1, max_size=200)
words = names.map(str.strip).filter(bool)
leaves: st.SearchStrategy[Audience] = st.one_of(
    st.just(Everyone()),
    st.builds(InGroup, words),
    st.builds(HasTag, words, words),
    st.builds(Named, st.lists(words, min_size=1, max_size=4).map(tuple)),
)


def branches(parts: st.SearchStrategy[Audience]) -> st.SearchStrategy[Audience]:
    lists = st.lists(parts, min_size=1, max_size=3).map(tuple)
    return st.one_of(st.builds(AllOf, lists), st.builds(AnyOf, lists), st.builds(Not, parts))


def depth(audience: Audience) -> int:
    match audience:
        case AllOf(parts) | AnyOf(parts):
            return 1 + max(depth(part) for part in parts)
        case Not(part):
            return 1 + depth(part)
        case _:
            return 0


trees = st.recursive(leaves, branches, max_leaves=12).filter(lambda tree: depth(tree) <= MAX_DEPTH)
rubbish = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["everyone", "group", "tag", "recipients", "all", "any", "not", "x"]), inner, max_size=2
        )
    ),
    max_leaves=10,
)


@given(trees)
def test_what_is_written_is_read_back(tree: Audience) -> None:
    assert parse(json.loads(json.dumps(to_json(tree)))) == tree


@given(rubbish)
def test_anything_is_read_or_refused_with_its_place(tree: Any) -> None:
    try:
        read = parse(tree)
    except InvalidAudience as error:
        refusal = str(error)
    else:
        assert parse(to_json(read)) == read
        return
    assert refusal.startswith("audience")


def test_the_short_form_of_a_tag() -> None:
    assert parse({"tag": "site:Northmoor: East"}) == HasTag("site", "Northmoor: East")


@pytest.mark.parametrize(
    ("tree", "place"),
    [
        ({"any": [{"everyone": True}, {"tag": "site"}]}, "audience.any[1].tag"),
        ({"everyone": False}, "audience.everyone"),
        ({"all": []}, "audience.all"),
        ({"not": {"group": " "}}, "audience.not.group"),
        ({"recipients": ["a", 1]}, "audience.recipients[1]"),
        ({"group": "a", "tag": "b:c"}, "audience"),
    ],
)
def test_a_fault_is_named_by_its_place(tree: Any, place: str) -> None:
    with pytest.raises(InvalidAudience) as caught:
        parse(tree)
    assert str(caught.value).startswith(f"{place}: ")


def test_too_deep_and_too_many_are_refused() -> None:
    deep: dict[str, Any] = {"everyone": True}
    for _ in range(MAX_DEPTH + 1):
        deep = {"not": deep}
    with pytest.raises(InvalidAudience, match="deeper"):
        parse(deep)
    with pytest.raises(InvalidAudience, match="at most"):
        parse({"any": [{"everyone": True}] * MAX_NODES})
    assert len(list(walk(parse({"any": [{"everyone": True}] * (MAX_NODES - 1)})))) == MAX_NODES
