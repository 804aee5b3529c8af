"""When a route's circuit breaker opens, closes and tries again. Counts in, verdict out; times in ms.

A breaker moves traffic to the next route; it never fails a message. Two things trip it: requests that did not get
through (not sent, or in doubt), and messages that were taken and then finally not delivered for a reason of the route's.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

BUCKET: Final = 5_000
SUBMIT_WINDOW: Final = 30_000
RECEIPT_WINDOW: Final = 600_000  # receipts come in over minutes
RESTS: Final = (10_000, 20_000, 60_000, 300_000)  # how long it stays open, by trips in a row
PROBE_TIME: Final = 10_000  # one process tries it with a few messages; the next may after this
PROBE_SIZE: Final = 5
BRIEF: Final = 5_000  # a shorter pause is waited for, unless it is critical

_FEW: Final = 3  # so many in a row and not one good: enough when there is little traffic
_MANY: Final = 20
_SHARE: Final = 0.5


class Cause(StrEnum):
    """What tripped it: that is also what must look good again before it closes."""

    SUBMIT = "submit"
    RECEIPTS = "receipts"


@dataclass(frozen=True, slots=True)
class Counts:
    """What a route did in a window."""

    good: int = 0  # requests that were taken, or refused for a reason of the message's
    bad: int = 0  # requests that were certainly not sent, or are in doubt
    delivered: int = 0
    undelivered: int = 0


@dataclass(frozen=True, slots=True)
class Trip:
    cause: Cause
    reason: str


def trips(submits: Counts, receipts: Counts) -> Trip | None:
    """Whether a closed breaker opens. ``submits`` and ``receipts``: the counts of their two windows."""
    if _too_many(submits.bad, submits.good):
        return Trip(Cause.SUBMIT, f"{submits.bad} of {submits.bad + submits.good} requests did not get through")
    if receipts.undelivered >= _MANY and _too_many(receipts.undelivered, receipts.delivered):
        total = receipts.undelivered + receipts.delivered
        return Trip(Cause.RECEIPTS, f"{receipts.undelivered} of {total} messages were taken and not delivered")
    return None


def closes(cause: Cause, since_open: Counts) -> bool | None:
    """What a half-open breaker's trial says: True closes it, False opens it again, None: not known yet."""
    if cause is Cause.SUBMIT:
        good, bad = since_open.good, since_open.bad
    else:
        good, bad = since_open.delivered, since_open.undelivered
        if since_open.bad:
            return False
    if good == bad == 0:
        return None
    return good > bad


def rest(in_a_row: int) -> int:
    """ms to stay open after trip number ``in_a_row`` (1-based)."""
    return RESTS[min(in_a_row, len(RESTS)) - 1]


def _too_many(bad: int, good: int) -> bool:
    if good == 0:
        return bad >= _FEW
    return bad + good >= _MANY and bad / (bad + good) >= _SHARE
