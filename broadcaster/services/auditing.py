"""Proves the books: whether every count, transition and attempt in the database agrees with every other.

One snapshot, so it may run at any time, also during a broadcast; it only reads.
"""

from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from broadcaster.domain.errors import NotFound
from broadcaster.store import alerts as alert_store
from broadcaster.store import audits as store
from broadcaster.store.database import Database

SHOWN: Final = 100  # rows kept per check; the number is always the true one

#: The rules, by their stable codes.
RULES: Final = {
    "targeted": "A batch's size, its counts by state and its rows agree, and its rows are of its alert and step.",
    "transition": "Every event is a way that the lifecycle allows.",
    "chain": "A delivery's events follow on from each other, from queued to the state it is in.",
    "attempt": "Attempts are numbered by their marks, and every earlier one is kept.",
    "provider_id": "A provider's id belongs to one attempt of one delivery.",
    "due": "What is open has a time at which it is looked at, and what is being sent has an owner.",
    "plan": "A step's people are those that its deliveries were planned for.",
}


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong. ``delivery`` is None where a batch or a step is wrong, ``alert`` where none is known."""

    alert: str | None
    delivery: int | None
    what: str


@dataclass(frozen=True, slots=True)
class Finding:
    """One check: how much is wrong, and the first of it."""

    check: str
    rule: str
    wrong: int
    shown: tuple[Fault, ...]


@dataclass(frozen=True, slots=True)
class Books:
    """What was audited, and what was found, check by check."""

    alerts: int
    deliveries: int
    events: int
    findings: tuple[Finding, ...]

    @property
    def right(self) -> bool:
        return not any(f.wrong for f in self.findings)


def audit(database: Database, uid: str | None = None, *, progress: Callable[[int, int], None] | None = None) -> Books:
    """Audits everything, or one alert. ``progress``: (statements run, statements in all). Raises NotFound."""
    with database.read() as connection, store.patiently(connection):
        alert = None
        if uid is not None:
            row = alert_store.by_uid(connection, uid)
            if row is None:
                raise NotFound("There is no alert with this id.")
            alert = row.id
        totals = store.totals(connection, alert)
        parts = store.slices(connection, alert)
        runs: list[tuple[str, str, tuple[int, int] | None]] = [(check, sql, None) for check, sql in store.WHOLE.items()]
        runs += [(check, sql, part) for part in parts for check, sql in store.SLICED.items()]
        wrong: Counter[str] = Counter()
        shown: dict[str, list[Fault]] = defaultdict(list)
        for done, (check, sql, part) in enumerate(runs):
            if progress is not None:
                progress(done, len(runs))
            for fault in store.faults(connection, sql, alert, part):
                wrong[check] += 1
                if len(shown[check]) < SHOWN:
                    shown[check].append(Fault(*fault))
    findings = (Finding(check, rule, wrong[check], tuple(shown[check])) for check, rule in RULES.items())
    return Books(*totals, tuple(findings))
