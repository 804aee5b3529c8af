"""What comes together is written together, and each caller gets the answer that is due to it alone."""

import asyncio
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from broadcaster.domain.audience import Audience, Everyone, HasTag
from broadcaster.domain.channel import Callback
from broadcaster.domain.errors import Invalid, KeyReused, Unavailable
from broadcaster.domain.messages import Severity
from broadcaster.services import together
from broadcaster.services.alerts import Draft, Step, steps_of
from broadcaster.services.progress import Progress
from broadcaster.services.together import Together
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


def test_too_many_are_told_to_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(together, "MOST_WAITING", 2)
    with pytest.raises(Unavailable, match="waiting"):
        at_once(lambda group: list(group), [1, 2, 3])


def at_once(write: Write, items: Sequence[int], apart: Callable[[int], Sequence[object]] = lambda _: ()) -> list[Any]:
    """Hands them in while something else (0) is being written; their futures, done."""
    begun, go_on = threading.Event(), threading.Event()

    def slowly(group: Sequence[int]) -> Sequence[Any]:
        if 0 in group:
            begun.set()
            go_on.wait()
            return [0]
        return write(group)

    gathered: Together[int, Any] = Together(slowly, most=10, name="test", apart=apart)
    gathered.hand_in(0)
    begun.wait()
    try:
        futures = [gathered.hand_in(item) for item in items]
    finally:
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


def test_repeats_hold_up_nobody_who_comes_with_them() -> None:
    groups: list[list[int]] = []

    def write(group: Sequence[int]) -> Sequence[int]:
        groups.append(list(group))
        return group

    answers = at_once(write, [11, 12, 13, 20, 30], apart=lambda item: [item // 10])
    assert [a.result() for a in answers] == [11, 12, 13, 20, 30]
    assert groups == [[11, 20, 30], [12], [13]]


def test_a_step_with_a_channel_twice_is_one_with_it_once() -> None:
    steps = steps_of(["sms", "sms"], [Step(("push", "push"), 60)])
    assert [s.channels for s in steps] == [("sms",), ("push",)]


def test_samples_are_taken_although_a_channel_is_no_longer_set_up(engine: Engine) -> None:
    a_message_was_taken(engine)
    engine.write("UPDATE batches SET channel = 'gone'", "UPDATE alerts SET cancelled_at = 1, sampled_at = 0")
    progress = Progress(engine.database, engine.channels, b"s" * 32)
    assert progress.sample() == 1
    assert engine.rows("SELECT channel FROM alert_samples")[0][0] == "gone"
    assert engine.rows("SELECT completed_at FROM alerts")[0][0]  # cancelled, and nothing of it may still leave
    assert progress.sample() == 0
