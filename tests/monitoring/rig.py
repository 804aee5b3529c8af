"""The API in a process of its own, and everything that happens behind it done by hand, so that nothing waits for a clock."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from unittest import mock

import requests

from broadcaster.domain.monitor import Verdict
from broadcaster.queue import WakeUps
from broadcaster.services.directory import Person
from broadcaster.services.keys import Scope
from broadcaster.settings import Settings
from broadcaster.store import migrate
from tests.monitoring.serving import Wired
from tests.ports import free_port
from tests.watching.rig import AtOnce

PUBLIC: Final = "https://alerts.example.nhs.uk"
PASSWORD: Final = "hunter2-do-not-repeat"
TELL: Final[dict[str, Any]] = {"audience": {"everyone": True}, "channels": ["slack"], "group_wait_seconds": 0}
_SECONDS: Final = 60.0  # for a process to start


@dataclass
class Desk:
    """A running API. ``look`` and ``follow`` do what workers would."""

    api: str
    wiring: Wired
    log: Path
    key: str = field(repr=False)
    made: int = 0

    def call(self, method: str, path: str, expect: int | None = None, **options: Any) -> requests.Response:
        key = options.pop("key", self.key)
        headers = {**({"Authorization": f"Bearer {key}"} if key else {}), **options.pop("headers", {})}
        answer = requests.request(method, f"{self.api}/api/v1/{path}", headers=headers, timeout=30, **options)
        if expect is not None:
            assert answer.status_code == expect, answer.text
        return answer

    def json(self, method: str, path: str, expect: int | None = None, **options: Any) -> Any:
        return self.call(method, path, expect, **options).json()

    def name(self, what: str) -> str:
        """Nobody else in this run has it."""
        self.made += 1
        return f"{what} {self.made}"

    def body(self, what: str = "Mail", says: Verdict = Verdict.OK, **changes: Any) -> dict[str, Any]:
        """A monitor that changes its state with one look, and looks again when it is told to."""
        name = self.name(what)
        body = {"name": name, "kind": "obedient", "config": {"host": name, "says": says.value, "password": PASSWORD}}
        return {**body, "interval_seconds": 86_400, "failures": 1, "successes": 1, "hold_down_seconds": 0, **changes}

    def watch(self, what: str = "Mail", **changes: Any) -> dict[str, Any]:
        made: dict[str, Any] = self.json("POST", "monitors", 201, json=self.body(what, **changes))
        return made

    def look(self, monitor: dict[str, Any], verdict: Verdict | None = None) -> dict[str, Any]:
        """The monitor after one more look, which ends with ``verdict``."""
        if verdict is not None:
            self.wiring.obedient.told[monitor["name"]] = verdict
        self.call("POST", f"monitors/{monitor['id']}/look", 202)
        self.looks()
        seen: dict[str, Any] = self.json("GET", f"monitors/{monitor['id']}", 200)
        return seen

    def looks(self) -> None:
        """Everything that is due is looked at."""
        looker = self.wiring.looker(AtOnce(), grace=0)
        while looker.tick(0.01):
            pass

    def follow(self) -> None:
        """Every incident takes the steps that are due."""
        while self.wiring.incidents.run_one():
            pass

    def down(self, **alert: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """A monitor that has just failed, and its incident."""
        monitor = self.look(self.watch(alert={**TELL, **alert}), Verdict.FAILED)
        return monitor, self.incident(monitor)

    def incident(self, monitor: dict[str, Any]) -> dict[str, Any]:
        found: list[dict[str, Any]] = self.json("GET", "incidents", 200)["items"]
        return next(i for i in found if [c["name"] for c in i["causes"]] == [monitor["name"]])


@contextmanager
def desk(folder: Path, database_url: str = "", **changes: str) -> Iterator[Desk]:
    """With a live channel, so that not all is sandbox; nothing runs that could send anything."""
    port = free_port()
    environment = {
        "BROADCASTER_DATA_DIR": str(folder), "BROADCASTER_DATABASE_URL": database_url, "BROADCASTER_PORT": str(port),
        "BROADCASTER_PUBLIC_URL": PUBLIC, "BROADCASTER_SLACK_TOKEN": "xoxb-of-the-tests", "BROADCASTER_LOG_LEVEL": "DEBUG",
        "BROADCASTER_SANDBOX_URL": "http://127.0.0.1:1", "BROADCASTER_REDIS_URL": "redis://127.0.0.1:1/0",
        "BROADCASTER_RATE_LIMIT_PER_MINUTE": "100000", **changes,
    }  # fmt: skip
    given = {name.removeprefix("BROADCASTER_").lower(): value for name, value in environment.items()}
    wiring = Wired(Settings(**given))  # type: ignore[arg-type] # texts, as in the environment
    vars(wiring)["wake_ups"] = mock.create_autospec(WakeUps, instance=True)  # there is no Redis, and nobody to be woken
    migrate.upgrade(wiring.database)
    wiring.directory.create(Person("Nurse", addresses={"slack": ["U0123456789"]}))  # or there would be nobody to be told
    log = folder / "api.log"
    with log.open("wb") as file:
        command = [sys.executable, "-m", "tests.monitoring.serving"]
        process = subprocess.Popen(command, env={**os.environ, **environment}, stdout=file, stderr=file)
    try:
        api = f"http://127.0.0.1:{port}"
        _wait_for(api, process, log)
        made = Desk(api, wiring, log, wiring.keys.create("tests", [s.value for s in Scope])[1])
        yield made
    finally:
        process.terminate()
        process.wait(20)
        wiring.database.close()


def _wait_for(api: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + _SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if requests.get(f"{api}/healthz", timeout=5).ok:
                return
        except requests.ConnectionError:
            time.sleep(0.05)
    raise AssertionError(log.read_text())
