"""How an alert stands: live counts, reach over time, and who has it and who has not."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Row

from broadcaster.domain import tokens
from broadcaster.domain.channel import ChannelSet
from broadcaster.domain.errors import NotFound
from broadcaster.domain.lifecycle import OPEN, STATES, State
from broadcaster.domain.references import reference
from broadcaster.services.routing import Routing
from broadcaster.store import alerts as store
from broadcaster.store import batches, deliveries
from broadcaster.store.database import Database, read_clock

_YOUNG_MS: Final = 200_000  # older alerts have a sample every 5 s at most
_LOOK_AT_ALL: Final = 4.5  # s
_REST: Final = 50  # times as long as the last look took: many alerts are looked at more rarely,
_LONGEST_REST: Final = 5.0  # s, also after a look that had to wait for others
_SAMPLED_AT_ONCE: Final = 500
_CLOSED_AT_ONCE: Final = 100
LINK_LIFE_MS: Final = 30 * 86_400_000


@dataclass(frozen=True, slots=True)
class ChannelView:
    """One channel's part of an alert. ``counts`` has every state."""

    name: str
    label: str
    targeted: int
    counts: dict[str, int]
    reached: int


@dataclass(frozen=True, slots=True)
class RouteTrouble:
    """A route that is paused or broken, and why. ``until_ms``: ms since the epoch."""

    name: str
    reason: str
    until_ms: int


@dataclass(frozen=True, slots=True)
class AlertView:
    """An alert and its counts at one instant. Times in ms since the epoch."""

    uid: str
    title: str
    body: str
    severity: str
    source: str
    drill: bool
    sandbox: bool
    state: str  # planning, sending, sent (waiting for receipts only), completed, cancelled
    created_at: int
    expires_at: int
    cancelled_at: int | None
    completed_at: int | None
    people: int | None
    unreachable: int | None
    targeted: int
    channels: tuple[ChannelView, ...]
    reached: int
    first_reached_at: int | None
    last_reached_at: int | None
    routes: tuple[RouteTrouble, ...]
    dedup_key: str | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """A point of the reach curve. ``accepted`` includes what was delivered."""

    at: int
    channel: str
    targeted: int
    accepted: int
    delivered: int


@dataclass(frozen=True, slots=True)
class DeliveryView:
    """One delivery with the person's name and a masked address."""

    id: int
    reference: str
    recipient: str
    name: str
    channel: str
    address: str
    state: str
    attempt: int
    code: str | None
    reason: str | None
    updated_at: int


@dataclass(frozen=True, slots=True)
class MessageView:
    """What the link in a message opens."""

    title: str
    body: str
    severity: str
    drill: bool
    source: str
    sent_at: int
    cancelled: bool
    alert_uid: str


class Progress:
    """Reading only, but for ``sample``, which pollers call."""

    def __init__(self, database: Database, channels: ChannelSet, secret: bytes) -> None:
        self._database = database
        self._channels = channels
        self._secret = secret
        known = (*channels.live.items(), *channels.sandbox.items())
        self._final = {name for name, channel in known if not channel.traits.gives_receipts}
        self._next_look = self._next_look_at_all = 0.0  # ``time.monotonic``

    def snapshot(self, uid: str) -> AlertView:
        """The alert as it stands. Raises NotFound."""
        with self._database.read() as connection:
            return self._views(connection, [_found(store.by_uid(connection, uid))])[0]

    def list_alerts(self, cursor: int | None, limit: int) -> tuple[list[AlertView], int | None]:
        """Alerts, the newest first, and the cursor of the next page."""
        with self._database.read() as connection:
            rows = store.page(connection, before=cursor, limit=limit)
            return self._views(connection, rows), rows[-1].id if len(rows) == limit else None

    def samples(self, uid: str) -> list[Sample]:
        """Reach over time, ordered. Raises NotFound."""
        with self._database.read() as connection:
            alert = _found(store.by_uid(connection, uid))
            rows = store.samples(connection, alert.id)
        return [Sample(r.at, r.channel, r.targeted, r.accepted, r.delivered) for r in rows]

    def deliveries(
        self,
        uid: str,
        state: str | None = None,
        channel: str | None = None,
        cursor: int | None = None,
        limit: int = 100,
    ) -> tuple[list[DeliveryView], int | None]:
        """Deliveries by number, and the cursor of the next page. Raises NotFound."""
        with self._database.read() as connection:
            alert = _found(store.by_uid(connection, uid))
            rows = deliveries.page(connection, alert.id, state=state, channel=channel, after=cursor or 0, limit=limit)
        views = [
            DeliveryView(
                r.id, reference(r.id), r.recipient, r.name, r.channel, r.masked, r.state, r.attempt, r.code, r.reason,
                r.updated_at,
            )
            for r in rows
        ]  # fmt: skip
        return views, rows[-1].id if len(rows) == limit else None

    def message(self, token: str) -> MessageView | None:
        """What the link in a message shows; None when we did not make the link, or it is older than 30 days."""
        numbers = tokens.verify(self._secret, "message", token)
        if numbers is None or len(numbers) != 1:
            return None
        with self._database.read() as connection:
            alert = deliveries.alert_of(connection, numbers[0])
            if alert is None or read_clock(connection) - alert.created_at > LINK_LIFE_MS:
                return None
        return MessageView(
            alert.title, alert.body, alert.severity, alert.drill, alert.source, alert.created_at,
            cancelled=alert.cancelled_at is not None, alert_uid=alert.uid,
        )  # fmt: skip

    def reached_people(self, uid: str) -> int:
        """Distinct people whom a message reached: an exact count, for reports. Raises NotFound."""
        with self._database.read() as connection:
            return store.people_reached(connection, _found(store.by_uid(connection, uid)).id)

    def sample(self) -> int:
        """Takes the samples that are due, and closes alerts with nothing left to do. Called about every second; how many
        it found.

        An alert in which nothing moves costs a look and no writing: young ones each time, all of them now and then.
        """
        began = time.monotonic()
        if began < self._next_look:
            return 0
        with self._database.glance() as connection:
            now = read_clock(connection)
            since = now - _YOUNG_MS if began < self._next_look_at_all else 0
            moved = store.moved(connection, now, since=since, limit=_SAMPLED_AT_ONCE)
            at_rest = store.at_rest(connection, since=since, final=self._final, limit=_CLOSED_AT_ONCE)
        ended = time.monotonic()
        if len(at_rest) < _CLOSED_AT_ONCE:  # else there are more
            self._next_look = ended + min(_LONGEST_REST, _REST * (ended - began))
            if since == 0:
                self._next_look_at_all = ended + _LOOK_AT_ALL
        if moved:
            with self._database.write() as connection:
                store.add_samples(connection, moved, read_clock(connection))
        if at_rest:
            self._close(at_rest)
        return len({*moved, *at_rest})

    def _close(self, alerts: Sequence[int]) -> None:
        with self._database.write() as connection:
            taken = store.take_open(connection, alerts)
            views = self._views(connection, taken)
            over = [alert.id for alert, view in zip(taken, views, strict=True) if _over(view)]
            if over:
                now = read_clock(connection)
                store.add_samples(connection, over, now, thinned=False)
                store.complete(connection, over, now)

    def _views(self, connection: Connection, alerts: list[Row[Any]]) -> list[AlertView]:
        if not alerts:
            return []
        ids = [a.id for a in alerts]
        counts: dict[int, list[Row[Any]]] = {}
        for row in batches.counts(connection, ids):
            counts.setdefault(row.alert_id, []).append(row)
        steps = store.first_steps(connection, ids)
        unplanned = store.unplanned_steps(connection, ids)
        times = store.reach_times(connection, ids)
        standings = Routing.standings(connection)
        found = ((name, standings.trouble(name)) for name in standings.by_name)
        troubles = tuple(RouteTrouble(name, *trouble) for name, trouble in found if trouble is not None)
        return [
            self._view(a, counts.get(a.id, []), steps[a.id], unplanned.get(a.id, 0), times.get(a.id, (None, None)), troubles)
            for a in alerts
        ]

    def _view(
        self,
        alert: Row[Any],
        counts: list[Row[Any]],
        first: Row[Any],
        unplanned: int,
        times: tuple[int | None, int | None],
        troubles: tuple[RouteTrouble, ...],
    ) -> AlertView:
        channels = tuple(self._channel(row, sandbox=alert.sandbox) for row in counts)
        return AlertView(
            uid=alert.uid, title=alert.title, body=alert.body, severity=alert.severity, source=alert.source,
            drill=alert.drill, sandbox=alert.sandbox, state=self._state(alert, channels, first, unplanned),
            created_at=alert.created_at, expires_at=alert.expires_at, cancelled_at=alert.cancelled_at,
            completed_at=alert.completed_at, people=first.people, unreachable=first.unreachable,
            targeted=sum(c.targeted for c in channels), channels=channels, reached=sum(c.reached for c in channels),
            first_reached_at=times[0], last_reached_at=times[1], routes=troubles, dedup_key=alert.dedup_key,
        )  # fmt: skip

    def _channel(self, row: Row[Any], *, sandbox: bool) -> ChannelView:
        label, gives_receipts = self._words(row.channel, sandbox=sandbox)
        counts = {state.value: int(getattr(row, f"n_{state}")) for state in STATES}
        reached = counts[State.DELIVERED] + (0 if gives_receipts else counts[State.ACCEPTED])
        return ChannelView(row.channel, label, int(row.targeted), counts, reached)

    def _words(self, channel: str, *, sandbox: bool) -> tuple[str, bool]:
        """The channel's label, and whether it gives receipts; also of one that is no longer set up."""
        try:
            traits = self._channels.get(channel, sandbox=sandbox).traits
        except KeyError:
            return channel, True
        return traits.label, traits.gives_receipts

    def _state(self, alert: Row[Any], channels: tuple[ChannelView, ...], first: Row[Any], unplanned: int) -> str:
        busy = sum(c.counts[s] for c in channels for s in OPEN)
        waiting = sum(c.counts[State.ACCEPTED] for c in channels if self._words(c.name, sandbox=alert.sandbox)[1])
        if alert.cancelled_at is not None:
            return "cancelled"
        if first.planned_at is None and unplanned:
            return "planning"
        if busy:
            return "sending"
        return "sent" if waiting or unplanned else "completed"


def _over(view: AlertView) -> bool:
    """Whether nothing is left to do for it: it is completed, or was cancelled and has come to rest."""
    open_ = sum(c.counts[s] for c in view.channels for s in OPEN)
    return view.state == "completed" or (view.state == "cancelled" and not open_)


def _found(row: Row[Any] | None) -> Row[Any]:
    if row is None:
        raise NotFound("There is no alert with this id.")
    return row
