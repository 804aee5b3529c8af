"""One API per database for the whole run; each test makes what it needs under names of its own."""

from collections.abc import Iterator

import pytest

from tests.monitoring.rig import Desk
from tests.monitoring.rig import desk as running


@pytest.fixture(scope="session", params=["sqlite", "postgresql"])
def desk(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    url = request.getfixturevalue("postgres_url")() if request.param == "postgresql" else ""
    with running(tmp_path_factory.mktemp("desk"), url) as made:
        yield made
