"""What every part of the bench stands on: options, services, people."""

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from shutil import rmtree
from typing import Final

from tests.bench import services
from tests.bench.people import Crowd, Pool
from tests.bench.product import Product
from tests.bench.services import Postgres
from tests.bench.sink import Sink, running_sink

PARTS: Final = ("push", "sms", "latency", "receipts", "accepting", "import", "scale", "provider", "watching", "whole")
#: What two minutes have room for; ``ONLY`` names the others.
QUICK_PARTS: Final = ("push", "sms", "latency", "receipts", "accepting", "whole")


@dataclass(frozen=True, slots=True)
class Options:
    """``rounds`` of blast, naive and product; ``count`` people in the whole-service run."""

    quick: bool = False
    only: frozenset[str] = frozenset(PARTS)
    rounds: int = 3
    count: int = 1_500_000
    limit: float = 600.0  # s that one broadcast may take before it is given up

    def pick(self, full: int, quick: int) -> int:
        return quick if self.quick else full


@dataclass
class Ground:
    """Running services, and a directory for everything."""

    options: Options
    folder: Path
    postgres: Postgres
    broker: str
    broker_pid: int
    sink: Sink
    pool: Pool
    say: Callable[[str], None]
    products: dict[str, Product] = field(default_factory=dict)

    @cached_property
    def crowded(self) -> Product:
        """PostgreSQL with the people that rounds, latency, receipts and acceptance share."""
        return self.product("crowd", count=self.options.pick(100_000, 20_000), phones=100_000, slack=0)

    def product(
        self, name: str, *, count: int, phones: int = 0, slack: int = 0, sqlite: bool = False, sandbox: str = ""
    ) -> Product:
        """A database of its own with so many people."""
        url = "" if sqlite else self.postgres.create(name)
        made = Product(self.folder / name, url, sandbox or self.sink.origin)
        began = time.monotonic()
        crowd = Crowd(self.pool, self.sink.origin, made.vapid_public_key, count, min(phones, count), min(slack, count))
        made.prepare(crowd)
        self.say(
            f"{name}: wrote {count:,} people into {'SQLite' if sqlite else 'PostgreSQL'} in {time.monotonic() - began:.1f} s"
        )
        return made


@contextmanager
def ground(options: Options, say: Callable[[str], None]) -> Iterator[Ground]:
    """Starts what is needed; leaves nothing behind."""
    folder = Path(tempfile.mkdtemp(prefix="bench-", dir="/tmp"))  # short: a unix socket's path has 108 bytes
    try:
        with ExitStack() as stack:
            postgres = stack.enter_context(services.postgres(folder))
            broker, broker_pid = stack.enter_context(services.broker(folder))
            sink = stack.enter_context(running_sink(folder))
            pool = Pool.make()
            pool.save(folder / "pool.json")
            yield Ground(options, folder, postgres, broker, broker_pid, sink, pool, say)
    finally:
        rmtree(folder, ignore_errors=True)
