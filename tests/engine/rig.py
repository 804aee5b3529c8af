"""The engine without its processes: real services on a real database, a provider that obeys, a clock to turn."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, Final
from unittest import mock

import redis

from broadcaster.domain.audience import Everyone
from broadcaster.domain.channel import AttemptId, Callback, CallbackRefused, ChannelSet, Lane, Receipt, Traits
from broadcaster.domain.messages import Address, Content, Cost, Envelope, Message, Severity
from broadcaster.domain.outcomes import Absent, Accepted, Deferred, Finding, Outcome
from broadcaster.queue import WakeUps
from broadcaster.services import delivering, routing
from broadcaster.services.alerts import Alerts, Draft, Step
from broadcaster.services.delivering import Deliverer
from broadcaster.services.directory import Directory, Person
from broadcaster.services.flights import Loop
from broadcaster.services.keys import Keys
from broadcaster.services.planning import Planner
from broadcaster.services.ratelimit import Granted, RateLimiter
from broadcaster.services.receipts import Receipts
from broadcaster.services.routing import Routing
from broadcaster.store import database as database_module
from broadcaster.store import migrate
from broadcaster.store.database import Database

NAME: Final = "bleep"
NOWHERE: Final = "redis://127.0.0.1:1/0"
SECRET: Final = b"s" * 32
URL: Final = "http://localhost"


START: Final = 1_800_000_000_000  # ms since the epoch


class Clock:
    """The database's clock and the machine's boot-time clock, which stand still until they are turned."""

    def __init__(self) -> None:
        self.ahead = 0.0  # s

    def boottime(self) -> float:
        return 1_000.0 + self.ahead

    def turn(self, seconds: float) -> None:
        self.set(self.ahead + seconds)

    def set(self, ahead: float) -> None:
        self.ahead = ahead
        now = f"CAST({START + int(ahead * 1000)} AS BIGINT)"
        database_module._NOW.update(sqlite=now, postgresql=now)

    @contextmanager
    def ticking(self) -> Iterator[None]:
        """While it lasts, the engine's time is this one, and what is seen of routes is told at once."""
        shim = SimpleNamespace(
            clock_gettime=lambda _: self.boottime(), monotonic=time.monotonic, sleep=lambda _: None, CLOCK_BOOTTIME=0
        )
        with (
            mock.patch.dict(database_module._NOW),
            mock.patch.object(delivering, "time", shim),
            mock.patch.object(routing, "HAND_IN_SECONDS", 0.0),
        ):
            self.set(self.ahead)
            yield


class Provider:
    """One route of the channel. ``decide`` says what becomes of an envelope that is handed to it."""

    def __init__(self, clock: Clock, route: str, traits: Traits) -> None:
        self.traits = traits
        self.route = route
        self.decide: Callable[[str, Envelope], Outcome] = lambda route, to: Accepted(f"p{to.delivery}-{to.attempt}")
        self.find: Callable[[str, Envelope], Finding] = lambda route, to: Absent()
        self._clock = clock

    def parse_address(self, raw: str) -> Address:
        return Address(raw, raw, "••••")

    def render(self, message: Message, to: Envelope) -> Content:
        return Content(message.title)

    def quote(self, content: Content) -> Cost:
        return Cost()

    def lanes(self, to: Envelope, cost: Cost) -> Sequence[Lane]:
        return []

    async def send(
        self, message: Message, chunk: Sequence[tuple[Envelope, Content]]
    ) -> AsyncIterator[tuple[AttemptId, Outcome]]:
        for to, _ in chunk:
            outcome: Outcome = Deferred("lease_expired", "the lease is over")  # as the real channels have it
            if self._clock.boottime() <= to.not_after and not to.recalled:
                outcome = self.decide(self.route, to)
            yield (to.delivery, to.attempt), outcome

    def read_receipt(self, callback: Callback) -> Receipt | None:
        if callback.query["route"] != self.route:
            raise CallbackRefused("signed by another")
        return Receipt(**json.loads(callback.body))

    async def check(self) -> str | None:
        return None

    async def open(self) -> None: ...

    async def close(self) -> None: ...


class Searchable(Provider):
    """A provider that can be asked what became of a message."""

    lookup_rate: Final = 1000.0

    async def look_up(self, to: Envelope, content: Content, sent_at: int) -> Finding:
        return self.find(self.route, to)


class NoLimit(RateLimiter):
    """Grants at once; ``before`` is called first, between the choice of a chunk and its marking."""

    def __init__(self, before: Callable[[], None] = lambda: None) -> None:
        super().__init__(redis.Redis.from_url(NOWHERE, socket_connect_timeout=0.05, retry=None), lambda: 1)
        self._before = before

    def reserve(
        self, lanes: Sequence[Sequence[Lane]], horizon: float, *, lead: float = 0.0, urgent: bool = False
    ) -> Granted:
        self._before()
        return Granted((0.0,) * len(lanes))

    def pause(self, keys: Sequence[str], seconds: float) -> None: ...


class Engine:
    """A migrated database with some people in it. ``connect`` gives the channel its traits and routes."""

    def __init__(self, url: str, people: int = 3) -> None:
        self.database = Database(url)
        self.clock = Clock()
        self.wake_ups = WakeUps(NOWHERE)
        migrate.upgrade(self.database)
        self.connect(Traits(NAME, "Bleep", 10, None, duplicates_collapse=False, gives_receipts=True))
        directory = Directory(self.database, self.channels)
        for n in range(people):
            directory.create(Person(f"Doctor {n}", addresses={NAME: [f"{1000 + n}"]}))
        keys = Keys(self.database)
        self.caller = keys.authenticate(keys.create("test", ["alerts:send"])[1])

    def connect(self, traits: Traits, *, routes: int = 1, searchable: bool = True) -> None:
        kind = Searchable if searchable else Provider
        self.providers = [kind(self.clock, f"{NAME}:{n}", traits) for n in range(routes)]
        first, *further = self.providers
        self.channels = ChannelSet({NAME: first}, {NAME: first}, {first.route: further})
        self.alerts = Alerts(self.database, self.channels, self.wake_ups, secret=SECRET, public_url=URL)
        self.planner = Planner(self.database, self.channels, self.wake_ups, "planner")
        self.receipts = Receipts(self.database, self.channels, Routing(self.database, self.channels))

    def deliverer(self, loop: Loop, owner: str, limiter: RateLimiter | None = None) -> Deliverer:
        limiter = limiter or NoLimit()
        return Deliverer(self.database, self.channels, limiter, loop, owner=owner, secret=SECRET, public_url=URL)

    def alert(self, severity: Severity = Severity.HIGH, *, expires_in: int = 600, again_after: int | None = None) -> str:
        """To everybody; and once more to whom is not reached, ``again_after`` seconds later."""
        steps = (Step((NAME,), 0), *([Step((NAME,), again_after)] if again_after else []))
        draft = Draft("Email is down", "Use bleeps.", severity, Everyone(), steps, expires_in, "IT")
        return self.alerts.accept(draft, self.caller).uid

    def receipt(self, route: str, **values: Any) -> None:
        """The provider calls back."""
        asyncio.run(self.receipts.take(NAME, Callback(URL, {}, {"route": route}, json.dumps(values).encode())))

    def rows(self, sql: str, *values: Any) -> list[Any]:
        with self.database.read() as connection:
            return list(connection.exec_driver_sql(sql, values))

    def write(self, *statements: str) -> None:
        with self.database.write() as connection:
            for sql in statements:
                connection.exec_driver_sql(sql)

    def close(self) -> None:
        self.wake_ups.close()
        self.database.close()
