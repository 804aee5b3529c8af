"""Monitors without their processes: a kind that says what it is told to, on the engine's real services and database."""

import asyncio
from collections.abc import Coroutine, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, Final
from unittest import mock

from pydantic import BaseModel, ConfigDict, SecretStr

from broadcaster.domain.audience import Everyone
from broadcaster.domain.messages import Severity
from broadcaster.domain.monitor import Circumstances, Reading, Verdict
from broadcaster.domain.policy import Policy
from broadcaster.services import looking
from broadcaster.services.incidents import Incidents
from broadcaster.services.keys import Keys
from broadcaster.services.looking import Looker
from broadcaster.services.monitors import Monitors, Watch
from broadcaster.services.sealing import Sealer
from tests.engine.rig import NAME, SECRET, START, Engine
from tests.engine.stepping import Worker

INTERVAL: Final = 10.0
POLICY: Final = Policy(Everyone(), (((NAME,), 0),), Severity.CRITICAL)


class Config(BaseModel):
    model_config = ConfigDict(extra="forbid")

    what: str = "mail"
    password: SecretStr = SecretStr("")


class Obedient:
    """Looks at what it is told: by monitor's ``what`` and by vantage."""

    name = "obedient"
    label = "What it is told"
    codes: Mapping[str, str] = {"ok": "It is well.", "down": "It is not."}
    config = Config

    def __init__(self) -> None:
        self.says: dict[str, Verdict] = {}
        self.refused = False
        self.reason = ""
        self.looks: list[tuple[str, str, float]] = []

    async def look(self, config: Config, circumstances: Circumstances) -> Reading:
        self.looks.append((config.what, circumstances.vantage, circumstances.due))
        verdict = self.says.get(f"{config.what}@{circumstances.vantage}", self.says.get(config.what, Verdict.OK))
        code, reason = {
            Verdict.OK: ("ok", "It is well."),
            Verdict.DEGRADED: ("slow", f"{config.what} is slow."),
            Verdict.FAILED: ("down", f"{config.what} does not answer."),
            Verdict.UNKNOWN: ("cannot_say", "We cannot say."),
        }[verdict]
        return Reading(verdict, code, self.reason or reason, 0.01, refused=self.refused and verdict is Verdict.FAILED)


class AtOnce:
    """A loop on which everything has ended when it was handed over."""

    def submit(self, coroutine: Coroutine[Any, Any, Any]) -> "Future[Any]":
        future: Future[Any] = Future()
        with asyncio.Runner() as runner:
            future.set_result(runner.run(coroutine))
        return future


class Site:
    """One engine, and lookers by vantage. ``control``: whether the control target can be reached, by vantage."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.kind = Obedient()
        self.sealer = Sealer(SECRET)
        self.control: dict[str, bool] = {}
        keys = Keys(engine.database)
        self.incidents = Incidents(
            engine.database, engine.alerts, lambda test: keys.itself(test=test), owner=lambda: "watcher", source="IT",
            expires_in=600, timezone="Europe/London",
        )  # fmt: skip
        self.monitors = Monitors(engine.database, {"obedient": self.kind}, engine.alerts, self.incidents, self.sealer)
        self._lookers: dict[str, Looker] = {}

    def watch(self, name: str = "Mail", **changes: Any) -> str:
        """A monitor that raises; its id."""
        values: dict[str, Any] = {"config": {"what": name.lower()}, "interval": INTERVAL, "timeout": 5.0, "successes": 2}
        values |= {"hold_down": 0.0, "policy": POLICY, **changes}
        return self.monitors.create(Watch(name, "obedient", **values))[0].uid

    def looker(self, vantage: str = "main", owner: str = "looker") -> Looker:
        async def reachable(host: str, port: int, seconds: float) -> bool:
            return self.control.get(vantage, True)

        if f"{owner} {vantage}" not in self._lookers:
            self._lookers[f"{owner} {vantage}"] = Looker(
                self.engine.database, {"obedient": self.kind}, self.incidents, AtOnce(), self.sealer, reachable,
                owner=owner, vantage=vantage,
            )  # fmt: skip
        return self._lookers[f"{owner} {vantage}"]

    def look(self, *vantages: str) -> None:
        """What is due now, from each of these; and one interval passes."""
        for vantage in vantages or ("main",):
            self.looker(vantage).tick(0.01)
        self.engine.clock.turn(INTERVAL)

    def follow(self) -> None:
        """What incidents and alerts have to do is done, and everybody has what was sent."""
        for _ in range(20):
            self.engine.clock.turn(0.6)
            moved = self.incidents.run_one()
            while self.engine.planner.run_one(lowest=3):
                moved = True
            worker = Worker(self.engine, "worker")
            worker.go()
            while worker.busy:
                worker.go()
            if not moved:
                return

    def told(self) -> list[str]:
        """Titles of what was handed to the provider, in order."""
        sql = """SELECT a.title FROM deliveries d JOIN alerts a ON a.id = d.alert_id
                 WHERE d.state IN ('accepted', 'delivered') ORDER BY d.id"""
        return [row[0] for row in self.engine.rows(sql)]

    def state(self, uid: str) -> str:
        return self.monitors.get(uid).state


@contextmanager
def standing_clock(engine: Engine) -> Iterator[None]:
    """The watcher's clock is the engine's, which is turned."""
    shim = SimpleNamespace(time=lambda: START / 1000 + engine.clock.ahead, monotonic=engine.clock.boottime)
    with mock.patch.object(looking, "time", shim):
        yield
