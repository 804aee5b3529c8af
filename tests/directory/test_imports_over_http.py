"""A CSV of people over HTTP: all of it or nothing, every bad row named, in bounded memory."""

import csv
import io
import json
import os
from collections.abc import Iterator
from typing import Any, Final

import psutil
import pytest
import requests

from broadcaster.store import revisions
from broadcaster.wiring import Wiring
from tests.conftest import Stack

SLOW: Final = os.environ.get("CI") == "true" or os.environ.get("BROADCASTER_SLOW_TESTS") == "1"
MANY: Final = 100_000 if SLOW else 5_000
GROWTH: Final = 150 * 1024 * 1024  # bytes
HEADER: Final = ["name", "external_id", "phone", "groups", "site"]


@pytest.fixture
def wiring(stack: Stack) -> Iterator[Wiring]:
    made = Wiring(stack.settings)
    yield made
    made.database.close()


def sheet(rows: list[list[str]], header: list[str] | None = None) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows([header or HEADER, *rows])
    return text.getvalue().encode()


def people(tag: str, count: int) -> list[list[str]]:
    return [[f"Person {n}", f"{tag}-{n}", f"+447700{900_000 + n % 1000}", f"Ward {tag}", tag] for n in range(count)]


def send(
    stack: Stack, body: bytes, expect: int = 200, headers: dict[str, str] | None = None, **query: str
) -> dict[str, Any]:
    wanted = {"Content-Type": "text/csv", **(headers or {})}
    answer: dict[str, Any] = stack.json("POST", "recipients/import", expect, data=body, params=query, headers=wanted)
    return answer


def found(stack: Stack, tag: str) -> list[dict[str, Any]]:
    answer: list[dict[str, Any]] = stack.json("GET", "recipients", 200, params={"tag": f"site:{tag}", "limit": "500"})[
        "items"
    ]
    return answer


def test_a_good_file_becomes_people(stack: Stack) -> None:
    result = send(stack, sheet(people("good", 3)))
    assert (result["rows"], result["created"], result["errors_total"]) == (3, 3, 0)
    first = found(stack, "good")[0]
    assert first["external_id"] == "good-0"
    assert first["tags"] == {"site": ["good"]}
    assert [g["name"] for g in first["groups"]] == ["Ward good"]
    assert [c["channel"] for c in first["contacts"]] == ["sms"]
    assert "+447700900000" not in json.dumps(first)


def test_three_bad_rows_are_named_by_line_and_nothing_changes(stack: Stack, wiring: Wiring) -> None:
    before = wiring.directory.stats(), revision(wiring)
    rows = people("bad", 5)
    rows[0][2] = "12"
    rows[2][0] = "Two\nlines "  # a good row of two lines: the ones below are one further down
    rows[3][0] = " "
    rows[4] = rows[4][:3]
    answer = send(stack, sheet(rows), 422)
    assert answer["type"].endswith(":import-refused")
    assert [(e["line"], e["column"]) for e in answer["errors"]] == [(2, "phone"), (6, "name"), (7, None)]
    assert answer["errors_total"] == 3
    assert "12" not in json.dumps([e["reason"] for e in answer["errors"]])
    assert (wiring.directory.stats(), revision(wiring)) == before
    assert found(stack, "bad") == []


def test_a_dry_run_counts_and_changes_nothing(stack: Stack, wiring: Wiring) -> None:
    before = wiring.directory.stats(), revision(wiring)
    result = send(stack, sheet(people("dry", 4)), dry_run="true")
    assert (result["rows"], result["dry_run"], result["revision"]) == (4, True, None)
    assert (wiring.directory.stats(), revision(wiring)) == before


def test_skip_bad_imports_the_good_rows_and_names_the_others(stack: Stack) -> None:
    rows = people("skip", 4)
    rows[1][2] = "no phone"
    rows[3][1] = "skip-0"  # twice in the file
    result = send(stack, sheet(rows), mode="skip_bad")
    assert (result["created"], result["skipped"]) == (2, 2)
    assert [(e["line"], e["column"]) for e in result["errors"]] == [(3, "phone"), (5, "external_id")]
    assert [p["external_id"] for p in found(stack, "skip")] == ["skip-0", "skip-2"]


def test_a_known_external_id_changes_that_person(stack: Stack) -> None:
    rows = people("again", 3)
    send(stack, sheet(rows))
    ids = [p["id"] for p in found(stack, "again")]
    rows[1] = ["Renamed", "again-1", "+447700900555", "Ward again;Night again", "again"]
    result = send(stack, sheet(rows))
    assert (result["created"], result["updated"], result["unchanged"]) == (0, 1, 2)
    after = found(stack, "again")
    assert [p["id"] for p in after] == ids
    assert after[1]["name"] == "Renamed"
    assert sorted(g["name"] for g in after[1]["groups"]) == ["Night again", "Ward again"]
    assert len(after[1]["contacts"]) == 1
    refused = send(stack, sheet(rows), 422, on_duplicate="error")
    assert refused["errors_total"] == 3


def test_progress_comes_line_by_line_and_the_result_last(stack: Stack) -> None:
    headers = {"Content-Type": "text/csv", "Accept": "application/x-ndjson"}
    answer = stack.call("POST", "recipients/import", 200, data=sheet(people("lines", 5_500)), headers=headers)
    assert answer.headers["Content-Type"].startswith("application/x-ndjson")
    *steps, result = [json.loads(line) for line in answer.text.splitlines()]
    assert {step["phase"] for step in steps} == {"check", "write"}
    assert [s["total"] for s in steps if s["phase"] == "write"] == [5_500]
    assert (result["status"], result["created"]) == (200, 5_500)
    answer = stack.call("POST", "recipients/import", 200, data=sheet([["", "", "", "", ""]]), headers=headers)
    refused = json.loads(answer.text.splitlines()[-1])
    assert (refused["status"], refused["errors"][0]["line"]) == (422, 2)


@pytest.mark.parametrize("body", [b"", b"nobody,here\n1,2\n", b"name,name\nA,B\n", b"name,\nA,B\n", b'"name\n'])
def test_a_file_without_a_header_is_refused(stack: Stack, body: bytes) -> None:
    stack.call("POST", "recipients/import", 422, data=body, headers={"Content-Type": "text/csv"})


def test_many_rows_take_bounded_memory(stack: Stack) -> None:
    api = next(part.process for part in stack.supervisor.parts if part.name == "api")
    assert api is not None
    process = psutil.Process(api.pid)
    body = sheet(people("many", MANY))
    before = process.memory_info().rss
    answer = requests.post(
        f"{stack.api}/api/v1/recipients/import",
        data=io.BytesIO(body),
        headers={"Authorization": f"Bearer {stack.key}", "Content-Type": "text/csv"},
        timeout=170,
    )
    assert answer.json()["created"] == MANY
    assert process.memory_info().rss - before < GROWTH


def revision(wiring: Wiring) -> int:
    with wiring.database.read() as connection:
        return revisions.current(connection)
