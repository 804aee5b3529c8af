"""The shape of a channel. A new channel is one module that satisfies ``Channel``; abilities are separate protocols."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from broadcaster.domain.messages import Address, Content, Cost, Envelope, Message
from broadcaster.domain.outcomes import Finding, Outcome

AttemptId = tuple[int, int]  # (delivery, attempt)


@dataclass(frozen=True, slots=True)
class Traits:
    """What the engine must know about a channel instead of its name."""

    name: str  # "sms", "slack", "push": as in the API's ``channels``
    label: str  # "SMS": as people read it
    chunk: int  # deliveries marked and sent together
    rate: float | None  # units a second of its default sender; None where the provider states none
    duplicates_collapse: bool  # a repeat replaces the first one on the recipient's screen
    gives_receipts: bool
    receipt_deadline: float = 3600.0  # seconds after acceptance
    queue_seconds: float | None = None  # the provider's own queue: longer than this is refused
    currency: str | None = None


@dataclass(frozen=True, slots=True)
class Lane:
    """One rate limit that an envelope passes: ``units`` of ``rate`` a second under ``key``."""

    key: str
    rate: float
    units: int


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a verified callback says of one attempt. ``state`` is accepted, failed or delivered."""

    delivery: int
    attempt: int
    state: str
    code: str | None = None
    reason: str | None = None
    provider_id: str | None = None
    disables_address: bool = False
    of_route: bool = False  # failed for a reason of the route's: another route may reach the recipient


@dataclass(frozen=True, slots=True)
class Callback:
    """An HTTP request of a provider, as it arrived. ``url`` is the public one, as the provider called it."""

    url: str
    headers: Mapping[str, str]  # names in lower case
    query: Mapping[str, str]
    body: bytes


class CallbackRefused(Exception):
    """The callback's signature or token does not hold, or it cannot be read. Nothing is changed."""


@runtime_checkable
class Channel(Protocol):
    """Talks to one provider. One instance per process; ``open`` and ``close`` frame its life on the event loop."""

    @property
    def traits(self) -> Traits: ...

    @property
    def route(self) -> str:
        """Provider, account and sender in one name, for example ``sms:twilio:MG…``. Pauses and limits hang on it."""
        ...

    def parse_address(self, raw: str) -> Address:
        """Canonical address. Raises InvalidAddress."""
        ...

    def render(self, message: Message, to: Envelope) -> Content:
        """The text as this channel says it; no I/O."""
        ...

    def quote(self, content: Content) -> Cost:
        """Segments and money; no I/O."""
        ...

    def lanes(self, to: Envelope, cost: Cost) -> Sequence[Lane]:
        """The rate limits this envelope passes; empty where there is none."""
        ...

    def send(self, message: Message, chunk: Sequence[tuple[Envelope, Content]]) -> AsyncIterator[tuple[AttemptId, Outcome]]:
        """Exactly one outcome per envelope, as it happens. Never raises for a delivery fault."""
        ...

    async def check(self) -> str | None:
        """None when the provider takes our credentials, else one sentence for the operator."""
        ...

    async def open(self) -> None: ...

    async def close(self) -> None: ...


@runtime_checkable
class SendsReceipts(Protocol):
    """The provider calls us back."""

    def read_receipt(self, callback: Callback) -> Receipt | None:
        """Verified and read; None where it says nothing new (for example "queued"). Raises CallbackRefused."""
        ...


@runtime_checkable
class LooksUp(Protocol):
    """Did this attempt reach the provider?"""

    @property
    def lookup_rate(self) -> float:
        """Look-ups a second that the provider may be asked for."""
        ...

    async def look_up(self, to: Envelope, content: Content, sent_at: int) -> Finding:
        """``sent_at``: when the attempt was marked, ms since the epoch. Never raises for a provider's fault."""
        ...


@dataclass(frozen=True, slots=True)
class ChannelSet:
    """The channels of one process by name: those that are configured, and the sandbox's, which test keys are held to.

    With no provider configured both are the sandbox's. A channel may have more than one route: ``further`` has, by the
    name of the first route, those to fall back to, in order. They share the channel's name and its addresses.
    """

    live: Mapping[str, Channel]
    sandbox: Mapping[str, Channel]
    further: Mapping[str, Sequence[Channel]] = field(default_factory=dict)

    def get(self, name: str, *, sandbox: bool) -> Channel:
        """The channel, by its first route. Raises KeyError where it is not configured."""
        return (self.sandbox if sandbox else self.live)[name]

    def routes(self, first: Channel) -> tuple[Channel, ...]:
        """All routes of the channel, in order."""
        return (first, *self.further.get(first.route, ()))

    def first(self) -> tuple[Channel, ...]:
        """Every channel once, by its first route."""
        return tuple({id(c): c for c in (*self.live.values(), *self.sandbox.values())}.values())

    def all(self) -> tuple[Channel, ...]:
        """Every route of every channel once."""
        return tuple(route for channel in self.first() for route in self.routes(channel))
