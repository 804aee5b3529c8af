"""The promises hold in a minute of chaos, on both databases. Longer: `make chaos`."""

import os
from collections.abc import Callable

import pytest

from tests.chaos.running import Options, run

SEED = int(os.environ.get("CHAOS_SEED", "1"))


@pytest.mark.timeout(240)
@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_nothing_is_lost_and_nothing_comes_twice(database: str, request: pytest.FixtureRequest) -> None:
    url: Callable[[], str] = request.getfixturevalue("postgres_url") if database == "postgresql" else str
    lines: list[str] = []
    report = run(Options(seed=SEED, deliveries=5_000, database_url=url()), lines.append)
    told = "\n".join([*lines, *report.stories, f"kept in {report.kept}", str(report.numbers)])
    assert report.numbers["deliveries"] >= 4_990, told
    assert sum(report.numbers["kills"].values()) > 0, told
    assert sum(report.numbers["faults"].values()) > 0, told
    assert report.numbers["lost"] == 0, told
    assert not any(report.numbers["duplicates"].values()), told
    assert report.numbers["unexplained"] == 0, told
    assert report.good, told
