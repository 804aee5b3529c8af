"""What goes wrong, and when: data, worked out up front from the seed. No I/O."""

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

#: How many of each in a minute; every kind comes at least once.
KILLS: Final = {"child": 6, "master": 2, "worker": 2, "api": 2, "redis": 2}
FREEZES: Final = {"child": 4, "worker": 1, "api": 1, "redis": 2}
DATABASE_CUTS: Final = 3
#: Seconds frozen: shorter than any lease, longer than a critical one (5 s), longer than any (30 s).
SPELLS: Final = ((1.0, 4.0), (5.5, 12.0), (31.0, 40.0))

#: Reply faults: (name, probability from, to, fields). Few are enough of those that stop a whole route (429) or keep a
#: chunk for its time-out (hang): else nothing is under way any more that the others could hit.
REPLIES: Final[tuple[tuple[str, float, float, Mapping[str, Any]], ...]] = (
    ("late_reply", 0.05, 0.3, {"kind": "late_reply", "seconds": 0.7}),
    ("delay", 0.05, 0.3, {"kind": "delay", "seconds": 0.7}),
    ("429", 0.02, 0.1, {"kind": "status", "status": 429, "retry_after": 1, "count": 3}),
    ("500", 0.02, 0.2, {"kind": "status", "status": 500, "taken": False}),
    ("500_taken", 0.1, 0.3, {"kind": "status", "status": 500, "taken": True}),
    ("reset_before", 0.02, 0.2, {"kind": "reset_before"}),
    ("reset_after", 0.1, 0.3, {"kind": "reset_after"}),
    ("hang", 0.02, 0.05, {"kind": "hang", "seconds": 20, "taken": False, "count": 2}),
    ("hang_taken", 0.02, 0.05, {"kind": "hang", "seconds": 20, "taken": True, "count": 2}),
)
CALLBACKS: Final[tuple[tuple[str, Mapping[str, Any]], ...]] = (
    ("callback_late", {"seconds": 4}),
    ("callback_twice", {}),
    ("callback_out_of_order", {}),
    ("callback_early", {}),
    ("callback_forged", {}),
)
PROVIDERS: Final = ("twilio", "slack", "push")
#: Before a sender is killed its providers take messages and answer late, so that it dies between their yes and our books.
DYING: Final[Mapping[str, Any]] = {"kind": "late_reply", "seconds": 0.7, "probability": 0.5}
SENDERS: Final = ("child", "master", "worker")


@dataclass(frozen=True, slots=True)
class Act:
    """At ``at`` seconds do ``what`` (kill, freeze, cut, fault, lag) to ``which``, for ``duration`` seconds.

    ``pick`` chooses among processes that are the same; ``fields`` are a fault's own.
    """

    at: float
    what: str
    which: str
    duration: float = 0.0
    pick: int = 0
    fields: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __str__(self) -> str:
        lasting = f" for {self.duration} s" if self.duration else ""
        return f"{self.at:6.1f} s  {self.what} {self.which}{lasting}"


def make(seed: int, seconds: float, database: str, *, providers_well: bool = False) -> tuple[Act, ...]:
    """The plan, by time. Everything has ended by 0.95 of ``seconds``."""
    chance = random.Random(seed)
    acts = list(_blows(chance, seconds, database))
    acts += [late for act in acts for late in _before_death(act)]
    if not providers_well:
        acts += _provider_faults(chance, seconds)
    return tuple(sorted(acts, key=lambda act: (act.at, act.what, act.which)))


def resting(plan: tuple[Act, ...]) -> list[tuple[float, float]]:
    """(from, to) in which SMS as a whole rests because Twilio says so, a pause that even a critical alert must keep."""
    told = [act for act in plan if act.what == "fault" and act.which == "twilio:429"]
    return [(act.at, act.at + act.duration + act.fields["retry_after"] + 1) for act in told]


def struck(plan: tuple[Act, ...], after: float = 5.0) -> list[tuple[float, float]]:
    """(from, to) in which a process of ours is dead, frozen or has just come back."""
    return [(act.at - 1, act.at + act.duration + after) for act in plan if act.what in ("kill", "freeze", "cut")]


def _times(a_minute: int, seconds: float) -> int:
    return max(1, round(a_minute * seconds / 60))


def _blows(chance: random.Random, seconds: float, database: str) -> Iterator[Act]:
    """Deaths and freezes, evenly spread in shuffled order: two at the same instant would count as one."""
    kinds = [("kill", which, n) for which, a_minute in KILLS.items() for n in range(_times(a_minute, seconds))]
    kinds += [("freeze", which, n) for which, a_minute in FREEZES.items() for n in range(_times(a_minute, seconds))]
    if database != "sqlite":
        kinds += [("cut", "database", n) for n in range(_times(DATABASE_CUTS, seconds))]
    chance.shuffle(kinds)
    part = chance.randrange(2)
    for slot, (what, which, n) in enumerate(kinds):
        at = (0.05 + 0.9 * (slot + chance.uniform(0.2, 0.8)) / len(kinds)) * seconds
        duration = 0.0
        if what == "freeze":
            # One child in five sleeps through the longest lease; an API that did so would only stop the test.
            low, high = SPELLS[2] if which == "child" and n % 5 == 1 else SPELLS[(n + (which == "child")) % 2]
            duration = round(min(chance.uniform(low, high), seconds * 0.6), 2)
            at = min(at, 0.95 * seconds - duration)
        if which in ("worker", "master"):
            part = 1 - part  # the critical worker and the other in turn
        pick = part if which in ("worker", "master") else chance.randrange(1 << 16)
        yield Act(round(at, 2), what, which, duration, pick)


def _before_death(act: Act) -> Iterator[Act]:
    if act.what == "kill" and act.which in SENDERS:
        for provider in PROVIDERS:
            at = round(max(0.0, act.at - 0.8), 2)
            yield Act(at, "fault", f"{provider}:dying", 1.0, fields={"provider": provider, **DYING})


def _when(chance: random.Random, seconds: float, duration: float) -> float:
    return round(chance.uniform(0.0, 0.95 - duration / seconds) * seconds, 2)


def _provider_faults(chance: random.Random, seconds: float) -> Iterator[Act]:
    longest = min(8.0, seconds / 3)
    rounds = max(1, round(seconds / 60))

    def window(name: str, provider: str, fields: Mapping[str, Any], most: float = longest) -> Act:
        duration = round(chance.uniform(most / 2, most), 2)
        given = {"provider": provider, **fields}
        return Act(_when(chance, seconds, duration), "fault", f"{provider}:{name}", duration, fields=given)

    for _ in range(rounds):
        for provider in PROVIDERS:
            for name, low, high, fields in REPLIES:
                probability = round(chance.uniform(low, high), 3)
                yield window(name, provider, {**fields, "probability": probability})
        for provider in ("twilio", "push"):
            for name, fields in CALLBACKS:
                if provider == "twilio" or name in ("callback_late", "callback_twice"):
                    yield window(name, provider, {"kind": name, "probability": 0.3, **fields})
        for provider in ("twilio", "slack"):
            failing = {"kind": "status", "status": 500, "operation": "lookup", "probability": 0.6}
            yield window("lookup_500", provider, failing, seconds / 3)  # look-ups come seconds after the doubt
        lag = round(chance.uniform(1.0, 3.0), 2)
        duration = round(seconds / 4, 2)
        yield Act(_when(chance, seconds, duration), "lag", "twilio", duration, fields={"list_lag": lag})
