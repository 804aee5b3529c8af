"""Taking an alert in, showing what it would do, and stopping it.

Accepting is one transaction (alert, its steps, idempotency key) and no word to any other server: the wake-up is handed
over after the commit and may be lost.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import structlog
from sqlalchemy import Connection, Row
from uuid_utils import uuid7

from broadcaster.domain import audience as audiences
from broadcaster.domain.channel import Channel, ChannelSet
from broadcaster.domain.errors import Conflict, Invalid, KeyReused, NotFound
from broadcaster.domain.lifecycle import State
from broadcaster.domain.messages import PRIORITY, Envelope, Message, Severity
from broadcaster.queue import WakeUps
from broadcaster.services import outcomes
from broadcaster.services.keys import Caller
from broadcaster.store import alerts as store
from broadcaster.store import audiences as audience_store
from broadcaster.store import batches, deliveries, revisions
from broadcaster.store.database import Database, read_clock

log = structlog.get_logger(__name__)

_SWEEP: Final = 1_000
_SWEEPS: Final = 50
_SAMPLE = Envelope(
    delivery=1, attempt=1, address="", reference="0000000", link="", receipt_url=""
)  # stands for any recipient in a preview


@dataclass(frozen=True, slots=True)
class Step:
    """Channels to use ``after`` seconds from the alert's acceptance, for people not reached by then."""

    channels: tuple[str, ...]
    after: int


@dataclass(frozen=True, slots=True)
class Draft:
    """An alert as somebody asks for it. ``steps[0].after`` is 0."""

    title: str
    body: str
    severity: Severity
    audience: audiences.Audience
    steps: tuple[Step, ...]
    expires_in: int
    source: str
    drill: bool = False
    dedup_key: str | None = None


@dataclass(frozen=True, slots=True)
class Accepted:
    """``created`` is False when the answer is an alert that was there: same Idempotency-Key, or an open dedup_key."""

    uid: str
    created: bool


@dataclass(frozen=True, slots=True)
class ChannelPlan:
    """What one channel would do. ``seconds``: from the sender's rate; None where no rate is stated. Money in millionths."""

    name: str
    label: str
    deliveries: int
    text: str
    units: int
    encoding: str | None
    money: int | None
    currency: str | None
    seconds: float | None


@dataclass(frozen=True, slots=True)
class Plan:
    """What an alert would do now, without doing it."""

    people: int
    unreachable: int
    revision: int
    channels: tuple[ChannelPlan, ...]
    warnings: tuple[str, ...]

    @property
    def seconds(self) -> float | None:
        known = [c.seconds for c in self.channels if c.seconds is not None]
        return max(known) if known else None


@dataclass(frozen=True, slots=True)
class Cancelled:
    """``stopped`` deliveries never left; ``left`` may have reached somebody."""

    stopped: int
    left: int


class Alerts:
    """The API's and the monitors' way to raise, preview and cancel."""

    def __init__(
        self, database: Database, channels: ChannelSet, wake_ups: WakeUps, *, secret: bytes, public_url: str
    ) -> None:
        self._database = database
        self._channels = channels
        self._wake_ups = wake_ups
        self._secret = secret
        self._public_url = public_url

    def accept(self, draft: Draft, caller: Caller, idempotency_key: str | None = None) -> Accepted:
        """Durable when it returns. Raises Invalid for an audience or channel that is not there, KeyReused, Unavailable."""
        self._check_channels(draft, sandbox=caller.test)
        fingerprint = _fingerprint(draft)
        with self._database.write() as connection:
            if idempotency_key is not None:
                before = self._replayed(connection, caller, idempotency_key, fingerprint)
                if before is not None:
                    return before
            if draft.dedup_key is not None:
                there = store.open_dedup(connection, _dedup(draft.dedup_key, caller))
                if there is not None:
                    if idempotency_key is not None:  # a retry after it has closed must not raise a second one
                        self._remember(connection, caller, idempotency_key, fingerprint, there.uid)
                    return Accepted(there.uid, created=False)
            uid = str(uuid7())
            if idempotency_key is not None:
                self._remember(connection, caller, idempotency_key, fingerprint, uid)
            self._insert(connection, draft, caller, uid)
        self._wake_ups.plan(PRIORITY[draft.severity])
        log.info("alerts.accepted", alert=uid, severity=draft.severity.value, drill=draft.drill, by=caller.uid)
        return Accepted(uid, created=True)

    def preview(self, draft: Draft, caller: Caller) -> Plan:
        """The plan as it would be made now. Raises Invalid."""
        self._check_channels(draft, sandbox=caller.test)
        names = [name for step in draft.steps for name in step.channels]
        with self._database.read() as connection:
            revision = revisions.current(connection)
            self._check_audience(connection, draft.audience, revision)
            condition = audience_store.members(draft.audience, revision)
            people = audience_store.count_people(connection, condition)
            counted = audience_store.count_deliveries(connection, condition, names, revision)
            unreachable = audience_store.count_unreachable(connection, condition, names, revision)
            now = read_clock(connection)
        plans = [self._channel_plan(draft, name, counted.get(name, 0), now, sandbox=caller.test) for name in names]
        warnings = [w for _, ws in plans for w in ws]
        if people == 0:
            warnings.insert(0, "Nobody is in this audience.")
        elif unreachable:
            warnings.insert(0, f"{unreachable} of {people} people have no address on these channels.")
        return Plan(people, unreachable, revision, tuple(p for p, _ in plans), tuple(warnings))

    def cancel(self, uid: str, by: str) -> Cancelled:
        """Stops what has not left. Cancelling twice is harmless. Raises NotFound, and Conflict where all is over."""
        with self._database.write() as connection:
            alert = store.by_uid(connection, uid)
            if alert is None:
                raise NotFound("There is no alert with this id.")
            if alert.completed_at is not None and alert.cancelled_at is None:
                raise Conflict("Everything of this alert has left already; there is nothing to cancel.")
            store.drop_steps(connection, alert.id)  # steps before their alert, as planning locks them
            if store.cancel(connection, alert.id, by):
                log.warning("alerts.cancelled", alert=uid, by=by)
            batches.make_due(connection, alert.id, read_clock(connection))
        for _ in range(_SWEEPS):  # what is left after that, the workers sweep
            if self._sweep(alert.id) == 0:
                break
        with self._database.read() as connection:
            rows = batches.counts(connection, [alert.id])
        stopped = sum(row.n_cancelled for row in rows)
        never = sum(row.n_cancelled + row.n_skipped + row.n_expired + row.n_queued + row.n_retrying for row in rows)
        return Cancelled(int(stopped), int(sum(row.targeted for row in rows) - never))

    def _sweep(self, alert: int) -> int:
        with self._database.write() as connection:
            rows = deliveries.unsent_of_alert(connection, alert, _SWEEP)
            now = read_clock(connection)
            changes = [outcomes.unsent(row, State.CANCELLED, "cancelled", "cancelled before it left") for row in rows]
            deliveries.apply(connection, [c for c in changes if c is not None], now)
        return len(rows)

    # ---- accepting ---------------------------------------------------------------------------------------------

    def _insert(self, connection: Connection, draft: Draft, caller: Caller, uid: str) -> None:
        revision = revisions.current(connection)
        self._check_audience(connection, draft.audience, revision)
        now = read_clock(connection)
        priority = PRIORITY[draft.severity]
        alert = store.add(
            connection, uid=uid, title=draft.title, body=draft.body, severity=draft.severity.value, priority=priority,
            source=draft.source, drill=draft.drill, sandbox=caller.test,
            audience=json.dumps(audiences.to_json(draft.audience)), revision=revision, dedup_key=draft.dedup_key,
            dedup_open=None if draft.dedup_key is None else _dedup(draft.dedup_key, caller),
            created_at=now, created_by=caller.uid, expires_at=now + draft.expires_in * 1000,
        )  # fmt: skip
        for n, step in enumerate(draft.steps):
            store.add_step(
                connection, alert_id=alert, step=n, channels=json.dumps(step.channels), priority=priority,
                next_at=now + step.after * 1000, woken_at=now if n == 0 else 0,
            )  # fmt: skip

    def _replayed(self, connection: Connection, caller: Caller, key: str, fingerprint: bytes) -> Accepted | None:
        row = store.remembered_request(connection, caller.id, key)
        return None if row is None else _same(row, fingerprint)

    def _remember(self, connection: Connection, caller: Caller, key: str, fingerprint: bytes, uid: str) -> None:
        new = store.remember_request(
            connection, api_key_id=caller.id, key=key, request_hash=fingerprint, alert_uid=uid,
            created_at=read_clock(connection),
        )  # fmt: skip
        if not new:
            raise Conflict("Another request with this Idempotency-Key is being worked on; try again in a second.")

    def _check_channels(self, draft: Draft, *, sandbox: bool) -> None:
        known = self._channels.sandbox if sandbox else self._channels.live
        unknown = sorted({name for step in draft.steps for name in step.channels} - set(known))
        if unknown:
            raise Invalid(f"channels: {', '.join(unknown)} not available; there is {', '.join(sorted(known)) or 'none'}.")

    def _check_audience(self, connection: Connection, audience: audiences.Audience, revision: int) -> None:
        missing = audience_store.unknown_names(connection, audience, revision)
        if missing:
            raise Invalid(f"audience: not in the directory: {', '.join(missing[:10])}.")

    # ---- preview -----------------------------------------------------------------------------------------------

    def _channel_plan(
        self, draft: Draft, name: str, count: int, now: int, *, sandbox: bool
    ) -> tuple[ChannelPlan, list[str]]:
        channel = self._channels.get(name, sandbox=sandbox)
        message = Message(
            "0" * 36,
            draft.title,
            draft.body,
            draft.severity,
            draft.drill,
            draft.source,
            now,
            now + draft.expires_in * 1000,
        )
        envelope = Envelope(
            _SAMPLE.delivery, 1, "", _SAMPLE.reference, f"{self._public_url}/m/xxxxx.xxxxxxxxxxxxxx",
            f"{self._public_url}/api/v1/receipts/{name}?d=x",
        )  # fmt: skip
        content = channel.render(message, envelope)
        cost = channel.quote(content)
        rate = channel.traits.rate
        seconds = None if rate is None else count * cost.units / rate
        money = None if cost.money is None else cost.money * count
        plan = ChannelPlan(
            name,
            channel.traits.label,
            count,
            content.text,
            cost.units,
            cost.encoding,
            money,
            channel.traits.currency,
            seconds,
        )
        return plan, [*cost.warnings, *_warnings(channel, draft, seconds)]


def _warnings(channel: Channel, draft: Draft, seconds: float | None) -> list[str]:
    if seconds is None:
        return []
    out, traits = [], channel.traits
    if traits.queue_seconds is not None and seconds > traits.queue_seconds:
        hours = traits.queue_seconds / 3600
        out.append(f"{traits.label}: longer than the provider's queue ({hours:.0f} h at this rate); the rest waits here.")
    if seconds > draft.expires_in:
        minutes = seconds / 60
        out.append(f"{traits.label}: takes {minutes:.0f} min at the sender's rate, longer than the alert is valid.")
    return out


def _dedup(key: str, caller: Caller) -> str:
    """A test key's alert never answers for a real one: their keys live apart."""
    return f"{'test' if caller.test else 'live'}:{key}"


def _fingerprint(draft: Draft) -> bytes:
    """The request as it was understood: spacing and order of its JSON do not make it another one."""
    parts: Mapping[str, Any] = {
        "title": draft.title, "body": draft.body, "severity": draft.severity.value, "drill": draft.drill,
        "audience": audiences.to_json(draft.audience), "steps": [[list(s.channels), s.after] for s in draft.steps],
        "expires_in": draft.expires_in, "source": draft.source, "dedup_key": draft.dedup_key,
    }  # fmt: skip
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).digest()


def _same(row: Row[Any], fingerprint: bytes) -> Accepted:
    if bytes(row.request_hash) != fingerprint:
        raise KeyReused("This Idempotency-Key came with another body before. Use a new key for a new alert.")
    return Accepted(row.alert_uid, created=False)


def steps_of(channels: Sequence[str], escalation: Sequence[Step]) -> tuple[Step, ...]:
    """The first step and those after it. Raises Invalid where their times do not rise."""
    steps = (Step(tuple(dict.fromkeys(channels)), 0), *escalation)
    if any(later.after <= earlier.after for earlier, later in zip(steps, steps[1:], strict=False)):
        raise Invalid("escalation: each step's after_seconds must be larger than the one before.")
    return steps
