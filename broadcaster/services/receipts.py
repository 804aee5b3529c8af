"""What providers and browsers tell us afterwards: rank-ordered, bound to the attempt, idempotent."""

import random
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Final

import structlog
from prometheus_client import Counter
from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError

from broadcaster.domain.channel import Callback, CallbackRefused, Channel, ChannelSet, Receipt, SendsReceipts
from broadcaster.domain.errors import Forbidden, NotFound, Problem
from broadcaster.domain.lifecycle import State
from broadcaster.services import outcomes
from broadcaster.services.routing import Routing
from broadcaster.store import alerts
from broadcaster.store import deliveries as store
from broadcaster.store.database import Database, read_clock

log = structlog.get_logger(__name__)

_RECEIPTS = Counter("broadcaster_receipts_total", "Receipts read", ["channel", "state"])
_RACES: Final = 5
_TRY_AGAIN: Final = ("40001", "40P01")  # PostgreSQL: serialization failure, deadlock
_GROUP: Final = 200  # receipts in one transaction


class Receipts:
    """Verifies callbacks with their channel and writes down what they prove."""

    def __init__(self, database: Database, channels: ChannelSet, routing: Routing) -> None:
        self._database = database
        self._channels = channels
        self._routing = routing
        self._waiting: list[_Waiting] = []
        self._lock = threading.Lock()
        self._pen = threading.Lock()

    def take(self, channel_name: str, callback: Callback) -> None:
        """Raises NotFound for a channel without receipts and Forbidden for a callback that does not verify."""
        candidates = [c for c in self._channels.all() if c.traits.name == channel_name and isinstance(c, SendsReceipts)]
        if not candidates:
            raise NotFound(f"The channel {channel_name!r} takes no receipts.")
        refusal = Forbidden("The callback's signature or token does not hold.")
        for channel in candidates:  # each route has its own secret; two senders of one account share theirs
            assert isinstance(channel, SendsReceipts)
            try:
                receipt = channel.read_receipt(callback)
                if receipt is not None:
                    self._record(receipt, channel)
                    self._routing.hand_in()
            except CallbackRefused:
                continue
            except Forbidden as wrong_route:
                refusal = wrong_route
                continue
            return
        raise refusal

    def _record(self, receipt: Receipt, channel: Channel) -> None:
        """Durable when it returns. What arrives together is written together: whoever has the pen writes for all."""
        mine = _Waiting(receipt, channel)
        with self._lock:
            self._waiting.append(mine)
        with self._pen:
            while not mine.done.done():
                with self._lock:
                    group, self._waiting = self._waiting[:_GROUP], self._waiting[_GROUP:]
                self._write_group(group)
        mine.done.result()

    def _write_group(self, group: "Sequence[_Waiting]") -> None:
        try:
            for n in range(_RACES):
                try:
                    refused = self._write(group)
                    break
                except store.LostRace:
                    time.sleep(random.random() * 0.01 * (n + 1))
                except OperationalError as error:
                    if not error.connection_invalidated and getattr(error.orig, "sqlstate", None) not in _TRY_AGAIN:
                        raise
                    time.sleep(random.random() * 0.01 * (n + 1))
            else:
                raise RuntimeError("receipts lost the race five times")
        except BaseException as error:  # every caller must hear of it, or its provider believes that it was kept
            for waiting in group:
                waiting.done.set_exception(error)
            if not isinstance(error, Exception):
                raise
            return
        for waiting in group:
            if (problem := refused.get(id(waiting))) is not None:
                waiting.done.set_exception(problem)
                continue
            _RECEIPTS.labels(waiting.channel.traits.name, waiting.receipt.state).inc()
            waiting.done.set_result(None)

    def _write(self, group: "Sequence[_Waiting]") -> dict[int, Problem]:
        """Writes them down in the order of their coming; the problems of those that are refused, by ``id``."""
        refused: dict[int, Problem] = {}
        left = list(group)
        while left:
            # Each delivery once in a transaction ("sent" and "delivered" often come together), and so each batch's counts
            # in one order. Doing a turn again is harmless: it proves nothing new.
            turn = {w.receipt.delivery: w for w in reversed(left)}
            chosen = [w for w in left if turn[w.receipt.delivery] is w]
            left = [w for w in left if turn[w.receipt.delivery] is not w]
            with self._database.write() as connection:
                self._write_turn(connection, chosen, refused)
        return refused

    def _write_turn(self, connection: Connection, turn: "Sequence[_Waiting]", refused: dict[int, Problem]) -> None:
        rows = {r.id: r for r in store.lock(connection, [w.receipt.delivery for w in turn])}
        about = {a.id: a for a in alerts.by_ids(connection, {r.alert_id for r in rows.values()})}
        now = read_clock(connection)
        usable: dict[str, tuple[str, ...]] = {}
        changes, disabled = [], []
        for waiting in turn:
            receipt, channel = waiting.receipt, waiting.channel
            row = rows.get(receipt.delivery)
            if row is None:
                refused[id(waiting)] = NotFound("This receipt belongs to no delivery.")
                continue
            if store.route_of_attempt(connection, row, receipt.attempt) != channel.route:
                # Its signature is a provider's, but not of the one that was sent to: the sandbox's secrets are public.
                refused[id(waiting)] = Forbidden("The callback comes from another route than the message went.")
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
class _Waiting:
    """A verified receipt on its way into the database."""

    receipt: Receipt
    channel: Channel
    done: "Future[None]" = field(default_factory=Future)
