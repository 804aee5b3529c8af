"""Importing people from a CSV file through the API."""

import csv
import time
from pathlib import Path
from typing import Any, Final

from tests.bench import machine
from tests.bench.ground import Ground
from tests.bench.product import IMPORT_SECONDS

PEOPLE: Final = (1_000_000, 20_000)  # full, quick
SITES: Final = 200


def run(ground: Ground) -> dict[str, Any]:
    """{people, seconds, people_per_second, memory}."""
    count = ground.options.pick(*PEOPLE)
    file = ground.folder / "people.csv"
    _write(file, count)
    product = ground.product("import", count=0)
    with product.up() as live, live.session() as session, machine.Watch(live.processes) as watch, file.open("rb") as body:
        began = time.monotonic()
        headers = {"Content-Type": "text/csv"}
        answer = session.post(f"{live.api}/recipients/import", data=body, headers=headers, timeout=IMPORT_SECONDS)
        seconds = time.monotonic() - began
    assert answer.status_code == 200, answer.text
    ground.say(f"imported {count:,} people in {seconds:.1f} s")
    return {
        "people": count,
        "seconds": round(seconds, 1),
        "people_per_second": round(count / seconds),
        "answer": {name: n for name, n in answer.json().items() if isinstance(n, int)},
        "memory": watch.memory(),
        "includes": "one CSV file over HTTP into PostgreSQL: name, external_id, phone, site; every number is checked",
    }


def _write(file: Path, count: int) -> None:
    with file.open("w", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(["name", "external_id", "phone", "site"])
        writer.writerows([f"Clinician {n}", f"N{n}", f"+4474{n:08d}", f"Site {n % SITES}"] for n in range(count))
