"""When a circuit breaker opens and closes."""

import pytest

from broadcaster.domain.breaking import RESTS, Cause, Counts, closes, rest, trips


@pytest.mark.parametrize(
    ("good", "bad", "opens"),
    [
        (0, 2, False),
        (0, 3, True),
        (1, 3, False),
        (1, 18, False),
        (1, 19, True),
        (10, 10, True),
        (11, 9, False),
        (99, 40, False),
    ],
)
def test_three_in_a_row_open_it_in_quiet_times_and_half_of_twenty_in_busy_ones(good: int, bad: int, opens: bool) -> None:
    trip = trips(Counts(good=good, bad=bad), Counts())
    assert (trip is not None) is opens
    assert trip is None or trip.cause is Cause.SUBMIT


@pytest.mark.parametrize(
    ("delivered", "undelivered", "opens"), [(0, 19, False), (0, 20, True), (20, 20, True), (30, 20, False), (900, 20, False)]
)
def test_a_route_that_takes_messages_and_does_not_deliver_them_is_left(
    delivered: int, undelivered: int, opens: bool
) -> None:
    trip = trips(Counts(good=1000), Counts(delivered=delivered, undelivered=undelivered))
    assert (trip is not None) is opens
    assert trip is None or trip.cause is Cause.RECEIPTS


def test_what_opened_it_must_look_good_again_before_it_closes() -> None:
    assert closes(Cause.SUBMIT, Counts()) is None
    assert closes(Cause.SUBMIT, Counts(good=5)) is True
    assert closes(Cause.SUBMIT, Counts(good=2, bad=3)) is False
    assert closes(Cause.RECEIPTS, Counts(good=5)) is None  # taken is what it did before, too
    assert closes(Cause.RECEIPTS, Counts(good=5, delivered=3, undelivered=1)) is True
    assert closes(Cause.RECEIPTS, Counts(bad=1)) is False


def test_it_rests_longer_each_time_up_to_five_minutes() -> None:
    assert [rest(n) for n in range(1, 7)] == [*RESTS, RESTS[-1], RESTS[-1]]
