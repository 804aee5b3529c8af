"""A directory without a running system: a migrated database of either kind, and the sandbox's channels."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from broadcaster.settings import Settings
from broadcaster.store import migrate
from broadcaster.wiring import Wiring


@pytest.fixture(params=["sqlite", "postgresql"])
def books(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Wiring]:
    url = request.getfixturevalue("postgres_url")() if request.param == "postgresql" else ""
    wiring = Wiring(Settings(data_dir=tmp_path, database_url=url))
    migrate.upgrade(wiring.database)
    yield wiring
    wiring.database.close()
