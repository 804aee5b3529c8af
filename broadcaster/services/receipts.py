"""What providers and browsers tell us afterwards: rank-ordered, bound to the attempt, idempotent."""

import random
import time
from typing import Final

import structlog
from prometheus_client import Counter

from broadcaster.domain.channel import Callback, CallbackRefused, Channel, ChannelSet, Receipt, SendsReceipts
from broadcaster.domain.errors import Forbidden, NotFound
from broadcaster.domain.lifecycle import State
from broadcaster.services import outcomes
from broadcaster.services.routing import Routing
from broadcaster.store import deliveries as store
from broadcaster.store.database import Database, read_clock

log = structlog.get_logger(__name__)

_RECEIPTS = Counter("broadcaster_receipts_total", "Receipts read", ["channel", "state"])
_RACES: Final = 5


class Receipts:
    """Verifies callbacks with their channel and writes down what they prove."""

    def __init__(self, database: Database, channels: ChannelSet, routing: Routing) -> None:
        self._database = database
        self._channels = channels
        self._routing = routing

    def take(self, channel_name: str, callback: Callback) -> None:
        """Raises NotFound for a channel without receipts and Forbidden for a callback that does not verify."""
        candidates = [c for c in self._channels.all() if c.traits.name == channel_name and isinstance(c, SendsReceipts)]
        if not candidates:
            raise NotFound(f"The channel {channel_name!r} takes no receipts.")
        for channel in candidates:  # the live one, then the sandbox's: each has its own secret
            assert isinstance(channel, SendsReceipts)
            try:
                receipt = channel.read_receipt(callback)
            except CallbackRefused:
                continue
            if receipt is not None:
                self._record(receipt, channel)
                self._routing.hand_in()
            return
        raise Forbidden("The callback's signature or token does not hold.")

    def _record(self, receipt: Receipt, channel: Channel) -> None:
        for n in range(_RACES):
            try:
                self._write(receipt, channel)
            except store.LostRace:
                time.sleep(random.random() * 0.01 * (n + 1))
            else:
                _RECEIPTS.labels(channel.traits.name, receipt.state).inc()
                return
        raise RuntimeError("a receipt lost the race five times")

    def _write(self, receipt: Receipt, channel: Channel) -> None:
        with self._database.write() as connection:
            rows = store.lock(connection, [receipt.delivery])
            if not rows:
                raise NotFound("This receipt belongs to no delivery.")
            row, now = rows[0], read_clock(connection)
            if store.route_of_attempt(connection, row, receipt.attempt) != channel.route:
                # Its signature is a provider's, but not of the one that was sent to: the sandbox's secrets are public.
                raise Forbidden("The callback comes from another route than the message went.")
            alert = store.alert_of(connection, row.id)
            assert alert is not None
            first = self._channels.get(channel.traits.name, sandbox=alert.sandbox)
            usable = self._routing.usable(connection, first)
            ctx = outcomes.Context(channel.traits, now, alert.expires_at, critical=alert.priority == 0, usable=usable)
            state = State(receipt.state)
            change = outcomes.receipt(
                row,
                receipt.attempt,
                state,
                ctx,
                code=receipt.code,
                reason=receipt.reason,
                provider_id=receipt.provider_id,
                of_route=receipt.of_route and alert.cancelled_at is None,
            )
            if change is not None:
                store.apply(connection, [change], now)
            if receipt.attempt != row.attempt:
                store.note_attempt(connection, row.id, receipt.attempt, receipt.code)
            if receipt.disables_address:
                store.disable_contacts(connection, [row.contact_id], "refused by the provider", now)
        if change is not None and (state is State.DELIVERED or receipt.of_route):
            self._routing.saw_receipt(channel.route, delivered=state is State.DELIVERED)
