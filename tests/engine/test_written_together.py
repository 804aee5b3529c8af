"""What comes together is written together, and each caller gets the answer that is due to it alone."""

import asyncio
import itertools
import json
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any
from unittest import mock

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from broadcaster.domain.audience import Audience, Everyone, HasTag
from broadcaster.domain.channel import Callback
from broadcaster.domain.errors import Invalid, KeyReused, Unavailable
from broadcaster.domain.messages import Severity
from broadcaster.domain.outcomes import Accepted, Deferred
from broadcaster.services import progress as progress_module
from broadcaster.services import together
from broadcaster.services.alerts import Draft, Step, steps_of
from broadcaster.services.directory import Directory, Person
from broadcaster.services.progress import Progress
from broadcaster.services.together import Together
from broadcaster.store import alerts as alert_store
from broadcaster.store.copying import add_all
from broadcaster.store.database import UNAVAILABLE
from broadcaster.store.tables import recipients
from tests.engine.rig import NAME, Engine
from tests.engine.stepping import Worker


def draft(title: str = "Email is down", *, dedup_key: str | None = None, audience: Audience | None = None) -> Draft:
    steps = (Step((NAME,), 0),)
    return Draft(title, "Use bleeps.", Severity.HIGH, audience or Everyone(), steps, 600, "IT", dedup_key=dedup_key)


def test_alerts_that_come_at_once_are_answered_each_for_itself(engine: Engine) -> None:
    with nothing_is_written(engine):
        first = engine.alerts.hand_in(draft(), engine.caller)
        again = [engine.alerts.hand_in(draft("Once"), engine.caller, "key") for _ in range(3)]
        other_words = engine.alerts.hand_in(draft("Twice"), engine.caller, "key")
        shared = [engine.alerts.hand_in(draft(str(n), dedup_key="mail"), engine.caller, f"d{n}") for n in range(2)]
        nobody = engine.alerts.hand_in(draft(audience=HasTag("site", "nowhere")), engine.caller, "nobody")
        last = engine.alerts.hand_in(draft(), engine.caller)
    assert [f.result().created for f in (first, last)] == [True, True]
    assert {f.result().uid for f in again} == {again[0].result().uid}
    assert [f.result().created for f in again] == [True, False, False]
    assert [f.result().created for f in shared] == [True, False]
    assert shared[0].result().uid == shared[1].result().uid
    with pytest.raises(KeyReused):
        other_words.result()
    with pytest.raises(Invalid, match="site:nowhere"):
        nobody.result()
    assert engine.rows("SELECT count(*) FROM alerts")[0][0] == 4
    # The second with the dedup_key is remembered as well: its retry must not raise another one when the first has closed.
    assert {row[0] for row in engine.rows("SELECT key FROM idempotency_keys")} == {"key", "d0", "d1"}


def test_an_alert_whose_commit_is_not_answered_is_not_raised_twice(engine: Engine) -> None:
    with the_next_commits_answer_is_lost(engine), pytest.raises(UNAVAILABLE):
        engine.alerts.accept(draft(), engine.caller)
    assert engine.rows("SELECT count(*) FROM alerts")[0][0] == 1
    # Who may not repeat it blindly had better have given a key: then the repeat finds it.
    with the_next_commits_answer_is_lost(engine), pytest.raises(UNAVAILABLE):
        engine.alerts.accept(draft(), engine.caller, "key")
    assert not engine.alerts.accept(draft(), engine.caller, "key").created
    assert engine.rows("SELECT count(*) FROM alerts")[0][0] == 2


def test_a_repeat_whose_marking_is_not_answered_is_looked_up_and_then_sent(engine: Engine) -> None:
    """It may have been marked, so it may never be taken for unmarked: nobody would recover it."""
    engine.alert()
    engine.planner.run_one(lowest=3)
    provider = engine.providers[0]
    provider.decide = lambda route, to: Deferred("500", "the provider has trouble")
    run_through(engine)
    assert [r[0] for r in engine.rows("SELECT state FROM deliveries")] == ["retrying"]
    engine.clock.turn(60)
    provider.decide = lambda route, to: Accepted(f"p{to.delivery}-{to.attempt}")
    worker = Worker(engine, "worker")
    worker.go()  # chosen, not yet marked
    with the_next_commits_answer_is_lost(engine), pytest.raises(UNAVAILABLE):
        worker.go()
    assert [tuple(r) for r in engine.rows("SELECT state, attempt FROM deliveries")] == [("sending", 2)]
    for _ in range(5):
        engine.clock.turn(60)
        run_through(engine)
    assert [tuple(r) for r in engine.rows("SELECT state, attempt FROM deliveries")] == [("accepted", 3)]
    assert ("sending", "uncertain") in [tuple(r) for r in engine.rows("SELECT old, new FROM delivery_events")]


def run_through(engine: Engine) -> None:
    worker = Worker(engine, "another")
    worker.go()
    while worker.busy:
        worker.go()


def test_a_chunk_that_was_marked_in_two_steps_of_which_one_is_not_answered_is_recovered_whole(engine: Engine) -> None:
    Directory(engine.database, engine.channels).create(Person("Nurse", addresses={NAME: ["2000"]}))
    engine.alert()
    engine.planner.run_one(lowest=3)
    first = engine.rows("SELECT min(id) FROM deliveries")[0][0]
    engine.write(
        f"UPDATE deliveries SET state = 'retrying', attempt = 1, tries = 1 WHERE id = {first}",
        "UPDATE batches SET n_queued = 1, n_retrying = 1",
    )
    worker = Worker(engine, "worker")
    worker.go()  # both chosen, neither marked
    spare = 0 if engine.database.dialect == "postgresql" else 1  # there the first marking is no transaction of its own
    with the_next_commits_answer_is_lost(engine, spare), pytest.raises(UNAVAILABLE):
        worker.go()
    assert engine.rows("SELECT n_sending, next_at IS NOT NULL FROM batches")[0] == (2, True)
    for _ in range(5):
        engine.clock.turn(60)
        run_through(engine)
    assert [tuple(r) for r in engine.rows("SELECT state FROM deliveries")] == [("accepted",)] * 2


def test_each_critical_alert_of_a_group_wakes_somebody_and_first(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """One process takes alert after alert, each to its provider's answer: no critical one waits for that of another."""
    woken: list[tuple[int, int]] = []
    group: list[Any] = []
    monkeypatch.setattr(engine.wake_ups, "plan", lambda priority, times=1: woken.append((priority, times)))
    monkeypatch.setattr(engine.alerts._together, "hand_in", group.append)
    for n, severity in enumerate([Severity.HIGH] * 9 + [Severity.CRITICAL] * 3):
        engine.alerts.hand_in(replace(draft(str(n)), severity=severity), engine.caller)
    engine.alerts._write_group(group)
    assert engine.rows("SELECT count(*) FROM alerts")[0][0] == 12
    assert woken == [(0, 3), (1, 2)]


def test_an_alert_is_kept_once_although_nobody_can_be_woken(engine: Engine) -> None:
    """A machine that has no thread left: told by a fault after the commit, the group would be written again one by one."""
    start = threading.Thread.start

    def no_more(thread: threading.Thread) -> None:
        if thread.name == "wake-ups":
            raise RuntimeError("can't start new thread")
        start(thread)

    with mock.patch.object(threading.Thread, "start", no_more):
        with nothing_is_written(engine):
            futures = [engine.alerts.hand_in(draft(str(n)), engine.caller) for n in range(3)]
        assert all(f.result(timeout=10).created for f in futures)
    assert engine.rows("SELECT count(*) FROM alerts")[0][0] == 3
    assert engine.wake_ups.published["dropped"] >= 1  # one for each group that they were kept in


@contextmanager
def the_next_commits_answer_is_lost(engine: Engine, spare: int = 0) -> Iterator[None]:
    """It is kept, and then the connection is gone before that is said. ``spare``: commits before it that are answered."""
    dialect = engine.database.engine.dialect
    commit, left = dialect.do_commit, spare

    def keep_and_break(connection: Any) -> None:
        nonlocal left
        commit(connection)
        left -= 1
        if left != -1:
            return
        if dialect.name == "postgresql":
            connection.driver_connection.close()
            raise psycopg.OperationalError("server closed the connection unexpectedly")
        raise sqlite3.OperationalError("disk I/O error")

    with mock.patch.object(dialect, "do_commit", keep_and_break):
        yield
    assert left < 0


@contextmanager
def nothing_is_written(engine: Engine) -> Iterator[None]:
    """Until the end of it."""
    with engine.database.write() as connection:
        if engine.database.dialect == "postgresql":
            connection.exec_driver_sql("LOCK TABLE alerts IN EXCLUSIVE MODE")
        yield


def test_receipts_that_come_at_once_prove_the_same_as_one_by_one(engine: Engine) -> None:
    delivery = a_message_was_taken(engine)

    async def calls() -> None:
        states = ["accepted", "delivered", "delivered", "accepted"]
        values = [{"delivery": delivery, "attempt": 1, "state": state, "provider_id": f"p{delivery}-1"} for state in states]
        bodies = [json.dumps(value).encode() for value in values]
        route = {"route": engine.providers[0].route}
        await asyncio.gather(*(engine.receipts.take(NAME, Callback("", {}, route, body)) for body in bodies))

    asyncio.run(calls())
    (row,) = engine.rows("SELECT state, provider_id, next_at FROM deliveries")
    assert tuple(row) == ("delivered", f"p{delivery}-1", None)
    steps = engine.rows("SELECT old, new FROM delivery_events ORDER BY id")
    assert [tuple(s) for s in steps] == [("queued", "sending"), ("sending", "accepted"), ("accepted", "delivered")]
    assert [tuple(r) for r in engine.rows("SELECT n_accepted, n_delivered, next_at FROM batches")][0][:2] == (0, 1)


def test_a_first_word_of_arrival_is_one_step(engine: Engine) -> None:
    delivery = a_message_was_taken(engine)
    engine.receipt(engine.providers[0].route, delivery=delivery, attempt=1, state="delivered")
    assert [r[0] for r in engine.rows("SELECT state FROM deliveries")] == ["delivered"]
    assert tuple(engine.rows("SELECT old, new FROM delivery_events ORDER BY id DESC LIMIT 1")[0]) == (
        "accepted",
        "delivered",
    )
    assert tuple(engine.rows("SELECT n_accepted, n_delivered FROM batches")[0]) == (0, 1)


def a_message_was_taken(engine: Engine) -> int:
    engine.alert()
    engine.planner.run_one(lowest=3)
    worker = Worker(engine, "worker")
    worker.go()
    while worker.busy:
        worker.go()
    ((delivery,),) = engine.rows("SELECT id FROM deliveries WHERE state = 'accepted'")
    return int(delivery)


Write = Callable[[Sequence[int]], Sequence[Any]]


def test_one_bad_item_costs_no_other_its_place() -> None:
    def write(group: Sequence[int]) -> list[int | Exception]:
        if 3 in group:
            raise ValueError("3 cannot be written")
        return [KeyReused("twice") if n == 4 else n * 10 for n in group]

    answers = at_once(write, [1, 2, 3, 4, 5])
    assert [a.result() for a in answers if a.exception() is None] == [10, 20, 50]
    assert [type(a.exception()) for a in answers[2:4]] == [ValueError, KeyReused]


def test_the_databases_trouble_is_everybodys_and_is_met_once() -> None:
    tries: list[int] = []

    def write(group: Sequence[int]) -> list[int]:
        if len(group) > 1:
            tries.append(len(group))
            raise UNAVAILABLE[0]("", None, Exception())
        return list(group)

    answers = at_once(write, [1, 2, 3])
    assert [type(a.exception()) for a in answers] == [UNAVAILABLE[0]] * 3
    assert tries == [3]


def test_only_who_has_waited_long_shares_the_trouble_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    def write(group: Sequence[int]) -> Sequence[int]:
        if 1 in group:
            raise UNAVAILABLE[0]("", None, Exception())
        return group

    monkeypatch.setattr(together, "PATIENCE", 60.0)
    answers = at_once(write, [1, 2, 3, 4, 5], most=2)
    assert [type(a.exception()) for a in answers] == [UNAVAILABLE[0]] * 2 + [type(None)] * 3
    monkeypatch.setattr(together, "PATIENCE", 0.0)
    assert all(isinstance(a.exception(), UNAVAILABLE) for a in at_once(write, [1, 2, 3, 4, 5], most=2))


def test_looking_for_the_bad_one_ends_where_the_database_goes_away() -> None:
    tries: list[Sequence[int]] = []

    def write(group: Sequence[int]) -> Sequence[int]:
        tries.append(group)
        if len(group) > 1:
            raise ValueError("one of these cannot be written")
        if group == [2]:
            raise UNAVAILABLE[0]("", None, Exception())
        return group

    answers = at_once(write, [1, 2, 3])
    assert [type(a.exception()) for a in answers] == [type(None), UNAVAILABLE[0], UNAVAILABLE[0]]
    assert tries == [[1, 2, 3], [1], [2]]


def test_a_wrong_number_of_answers_leaves_nobody_waiting_and_nothing_is_written_again() -> None:
    tries: list[Sequence[int]] = []

    def write(group: Sequence[int]) -> Sequence[int]:
        tries.append(group)
        return [10]

    answers = at_once(write, [1, 2])
    assert [type(a.exception()) for a in answers] == [RuntimeError] * 2
    assert tries == [[1, 2]]


def test_too_many_are_told_to_come_back_and_the_others_are_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(together, "MOST_WAITING", 2)
    answers = at_once(lambda group: group, [1, 2, 3])
    assert [a.result() for a in answers[:2]] == [1, 2]
    with pytest.raises(Unavailable, match="waiting"):
        answers[2].result()


def at_once(
    write: Write, items: Sequence[int], apart: Callable[[int], Sequence[object]] = lambda _: (), most: int = 10
) -> list[Any]:
    """Hands them in while something else (0) is being written; their futures, done."""
    begun, go_on = threading.Event(), threading.Event()

    def slowly(group: Sequence[int]) -> Sequence[Any]:
        if 0 in group:
            begun.set()
            go_on.wait()
            return [0]
        return write(group)

    gathered: Together[int, Any] = Together(slowly, most=most, name="test", apart=apart)
    gathered.hand_in(0)
    begun.wait()
    futures = []
    for item in items:
        try:
            futures.append(gathered.hand_in(item))
        except Unavailable as refused:
            futures.append(Future())
            futures[-1].set_exception(refused)
    go_on.set()
    for future in futures:
        future.exception(timeout=10)
    return futures


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00")), min_size=1))
@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_a_name_holds_is_kept_as_it_is(engine: Engine, names: list[str]) -> None:
    with engine.database.write() as connection:
        connection.execute(recipients.delete().where(recipients.c.from_rev == 99))
        row = {"external_id": None, "created_at": 1, "from_rev": 99}
        add_all(connection, recipients, [{"uid": f"u{n}", "name": name, **row} for n, name in enumerate(names)])
    found = engine.rows("SELECT name, external_id FROM recipients WHERE from_rev = 99 ORDER BY id")
    assert [tuple(r) for r in found] == [(name, None) for name in names]


def test_rows_that_cannot_be_made_to_the_end_leave_nothing(engine: Engine) -> None:
    def rows() -> Iterator[dict[str, object]]:
        for n in range(2_000):
            yield {"uid": f"u{n}", "name": "Half a list", "external_id": None, "created_at": 1, "from_rev": 99}
        raise LookupError("no more")

    with pytest.raises(LookupError, match="no more"), engine.database.write() as connection:
        add_all(connection, recipients, rows())
    assert engine.rows("SELECT 1 FROM recipients WHERE name = 'Half a list'") == []
    with engine.database.write() as connection:  # and the next one finds everything in order
        add_all(connection, recipients, itertools.islice(rows(), 2_000))
        assert connection.exec_driver_sql("SELECT count(*) FROM recipients WHERE name = 'Half a list'").scalar_one() == 2_000
        connection.rollback()


def test_repeats_hold_up_nobody_who_comes_with_them() -> None:
    groups: list[list[int]] = []

    def write(group: Sequence[int]) -> Sequence[int]:
        groups.append(list(group))
        return group

    answers = at_once(write, [11, 12, 13, 20, 30], apart=lambda item: [item // 10])
    assert [a.result() for a in answers] == [11, 12, 13, 20, 30]
    assert groups == [[11, 20, 30], [12], [13]]


def test_a_crowd_of_repeats_is_not_looked_through_whole() -> None:
    looks: list[int] = []

    def apart(item: int) -> list[object]:
        looks.append(item)
        return ["the same"]

    answers = at_once(lambda group: group, list(range(1, 101)), apart=apart, most=2)
    assert [a.result() for a in answers] == list(range(1, 101))
    assert len(looks) <= 4 * 101


def test_a_step_with_a_channel_twice_is_one_with_it_once() -> None:
    steps = steps_of(["sms", "sms"], [Step(("push", "push"), 60)])
    assert [s.channels for s in steps] == [("sms",), ("push",)]


def test_samples_are_taken_although_a_channel_is_no_longer_set_up(engine: Engine) -> None:
    a_message_was_taken(engine)
    engine.write("UPDATE batches SET channel = 'gone'", "UPDATE alerts SET cancelled_at = 1")
    progress = Progress(engine.database, engine.channels, b"s" * 32)
    assert progress.sample() == 1
    assert engine.rows("SELECT channel FROM alert_samples")[0][0] == "gone"
    assert engine.rows("SELECT completed_at FROM alerts")[0][0]  # cancelled, and nothing of it may still leave
    assert progress.sample() == 0


def _points(engine: Engine) -> list[tuple[int, int, int]]:
    """(s since the alert, accepted, delivered)."""
    made = engine.rows("SELECT created_at FROM alerts")[0][0]
    rows = engine.rows("SELECT at, accepted, delivered FROM alert_samples ORDER BY at")
    return [((at - made) // 1000, accepted, delivered) for at, accepted, delivered in rows]


def test_what_does_not_move_is_not_written_and_what_moves_again_was_flat_until_then(engine: Engine) -> None:
    a_message_was_taken(engine)
    progress = Progress(engine.database, engine.channels, b"s" * 32)

    def look(seconds: float) -> None:
        engine.clock.turn(seconds)
        progress._next_look = progress._next_look_at_all = 0.0
        progress.sample()

    for _ in range(10):
        look(1)
    assert _points(engine) == [(1, 1, 0)]
    look(20)
    engine.receipt(f"{NAME}:0", delivery=1, attempt=1, state="delivered")
    look(1)
    assert _points(engine) == [(1, 1, 0), (30, 1, 0), (31, 1, 1)]  # no slope from the first to the last
    assert engine.rows("SELECT completed_at - created_at FROM alerts")[0][0] == 31_000


def test_an_old_alert_has_few_points_but_is_completed_at_the_next_look(engine: Engine) -> None:
    a_message_was_taken(engine)
    progress = Progress(engine.database, engine.channels, b"s" * 32)
    engine.clock.turn(3_600)
    assert progress.sample() == 1
    engine.clock.turn(5)
    engine.receipt(f"{NAME}:0", delivery=1, attempt=1, state="failed", code="30003")
    progress._next_look = progress._next_look_at_all = 0.0
    assert progress.sample() == 1
    assert _points(engine) == [(3_600, 1, 0), (3_605, 0, 0)]  # its last word is kept, although it is not yet time for it
    assert engine.rows("SELECT completed_at IS NOT NULL FROM alerts")[0][0]


def test_a_look_that_had_to_wait_is_followed_by_the_next_within_seconds(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    progress = Progress(engine.database, engine.channels, b"s" * 32)
    now = [100.0]
    look = alert_store.moved

    def slow(*args: Any, **kwargs: Any) -> list[int]:
        now[0] += 10.0
        return look(*args, **kwargs)

    monkeypatch.setattr(progress_module, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(alert_store, "moved", slow)
    progress.sample()
    a_message_was_taken(engine)
    assert progress.sample() == 0
    now[0] += 5.0
    assert progress.sample() == 1


def test_many_that_are_done_are_closed_without_a_rest(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress_module, "_CLOSED_AT_ONCE", 2)
    progress = Progress(engine.database, engine.channels, b"s" * 32)
    for n in range(5):
        engine.alerts.accept(draft(str(n)), engine.caller)
    engine.write("UPDATE alerts SET cancelled_at = 1")
    assert [progress.sample() for _ in range(3)] == [2, 2, 1]


def test_sampling_waits_for_nobody_who_marks(engine: Engine) -> None:
    a_message_was_taken(engine)
    if engine.database.dialect == "sqlite":
        return  # its one write lock is waited for by everybody
    progress = Progress(engine.database, engine.channels, b"s" * 32)
    with engine.database.write() as marking:
        marking.exec_driver_sql("SET LOCAL statement_timeout = 5000")
        marking.exec_driver_sql("SELECT 1 FROM alerts FOR SHARE")
        assert progress.sample() == 1
    assert len(_points(engine)) == 1
