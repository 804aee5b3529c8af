"""What is said, to whom, and how a channel says it."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Severity(StrEnum):
    """How much it matters. Priority in queues, Urgency in web push, and the words on the pages come from it."""

    CRITICAL = "critical"
    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"


#: Lower is sooner.
PRIORITY: Final[dict[Severity, int]] = {
    Severity.CRITICAL: 0,
    Severity.HIGH: 1,
    Severity.NORMAL: 2,
    Severity.LOW: 3,
}


@dataclass(frozen=True, slots=True)
class Message:
    """One alert's words, the same for every channel. Times are milliseconds since the epoch, UTC."""

    alert: str  # the alert's public id (UUIDv7)
    title: str
    body: str
    severity: Severity
    drill: bool
    source: str  # who says it, for example "Northmoor Trust IT"
    sent_at: int
    expires_at: int


@dataclass(frozen=True, slots=True)
class Address:
    """Where a channel reaches somebody.

    ``value`` is the canonical form that is stored and sent to; ``identity`` is what makes two addresses the same
    (for a push subscription its endpoint); ``masked`` is all that logs and pages may show.
    """

    value: str
    identity: str
    masked: str


class InvalidAddress(ValueError):
    """The address cannot be used on this channel; the text says why, without repeating the address."""


@dataclass(slots=True)
class Envelope:
    """One attempt of one delivery, as the engine hands it to a channel. Its times are set later, and it may be recalled."""

    delivery: int
    attempt: int
    address: str  # Address.value
    reference: str  # short, unique to the delivery; what a person quotes to the help desk
    link: str  # the message's page for this recipient
    receipt_url: str  # where receipts for this attempt go; signed
    earlier: tuple[str, ...] = ()  # the provider's ids of attempts before this one: a look-up must not take them for it
    not_before: float = 0.0  # CLOCK_BOOTTIME seconds: the rate limiter's slot
    not_after: float = float("inf")  # CLOCK_BOOTTIME seconds: the lease's end; nothing is written to a socket after it
    recalled: bool = False  # set when its route is told to wait: nothing is written to a socket any more


@dataclass(frozen=True, slots=True)
class Content:
    """A message as one channel says it to one recipient. ``text`` is what a person reads; ``payload`` what is sent."""

    text: str
    payload: object = None


@dataclass(frozen=True, slots=True)
class Cost:
    """What sending it takes: ``units`` of the rate limit (SMS segments, else 1) and ``money`` in millionths, or None."""

    units: int = 1
    money: int | None = None
    encoding: str | None = None  # "GSM-7" or "UCS-2" for SMS
    warnings: tuple[str, ...] = ()
