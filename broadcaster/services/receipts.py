"""What providers and browsers tell us afterwards: rank-ordered, bound to the attempt, idempotent."""

import asyncio
import random
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import structlog
from prometheus_client import Counter as Metric
from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError

from broadcaster.domain.channel import Callback, CallbackRefused, Channel, ChannelSet, Receipt, SendsReceipts
from broadcaster.domain.errors import Forbidden, NotFound, Problem
from broadcaster.domain.lifecycle import State
from broadcaster.services import outcomes
from broadcaster.services.routing import Routing
from broadcaster.services.together import Together
from broadcaster.store import alerts
from broadcaster.store import deliveries as store
from broadcaster.store.database import Database, lost_a_race, read_clock

log = structlog.get_logger(__name__)

_RECEIPTS = Metric("broadcaster_receipts_total", "Receipts read", ["channel", "state"])
_RACES: Final = 5
_GROUP: Final = 200  # receipts in one transaction


class Receipts:
    """Verifies callbacks with their channel and writes down what they prove."""

    def __init__(self, database: Database, channels: ChannelSet, routing: Routing) -> None:
        self._database = database
        self._channels = channels
        self._routing = routing
        self._together = Together(self._write_group, most=_GROUP, name="receipts")
        self._candidates: dict[str, list[tuple[Channel, SendsReceipts]]] = defaultdict(list)
        for channel in channels.all():
            if isinstance(channel, SendsReceipts):
                # One object, as both: whether it is a SendsReceipts takes as long to find out as to verify a token.
                self._candidates[channel.traits.name].append((channel, channel))

    async def take(self, channel_name: str, callback: Callback) -> None:
        """Durable when it returns. Raises NotFound for a channel without receipts and Forbidden for a callback that does
        not verify."""
        candidates = self._candidates.get(channel_name)
        if candidates is None:
            raise NotFound(f"The channel {channel_name!r} takes no receipts.")
        refusal = Forbidden("The callback's signature or token does not hold.")
        for channel, reader in candidates:  # each route has its own secret; two senders of one account share theirs
            try:
                receipt = reader.read_receipt(callback)
                if receipt is not None:
                    await asyncio.wrap_future(self._together.hand_in(_Verified(receipt, channel)))
            except CallbackRefused:
                continue
            except Forbidden as wrong_route:
                refusal = wrong_route
                continue
            return
        raise refusal

    def _write_group(self, group: "Sequence[_Verified]") -> "Sequence[Problem | None]":
        for n in range(_RACES):
            try:
                refused = self._write(group)
                break
            except store.LostRace:
                time.sleep(random.random() * 0.01 * (n + 1))
            except OperationalError as error:
                if not lost_a_race(error):
                    raise
                time.sleep(random.random() * 0.01 * (n + 1))
        else:
            raise RuntimeError("receipts lost the race five times")
        taken = Counter((v.channel.traits.name, v.receipt.state) for v in group if id(v) not in refused)
        for labels, n in taken.items():
            _RECEIPTS.labels(*labels).inc(n)
        self._routing.hand_in()
        return [refused.get(id(v)) for v in group]

    def _write(self, group: "Sequence[_Verified]") -> dict[int, Problem]:
        """Writes them down in the order of their coming; the problems of those that are refused, by ``id``."""
        refused: dict[int, Problem] = {}
        arrived = self._write_arrivals(group)
        left = [v for v in group if v.receipt.delivery not in arrived]
        while left:
            # Each delivery once in a transaction ("sent" and "delivered" often come together), and so each batch's counts
            # in one order. Doing a turn again is harmless: it proves nothing new.
            turn = {v.receipt.delivery: v for v in reversed(left)}
            chosen = [v for v in left if turn[v.receipt.delivery] is v]
            left = [v for v in left if turn[v.receipt.delivery] is not v]
            with self._database.write() as connection:
                self._write_turn(connection, chosen, refused)
        return refused

    def _write_arrivals(self, group: "Sequence[_Verified]") -> set[int]:
        """What nearly all are, a first word of what was taken and has arrived, in one step; the deliveries it moved."""
        times = Counter(v.receipt.delivery for v in group)
        plain = {
            v.receipt.delivery: v
            for v in group
            if v.receipt.state == State.DELIVERED and times[v.receipt.delivery] == 1
            and v.receipt.code is None and v.receipt.reason is None and not v.receipt.disables_address
        }  # fmt: skip
        if not plain:
            return set()
        given = [(d, v.receipt.attempt, v.channel.route, v.receipt.provider_id) for d, v in plain.items()]
        with self._database.once() as connection:
            arrived = store.arrive(connection, given)
        for delivery in arrived:
            self._routing.saw_receipt(plain[delivery].channel.route, delivered=True)
        return arrived

    def _write_turn(self, connection: Connection, turn: "Sequence[_Verified]", refused: dict[int, Problem]) -> None:
        rows = {r.id: r for r in store.lock(connection, [v.receipt.delivery for v in turn])}
        about = {a.id: a for a in alerts.by_ids(connection, {r.alert_id for r in rows.values()})}
        now = read_clock(connection)
        usable: dict[str, tuple[str, ...]] = {}
        changes, disabled = [], []
        for verified in turn:
            receipt, channel = verified.receipt, verified.channel
            row = rows.get(receipt.delivery)
            if row is None:
                refused[id(verified)] = NotFound("This receipt belongs to no delivery.")
                continue
            if store.route_of_attempt(connection, row, receipt.attempt) != channel.route:
                # Its signature is a provider's, but not of the one that was sent to: the sandbox's secrets are public.
                refused[id(verified)] = Forbidden("The callback comes from another route than the message went.")
                continue
            alert, state = about[row.alert_id], State(receipt.state)
            if receipt.of_route and channel.route not in usable:
                first = self._channels.get(channel.traits.name, sandbox=alert.sandbox)
                usable[channel.route] = self._routing.usable(connection, first)
            ctx = outcomes.Context(
                channel.traits,
                now,
                alert.expires_at,
                critical=alert.priority == 0,
                usable=usable.get(channel.route, ()),
            )
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
                changes.append(change)
                if state is State.DELIVERED or receipt.of_route:
                    self._routing.saw_receipt(channel.route, delivered=state is State.DELIVERED)
            if receipt.attempt != row.attempt:
                store.note_attempt(connection, row.id, receipt.attempt, code=receipt.code, provider_id=receipt.provider_id)
            if receipt.disables_address:
                disabled.append(row.contact_id)
        store.apply(connection, changes, now)
        if disabled:
            store.disable_contacts(connection, disabled, "refused by the provider", now)


@dataclass(eq=False, slots=True)
class _Verified:
    """A verified receipt on its way into the database."""

    receipt: Receipt
    channel: Channel
