"""A site on each database, with one person in it."""

from collections.abc import Iterator

import pytest

from tests.engine.conftest import engine as engine
from tests.engine.rig import Engine
from tests.watching.rig import Site, standing_clock


@pytest.fixture
def site(engine: Engine) -> Iterator[Site]:
    with standing_clock(engine):
        yield Site(engine)
