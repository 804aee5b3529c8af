"""Who is told: invented people, written straight into the database in the shape in which the product writes them.

A million enrolments over HTTP are not what is measured. Endpoints and phones are all distinct; the browsers' keys are real
P-256 keys, but of a pool: making 1.5 million takes longer than sending to them.
"""

import base64
import hashlib
import json
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psycopg
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from uuid_utils import uuid7

from broadcaster.store.database import normalise_url

POOL: Final = 2_000
#: As many distinct numbers as Ofcom's ``07700 9xxxxx`` has.
MOST_PHONES: Final = 100_000
MOST_SLACK: Final = 2_000
#: Person n carries ``size:<s>`` for every s above n.
SIZES: Final = (200, 1_000, 2_000, 5_000, 10_000, 20_000, 40_000, 100_000)

Say = Callable[[str], None]
Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Pool:
    """Browsers' keys: (p256dh, auth), base64url."""

    keys: tuple[tuple[str, str], ...]

    @classmethod
    def make(cls, size: int = POOL) -> "Pool":
        keys = (ec.generate_private_key(ec.SECP256R1()).public_key() for _ in range(size))
        points = (key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint) for key in keys)
        return cls(tuple((_b64(point), _b64(os.urandom(16))) for point in points))

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(self.keys))

    @classmethod
    def load(cls, path: Path) -> "Pool":
        return cls(tuple((p, a) for p, a in json.loads(path.read_text())))

    def subscription(self, origin: str, n: int) -> tuple[str, str]:
        """(address as it is stored, endpoint) of person ``n``."""
        p256dh, auth = self.keys[n % len(self.keys)]
        url = f"{origin}/push/wpush/v2/{n:08x}{hashlib.md5(b'%d' % n).hexdigest()}"
        return f'{{"endpoint":"{url}","keys":{{"p256dh":"{p256dh}","auth":"{auth}"}}}}', url


def phone(n: int) -> str:
    return f"+4477009{n % MOST_PHONES:05d}"


@dataclass(frozen=True, slots=True)
class Crowd:
    """``count`` people with a browser each; the first ``phones`` have a phone, the first ``slack`` a Slack user too."""

    pool: Pool
    origin: str
    vapid_public_key: str
    count: int
    phones: int = 0
    slack: int = 0

    def tables(self, revision: int, now: int) -> Iterator[tuple[str, str, Iterator[Row]]]:
        """(table, columns, rows), in an order that foreign keys allow. Ids are given: the directory must be empty."""
        yield "recipients", "id,uid,external_id,name,created_at,from_rev", self._recipients(revision, now)
        columns = "id,uid,recipient_id,channel,address,identity,masked,created_at,from_rev"
        yield "contacts", columns, self._browsers(revision, now)
        yield "push_subscriptions", "contact_id,endpoint_hash,vapid_public_key,created_at", self._subscriptions(now)
        yield "contacts", columns, self._plain("sms", self.phones, self.count, revision, now)
        yield "contacts", columns, self._plain("slack", self.slack, self.count + self.phones, revision, now)
        yield "recipient_tags", "recipient_id,key,value,from_rev", self._tags(revision)

    def _recipients(self, revision: int, now: int) -> Iterator[Row]:
        for n in range(self.count):
            yield n + 1, str(uuid7()), f"P{n}", f"Clinician {n}", now, revision

    def _browsers(self, revision: int, now: int) -> Iterator[Row]:
        host = self.origin.rpartition("/")[2].partition(":")[0]
        for n in range(self.count):
            address, url = self.pool.subscription(self.origin, n)
            masked = f"{host} #{hashlib.sha256(url.encode()).hexdigest()[:8]}"
            yield n + 1, str(uuid7()), n + 1, "push", address, url, masked, now, revision

    def _subscriptions(self, now: int) -> Iterator[Row]:
        for n in range(self.count):
            digest = hashlib.sha256(self.pool.subscription(self.origin, n)[1].encode()).hexdigest()
            yield n + 1, digest, self.vapid_public_key, now

    def _plain(self, channel: str, count: int, ids: int, revision: int, now: int) -> Iterator[Row]:
        for n in range(count):
            address = phone(n) if channel == "sms" else f"U0B{n:06d}"
            masked = f"{address[: 3 if channel == 'sms' else 1]}…{address[-3:]}"
            yield ids + n + 1, str(uuid7()), n + 1, channel, address, address, masked, now, revision

    def _tags(self, revision: int) -> Iterator[Row]:
        for n in range(min(self.count, SIZES[-1])):
            for size in SIZES:
                if n < size <= self.count:
                    yield n + 1, "size", str(size), revision
        for n in range(min(self.count, 100)):
            yield n + 1, "one", str(n), revision


def fill(url: str, crowd: Crowd, now: int) -> None:
    """Writes the crowd into an empty, migrated database."""
    if url.startswith("postgresql"):
        _fill_postgresql(url, crowd, now)
    else:
        _fill_sqlite(str(normalise_url(url).database), crowd, now)


def _fill_postgresql(url: str, crowd: Crowd, now: int) -> None:
    with psycopg.connect(url) as connection, connection.cursor() as cursor:
        revision = _revision(cursor.execute("SELECT revision FROM directory").fetchone())
        for table, columns, rows in crowd.tables(revision, now):
            with cursor.copy(f"COPY {table} ({columns}) FROM STDIN") as copy:
                for lines in _chunks(rows, 2_000):
                    copy.write("".join("\t".join(map(str, row)) + "\n" for row in lines))
        for table in ("recipients", "contacts"):
            cursor.execute(f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), (SELECT max(id) FROM {table}))")
        connection.commit()
        connection.autocommit = True
        cursor.execute("ANALYZE")  # autovacuum would come to it within a minute


def _fill_sqlite(path: str, crowd: Crowd, now: int) -> None:
    connection = sqlite3.connect(path)
    try:
        revision = _revision(connection.execute("SELECT revision FROM directory").fetchone())
        for table, columns, rows in crowd.tables(revision, now):
            places = ",".join("?" * (columns.count(",") + 1))
            connection.executemany(f"INSERT INTO {table} ({columns}) VALUES ({places})", rows)
        connection.commit()
    finally:
        connection.close()


def _revision(row: Any) -> int:
    return int(row[0])


def _chunks(rows: Iterator[Row], size: int) -> Iterator[Sequence[Row]]:
    chunk: list[Row] = []
    for row in rows:
        chunk.append(row)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
