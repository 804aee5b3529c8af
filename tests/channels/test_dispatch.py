import asyncio
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from broadcaster.channels import wire
from broadcaster.channels.dispatch import dispatch
from broadcaster.domain.messages import Envelope
from broadcaster.domain.outcomes import Accepted, Deferred, Outcome
from tests.channels.rig import run


def envelopes(count: int, **changes: Any) -> list[tuple[Envelope, int]]:
    return [(Envelope(n, 1, "a", "r", "l", "u", **changes), n) for n in range(1, count + 1)]


def test_no_more_than_the_bound_are_in_flight_and_it_is_used() -> None:
    async def main() -> None:
        flying, most = 0, 0

        async def send(to: Envelope, item: int) -> Outcome:
            nonlocal flying, most
            flying += 1
            most = max(most, flying)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            flying -= 1
            return Accepted(str(item))

        found = [pair async for pair in dispatch(envelopes(300), send, in_flight=16)]
        assert most == 16
        assert sorted(found) == [((n, 1), Accepted(str(n))) for n in range(1, 301)]

    run(main())


def test_outcomes_come_as_they_happen() -> None:
    async def main() -> None:
        released = asyncio.Event()

        async def send(to: Envelope, item: int) -> Outcome:
            if item == 1:
                await released.wait()
            return Accepted()

        order = []
        async for (delivery, _), _ in dispatch(envelopes(3), send):
            order.append(delivery)
            if len(order) == 2:
                released.set()
        assert order == [2, 3, 1]

    run(main())


def test_an_empty_chunk_has_no_outcomes() -> None:
    async def main() -> None:
        async def send(to: Envelope, item: int) -> Outcome:
            raise AssertionError

        assert [pair async for pair in dispatch([], send)] == []

    run(main())


def test_closing_early_cancels_what_is_under_way() -> None:
    async def main() -> None:
        cancelled: list[int] = []

        async def send(to: Envelope, item: int) -> Outcome:
            if item == 1:
                return Accepted()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.append(item)
                raise
            return Accepted()

        outcomes = dispatch(envelopes(3), send)
        assert (await anext(outcomes))[0] == (1, 1)
        await outcomes.aclose()  # type: ignore[attr-defined]
        assert sorted(cancelled) == [2, 3]

    run(main())


def test_a_slot_behind_the_leases_end_is_not_waited_for() -> None:
    async def main() -> None:
        async def send(to: Envelope, item: int) -> Outcome:
            raise AssertionError("sent")

        now = wire.boottime()
        chunk = envelopes(1, not_before=now + 100, not_after=now + 50)
        ((_, outcome),) = [pair async for pair in dispatch(chunk, send)]
        assert isinstance(outcome, Deferred)
        assert outcome.code == "lease_expired"

    run(main())


def test_what_is_recalled_before_its_turn_is_not_written() -> None:
    async def main() -> None:
        chunk = envelopes(5)
        written = []

        async def send(to: Envelope, item: int) -> Outcome:
            written.append(item)
            for envelope, _ in chunk:
                envelope.recalled = True
            return Accepted()

        found = dict([pair async for pair in dispatch(chunk, send, in_flight=1)])
        assert written == [1]
        assert found.pop((1, 1)) == Accepted()
        assert {outcome.code for outcome in found.values() if isinstance(outcome, Deferred)} == {"recalled"}
        assert len(found) == 4

    run(main())


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, 3.0),
        ("", 3.0),
        ("0", 0.0),
        ("12", 12.0),
        ("1.5", 1.5),
        ("-4", 0.0),
        ("99999999", 3600.0),
        ("nan", 3.0),
        ("inf", 3600.0),
        ("soon", 3.0),
        (format_datetime(datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=40), usegmt=True), 40.0),
        (format_datetime(datetime(2025, 1, 1, tzinfo=UTC), usegmt=True), 0.0),
    ],
)
def test_retry_after_is_read_in_both_forms(header: str | None, seconds: float) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC).timestamp()
    assert wire.retry_after(header, 3.0, lambda: now) == seconds


def test_the_clock_is_the_one_that_goes_on_in_suspend() -> None:
    assert abs(wire.boottime() - time.clock_gettime(time.CLOCK_BOOTTIME)) < 0.1
