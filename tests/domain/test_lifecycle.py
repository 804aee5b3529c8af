from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broadcaster.domain.lifecycle import (
    MAY_HAVE_IT,
    OPEN,
    STATES,
    TRANSITIONS,
    UNSENT,
    State,
    allowed,
    is_final,
    raised,
    rank,
)

EVIDENCE = (State.ACCEPTED, State.FAILED, State.DELIVERED)
states = st.sampled_from(STATES)


def test_the_table_names_every_state_and_gives_a_reason_for_every_way() -> None:
    assert set(TRANSITIONS) == set(STATES)
    for old, ways in TRANSITIONS.items():
        assert old not in ways
        assert all(reason.strip() for reason in ways.values())


@pytest.mark.parametrize(("old", "new"), list(product(STATES, STATES)))
def test_only_the_table_or_stronger_evidence_leads_on(old: State, new: State) -> None:
    by_evidence = new in EVIDENCE and rank(new) > rank(old)
    assert allowed(old, new) == (new in TRANSITIONS[old] or by_evidence)


@given(states, st.lists(st.sampled_from(EVIDENCE), max_size=8))
def test_evidence_in_any_order_only_raises_the_rank_and_ends_at_the_strongest(start: State, evidence: list[State]) -> None:
    state = start
    for piece in evidence:
        after = raised(state, piece)
        assert after is None or rank(after) > rank(state)
        state = after or state
    assert rank(state) == max(rank(s) for s in (start, *evidence))
    assert raised(state, state) is None if state in EVIDENCE else True


@pytest.mark.parametrize("state", [s for s in STATES if s not in EVIDENCE])
def test_a_guess_is_no_evidence(state: State) -> None:
    with pytest.raises(ValueError, match="no evidence"):
        raised(State.SENDING, state)


def test_delivered_is_the_last_word() -> None:
    assert not any(allowed(State.DELIVERED, new) for new in STATES)


def test_nothing_goes_back_to_the_wire_from_where_it_may_have_left_but_by_way_of_retrying() -> None:
    """Only queued and retrying lead to sending: what may have been sent is found out first."""
    assert {old for old in STATES if allowed(old, State.SENDING)} == UNSENT


def test_what_is_unsent_is_open_and_nobody_has_it() -> None:
    assert UNSENT < OPEN
    assert not UNSENT & MAY_HAVE_IT


@pytest.mark.parametrize("state", STATES)
def test_open_states_are_never_final(state: State) -> None:
    for gives_receipts in (True, False):
        assert not (state in OPEN and is_final(state, gives_receipts=gives_receipts))
    assert is_final(State.ACCEPTED, gives_receipts=False)
    assert not is_final(State.ACCEPTED, gives_receipts=True)
