import pytest
from hypothesis import given
from hypothesis import strategies as st

from broadcaster.domain.references import delivery_number, reference

numbers = st.integers(1, 32**7 - 1)


@given(numbers)
def test_a_reference_leads_back_to_its_delivery(number: int) -> None:
    assert delivery_number(reference(number)) == number


@given(st.text("0123456789ABCDEFGHJKMNPQRSTVWXYZ", min_size=7, max_size=7))
def test_every_reference_is_one_deliverys(text: str) -> None:
    number = delivery_number(text)
    assert (text == "0000000") if number is None else (reference(number) == text)


@given(numbers)
def test_what_people_type_is_understood(number: int) -> None:
    text = reference(number)
    typed = f" {text[:3]}-{text[3:]} ".lower().replace("0", "o").replace("1", "l")
    assert delivery_number(typed) == number


@given(st.text(max_size=12))
def test_anything_else_is_no_reference_and_no_error(text: str) -> None:
    number = delivery_number(text)
    assert number is None or len(reference(number)) == 7


def test_neighbours_do_not_look_alike() -> None:
    assert len({reference(n)[:3] for n in range(1, 101)}) > 50


@pytest.mark.parametrize("number", [0, -1, 32**7])
def test_out_of_range_is_refused(number: int) -> None:
    with pytest.raises(ValueError, match="out of range"):
        reference(number)
