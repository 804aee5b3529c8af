"""The product as `broadcaster up` runs it, pointed at the sink, and what can be seen of it from outside."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import psutil
import requests
import sqlalchemy as sa

from broadcaster.cli import embedded
from broadcaster.cli.supervisor import Supervisor
from broadcaster.services.keys import Scope
from broadcaster.settings import Settings
from broadcaster.store import migrate
from broadcaster.store.database import Database
from broadcaster.wiring import Wiring
from tests.bench import people, running
from tests.ports import free_port

UNLIMITED: Final = 1_000_000.0  # segments a second: no provider's limit
WAIT_READY: Final = 30.0
IMPORT_SECONDS: Final = 900.0


@dataclass
class Product:
    """One database and data directory; started and stopped as often as wanted. ``database_url`` empty: SQLite."""

    folder: Path
    database_url: str
    sandbox_url: str
    port: int = field(default_factory=free_port)
    key: str = field(default="", repr=False)

    def settings(self, workers: int = 2, rate: float = UNLIMITED) -> Settings:
        return Settings(
            data_dir=self.folder, port=self.port, database_url=self.database_url, sandbox_url=self.sandbox_url,
            sandbox_rate=rate, workers=workers, critical_workers=1, rate_limit_per_minute=10_000_000, metrics_open=True,
        )  # fmt: skip

    @property
    def url(self) -> str:
        """The database's, as SQLAlchemy wants it."""
        return self.settings().resolved_database_url

    def prepare(self, crowd: people.Crowd | None = None) -> None:
        """Makes tables and an API key, and writes people down."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        wiring = Wiring(self.settings())
        migrate.upgrade(wiring.database)
        if crowd is not None:
            people.fill(self.url, crowd, int(time.time() * 1000))
        _, self.key = wiring.keys.create("bench", [s.value for s in Scope])
        wiring.database.close()

    @property
    def vapid_public_key(self) -> str:
        return Wiring(self.settings()).vapid_public_key

    @property
    def secret(self) -> bytes:
        return Wiring(self.settings()).secret

    @contextmanager
    def up(self, workers: int = 2, rate: float = UNLIMITED) -> "Iterator[Live]":
        """Everything that `broadcaster up` runs, ready: its own Redis, one API process, one critical worker process,
        ``workers`` others. No sandbox: the sink is there."""
        settings = self.settings(workers, rate)
        supervisor = embedded.supervisor(settings, quiet=True, environment=self.environment(settings))
        supervisor.start()
        try:
            live = Live(self, settings, supervisor)
            running.until(lambda: live.workers() == workers + 1, WAIT_READY, "the product", step=0.1)
            yield live
            live.close()
        finally:
            supervisor.stop()

    def environment(self, settings: Settings) -> dict[str, str]:
        """What its parts are told."""
        return embedded.environment(settings) | {
            "BROADCASTER_DATABASE_URL": settings.database_url,
            "BROADCASTER_REDIS_URL": "",
            "BROADCASTER_SANDBOX_URL": settings.sandbox_url,
            "BROADCASTER_SANDBOX_RATE": str(settings.sandbox_rate),
            "BROADCASTER_RATE_LIMIT_PER_MINUTE": str(settings.rate_limit_per_minute),
            "BROADCASTER_METRICS_OPEN": "true",
            "BROADCASTER_LOG_LEVEL": "WARNING",
        }

    def audit(self, seconds: float = 600) -> dict[str, Any]:
        """What `broadcaster audit` says: {exit, seconds, and what is wrong}."""
        command = [sys.executable, "-m", "broadcaster.cli", "audit", "--json"]
        environment = {**os.environ, **self.environment(self.settings())}
        began = time.monotonic()
        try:
            done = subprocess.run(
                command, env=environment, capture_output=True, text=True, timeout=seconds, check=False
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return {"exit": None, "seconds": seconds, "wrong": "it took longer than this and was ended"}
        found: dict[str, Any] = {"exit": done.returncode, "seconds": round(time.monotonic() - began, 1)}
        try:
            found["wrong"] = [c for c in json.loads(done.stdout)["checks"] if c["wrong"]]
        except (ValueError, KeyError):
            found["wrong"] = (done.stdout + done.stderr)[-500:]
        return found


class Live:
    """A running product: its API, its books, its processes."""

    def __init__(self, product: Product, settings: Settings, supervisor: Supervisor) -> None:
        self.product = product
        self.api = f"http://127.0.0.1:{settings.port}/api/v1"
        self.origin = f"http://127.0.0.1:{settings.port}"
        self.public_url = settings.resolved_public_url
        self.supervisor = supervisor
        self.books = Books(settings.resolved_database_url)
        self._session = self.session()

    def session(self) -> requests.Session:
        session = requests.Session()
        session.trust_env = False
        session.headers["Authorization"] = f"Bearer {self.product.key}"
        return session

    def post(self, body: Mapping[str, Any]) -> str:
        """Raises an alert; its id."""
        answer = self._session.post(f"{self.api}/alerts", json=body, timeout=30)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    def workers(self) -> int:
        """Worker processes seen in the last 5 s."""
        text = self._session.get(f"{self.origin}/metrics", timeout=10).text
        line = next((x for x in text.splitlines() if x.startswith("broadcaster_workers ")), "x 0")
        return int(float(line.split()[1]))

    def processes(self) -> dict[str, list[psutil.Process]]:
        """Part -> its processes that live now, children too."""
        found = {}
        for part in self.supervisor.parts:
            if part.process is not None and part.process.poll() is None:
                process = psutil.Process(part.process.pid)
                found[part.name] = [process, *process.children(recursive=True)]
        return found

    def close(self) -> None:
        self.books.close()
        self._session.close()


class Books:
    """Looks into the database beside the product: an alert's counts are sums over its batches, so this is cheap."""

    def __init__(self, url: str) -> None:
        self._database = Database(url, pool_size=2)

    def counts(self, uid: str) -> dict[str, int]:
        """{targeted, taken (by a provider), delivered} of one alert."""
        query = sa.text(
            "SELECT coalesce(sum(b.size), 0), coalesce(sum(b.n_accepted + b.n_delivered), 0), "
            "coalesce(sum(b.n_delivered), 0) "
            "FROM batches b JOIN alerts a ON a.id = b.alert_id WHERE a.uid = :uid"
        )
        with self._database.read() as connection:
            row = connection.execute(query, {"uid": uid}).one()
        return {"targeted": int(row[0]), "taken": int(row[1]), "delivered": int(row[2])}

    def all_out(self) -> bool:
        """Whether no alert has anything that is not yet planned or has not left."""
        query = sa.text(
            "SELECT NOT EXISTS (SELECT 1 FROM alert_steps WHERE next_at IS NOT NULL) "
            "AND NOT EXISTS (SELECT 1 FROM batches WHERE n_queued + n_retrying + n_sending > 0)"
        )
        with self._database.read() as connection:
            return bool(connection.execute(query).scalar_one())

    def planned_seconds(self, uid: str) -> float | None:
        """From the alert's row to the end of its planning, by the database's clock."""
        query = sa.text(
            "SELECT s.planned_at - a.created_at FROM alert_steps s JOIN alerts a ON a.id = s.alert_id WHERE a.uid = :uid"
        )
        with self._database.read() as connection:
            found = connection.execute(query, {"uid": uid}).scalar()
        return None if found is None else int(found) / 1000

    def deliveries(self, uid: str, limit: int) -> list[tuple[int, int, str]]:
        """(delivery, attempt, provider's id) of those that a provider has taken."""
        query = sa.text(
            "SELECT d.id, d.attempt, d.provider_id FROM deliveries d JOIN alerts a ON a.id = d.alert_id "
            "WHERE a.uid = :uid AND d.state = 'accepted' ORDER BY d.id LIMIT :limit"
        )
        with self._database.read() as connection:
            return [(int(d), int(n), str(p)) for d, n, p in connection.execute(query, {"uid": uid, "limit": limit})]

    def last_look(self) -> int:
        """When the last look at a monitor was done, ms."""
        with self._database.read() as connection:
            return int(connection.execute(sa.text("SELECT coalesce(max(at), 0) FROM readings")).scalar_one())

    def looks_since(self, at: int) -> list[tuple[int, int, int, str]]:
        """(monitor, when it was due, ms until it was done, verdict) of looks that were due after ``at``."""
        query = sa.text("SELECT monitor_id, due_at, at - due_at, verdict FROM readings WHERE due_at > :at")
        with self._database.read() as connection:
            return [(row[0], row[1], int(row[2]), row[3]) for row in connection.execute(query, {"at": at})]

    def close(self) -> None:
        self._database.close()
