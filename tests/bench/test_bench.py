"""The bench's own arithmetic, and that it sends and writes what the product does. The bench itself is no test."""

import json
import os
import tempfile
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import http_ece
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from broadcaster.settings import Settings
from broadcaster.wiring import Wiring
from tests.bench import blast, figures, plot
from tests.bench.people import Crowd, Pool

ORIGIN = "http://127.0.0.1:9"


def test_spread_is_the_median_of_the_rounds() -> None:
    assert figures.spread([3, 1, 2.26]) == {"median": 2.3, "min": 1, "max": 3, "all": [3, 1, 2.3]}


@pytest.mark.parametrize(("share", "value"), [(0.5, 50), (0.99, 99), (1.0, 100), (0.001, 1)])
def test_percentiles_are_values_that_were_measured(share: float, value: float) -> None:
    assert figures.percentile(range(1, 101), share) == value


def test_the_fullest_second_is_found_wherever_it_lies() -> None:
    arrivals = [(0.0, 1.0), (0.9, 2.0), (1.0, 3.0), (1.85, 1.0), (3.0, 1.0)]
    assert figures.most_in_a_window(arrivals, 1.0) == 6.0  # from just after 0.0; what is a full second apart is not in one


def test_a_bar_is_judged_only_where_its_figure_was_measured() -> None:
    results: dict[str, Any] = {
        "latency": {"idle": {"p50": 15.1, "p99": 60.0}}, "whole": {"people": 1_000, "seconds": 1.0}, "scale": {},
    }  # fmt: skip
    assert figures.bars(results) == {
        "critical alert, idle, p50 ms": {"value": 15.1, "bar": 15, "holds": False},
        "critical alert, idle, p99 ms": {"value": 60.0, "bar": 60, "holds": True},
    }


def test_the_machine_was_as_busy_as_at_its_worst_moment() -> None:
    rounds = {"push": {"others_cores": {"blast": [0.1, 0.3], "naive": [0.0]}, "runs": [{"others_cores": 0.2}]}}
    assert figures.most_others({"rounds": rounds, "whole": {"others_cores": 0.25}}) == 0.3
    assert figures.most_others({}) == 0.0


def test_names_of_bars_are_unique() -> None:
    assert len({bar.name for bar in figures.BARS}) == len(figures.BARS)


def test_the_picture_is_drawn_from_whatever_was_measured(tmp_path: Path) -> None:
    rates = {name: figures.spread([n, n + 1]) for n, name in enumerate(("naive", "product", "blast"), 1)}
    results: list[dict[str, Any]] = [
        {},
        {"rounds": {"push": rates}},
        {"whole": {"done": 2, "people": 3, "seconds": 1.0, "curve": [(0.0, 0), (1.0, 2)]}},
        {"scale": {"postgresql": {"2": {"1000": {"cost_us": 5.0}}}, "sqlite": {}}},
    ]
    for number, result in enumerate(results):
        plot.write(result, tmp_path / "p.svg")
        assert len(ElementTree.parse(tmp_path / "p.svg").getroot().findall("{*}g")) == min(number, 1)


def test_the_blast_really_encrypts() -> None:
    browser, auth = ec.generate_private_key(ec.SECP256R1()), os.urandom(16)
    point = browser.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    body = blast.encrypt(point, auth, b"Email is down")
    assert http_ece.decrypt(body, private_key=browser, auth_secret=auth, version="aes128gcm") == b"Email is down"


def test_people_are_written_as_the_product_writes_them() -> None:
    with tempfile.TemporaryDirectory() as folder:
        wiring = Wiring(Settings(data_dir=Path(folder), sandbox_url=ORIGIN))
        channels = {name: wiring.channels.get(name, sandbox=False) for name in ("sms", "push", "slack")}
        crowd = Crowd(Pool.make(2), ORIGIN, "key", count=3, phones=2, slack=1)
        rows = [row for table, _, rows in crowd.tables(0, 0) if table == "contacts" for row in rows]
        assert [(row[3], row[2]) for row in rows] == [
            ("push", 1),
            ("push", 2),
            ("push", 3),
            ("sms", 1),
            ("sms", 2),
            ("slack", 1),
        ]
        assert len({row[0] for row in rows}) == len(rows)
        for row in rows:
            asked = row[4] if row[3] == "push" else row[5]
            made = channels[row[3]].parse_address(asked)
            assert (made.value, made.identity, made.masked) == row[4:7]
            assert row[3] != "push" or json.loads(row[4])["endpoint"] == row[5]
