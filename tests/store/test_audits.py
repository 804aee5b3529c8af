"""The audit finds nothing in books that the engine wrote, and finds every kind of wrong by its name."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from broadcaster.domain.channel import Traits
from broadcaster.domain.errors import NotFound
from broadcaster.domain.messages import Envelope
from broadcaster.domain.outcomes import Accepted, Ambiguous, Deferred, Outcome
from broadcaster.services.auditing import RULES, SHOWN, audit
from broadcaster.store import audits
from tests.engine.rig import NAME, Engine
from workers.loop import EventLoop

PEOPLE = 6

#: check -> one way to break it, and what the audit says of it.
BROKEN = [
    ("targeted", "UPDATE batches SET n_accepted = n_accepted - 1, n_failed = n_failed + 1", "failed: 1, rows: 0"),
    ("targeted", "UPDATE batches SET size = size + 1, n_queued = n_queued + 1", "holds 7 in its books"),
    ("targeted", "UPDATE deliveries SET step = 1 WHERE id = {id}", "it is of step 1 and stands in batch"),
    ("targeted", "UPDATE deliveries SET batch_id = 99999 WHERE id = {id}", "stands in batch 99999, which is not there"),
    ("targeted", "UPDATE deliveries SET alert_id = 99999 WHERE id = {id}", "is of alert 99999, which is not there"),
    ("transition", "UPDATE delivery_events SET new = 'expired' WHERE delivery_id = {id} AND new = 'accepted'",
     "goes from sending to expired"),
    ("chain", "UPDATE deliveries SET state = 'delivered' WHERE id = {id}", "leads to accepted, but it stands at delivered"),
    ("chain", "DELETE FROM delivery_events WHERE delivery_id = {id} AND old = 'queued'",
     "leaves sending, but it stood at queued"),
    ("chain", "DELETE FROM delivery_events WHERE delivery_id = {id}", "stands at accepted without an event"),
    ("chain", "UPDATE delivery_events SET delivery_id = 99999 WHERE delivery_id = {id}", "belongs to no delivery"),
    ("attempt", "UPDATE deliveries SET attempt = 3 WHERE id = {id}", "at attempt 3, after 1 marks"),
    ("attempt", "UPDATE delivery_events SET attempt = 2 WHERE delivery_id = {id} AND old = 'sending'",
     "is of attempt 2, after 1 marks"),
    ("attempt", "DELETE FROM attempts", "at attempt 2, and 0 earlier ones are kept"),
    ("attempt", "UPDATE attempts SET n = 7", "at attempt 2, and 1 earlier ones are kept"),
    ("provider_id", "UPDATE deliveries SET provider_id = 'p-again' WHERE state = 'accepted'", "also with delivery"),
    ("due", "UPDATE deliveries SET next_at = NULL WHERE state = 'uncertain'", "it is uncertain and never due"),
    ("due", "UPDATE batches SET next_at = NULL", "but its batch"),
    ("due", "UPDATE deliveries SET state = 'sending' WHERE id = {id}", "it is sending, and nobody has its batch"),
    ("plan", "UPDATE alert_steps SET people = people + 1", "step 0 counts 7 people, 0 of them out of reach"),
    ("plan", "UPDATE alert_steps SET next_at = 1", "step 0 is planned and still due"),
    ("plan", "UPDATE batches SET step = 5", "is of step 5, which the alert does not have"),
]  # fmt: skip


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """Everybody is told once; the second is told at the second try, and the fate of the third is unknown."""
    make: Callable[[], str] | None = request.getfixturevalue("postgres_url") if request.param == "postgresql" else None
    engine, loop = (
        Engine(make() if make else f"sqlite:///{tmp_path_factory.mktemp('audit')}/x.db", PEOPLE),
        EventLoop("test"),
    )
    order = count(1)

    def decide(route: str, to: Envelope) -> Outcome:
        match next(order):
            case 2:
                return Deferred("busy", "try again")
            case 3:
                return Ambiguous("silence", "no answer")
        return Accepted(f"p{to.delivery}-{to.attempt}")

    engine.connect(Traits(NAME, "Bleep", 10, None, duplicates_collapse=False, gives_receipts=True))
    engine.providers[0].decide = decide
    with engine.clock.ticking():
        engine.alert()
        engine.planner.run_one(lowest=3)
        deliverer = engine.deliverer(loop, "worker")
        deliverer.run_one(lowest=3, by_task=True)
        engine.clock.turn(2)
        deliverer.run_one(lowest=3, by_task=True)
        yield engine
    loop.close()
    engine.close()


def test_books_that_the_engine_wrote_are_right(engine: Engine) -> None:
    told = dict(engine.rows("SELECT state, count(*) FROM deliveries GROUP BY state"))
    assert told == {"accepted": PEOPLE - 1, "uncertain": 1}  # or the rest of this file proves nothing
    seen: list[tuple[int, int]] = []
    books = audit(engine.database, progress=lambda done, total: seen.append((done, total)))
    assert books.right
    assert (books.alerts, books.deliveries, books.events) == (1, PEOPLE, 2 * PEOPLE + 2)
    assert [f.check for f in books.findings] == list(RULES)
    assert [done for done, _ in seen] == list(range(seen[0][1]))


@pytest.mark.parametrize(("check", "sql", "says"), BROKEN)
def test_every_kind_of_wrong_is_found(engine: Engine, check: str, sql: str, says: str) -> None:
    with tampered(engine, sql):
        for uid in (None, *(row[0] for row in engine.rows("SELECT uid FROM alerts"))):
            if uid is not None and "99999" in sql:
                continue  # an event of no delivery is of no alert either
            books = audit(engine.database, uid)
            found = {f.check: f for f in books.findings}
            assert not books.right
            assert any(says in fault.what for fault in found[check].shown), found
            assert found[check].wrong == len(found[check].shown)
    assert audit(engine.database).right


def test_slices_miss_nothing_and_what_is_shown_is_bounded(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audits, "SLICE", 2)
    monkeypatch.setattr("broadcaster.services.auditing.SHOWN", 2)
    with tampered(engine, "UPDATE delivery_events SET old = 'retrying' WHERE old = 'queued'"):
        found = {f.check: f for f in audit(engine.database).findings}
        assert (found["chain"].wrong, len(found["chain"].shown)) == (PEOPLE, 2)
    assert SHOWN == 100


def test_an_unknown_alert_is_not_right(engine: Engine) -> None:
    with pytest.raises(NotFound):
        audit(engine.database, "no-such-alert")


def test_the_command_tells_by_its_exit_code(engine: Engine, tmp_path: Path) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        url = engine.database.url.render_as_string(hide_password=False).replace("+psycopg", "")
        variables = {"BROADCASTER_DATABASE_URL": url, "BROADCASTER_DATA_DIR": str(tmp_path)}
        command = [sys.executable, "-m", "broadcaster.cli", "audit", *arguments]
        return subprocess.run(command, env=os.environ | variables, capture_output=True, text=True, timeout=60, check=False)

    right = run()
    assert (right.returncode, right.stdout) == (0, "The books are right: 1 alerts, 6 deliveries, 14 events.\n"), right.stderr
    with tampered(engine, "UPDATE deliveries SET attempt = 3 WHERE id = {id}"):
        wrong = run()
        assert wrong.returncode == 1
        assert "attempt: 2 wrong. The rule:" in wrong.stdout
        document = run("--json")
        assert document.returncode == 1
        books = json.loads(document.stdout)
        assert not books["right"]
        assert {c["check"]: c["wrong"] for c in books["checks"] if c["wrong"]} == {"attempt": 2}
        assert "1000" not in "".join(f["what"] for c in books["checks"] for f in c["shown"])
    assert run("no-such-alert").returncode == 2


class tampered:
    """Breaks the books in SQL, and puts them back as they were. ``{id}``: the first delivery."""

    TABLES = ("alert_steps", "batches", "deliveries", "delivery_events", "attempts")

    def __init__(self, engine: Engine, sql: str) -> None:
        self._engine = engine
        self._sql = sql

    def __enter__(self) -> None:
        one = self._engine.rows("SELECT min(id) FROM deliveries WHERE state = 'accepted'")[0][0]
        self._engine.write(
            *(f"CREATE TABLE kept_{t} AS SELECT * FROM {t}" for t in self.TABLES), self._sql.replace("{id}", str(one))
        )

    def __exit__(self, *_: object) -> None:
        self._engine.write(
            *(f"DELETE FROM {t}" for t in reversed(self.TABLES)),
            *(f"INSERT INTO {t} SELECT * FROM kept_{t}" for t in self.TABLES),
            *(f"DROP TABLE kept_{t}" for t in self.TABLES),
        )
