"""From readings to a state: what one vantage has seen in a row, and what the vantages come to together.

Pure: every look of one vantage folds into its ``Streak``; the streaks' votes give the monitor's ``State``. One failed look
among good ones changes nothing; a broken vantage has no vote; what is down stays down until it has been well for a while.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final, assert_never

from broadcaster.domain.monitor import Verdict


class State(StrEnum):
    """What a monitor says of its target."""

    OK = "ok"
    DEGRADED = "degraded"
    DOWN = "down"
    UNKNOWN = "unknown"  # never seen well yet, or too few vantages can say


#: A state of one of these is a cause for an alert (degraded only where the monitor asks for it).
TROUBLE: Final = frozenset({State.DOWN, State.DEGRADED})


@dataclass(frozen=True, slots=True)
class Rules:
    """``failures``: failed (or degraded, or unknown) looks in a row until a vantage says so. ``successes``: good looks in a
    row until it takes that back. ``quorum``: vantages that must agree. ``hold_down``: seconds without any failed look before
    what was down may be well again, so that a flapping server is one outage."""

    failures: int = 3
    successes: int = 5
    quorum: int = 1
    hold_down: float = 60.0


@dataclass(frozen=True, slots=True)
class Streak:
    """What one vantage holds (None: it has seen nothing yet), and its looks in a row. ``working``: ok or degraded."""

    holds: Verdict | None = None
    failed: int = 0
    degraded: int = 0
    ok: int = 0
    working: int = 0
    unknown: int = 0

    def after(self, verdict: Verdict, rules: Rules) -> "Streak":
        """The streak with one more look."""
        match verdict:
            case Verdict.UNKNOWN:  # says nothing of the target: what was in a row stays so
                return replace(self, unknown=self.unknown + 1)
            case Verdict.FAILED:
                seen = replace(self, failed=self.failed + 1, degraded=0, ok=0, working=0, unknown=0)
                return replace(seen, holds=Verdict.FAILED) if seen.failed >= rules.failures else seen
            case Verdict.DEGRADED:
                seen = replace(self, failed=0, degraded=self.degraded + 1, ok=0, working=self.working + 1, unknown=0)
                enough = rules.successes if self.holds is Verdict.FAILED else rules.failures
                row = seen.working if self.holds is Verdict.FAILED else seen.degraded
                return replace(seen, holds=Verdict.DEGRADED) if row >= enough else seen
            case Verdict.OK:
                seen = replace(self, failed=0, degraded=0, ok=self.ok + 1, working=self.working + 1, unknown=0)
                first = self.holds in (None, Verdict.OK)
                row = seen.working if self.holds is Verdict.FAILED else seen.ok
                return replace(seen, holds=Verdict.OK) if first or row >= rules.successes else seen
            case _:
                assert_never(verdict)

    def vote(self, rules: Rules) -> Verdict:
        """What the vantage says now. One that cannot look has no opinion, whatever it held before."""
        if self.holds is None or self.unknown >= rules.failures:
            return Verdict.UNKNOWN
        return self.holds


def judge(votes: Collection[Verdict], rules: Rules) -> State:
    """What the vantages come to. Fewer that can say anything than the quorum: unknown."""
    failed = sum(v is Verdict.FAILED for v in votes)
    troubled = failed + sum(v is Verdict.DEGRADED for v in votes)
    if failed >= rules.quorum:
        return State.DOWN
    if len(votes) - sum(v is Verdict.UNKNOWN for v in votes) < rules.quorum:
        return State.UNKNOWN
    return State.DEGRADED if troubled >= rules.quorum else State.OK


def settle(old: State, judged: State, since_failure: float | None, rules: Rules) -> State:
    """The next state. ``since_failure``: seconds since any vantage's look failed; None: none ever did.

    What is down is well again only after the hold-down.
    """
    recovering = old is State.DOWN and judged in (State.OK, State.DEGRADED)
    if recovering and since_failure is not None and since_failure < rules.hold_down:
        return old
    return judged
