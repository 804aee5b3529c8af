import pytest
from hypothesis import given
from hypothesis import strategies as st

from broadcaster.domain import gsm

SPECIALS = "^{}\\[]~|€\f"
texts = st.one_of(
    st.text(max_size=400),
    st.text(st.sampled_from("abc é\n" + SPECIALS), max_size=700),
    st.text(st.sampled_from("abŵ😀€" + "\u200d"), max_size=300),
)


@pytest.mark.parametrize(
    ("text", "encoding", "segments"),
    [
        ("", gsm.GSM_7, 1),
        ("a" * 160, gsm.GSM_7, 1),
        ("a" * 161, gsm.GSM_7, 2),
        ("a" * 306, gsm.GSM_7, 2),
        ("a" * 307, gsm.GSM_7, 3),
        ("é£Ç" * 53, gsm.GSM_7, 1),
        ("€" * 80, gsm.GSM_7, 1),
        ("€" * 81, gsm.GSM_7, 2),
        ("a" * 152 + "€" + "a" * 152, gsm.GSM_7, 3),  # 306 septets, but the escape pair moves on whole
        ("a" * 151 + "€" + "a" * 153, gsm.GSM_7, 2),
        ("ç", gsm.UCS_2, 1),
        ("ŵ" * 70, gsm.UCS_2, 1),
        ("ŵ" * 71, gsm.UCS_2, 2),
        ("ŵ" * 134, gsm.UCS_2, 2),
        ("ŵ" * 135, gsm.UCS_2, 3),
        ("😀" * 35, gsm.UCS_2, 1),
        ("😀" * 36, gsm.UCS_2, 2),
        ("😀" * 67, gsm.UCS_2, 3),  # 134 units, but 33 whole pairs a part
        ("\x1b", gsm.UCS_2, 1),  # the escape itself is no text
    ],
)
def test_it_counts_segments_as_phones_do(text: str, encoding: str, segments: int) -> None:
    assert (gsm.encoding(text), gsm.segments(text)) == (encoding, segments)


@pytest.mark.parametrize(
    ("text", "twin"),
    [
        ("\u2018it\u2019s\u2019 \u201cdown\u201d", "'it's' \"down\""),
        ("10\u201311 \u2014 now\u2026", "10-11 - now..."),
        ("a\u00a0b\tc\u202fd", "a b c d"),
        ("zero\u200bwidth\ufeff", "zerowidth"),
        ("\u202a+44 7700 900123\u202c", "+44 7700 900123"),
        ("cafe\u0301", "café"),
        ("ŵyl ça 😀", "ŵyl ça 😀"),
        ("£5 [x] €", "£5 [x] €"),
        ("\u05d0\u200f!", "\u05d0\u200f!"),  # direction marks matter beside Hebrew
    ],
)
def test_it_replaces_only_what_has_a_faithful_twin(text: str, twin: str) -> None:
    assert gsm.normalise(text) == twin


def test_it_names_the_characters_that_force_ucs_2() -> None:
    assert gsm.culprits("Hafan Ŵŷn, Ŵ €") == ("Ŵ", "ŷ")


def test_the_alphabet_is_whole() -> None:
    assert len(gsm.BASIC) == 127  # 128 positions, one of them the escape
    assert len(gsm.EXTENSION) == 10
    assert not gsm.BASIC & gsm.EXTENSION


@given(texts)
def test_parts_join_to_the_text_and_none_is_too_long_or_split(text: str) -> None:
    parts = gsm.split(text)
    assert "".join(parts) == text
    assert gsm.segments(text) == len(parts)
    one, many = {gsm.GSM_7: (160, 153), gsm.UCS_2: (70, 67)}[gsm.encoding(text)]
    room = one if len(parts) == 1 else many
    for part in parts:
        units = [
            len(char.encode("utf-16-be")) // 2 if gsm.encoding(text) == gsm.UCS_2 else 1 + (char in SPECIALS)
            for char in part
        ]
        assert sum(units) <= room
    if len(parts) > 1:  # greedy: the first character of a part did not fit into the one before
        assert all(parts)


@given(texts)
def test_normalising_twice_changes_nothing_more(text: str) -> None:
    once = gsm.normalise(text)
    assert gsm.normalise(once) == once


@given(texts)
def test_normalising_leaves_gsm_text_alone(text: str) -> None:
    kept = "".join(char for char in text if char in gsm.ALPHABET)
    assert gsm.normalise(kept) == kept
