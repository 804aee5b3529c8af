"""The heartbeat to a dead-man service: while deliveries are consumed, from one process at a time, and not otherwise."""

import pytest

from broadcaster.domain.messages import Severity
from broadcaster.domain.monitor import Verdict
from broadcaster.services.lifesign import Lifesign, what_is_stuck
from tests.engine.rig import Engine
from tests.engine.stepping import Worker
from tests.watching.rig import AtOnce, Site


class Calls(AtOnce):
    """Counts what would be called."""

    def __init__(self) -> None:
        self.n = 0

    def submit(self, coroutine):  # type: ignore[no-untyped-def]
        coroutine.close()
        self.n += 1


def sign(engine: Engine, calls: Calls) -> Lifesign:
    return Lifesign(engine.database, calls, "http://127.0.0.1:1/", 60.0)


def test_one_of_many_processes_sends_it_at_its_pace(site: Site) -> None:
    calls = Calls()
    for _ in range(5):
        sign(site.engine, calls).tick()  # each a process of its own
    assert calls.n == 1
    site.engine.clock.turn(60)
    for _ in range(5):
        sign(site.engine, calls).tick()
    assert calls.n == 2


@pytest.mark.parametrize(("severity", "grace"), [(Severity.CRITICAL, 30), (Severity.HIGH, 120)])
def test_it_falls_silent_when_what_is_due_does_not_move_and_comes_back_when_it_does(
    site: Site, severity: Severity, grace: int
) -> None:
    calls, engine = Calls(), site.engine
    engine.alert(severity, expires_in=3600)
    engine.planner.run_one(lowest=3)
    engine.clock.turn(grace - 1)
    assert sign(engine, calls).tick()
    engine.clock.turn(61)
    assert not sign(engine, calls).tick()
    with engine.database.read() as connection:
        assert "none moves" in str(what_is_stuck(connection))
    worker = Worker(engine, "worker")
    worker.go()
    while worker.busy:
        worker.go()
    engine.clock.turn(5.1)  # as soon as it moves again
    assert sign(engine, calls).tick()


def test_it_falls_silent_when_nobody_looks(site: Site) -> None:
    site.watch()
    site.look()
    with site.engine.database.read() as connection:
        assert what_is_stuck(connection) is None
    site.engine.clock.turn(130)
    with site.engine.database.read() as connection:
        assert "looked at" in str(what_is_stuck(connection))
    site.look()
    with site.engine.database.read() as connection:
        assert what_is_stuck(connection) is None


def test_it_falls_silent_when_nobody_takes_what_is_to_be_told(site: Site) -> None:
    site.watch()
    site.kind.says["mail"] = Verdict.FAILED
    for _ in range(3):
        site.look()
    site.engine.clock.turn(62)
    with site.engine.database.read() as connection:
        assert "outage" in str(what_is_stuck(connection))
    site.follow()
    with site.engine.database.read() as connection:
        assert what_is_stuck(connection) is None


def test_without_an_address_nothing_is_called(site: Site) -> None:
    calls = Calls()
    assert not Lifesign(site.engine.database, calls, "", 60.0).tick()
    assert calls.n == 0
