import pytest
from hypothesis import given
from hypothesis import strategies as st

from broadcaster.domain import tokens

SECRET = b"a secret of the test"
numbers = st.lists(st.integers(0, 2**63), min_size=1, max_size=4).map(tuple)


@given(numbers)
def test_our_own_token_is_read_back(given_numbers: tuple[int, ...]) -> None:
    assert tokens.verify(SECRET, "receipt", tokens.sign(SECRET, "receipt", *given_numbers)) == given_numbers


@given(numbers, st.sampled_from(["message", "enrol", ""]), st.binary(min_size=1, max_size=32).filter(lambda s: s != SECRET))
def test_another_purpose_or_secret_is_refused(given_numbers: tuple[int, ...], purpose: str, secret: bytes) -> None:
    token = tokens.sign(SECRET, "receipt", *given_numbers)
    assert tokens.verify(SECRET, purpose, token) is None
    assert tokens.verify(secret, "receipt", token) is None


@given(numbers, numbers)
def test_a_signature_does_not_carry_over_to_other_numbers(mine: tuple[int, ...], wanted: tuple[int, ...]) -> None:
    signature = tokens.sign(SECRET, "receipt", *mine).rpartition(".")[2]
    body = tokens.sign(b"forger", "receipt", *wanted).rpartition(".")[0]
    verified = tokens.verify(SECRET, "receipt", f"{body}.{signature}")
    assert verified == (wanted if wanted == mine else None)


@given(numbers, st.data())
def test_one_changed_character_is_refused(given_numbers: tuple[int, ...], data: st.DataObject) -> None:
    token = tokens.sign(SECRET, "receipt", *given_numbers)
    place = data.draw(st.integers(0, len(token) - 1))
    other = data.draw(st.sampled_from("abcXYZ019-_.").filter(lambda char: char != token[place]))
    assert tokens.verify(SECRET, "receipt", token[:place] + other + token[place + 1 :]) is None


@given(st.text(max_size=60))
def test_rubbish_is_refused_and_no_error(text: str) -> None:
    assert tokens.verify(SECRET, "receipt", text) is None


def test_negative_numbers_are_a_bug() -> None:
    with pytest.raises(ValueError, match="not negative"):
        tokens.sign(SECRET, "receipt", -1)
