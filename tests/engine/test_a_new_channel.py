"""Adding a channel is one module: the engine delivers over a bleep system that it has never heard of."""

from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any, Final

import pytest
import redis

from broadcaster.domain.audience import Everyone
from broadcaster.domain.channel import AttemptId, ChannelSet, Lane, Traits
from broadcaster.domain.lifecycle import State
from broadcaster.domain.messages import Address, Content, Cost, Envelope, InvalidAddress, Message, Severity
from broadcaster.domain.outcomes import Accepted, Ambiguous, Deferred, Outcome
from broadcaster.queue import WakeUps
from broadcaster.services.alerts import Alerts, Draft, Step
from broadcaster.services.delivering import Deliverer
from broadcaster.services.directory import Directory, Person
from broadcaster.services.keys import Keys
from broadcaster.services.planning import Planner
from broadcaster.services.processes import owner
from broadcaster.services.progress import Progress
from broadcaster.services.ratelimit import RateLimiter
from broadcaster.store import migrate
from broadcaster.store.database import Database
from workers.loop import EventLoop

NOWHERE: Final = "redis://127.0.0.1:1/0"


class Bleeps:
    """A channel in 40 lines: four digits, one bleep each; 9999 is out of order once, 8888 never answers."""

    traits = Traits("bleep", "Bleep", 10, None, duplicates_collapse=True, gives_receipts=False)
    route = "bleep:switchboard"

    def __init__(self) -> None:
        self.sounded: list[str] = []
        self.tried: list[str] = []

    def parse_address(self, raw: str) -> Address:
        if not (raw.isdigit() and len(raw) == 4):
            raise InvalidAddress("a bleep has four digits")
        return Address(raw, raw, f"••{raw[2:]}")

    def render(self, message: Message, to: Envelope) -> Content:
        return Content(f"{message.title} {to.reference}")

    def quote(self, content: Content) -> Cost:
        return Cost()

    def lanes(self, to: Envelope, cost: Cost) -> Sequence[Lane]:
        return [Lane("bleep", 1000, cost.units)]

    async def send(
        self, message: Message, chunk: Sequence[tuple[Envelope, Content]]
    ) -> AsyncIterator[tuple[AttemptId, Outcome]]:
        for to, _ in chunk:
            self.tried.append(to.address)
            outcome: Outcome = Accepted(f"b-{to.delivery}")
            if to.address == "9999" and self.tried.count("9999") == 1:
                outcome = Deferred("engaged", "the switchboard was busy")
            elif to.address == "8888" and self.tried.count("8888") == 1:
                outcome = Ambiguous("silence", "no answer")
            else:
                self.sounded.append(to.address)
            yield (to.delivery, to.attempt), outcome

    async def check(self) -> str | None:
        return None

    async def open(self) -> None: ...

    async def close(self) -> None: ...


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_the_engine_delivers_over_a_channel_it_has_never_heard_of(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    make: Callable[[], str] | None = request.getfixturevalue("postgres_url") if kind == "postgresql" else None
    database = Database(make() if make else f"sqlite:///{tmp_path / 'x.db'}")
    migrate.upgrade(database)
    bleeps = Bleeps()
    channels = ChannelSet({"bleep": bleeps}, {"bleep": bleeps})
    wake_ups, loop = WakeUps(NOWHERE), EventLoop("test")
    client = redis.Redis.from_url(NOWHERE, socket_connect_timeout=0.05, retry=None)
    limiter = RateLimiter(client, lambda: 1)
    directory = Directory(database, channels)
    for n in range(25):
        directory.create(Person(f"Doctor {n}", addresses={"bleep": [f"{1000 + n}"]}))
    for odd in ("9999", "8888"):
        directory.create(Person(odd, addresses={"bleep": [odd]}))
    keys = Keys(database)
    caller = keys.authenticate(keys.create("test", ["alerts:send"])[1])
    alerts = Alerts(database, channels, wake_ups, secret=b"s" * 32, public_url="http://localhost")
    draft = Draft("Email is down", "Use bleeps.", Severity.CRITICAL, Everyone(), (Step(("bleep",), 0),), 600, "IT")
    uid = alerts.accept(draft, caller).uid
    planner = Planner(database, channels, wake_ups, owner())
    deliverer = Deliverer(database, channels, limiter, loop, owner=owner(), secret=b"s" * 32, public_url="http://localhost")
    progress = Progress(database, channels, b"s" * 32)
    assert planner.run_one(lowest=0)
    rounds = 0
    while progress.snapshot(uid).state != "completed":
        if not deliverer.run_one(lowest=0, by_task=True):
            rounds += 1
            assert rounds < 2_000_000, progress.snapshot(uid)
    view = progress.snapshot(uid)
    assert {s: n for s, n in view.channels[0].counts.items() if n} == {State.ACCEPTED.value: 27}
    assert sorted(bleeps.sounded) == sorted([*(f"{1000 + n}" for n in range(25)), "9999", "8888"])
    assert (bleeps.tried.count("9999"), bleeps.tried.count("8888")) == (2, 2)
    events = _events(database)
    assert events["9999"] == ["queued>sending", "sending>retrying", "retrying>sending", "sending>accepted"]
    assert events["8888"] == [
        "queued>sending",
        "sending>uncertain",
        "uncertain>retrying",
        "retrying>sending",
        "sending>accepted",
    ]
    loop.close()
    wake_ups.close()
    database.close()


def _events(database: Database) -> dict[str, list[str]]:
    """Address -> its delivery's transitions in order."""
    found: dict[str, list[str]] = {}
    sql = (
        "SELECT c.address, e.old, e.new FROM delivery_events e JOIN deliveries d ON d.id = e.delivery_id"
        " JOIN contacts c ON c.id = d.contact_id ORDER BY e.id"
    )
    with database.read() as connection:
        rows: Any = connection.exec_driver_sql(sql)
        for address, old, new in rows:
            found.setdefault(address, []).append(f"{old}>{new}")
    return found
