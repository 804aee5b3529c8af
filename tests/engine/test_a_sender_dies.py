"""A sender dies between marking a message and writing it: how long it takes until the message leaves after all."""

import itertools
from dataclasses import replace
from unittest import mock

import pytest

from broadcaster.domain.channel import Traits
from broadcaster.domain.messages import Envelope, Severity
from broadcaster.domain.outcomes import Absent, Accepted, Ambiguous, Finding, Found, Outcome, Unknown
from broadcaster.services.directory import Directory, Person
from broadcaster.store import batches, deliveries
from broadcaster.store.database import UNAVAILABLE
from tests.engine.rig import NAME, Engine
from tests.engine.stepping import Worker

TRAITS = Traits(NAME, "Bleep", 10, None, duplicates_collapse=False, gives_receipts=True)


@pytest.mark.parametrize(("severity", "within"), [(Severity.CRITICAL, 10), (Severity.HIGH, 20)])
def test_it_leaves_once_and_in_time(engine: Engine, severity: Severity, within: int) -> None:
    handed_over = a_sender_died(engine, severity)
    began = engine.clock.boottime()
    for _ in range(30):
        a_neighbour_looks(engine)
        engine.clock.turn(1)
    assert len(handed_over) == 1
    assert handed_over[0] - began <= within


def test_when_long_trouble_at_the_look_ups_is_over_it_leaves_within_a_minute_or_so(engine: Engine) -> None:
    handed_over = a_sender_died(engine, Severity.HIGH)
    engine.providers[0].find = lambda route, to: Unknown("the list cannot be read")
    for _ in range(50):
        engine.clock.turn(10)
        a_neighbour_looks(engine)
    assert not handed_over
    engine.providers[0].find = lambda route, to: Absent()
    over = engine.clock.boottime()
    for _ in range(30):
        engine.clock.turn(5)
        a_neighbour_looks(engine)
    assert len(handed_over) == 1
    assert handed_over[0] - over <= 75


@pytest.mark.parametrize(
    ("severity", "in_a_minute", "rare"), [(Severity.CRITICAL, 5, 50), (Severity.HIGH, 4, 300)], ids=["critical", "high"]
)
def test_where_answers_are_lost_and_the_list_stays_behind_the_repeats_become_rare(
    engine: Engine, severity: Severity, in_a_minute: int, rare: int
) -> None:
    engine.connect(TRAITS)
    began, sent = engine.clock.boottime(), list[float]()

    def decide(route: str, to: Envelope) -> Outcome:
        sent.append(engine.clock.boottime() - began)
        return Ambiguous("disconnected", "the answer was lost")

    engine.providers[0].decide = decide
    engine.providers[0].find = lambda route, to: Absent()
    engine.alert(severity, expires_in=4 * 3600)
    engine.planner.run_one(lowest=3)
    while engine.clock.boottime() - began < 1_800:
        a_neighbour_looks(engine)
        engine.clock.turn(1 if len(sent) < in_a_minute else 3)
    assert 2 <= len([at for at in sent if at < 60]) <= in_a_minute
    gaps = [after - before for before, after in itertools.pairwise(sent)]
    assert gaps[:2] == sorted(gaps[:2])
    assert gaps[0] < 20  # the first time at once
    assert gaps[-1] >= rare
    assert engine.rows("SELECT count(*) FROM delivery_events WHERE code = 'resent_unconfirmed'")[0][0] == 0


def test_a_push_in_doubt_is_repeated_at_growing_intervals(engine: Engine) -> None:
    """A push service that answers every request with an error, for ten minutes."""
    engine.connect(replace(TRAITS, duplicates_collapse=True))
    sent = list[float]()

    def decide(route: str, to: Envelope) -> Outcome:
        sent.append(engine.clock.boottime())
        return Ambiguous("500", "the push service answered 500")

    engine.providers[0].decide = decide
    engine.alert(Severity.HIGH, expires_in=3600)
    engine.planner.run_one(lowest=3)
    for _ in range(600):
        a_neighbour_looks(engine)
        engine.clock.turn(1)
    gaps = [after - before for before, after in itertools.pairwise(sent)]
    assert 8 <= len(sent) <= 14
    assert gaps[0] < 4
    assert max(gaps) <= 65


def test_what_was_listed_late_is_found_before_it_is_repeated_again(engine: Engine) -> None:
    """A list that is 20 s behind, and every answer lost."""
    engine.connect(TRAITS)
    sent = list[float]()

    def decide(route: str, to: Envelope) -> Outcome:
        sent.append(engine.clock.boottime())
        return Ambiguous("disconnected", "the answer was lost")

    def find(route: str, to: Envelope) -> Finding:
        listed = engine.clock.boottime() - sent[to.attempt - 1] >= 20
        return Found(f"p{to.attempt}", "accepted") if listed else Absent()

    engine.providers[0].decide, engine.providers[0].find = decide, find
    engine.alert(Severity.CRITICAL, expires_in=4 * 3600)
    engine.planner.run_one(lowest=3)
    for _ in range(300):
        a_neighbour_looks(engine)
        engine.clock.turn(1)
    assert len(sent) == 4  # and the fourth is found
    assert engine.rows("SELECT state FROM deliveries")[0][0] == "accepted"


def a_sender_died(engine: Engine, severity: Severity) -> list[float]:
    """Between the mark and the write. When messages are handed over from now on."""
    engine.connect(TRAITS)
    handed_over: list[float] = []

    def decide(route: str, to: Envelope) -> Outcome:
        handed_over.append(engine.clock.boottime())
        return Accepted(f"p{to.delivery}-{to.attempt}")

    engine.providers[0].decide = decide
    engine.alert(severity, expires_in=3600)
    engine.planner.run_one(lowest=3)
    dying = Worker(engine, "dying")
    dying.go()  # before the mark
    dying.go()  # marked
    dying.die()
    assert not handed_over
    with engine.database.write() as connection:
        batches.release_owner(connection, "dying")
    return handed_over


def a_neighbour_looks(engine: Engine) -> None:
    neighbour = Worker(engine, "neighbour")
    neighbour.go()
    while neighbour.busy:
        neighbour.go()


def test_what_is_marked_leaves_although_the_rest_of_its_chunk_could_not_be(engine: Engine) -> None:
    engine.connect(TRAITS)
    Directory(engine.database, engine.channels).create(Person("Nurse", addresses={NAME: ["2000"]}))
    engine.alert()
    engine.planner.run_one(lowest=3)
    worker = Worker(engine, "worker")
    worker.go()  # both are chosen
    engine.write("UPDATE contacts SET disabled_at = 1 WHERE address = '2000'")
    with mock.patch.object(deliveries, "keep_attempts", side_effect=deliveries.LostRace):
        while worker.busy:
            worker.go()
    assert states(engine) == {"1000": "accepted", "2000": "queued"}
    a_neighbour_looks(engine)
    assert states(engine) == {"1000": "accepted", "2000": "skipped"}


@pytest.mark.parametrize("severity", [Severity.CRITICAL, Severity.HIGH])
def test_no_length_of_the_databases_trouble_counts_against_a_message(engine: Engine, severity: Severity) -> None:
    engine.connect(TRAITS)
    Directory(engine.database, engine.channels).create(Person("Nurse", addresses={NAME: ["2000"]}))
    engine.alert(severity)
    engine.planner.run_one(lowest=3)
    locked = UNAVAILABLE[0]("", None, Exception("lock timeout"))
    with mock.patch.object(deliveries, "mark_first", side_effect=locked):
        for n in range(12):
            worker = Worker(engine, f"worker {n}")
            worker.go()
            with pytest.raises(UNAVAILABLE):
                worker.go()
            engine.clock.turn(1.1)
    a_neighbour_looks(engine)
    assert states(engine) == {"1000": "accepted", "2000": "accepted"}


def test_a_message_that_kills_its_senders_fails_alone(engine: Engine) -> None:
    engine.connect(TRAITS)
    Directory(engine.database, engine.channels).create(Person("Nurse", addresses={NAME: ["2000"]}))
    engine.alert()
    engine.planner.run_one(lowest=3)
    for n in range(40):
        worker = Worker(engine, f"worker {n}")
        worker.go()
        while worker.busy:
            (worker.die if sender_of_2000(engine) == worker.owner else worker.go)()
        with engine.database.write() as connection:
            batches.release_owner(connection, f"worker {n}")
        engine.clock.turn(30)
    assert states(engine) == {"1000": "accepted", "2000": "failed"}
    assert engine.rows("SELECT code FROM deliveries WHERE state = 'failed'")[0][0] == "poison"


def sender_of_2000(engine: Engine) -> str | None:
    sql = "SELECT b.owner FROM batches b JOIN deliveries d ON d.batch_id = b.id JOIN contacts c ON c.id = d.contact_id"
    return next((row.owner for row in engine.rows(f"{sql} WHERE c.address = '2000' AND d.state <> 'failed'")), None)


def states(engine: Engine) -> dict[str, str]:
    rows = engine.rows("SELECT address, state FROM deliveries d JOIN contacts c ON c.id = d.contact_id")
    return {row.address: row.state for row in rows}
