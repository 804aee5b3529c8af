"""A channel with two routes: what did not get through moves on, what was taken never does, and the first comes back."""

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest
import redis
from sqlalchemy import Connection

from broadcaster.domain.audience import Everyone
from broadcaster.domain.channel import AttemptId, Callback, CallbackRefused, ChannelSet, Lane, Receipt, Traits
from broadcaster.domain.errors import Forbidden
from broadcaster.domain.lifecycle import State
from broadcaster.domain.messages import Address, Content, Cost, Envelope, Message, Severity
from broadcaster.domain.outcomes import Absent, Accepted, Ambiguous, Deferred, Finding, Outcome, Rejected, Scope
from broadcaster.queue import WakeUps
from broadcaster.services.alerts import Alerts, Draft, Step
from broadcaster.services.delivering import Deliverer
from broadcaster.services.directory import Directory, Person
from broadcaster.services.keys import Keys
from broadcaster.services.planning import Planner
from broadcaster.services.processes import owner
from broadcaster.services.ratelimit import RateLimiter
from broadcaster.services.receipts import Receipts
from broadcaster.services.routing import RouteView, Routing
from broadcaster.store import deliveries, migrate
from broadcaster.store.database import Database
from workers.loop import EventLoop

NOWHERE: Final = "redis://127.0.0.1:1/0"
UP: Final = Accepted("x")
REFUSED: Final = Deferred("connect_failed", "no connection")


@dataclass
class Pager:
    """One route of the channel "pager": answers as it is told, and reads receipts that name their delivery."""

    route: str
    answer: Outcome = UP
    answers: list[Outcome] = field(default_factory=list[Outcome])  # these first
    lookup_rate: float = 1000.0
    taken: Counter[str] = field(default_factory=Counter)
    asked: list[int] = field(default_factory=list)  # size of each chunk
    looked_up: int = 0

    traits = Traits("pager", "Pager", 10, None, duplicates_collapse=False, gives_receipts=True)

    def parse_address(self, raw: str) -> Address:
        return Address(raw, raw, "…")

    def render(self, message: Message, to: Envelope) -> Content:
        return Content(message.title)

    def quote(self, content: Content) -> Cost:
        return Cost()

    def lanes(self, to: Envelope, cost: Cost) -> Sequence[Lane]:
        return ()

    async def send(
        self, message: Message, chunk: Sequence[tuple[Envelope, Content]]
    ) -> AsyncIterator[tuple[AttemptId, Outcome]]:
        self.asked.append(len(chunk))
        for to, _ in chunk:
            outcome = self.answers.pop(0) if self.answers else self.answer
            if isinstance(outcome, Accepted):
                self.taken[to.address] += 1
                outcome = Accepted(f"{self.route}-{to.delivery}-{to.attempt}")
            yield (to.delivery, to.attempt), outcome

    async def look_up(self, to: Envelope, content: Content, sent_at: int) -> Finding:
        self.looked_up += 1
        return Absent()

    def read_receipt(self, callback: Callback) -> Receipt | None:
        q = callback.query
        if q["route"] != self.route:
            raise CallbackRefused("not mine")
        return Receipt(int(q["d"]), int(q["n"]), q["state"], "30008", "carrier", of_route=q["state"] == "failed")

    async def check(self) -> str | None:
        return None

    async def open(self) -> None: ...

    async def close(self) -> None: ...


class Ward:
    """An engine with the two routes, and its clock in our hands: ``pass_time`` makes due whatever waits."""

    def __init__(self, database: Database) -> None:
        migrate.upgrade(database)
        self.database = database
        self.first, self.second = Pager("pager:first"), Pager("pager:second")
        channels = ChannelSet({"pager": self.first}, {"pager": self.first}, {"pager:first": [self.second]})
        self.loop, self.wake_ups = EventLoop("test"), WakeUps(NOWHERE)
        client = redis.Redis.from_url(NOWHERE, socket_connect_timeout=0.05, retry=None)
        self.routing = Routing(database, channels)
        self.deliverer = Deliverer(
            database,
            channels,
            RateLimiter(client, lambda: 1),
            self.loop,
            owner=owner(),
            secret=b"s" * 32,
            public_url="http://localhost",
            routing=self.routing,
        )
        self.planner = Planner(database, channels, self.wake_ups, owner())
        self.receipts = Receipts(database, channels, self.routing)
        self.directory = Directory(database, channels)
        self.alerts = Alerts(database, channels, self.wake_ups, secret=b"s" * 32, public_url="http://localhost")
        keys = Keys(database)
        self.caller = keys.authenticate(keys.create("test", ["alerts:send"])[1])
        self.people = 0

    def staff(self, count: int) -> None:
        for n in range(count):
            self.directory.create(Person(f"P{n}", addresses={"pager": [f"{self.people + n}"]}))
        self.people += count

    def alert(self, severity: Severity) -> None:
        draft = Draft("Email is down", "Use pagers.", severity, Everyone(), (Step(("pager",), 0),), 3600, "IT")
        self.alerts.accept(draft, self.caller)
        assert self.planner.run_one(lowest=3)

    def run(self) -> None:
        """Everything that is due now."""
        for _ in range(1000):
            if not self.deliverer.run_one(lowest=3, by_task=True):
                self.routing.hand_in(now=True)
                return
        raise AssertionError("it does not come to rest")

    def pass_time(self, *, routes: bool = False) -> None:
        with self.database.write() as connection:
            waiting = "state IN ('retrying', 'uncertain')"
            connection.exec_driver_sql(f"UPDATE deliveries SET next_at = 1, sent_at = 1 WHERE {waiting}")
            connection.exec_driver_sql("UPDATE batches SET next_at = 1 WHERE next_at > 1")
            if routes:
                connection.exec_driver_sql("UPDATE routes SET open_until = 1, probe_until = 1, paused_until = 1")

    def states(self) -> dict[str, int]:
        with self.database.read() as connection:
            rows = connection.exec_driver_sql("SELECT state, count(*) FROM deliveries GROUP BY state")
            return {row[0]: row[1] for row in rows}

    def receipt(self, pager: Pager, delivery: int, attempt: int, state: str) -> None:
        query = {"route": pager.route, "d": str(delivery), "n": str(attempt), "state": state}
        asyncio.run(self.receipts.take("pager", Callback("", {}, query, b"")))

    def view(self) -> dict[str, RouteView]:
        return {r.name: r for r in self.routing.overview()}

    def close(self) -> None:
        self.loop.close()
        self.wake_ups.close()
        self.database.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def ward(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ward]:
    make: Callable[[], str] | None = request.getfixturevalue("postgres_url") if request.param == "postgresql" else None
    made = Ward(Database(make() if make else f"sqlite:///{tmp_path / 'x.db'}"))
    yield made
    made.close()


def test_what_was_certainly_not_sent_takes_the_next_route_at_once_and_the_first_rests(ward: Ward) -> None:
    ward.staff(25)
    ward.first.answer = REFUSED
    ward.alert(Severity.CRITICAL)
    ward.run()
    assert ward.states() == {"accepted": 25}
    assert set(ward.second.taken.values()) == {1}
    assert len(ward.second.taken) == 25
    view = ward.view()
    assert not view["pager:first"].used
    assert "did not get through" in (view["pager:first"].trouble or "")
    assert view["pager:second"].used
    asked = len(ward.first.asked)
    ward.alert(Severity.CRITICAL)
    ward.run()
    assert len(ward.first.asked) == asked  # nobody tries it while it rests
    assert ward.states() == {"accepted": 50}


def test_the_first_route_is_tried_with_a_few_and_taken_back_when_it_works(ward: Ward) -> None:
    ward.staff(25)
    ward.first.answer = REFUSED
    ward.alert(Severity.HIGH)
    ward.run()
    ward.pass_time(routes=True)
    asked = len(ward.first.asked)
    ward.alert(Severity.HIGH)
    ward.run()
    assert ward.first.asked[asked:] == [5]  # still broken: five tried it, and went on over the second
    assert ward.states() == {"accepted": 50}
    ward.first.answer = UP
    ward.pass_time(routes=True)
    ward.alert(Severity.HIGH)
    ward.run()
    assert ward.first.taken.total() == 5
    ward.alert(Severity.HIGH)
    ward.run()
    assert ward.view()["pager:first"].used
    assert ward.first.taken.total() == 30
    assert ward.states() == {"accepted": 100}


def test_one_bad_answer_among_good_ones_moves_only_that_message(ward: Ward) -> None:
    ward.staff(25)
    ward.first.answers = [*[UP] * 7, REFUSED]
    ward.alert(Severity.HIGH)
    ward.run()
    assert (ward.first.taken.total(), ward.second.taken.total()) == (24, 1)
    assert ward.view()["pager:first"].used


def test_refused_credentials_move_everything_and_fail_nobody(ward: Ward) -> None:
    ward.staff(25)
    ward.first.answer = Rejected(Scope.CHANNEL, "20003", "credentials")
    ward.alert(Severity.HIGH)
    ward.run()
    assert ward.states() == {"accepted": 25}
    assert ward.second.taken.total() == 25


def test_a_message_in_doubt_stays_on_its_route_until_it_is_known_to_be_absent(ward: Ward) -> None:
    ward.staff(1)
    ward.first.answers = [Ambiguous("timeout", "no answer")]
    ward.alert(Severity.HIGH)
    ward.run()
    assert ward.states() == {"uncertain": 1}
    assert ward.second.taken.total() == 0
    ward.pass_time()
    ward.run()
    assert (ward.states(), ward.first.looked_up) == ({"uncertain": 1}, 1)
    ward.pass_time()
    ward.run()
    assert (ward.states(), ward.first.looked_up) == ({"accepted": 1}, 2)
    assert (ward.first.taken.total(), ward.second.taken.total()) == (1, 0)


def test_one_message_alone_finds_the_other_route_when_the_first_loses_every_answer(ward: Ward) -> None:
    ward.staff(1)
    ward.first.answer = Ambiguous("timeout", "no answer")
    ward.alert(Severity.HIGH)
    for _ in range(8):
        ward.run()
        ward.pass_time()
    assert ward.states() == {"accepted": 1}
    assert (len(ward.first.asked), ward.second.taken.total()) == (3, 1)


@pytest.mark.parametrize("answer", [Ambiguous("timeout", "no answer"), Deferred("30008", "unknown error")], ids=str)
def test_two_numbers_at_which_every_supplier_chokes_leave_a_way_for_the_rest(ward: Ward, answer: Outcome) -> None:
    ward.staff(2)
    ward.first.answer = ward.second.answer = answer
    ward.alert(Severity.HIGH)
    for _ in range(20):
        ward.run()
        ward.pass_time()
    assert len(ward.second.asked) >= 2
    assert [view.trouble for view in ward.view().values() if view.used] == [None]


def test_finally_undelivered_for_a_reason_of_the_route_s_moves_and_late_news_of_the_first_try_changes_nothing(
    ward: Ward,
) -> None:
    ward.staff(1)
    ward.alert(Severity.HIGH)
    ward.run()
    ward.receipt(ward.first, 1, 1, "failed")
    assert ward.states() == {"retrying": 1}
    ward.receipt(ward.first, 1, 1, "failed")  # twice
    ward.receipt(ward.first, 1, 1, "accepted")  # out of order
    assert ward.states() == {"retrying": 1}
    ward.run()
    assert ward.states() == {"accepted": 1}
    assert (ward.first.taken.total(), ward.second.taken.total()) == (1, 1)
    ward.receipt(ward.second, 1, 2, "failed")  # no third route: that was all
    assert ward.states() == {"failed": 1}
    ward.receipt(ward.first, 1, 1, "delivered")  # and yet it came
    assert ward.states() == {"delivered": 1}


def test_messages_that_are_taken_and_not_delivered_open_the_breaker_for_what_comes_after(ward: Ward) -> None:
    ward.staff(30)
    ward.alert(Severity.HIGH)
    ward.run()
    for delivery in range(1, 25):
        ward.receipt(ward.first, delivery, 1, "failed")
    ward.routing.hand_in(now=True)
    assert "taken and not delivered" in (ward.view()["pager:first"].trouble or "")
    ward.run()
    ward.alert(Severity.HIGH)
    ward.run()
    assert (ward.first.taken.total(), ward.second.taken.total()) == (30, 24 + 30)
    assert ward.states() == {"accepted": 60}


def test_a_receipt_of_another_route_than_the_message_s_is_refused(ward: Ward) -> None:
    ward.staff(1)
    ward.alert(Severity.HIGH)
    ward.run()
    with pytest.raises(Forbidden):
        ward.receipt(ward.second, 1, 1, "delivered")
    assert ward.states() == {"accepted": 1}


def test_a_declared_resend_that_is_refused_ends_as_unconfirmed(ward: Ward) -> None:
    ward.staff(1)
    ward.first.answers = [Ambiguous("timeout", "no answer")]
    ward.second.answer = Rejected(Scope.MESSAGE, "30007", "filtered")
    ward.alert(Severity.CRITICAL)
    ward.run()
    ward.pass_time()
    ward.run()  # a minute later nobody knows: it is sent once more, over the other route
    assert ward.states() == {State.UNCONFIRMED.value: 1}
    ward.receipt(ward.first, 1, 1, "delivered")
    assert ward.states() == {"delivered": 1}


def test_with_every_route_broken_a_critical_message_is_still_tried(ward: Ward) -> None:
    ward.staff(5)
    ward.first.answer = ward.second.answer = REFUSED
    ward.alert(Severity.CRITICAL)
    ward.run()
    assert ward.states() == {"retrying": 5}
    ward.first.answer = UP
    ward.pass_time()
    ward.run()
    assert ward.states() == {"accepted": 5}


def test_what_becomes_due_while_a_batch_is_given_back_is_not_forgotten(ward: Ward, monkeypatch: pytest.MonkeyPatch) -> None:
    """A final receipt that makes the delivery due again, between the look at what is due and the end of the lease."""
    ward.staff(1)
    ward.alert(Severity.HIGH)
    look = deliveries.next_due
    threads: list[threading.Thread] = []

    def slow(connection: Connection, batch: int) -> int | None:
        due = look(connection, batch)
        if not threads:
            threads.append(threading.Thread(target=ward.receipt, args=(ward.first, 1, 1, "failed")))
            threads[0].start()
            threads[0].join(0.3)  # it would be done by now, if nothing held it
        return due

    monkeypatch.setattr(deliveries, "next_due", slow)
    ward.run()
    threads[0].join(10)
    ward.run()
    assert ward.second.taken.total() == 1
    assert ward.states() == {"accepted": 1}


def test_a_batch_gives_way_between_chunks_to_what_is_more_urgent(ward: Ward) -> None:
    ward.staff(25)
    ward.alert(Severity.HIGH)
    assert ward.deliverer.run_one(lowest=3, by_task=True, give_way=lambda: True)
    assert ward.states() == {"accepted": 10, "queued": 15}  # one chunk of ten
    ward.run()
    assert ward.states() == {"accepted": 25}
    ward.alert(Severity.CRITICAL)
    ward.deliverer.run_one(lowest=3, by_task=True, give_way=lambda: True)
    assert ward.states() == {"accepted": 50}  # what is critical gives way to nothing


def test_what_one_provider_cannot_carry_the_next_may_and_it_fails_only_when_all_have_said_so(ward: Ward) -> None:
    ward.staff(2)
    ward.first.answer = Rejected(Scope.MESSAGE, "21408", "not to this country")
    ward.second.answers = [UP, Rejected(Scope.MESSAGE, "ValidationError", "nor here")]
    ward.alert(Severity.HIGH)
    ward.run()
    assert ward.states() == {"accepted": 1, "failed": 1}


def test_a_route_that_failed_once_is_better_than_one_that_refuses_us(ward: Ward) -> None:
    ward.staff(1)
    ward.first.answers = [REFUSED]
    ward.second.answer = Rejected(Scope.CHANNEL, "403", "credentials")
    ward.alert(Severity.CRITICAL)
    ward.run()
    assert ward.states() == {"accepted": 1}
    assert (ward.first.taken.total(), ward.second.taken.total()) == (1, 0)


def test_our_own_lateness_is_not_the_route_s_fault(ward: Ward) -> None:
    ward.staff(1)
    ward.first.answers = [Deferred("lease_expired", "too late to write")]
    ward.alert(Severity.HIGH)
    ward.run()
    assert (ward.first.taken.total(), ward.second.taken.total()) == (1, 0)
