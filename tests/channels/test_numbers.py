"""Telephone numbers: the short cut for plain mobile numbers says what the library says of them."""

import random
from collections.abc import Iterator

import phonenumbers
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from phonenumbers import PhoneNumberType

from broadcaster.channels.sms_text import Numbers
from broadcaster.domain.messages import InvalidAddress

PLAIN = Numbers("GB", allow_drama=False)


def taken(numbers: Numbers, raw: str) -> str | None:
    try:
        return numbers.parse(raw).value
    except InvalidAddress:
        return None


def by_the_library(region: str, raw: str) -> str | None:
    try:
        number = phonenumbers.parse(raw, region)
    except phonenumbers.NumberParseException:
        return None
    mobile = phonenumbers.number_type(number) in (PhoneNumberType.MOBILE, PhoneNumberType.FIXED_LINE_OR_MOBILE)
    fits = mobile and phonenumbers.is_valid_number(number) and not number.extension
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164) if fits else None


def numbers_of(code: int, digits: int) -> Iterator[str]:
    """Every beginning of four digits, and what follows by lot."""
    lot = random.Random(code)
    for beginning in range(10_000):
        rest = "".join(lot.choices("0123456789", k=digits - 4))
        yield f"{lot.choice([f'+{code}', f'+{code} ', '0'])}{beginning:04d} {rest}"


@pytest.mark.parametrize(("region", "digits"), [("GB", 10), ("DE", 11), ("FR", 9), ("JE", 10), ("US", 10), ("CO", 10)])
def test_every_beginning_is_read_as_the_library_reads_it(region: str, digits: int) -> None:
    numbers = Numbers(region, allow_drama=False)
    code = phonenumbers.country_code_for_region(region)
    different = [raw for raw in numbers_of(code, digits) if taken(numbers, raw) != by_the_library(region, raw)]
    assert different == []


@given(st.from_regex(r"[ +0-9]{0,4}(44)?[ 0]{0,2}7[0-9 ]{6,12}[ x#0-9()-]{0,3}", fullmatch=True))
@settings(max_examples=500, deadline=None)
def test_whatever_else_is_written_is_read_as_the_library_reads_it(raw: str) -> None:
    assert taken(PLAIN, raw) == by_the_library("GB", raw)


@pytest.mark.parametrize("raw", ["+447700912345", "07700 912345", "+44 (0)7700 912345"])
def test_drama_numbers_are_taken_where_they_are_allowed(raw: str) -> None:
    assert taken(PLAIN, raw) is None
    assert taken(Numbers("GB", allow_drama=True), raw) == "+447700912345"


@pytest.mark.parametrize("allow_drama", [True, False])
def test_an_extension_is_nobody_s_mobile(allow_drama: bool) -> None:
    assert taken(Numbers("GB", allow_drama=allow_drama), "07700 900123 ext 5") is None


def test_a_number_among_too_many_blanks_is_refused() -> None:
    assert taken(PLAIN, "+447400" + " " * 300 + "123456") is None
