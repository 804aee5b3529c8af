"""An engine on each database, with one person in it."""

from collections.abc import Callable, Iterator

import pytest

from tests.engine.rig import Engine


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    make: Callable[[], str] | None = request.getfixturevalue("postgres_url") if request.param == "postgresql" else None
    engine = Engine(make() if make else f"sqlite:///{tmp_path_factory.mktemp('engine')}/x.db", people=1)
    with engine.clock.ticking():
        yield engine
    engine.close()
