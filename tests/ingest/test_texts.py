"""Texts, keys, links and times of strangers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broadcaster.domain.signal import Status
from broadcaster.ingest import texts
from broadcaster.ingest.signals import signal
from broadcaster.ingest.times import moment, unix
from tests.ingest.posts import assert_fit

anything = st.text(st.characters(), max_size=400)


@pytest.mark.parametrize(
    ("text", "limit", "expected"),
    [
        ("Email is down", 13, "Email is down"),
        ("Email is down", 12, "Email is…"),
        ("Email is down", 9, "Email is…"),
        ("Email is down", 6, "Email…"),
        ("Emailisdown and more", 8, "Emailis…"),  # a long word is cut rather than half of the room lost
        ("a\nb cdefghijkl", 10, "a\nb cdefg…"),
        ("", 5, ""),
    ],
)
def test_a_text_is_cut_at_a_word(text: str, limit: int, expected: str) -> None:
    assert texts.cut(text, limit) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\r\nb\rc\x85d\u2028e", "a\nb\nc\nd\ne"),
        ("a\x00b\ud800c", "a\ufffdb\ufffdc"),
        ("\x1b[31mred\x07\x9f", "[31mred"),
        ("a\tb", "a b"),
        ("abc\u202edef\u2066", "abcdef"),
        ("  Café 🏥 \n", "Café 🏥"),
    ],
)
def test_control_characters_go_and_line_breaks_stay(text: str, expected: str) -> None:
    assert texts.clean(text) == expected


@given(anything, st.integers(1, 300))
def test_a_cut_text_is_within_its_limit_and_a_beginning_of_the_whole(text: str, limit: int) -> None:
    cut = texts.paragraphs(text, limit)
    assert len(cut) <= limit
    assert texts.clean(text).startswith(cut.removesuffix("…"))
    assert len(texts.line(text, limit)) <= limit


def test_keys_that_cannot_be_kept_are_hashed_and_stay_apart() -> None:
    assert texts.key("x" * 255) == "x" * 255
    odd = ["x" * 256, "x" * 257, "\x00", "a\ud800", "a\ud801", "a\n"]
    assert all(texts.key(key).startswith("sha256:") and len(texts.key(key)) == 71 for key in odd)
    assert len({texts.key(key) for key in odd}) == len(odd)


@pytest.mark.parametrize(
    ("text", "passes"),
    [
        ("https://status.example.nhs.uk/i/1?x=1&y=2#z", True),
        (" http://10.0.0.1:9090/graph ", True),
        ("javascript:alert(1)", False),
        ("data:text/html,x", False),
        ("https://", False),
        ("//example.org/", False),
        ("https://exa mple.org/", False),
        ('https://example.org/"onclick=', False),
        ("https://[::1/", False),
        ("https://example.org/" + "x" * 2_000, False),
        ("https://example.org/\ud800", False),
        ("", False),
    ],
)
def test_only_web_addresses_become_links(text: str, passes: bool) -> None:
    assert texts.link(text) == (text.strip() if passes else None)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-10-12T07:31:00Z", 1_791_790_260.0),
        ("2026-10-12T09:31:00+02:00", 1_791_790_260.0),
        ("2026-10-12T07:31:00.315+0000", 1_791_790_260.315),
        ("2026-10-12T07:31:00.3713213Z", 1_791_790_260.371321),
        ("2026-10-12T07:31:00.123456789Z", 1_791_790_260.123456),
        ("2026-10-12 07:31:00.123", 1_791_790_260.123),
        ("0001-01-01T00:00:00Z", None),
        ("0001-01-01T00:00:00+23:59", None),
        ("9999-12-31T23:59:59-23:59", None),
        ("yesterday", None),
        ("\ud800", None),
        ("", None),
    ],
)
def test_times_of_all_these_systems_are_read(text: str, expected: float | None) -> None:
    assert moment(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"), [("1791790260", 1_791_790_260.0), ("0", None), ("-1", None), ("1" * 5_000, None), ("²", None)]
)
def test_seconds_since_the_epoch(text: str, expected: float | None) -> None:
    assert unix(text) == expected


@given(st.text(max_size=60))
def test_no_time_raises(text: str) -> None:
    moment(text)
    unix(text)


@given(anything, anything, st.lists(anything, max_size=3), st.dictionaries(anything, anything, max_size=5), anything)
def test_a_signal_is_within_its_limits_whatever_it_is_made_of(
    key: str, body: str, titles: list[str], labels: dict[str, str], url: str
) -> None:
    assert_fit(signal(key or "k", Status.FIRING, titles=titles, body=body, labels=labels, url=url))


def test_what_a_title_has_no_room_for_is_in_the_body() -> None:
    long = "Email of the whole service is down " * 6
    assert signal("k", Status.FIRING, titles=("", long)).body == long.strip()
    assert signal("k", Status.FIRING, titles=(long,), body="Said already").body == "Said already"
    assert signal("k", Status.FIRING, titles=("Short",)).body == ""


def test_a_hundred_labels_are_kept_and_empty_ones_left_out() -> None:
    made = signal("k", Status.FIRING, titles=(), labels={"empty": ""} | {f"l{i}": "x" * 999 for i in range(200)})
    assert len(made.labels) == 100
    assert list(made.labels)[0] == "l0"
    assert len(made.labels["l0"]) == 255
