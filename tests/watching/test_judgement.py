"""The pure rules: by example, and by property against the words of the design."""

from hypothesis import given
from hypothesis import strategies as st

from broadcaster.domain.judgement import Rules, State, Streak, judge, settle
from broadcaster.domain.matching import like
from broadcaster.domain.monitor import Verdict
from broadcaster.domain.templates import duration, render

LETTERS = {"o": Verdict.OK, "d": Verdict.DEGRADED, "f": Verdict.FAILED, "u": Verdict.UNKNOWN}
RULES = Rules(failures=3, successes=2)
verdicts = st.lists(st.sampled_from(list(Verdict)), max_size=30)


def after(looks: str) -> Verdict:
    """What a vantage says after these looks, the first one first."""
    streak = Streak()
    for letter in looks:
        streak = streak.after(LETTERS[letter], RULES)
    return streak.vote(RULES)


def test_examples() -> None:
    assert after("") is Verdict.UNKNOWN
    assert after("o") is Verdict.OK
    assert after("off") is Verdict.OK
    assert after("offof") is Verdict.OK
    assert after("offf") is Verdict.FAILED
    assert after("fff") is Verdict.FAILED
    assert after("ofuff") is Verdict.FAILED  # an unknown look neither counts nor breaks the row
    assert after("offfo") is Verdict.FAILED
    assert after("offfoo") is Verdict.OK
    assert after("offfdo") is Verdict.OK  # degraded works
    assert after("odd") is Verdict.OK
    assert after("oddd") is Verdict.DEGRADED
    assert after("odddo") is Verdict.DEGRADED
    assert after("ouuu") is Verdict.UNKNOWN
    assert after("offfuuu") is Verdict.UNKNOWN
    assert after("offfuuuo") is Verdict.FAILED  # one good look does not take back what it held
    assert after("ddd") is Verdict.DEGRADED


@given(verdicts)
def test_a_vantage_says_failed_only_after_enough_failed_looks_in_a_row(looks: list[Verdict]) -> None:
    streak, longest, row = Streak(), 0, 0
    for look in looks:
        streak = streak.after(look, RULES)
        row = row + 1 if look is Verdict.FAILED else row if look is Verdict.UNKNOWN else 0
        longest = max(longest, row)
    if streak.vote(RULES) is Verdict.FAILED:
        assert longest >= RULES.failures
    if row >= RULES.failures and streak.unknown < RULES.failures:
        assert streak.vote(RULES) is Verdict.FAILED


@given(st.lists(st.sampled_from(list(Verdict)), max_size=7), st.integers(1, 4))
def test_the_quorum_decides_and_nobody_without_a_vote(votes: list[Verdict], quorum: int) -> None:
    rules = Rules(quorum=quorum)
    state = judge(votes, rules)
    able = [v for v in votes if v is not Verdict.UNKNOWN]
    assert (state is State.DOWN) == (votes.count(Verdict.FAILED) >= quorum)
    assert (state is State.UNKNOWN) == (len(able) < quorum)
    assert judge([*votes, Verdict.UNKNOWN], rules) is state  # one more that cannot say changes nothing


def test_what_was_down_is_well_only_after_the_hold_down() -> None:
    rules = Rules(hold_down=60)
    assert settle(State.DOWN, State.OK, 59.9, rules) is State.DOWN
    assert settle(State.DOWN, State.OK, 60.0, rules) is State.OK
    assert settle(State.OK, State.DOWN, 0.0, rules) is State.DOWN
    assert settle(State.DEGRADED, State.OK, 0.0, rules) is State.OK


def test_words() -> None:
    assert render("{{name}} is {{ nothing }}down", {"name": "Mail"}, 120) == "Mail is down"
    assert len(render("{{name}}", {"name": "very long " * 50}, 120)) <= 120
    assert duration(30) == "less than a minute"
    assert duration(60) == "1 minute"
    assert duration(7500) == "2 hours 5 minutes"
    assert duration(3 * 86_400) == "3 days"


def test_patterns() -> None:
    assert like("prod-*-mail", "prod-eu-mail")
    assert not like("prod-*-mail", "prod-mail")
    assert like("*", "")
    assert like("a*b*c", "aXbYc")
    assert not like("ab*ba", "aba")
    assert not like("x", None)
    assert not like("a*" * 90 + "b", "a" * 10_000)
