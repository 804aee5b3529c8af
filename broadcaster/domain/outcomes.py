"""What one try of a delivery can come to. Errors that are expected are values, matched exhaustively.

The question behind every classification: *could the provider have taken it?*
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

#: Codes of our own making: they say nothing about the provider.
OURS: Final = frozenset({"lease_expired", "recalled", "internal_error"})


class Scope(StrEnum):
    """What a refusal is about."""

    ADDRESS = "address"  # this number, user or subscription: disable it
    MESSAGE = "message"  # this message only
    CHANNEL = "channel"  # our credentials or sender: pause the route, tell the operator


@dataclass(frozen=True, slots=True)
class Accepted:
    """The provider took it. ``cost`` is in millionths of the account's currency, where known."""

    provider_id: str | None = None
    cost: int | None = None


@dataclass(frozen=True, slots=True)
class Rejected:
    """Refused for good, certainly not sent."""

    scope: Scope
    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class Deferred:
    """Certainly not sent, worth another try. Spends an attempt."""

    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class Throttled:
    """Certainly not sent: too fast. Pauses the route for ``retry_after`` seconds, spends no attempt."""

    retry_after: float
    code: str


@dataclass(frozen=True, slots=True)
class Ambiguous:
    """May have been sent: timeout after the write, 5xx, connection lost, unknown code."""

    code: str
    reason: str


Outcome = Accepted | Rejected | Deferred | Throttled | Ambiguous


@dataclass(frozen=True, slots=True)
class Found:
    """A look-up found the message at the provider: ``state`` is accepted, failed or delivered."""

    provider_id: str
    state: str
    code: str | None = None
    of_route: bool = False  # failed for a reason of the route's: another route may reach the recipient


@dataclass(frozen=True, slots=True)
class Absent:
    """A look-up read the whole window and the message is not there."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """The look-up itself failed or was not conclusive."""

    reason: str


Finding = Found | Absent | Unknown
