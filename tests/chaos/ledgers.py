"""Three books, person by person: what was asked, what our database says, what the providers hold.

The providers' book is the truth. A message belongs to the alert whose token stands in its text.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import requests
import sqlalchemy as sa

from tests.chaos.posting import Posted

Key = tuple[str, str, str]  # (token, channel, address)

TOKEN: Final = re.compile(r"CHX\d{5}")
#: A message with one of these reached nobody, and sending it again by another way is right.
DEAD: Final = frozenset({"failed", "undelivered", "expired", "undecryptable", "deleted"})
REACHED: Final = frozenset({"delivered", "shown", "replaced"})
OPEN: Final = frozenset({"queued", "sending", "retrying", "uncertain"})
CHANNELS: Final = ("sms", "slack", "push")
PAGE: Final = 10_000

_ROWS: Final = """
SELECT d.id, a.title, c.channel, c.identity AS address, d.state
FROM deliveries d JOIN contacts c ON c.id = d.contact_id JOIN alerts a ON a.id = d.alert_id
"""
_STATES: Final = "SELECT state, count(*) AS n FROM deliveries GROUP BY state"
_EVENTS: Final = "SELECT delivery_id, new, code FROM delivery_events ORDER BY id"
_CHAIN: Final = "SELECT at, attempt, old, new, code, reason FROM delivery_events WHERE delivery_id = :id ORDER BY id"
_ROW: Final = """
SELECT d.*, c.channel, c.masked, a.title, a.severity FROM deliveries d
JOIN contacts c ON c.id = d.contact_id JOIN alerts a ON a.id = d.alert_id WHERE d.id = :id
"""
_ATTEMPTS: Final = "SELECT * FROM attempts WHERE delivery_id = :id ORDER BY n"


@dataclass(frozen=True, slots=True)
class Row:
    """A delivery as our database has it. ``declared``: a resend of it was declared. ``last``: where its events end."""

    id: int
    state: str
    declared: bool
    last: str | None


@dataclass(frozen=True, slots=True)
class Entry:
    """A message that a provider took."""

    status: str
    at: float


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that must not be. ``kind``: lost, duplicate, unexplained."""

    kind: str
    what: str
    key: Key
    delivery: int | None = None


@dataclass
class Comparison:
    """What the three books say together."""

    findings: list[Finding] = field(default_factory=list)
    duplicates: Counter[str] = field(default_factory=Counter)  # messages too many, by channel
    push_repeats: int = 0
    declared_resends: int = 0

    def count(self, kind: str) -> int:
        return sum(f.kind == kind for f in self.findings)


class Books:
    """Our database, read only; its connections are not the product's, so that nobody cuts them."""

    def __init__(self, url: str) -> None:
        if url.startswith("sqlite"):
            path = url.partition("///")[2]
            self.engine = sa.create_engine(f"sqlite:///file:{path}?mode=ro&uri=true")
        else:
            target = url.replace("postgresql://", "postgresql+psycopg://", 1)
            self.engine = sa.create_engine(target, connect_args={"application_name": "chaos"})

    def close(self) -> None:
        self.engine.dispose()

    def states(self) -> dict[str, int]:
        return {row.state: row.n for row in self._all(_STATES)}

    def unplanned(self) -> int:
        """Steps of alerts that are still to be planned."""
        return int(self._all("SELECT count(*) AS n FROM alert_steps WHERE next_at IS NOT NULL")[0].n)

    def open_of(self, uid: str) -> int | None:
        """Deliveries of an alert that may still leave; None while it is being planned."""
        states = ", ".join(f"'{state}'" for state in sorted(OPEN))
        rows = self._all(
            "SELECT (SELECT count(*) FROM alert_steps s WHERE s.alert_id = a.id AND s.next_at IS NOT NULL) AS steps,"
            f" (SELECT count(*) FROM deliveries d WHERE d.alert_id = a.id AND d.state IN ({states})) AS n"
            " FROM alerts a WHERE a.uid = :uid",
            uid=uid,
        )
        return None if not rows or rows[0].steps else int(rows[0].n)

    def senders(self) -> set[int]:
        """Pids of the processes that have messages under way."""
        owners = self._all("SELECT DISTINCT owner FROM batches WHERE owner IS NOT NULL AND n_sending > 0")
        return {int(row.owner.split("/")[3]) for row in owners}

    def cut(self) -> int:
        """Ends all of the product's connections (PostgreSQL). How many there were."""
        sql = (
            "SELECT count(pg_terminate_backend(pid)) AS n FROM pg_stat_activity"
            " WHERE application_name = 'alert-broadcaster' AND datname = current_database()"
        )
        return int(self._all(sql)[0].n)

    def rows(self) -> dict[Key, list[Row]]:
        last: dict[int, str] = {}
        declared: set[int] = set()
        events, rows = self._at_once(_EVENTS, _ROWS)  # receipts still come in
        for e in events:
            last[e.delivery_id] = e.new
            if e.code == "resent_unconfirmed":
                declared.add(e.delivery_id)
        found: dict[Key, list[Row]] = defaultdict(list)
        for r in rows:
            found[_token(r.title), r.channel, r.address].append(Row(r.id, r.state, r.id in declared, last.get(r.id)))
        return found

    def uncounted(self) -> list[str]:
        """States of which the batches count another number than there are rows."""
        columns = [c["name"] for c in sa.inspect(self.engine).get_columns("batches") if c["name"].startswith("n_")]
        summed = "SELECT " + ", ".join(f"coalesce(sum({c}), 0) AS {c}" for c in columns) + " FROM batches"
        (sums,), states = self._at_once(summed, _STATES)
        true = {row.state: row.n for row in states}
        return [c for c in columns if int(getattr(sums, c)) != true.get(c.removeprefix("n_"), 0)]

    def story(self, delivery: int) -> list[str]:
        """A delivery's row and its events, the address masked."""
        row = self._all(_ROW, id=delivery)[0]._mapping
        shown = {k: v for k, v in row.items() if v is not None and k not in ("contact_id", "recipient_id")}
        lines = [f"delivery {shown}"]
        for e in self._all(_CHAIN, id=delivery):
            why = f"{e.code or ''} {e.reason or ''}".rstrip()
            lines += [f"  {e.at} attempt {e.attempt}: {e.old} -> {e.new}  {why}"]
        return lines + [f"  kept {dict(a._mapping)}" for a in self._all(_ATTEMPTS, id=delivery)]

    def _at_once(self, *queries: str) -> list[Sequence[Any]]:
        """Their rows, all of the same instant."""
        with self.engine.connect() as connection:
            if self.engine.dialect.name == "sqlite":
                connection.exec_driver_sql("BEGIN")  # the driver's own begins with the first write only
            else:
                connection = connection.execution_options(isolation_level="REPEATABLE READ")
            return [connection.execute(sa.text(sql)).all() for sql in queries]

    def _all(self, sql: str, **values: Any) -> Sequence[Any]:
        with self.engine.connect() as connection:
            return connection.execute(sa.text(sql), values).all()


def providers(sandbox: str) -> dict[Key, list[Entry]]:
    """Everything the providers took, in the order in which they did."""
    found: dict[Key, list[Entry]] = defaultdict(list)
    after = 0
    while True:
        query = {"after": str(after), "limit": str(PAGE)}
        answer = requests.get(f"{sandbox}/_sandbox/ledger", params=query, timeout=60)
        answer.raise_for_status()
        page = answer.json()
        for item in page["items"]:
            key = (_token(item["text"] or ""), item["channel"], item["address"])
            found[key].append(Entry(item["status"], item["time"]))
        if len(page["items"]) < PAGE:
            return found
        after = page["next"]


def compare(
    posted: Iterable[Posted], rows: dict[Key, list[Row]], taken: dict[Key, list[Entry]], say: Callable[[str], None]
) -> Comparison:
    """Every finding, and the counts. Pure but for ``say``."""
    asked: set[Key] = {(p.token, channel, address) for p in posted for channel, address in p.asked}
    say(f"comparing {len(asked)} asked, {sum(map(len, rows.values()))} in the database, {len(taken)} at the providers")
    result = Comparison()
    for key in asked:
        _one(result, key, rows.get(key, []), taken.get(key, []))
    for key in (rows.keys() | taken.keys()) - asked:
        ids = [row.id for row in rows.get(key, [])]
        result.findings.append(Finding("unexplained", "nobody asked for it", key, ids[0] if ids else None))
    return result


def _one(result: Comparison, key: Key, rows: list[Row], entries: list[Entry]) -> None:
    alive = [entry for entry in entries if entry.status not in DEAD]
    row = rows[0] if rows else None
    delivery = row.id if row else None
    declared = sum(r.declared for r in rows)
    result.declared_resends += declared

    def find(kind: str, what: str) -> None:
        result.findings.append(Finding(kind, what, key, delivery))

    if not alive:
        find("lost", f"no provider holds it; our state: {row.state if row else 'no row'}")
    seen = len(alive)
    if key[1] == "push":
        seen = sum(entry.status != "replaced" for entry in alive)
        result.push_repeats += max(0, len(alive) - 1)
    too_many = seen - 1 - declared
    if too_many > 0:
        result.duplicates[key[1]] += too_many
        find("duplicate", f"taken {seen} times, at {[round(e.at, 3) for e in alive]}")
    if len(rows) != 1:
        find("unexplained", f"{len(rows)} rows in the database")
    if row is not None and (what := _disagreement(row, alive)):
        find("unexplained", what)


def _disagreement(row: Row, alive: list[Entry]) -> str | None:
    """Where a row says other than the providers do."""
    if row.last != row.state and not (row.last is None and row.state in ("queued", "skipped")):
        return f"its events end in {row.last}, its state is {row.state}"
    if row.state in OPEN:
        return f"not final: {row.state}"
    if row.state in ("accepted", "delivered"):
        if not alive:
            return f"{row.state}, but no provider took it"
        if row.state == "delivered" and not any(entry.status in REACHED for entry in alive):
            return f"delivered, but the provider says {alive[-1].status}"
        return None
    return f"{row.state}, but the provider took it" if alive else None


def _token(text: str) -> str:
    match = TOKEN.search(text)
    return match.group() if match else "?"
