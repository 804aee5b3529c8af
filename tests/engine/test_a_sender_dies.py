"""A sender dies between marking a message and writing it: how long it takes until the message leaves after all."""

from collections.abc import Callable, Iterator

import pytest

from broadcaster.domain.channel import Traits
from broadcaster.domain.messages import Envelope, Severity
from broadcaster.domain.outcomes import Accepted, Outcome
from broadcaster.store import batches
from tests.engine.rig import NAME, Engine
from tests.engine.stepping import Worker

TRAITS = Traits(NAME, "Bleep", 10, None, duplicates_collapse=False, gives_receipts=True)


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    make: Callable[[], str] | None = request.getfixturevalue("postgres_url") if request.param == "postgresql" else None
    engine = Engine(make() if make else f"sqlite:///{tmp_path_factory.mktemp('dying')}/x.db", people=1)
    with engine.clock.ticking():
        yield engine
    engine.close()


@pytest.mark.parametrize(("severity", "within"), [(Severity.CRITICAL, 10), (Severity.HIGH, 20)])
def test_it_leaves_once_and_in_time(engine: Engine, severity: Severity, within: int) -> None:
    engine.connect(TRAITS)
    handed_over: list[float] = []

    def decide(route: str, to: Envelope) -> Outcome:
        handed_over.append(engine.clock.boottime())
        return Accepted(f"p{to.delivery}-{to.attempt}")

    engine.providers[0].decide = decide
    engine.alert(severity)
    engine.planner.run_one(lowest=3)
    began = engine.clock.boottime()
    dying = Worker(engine, "dying")
    dying.go()  # before the mark
    dying.go()  # marked
    dying.die()
    assert not handed_over
    with engine.database.write() as connection:
        batches.release_owner(connection, "dying")

    for _ in range(30):
        neighbour = Worker(engine, "neighbour")
        neighbour.go()
        while neighbour.busy:
            neighbour.go()
        engine.clock.turn(1)
    assert len(handed_over) == 1
    assert handed_over[0] - began <= within
