"""Taking an alert in, showing what it would do, and stopping it.

Accepting is one transaction (alert, its steps, idempotency key) and no word to any other server: the wake-up is handed
over after the commit and may be lost.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any, Final

import structlog
from sqlalchemy import Connection, Row
from sqlalchemy.exc import IntegrityError, OperationalError
from uuid_utils import uuid7

from broadcaster.domain import audience as audiences
from broadcaster.domain.channel import Channel, ChannelSet
from broadcaster.domain.errors import Conflict, Invalid, KeyReused, NotFound
from broadcaster.domain.lifecycle import State
from broadcaster.domain.messages import PRIORITY, Envelope, Message, Severity
from broadcaster.queue import WakeUps
from broadcaster.services import outcomes
from broadcaster.services.keys import Caller
from broadcaster.services.together import Together
from broadcaster.store import alerts as store
from broadcaster.store import audiences as audience_store
from broadcaster.store import batches, deliveries, revisions
from broadcaster.store.database import Database, lost_a_race, read_clock

log = structlog.get_logger(__name__)

_GROUP: Final = 100  # alerts in one transaction
_RACES: Final = 3
#: A wake-up makes a process plan and deliver for seconds, whatever waits; one costs about as much as accepting an alert.
_PER_WAKE_UP: Final = 8
_KNOWN_AUDIENCES: Final = 1_000
_SMALL_AUDIENCE: Final = 50  # groups, tags and people that it names
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


@dataclass(eq=False, slots=True)
class _Asked:
    """A request to raise an alert, on its way into the database."""

    draft: Draft
    caller: Caller
    idempotency_key: str | None
    fingerprint: bytes

    @property
    def memory(self) -> tuple[int, str] | None:
        """Where its answer is remembered."""
        return None if self.idempotency_key is None else (self.caller.id, self.idempotency_key)

    @property
    def dedup(self) -> str | None:
        """A test key's alert never answers for a real one: their keys live apart."""
        key = self.draft.dedup_key
        return None if key is None else f"{'test' if self.caller.test else 'live'}:{key}"


def _marks(asked: _Asked) -> set[object]:
    """Two that have one of these in common are written one after the other."""
    return {mark for mark in (asked.memory, asked.dedup) if mark is not None}


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
        self._together = Together(self._write_group, most=_GROUP, name="alerts", apart=_marks)
        self._found: tuple[int, set[audiences.Audience]] = (-1, set())  # at which revision

    def accept(self, draft: Draft, caller: Caller, idempotency_key: str | None = None) -> Accepted:
        """Durable when it returns. Raises Invalid for an audience or channel that is not there, KeyReused, Unavailable."""
        return self.hand_in(draft, caller, idempotency_key).result()

    def hand_in(self, draft: Draft, caller: Caller, idempotency_key: str | None = None) -> "Future[Accepted]":
        """``accept`` for who waits in another way. Raises at once what needs no look into the database."""
        self.check_channels(_channels(draft), sandbox=caller.test)
        return self._together.hand_in(_Asked(draft, caller, idempotency_key, _fingerprint(draft)))

    def preview(self, draft: Draft, caller: Caller) -> Plan:
        """The plan as it would be made now. Raises Invalid."""
        self.check_channels(_channels(draft), sandbox=caller.test)
        names = [name for step in draft.steps for name in step.channels]
        with self._database.read() as connection:
            revision = revisions.current(connection)
            if missing := self._missing(connection, draft.audience, revision):
                raise Invalid(_unknown(missing))
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

    def _write_group(self, group: "Sequence[_Asked]") -> Sequence[Accepted | Exception]:
        for n in range(_RACES):
            try:
                answers = self._write(group)
                break
            except (IntegrityError, OperationalError) as error:
                # Another process has just opened an alert with one of these dedup_keys, which now is there; or a deadlock.
                # A connection that dies during COMMIT leaves open whether it was kept: nothing is written again then.
                again = isinstance(error, IntegrityError) or (lost_a_race(error) and not error.connection_invalidated)
                if n == _RACES - 1 or not again:
                    raise
        urgencies = Counter[int]()
        for asked, answer in answers.items():  # it is kept: nothing here may fail, or it would be written again
            if isinstance(answer, Accepted) and answer.created:
                urgencies[PRIORITY[asked.draft.severity]] += 1
                _log_accepted(answer.uid, asked.draft, asked.caller.uid)
        for priority, alerts in sorted(urgencies.items()):  # each critical one wakes a process, and first
            self._wake_ups.plan(priority, times=alerts if priority == 0 else -(-alerts // _PER_WAKE_UP))
        return [answers[asked] for asked in group]

    def _write(self, group: "Sequence[_Asked]") -> "dict[_Asked, Accepted | Exception]":
        """One transaction: what each is answered, and the alerts, steps and keys that this makes.

        No Idempotency-Key and no dedup_key is there twice. Both are taken in one order everywhere, so that two processes
        never wait for each other.
        """
        answers: dict[_Asked, Accepted | Exception] = {}
        with self._database.write() as connection:
            revision, now = revisions.current_and_clock(connection)
            keys = [asked.memory for asked in group if asked.memory is not None]
            known = store.remembered_requests(connection, keys) if keys else {}
            for asked in sorted(group, key=lambda asked: asked.dedup or ""):
                if asked.memory is not None and asked.memory in known:
                    answers[asked] = _same(known[asked.memory], asked.fingerprint)
                elif asked.dedup is not None and (there := store.open_dedup(connection, asked.dedup)) is not None:
                    answers[asked] = Accepted(there.uid, created=False)  # remembered too: a retry must not raise a second
                elif missing := self._missing(connection, asked.draft.audience, revision):
                    answers[asked] = Invalid(_unknown(missing))
                else:
                    answers[asked] = Accepted(str(uuid7()), created=True)
            self._remember(connection, answers, known.keys(), now)
            made = {asked: a.uid for asked, a in answers.items() if isinstance(a, Accepted) and a.created}
            if made:
                self._insert(connection, made, now, revision)
        return answers

    def _remember(
        self,
        connection: Connection,
        answers: "dict[_Asked, Accepted | Exception]",
        known: Collection[tuple[int, str]],
        now: int,
    ) -> None:
        """Writes the Idempotency-Keys down with their answers; one that came elsewhere meanwhile gets another answer."""
        fresh = {
            asked.memory: {
                "api_key_id": asked.memory[0], "key": asked.memory[1], "request_hash": asked.fingerprint,
                "alert_uid": answer.uid, "created_at": now,
            }
            for asked, answer in answers.items()
            if isinstance(answer, Accepted) and asked.memory is not None and asked.memory not in known
        }  # fmt: skip
        if not fresh:
            return
        new = store.remember_requests(connection, [fresh[memory] for memory in sorted(fresh)])
        for asked in answers:
            if asked.memory in fresh and asked.memory not in new:
                detail = "Another request with this Idempotency-Key is being worked on; try again in a second."
                answers[asked] = Conflict(detail)

    def _missing(self, connection: Connection, audience: audiences.Audience, revision: int) -> Sequence[str]:
        """What the audience names and the directory has not. A revision never changes, so what is there stays there."""
        at, found = self._found  # a preview may look at another revision meanwhile
        if at != revision or len(found) >= _KNOWN_AUDIENCES:
            self._found = (revision, found := set())
        if audience in found:
            return ()
        missing = audience_store.unknown_names(connection, audience, revision)
        nodes = list(audiences.walk(audience))
        named = sum(len(node.recipients) for node in nodes if isinstance(node, audiences.Named))
        if not missing and len(nodes) + named <= _SMALL_AUDIENCE:
            found.add(audience)
        return missing

    def _insert(self, connection: Connection, made: "Mapping[_Asked, str]", now: int, revision: int) -> None:
        alerts = [
            {
                "uid": uid, "title": d.title, "body": d.body, "severity": d.severity.value, "priority": PRIORITY[d.severity],
                "source": d.source, "drill": d.drill, "sandbox": asked.caller.test,
                "audience": json.dumps(audiences.to_json(d.audience)), "revision": revision, "dedup_key": d.dedup_key,
                "dedup_open": asked.dedup, "created_at": now, "created_by": asked.caller.uid,
                "expires_at": now + d.expires_in * 1000,
            }
            for asked, uid in made.items()
            for d in [asked.draft]
        ]  # fmt: skip
        steps = [
            {
                "alert_id": alert, "step": n, "channels": json.dumps(step.channels),
                "priority": PRIORITY[asked.draft.severity], "next_at": now + step.after * 1000,
                "woken_at": now if n == 0 else 0,
            }
            for alert, asked in zip(store.add(connection, alerts), made, strict=True)
            for n, step in enumerate(asked.draft.steps)
        ]  # fmt: skip
        store.add_steps(connection, steps)

    def check_channels(self, names: Collection[str], *, sandbox: bool = False) -> None:
        """Raises Invalid for a channel that is not there."""
        known = self._channels.sandbox if sandbox else self._channels.live
        unknown = sorted(set(names) - set(known))
        if unknown:
            raise Invalid(f"channels: {', '.join(unknown)} not available; there is {', '.join(sorted(known)) or 'none'}.")

    def check_audience(self, audience: audiences.Audience) -> None:
        """Raises Invalid for a group, tag, person or alert that is not there now."""
        with self._database.read() as connection:
            if missing := self._missing(connection, audience, revisions.current(connection)):
                raise Invalid(_unknown(missing))

    # ---- raised from within ------------------------------------------------------------------------------------

    def without_what_is_gone(self, connection: Connection, draft: Draft, *, sandbox: bool) -> tuple[Draft, str | None]:
        """The draft as far as it can be sent now, and what it lacks. Raises Invalid where nobody would be told at all.

        For alerts that were laid down in advance: a group that was deleted since must not keep the others in the dark.
        """
        known = self._channels.sandbox if sandbox else self._channels.live
        if not known:
            raise Invalid("There is no channel to tell anybody by.")
        steps = [replace(s, channels=tuple(c for c in s.channels if c in known)) for s in draft.steps]
        steps = [s for s in steps if s.channels]
        instead = "" if steps else f" Told by {', '.join(sorted(known))} instead."
        steps = steps or [Step(tuple(known), 0)]
        steps[0] = replace(steps[0], after=0)
        gone = sorted(_channels(draft) - set(known))
        revision = revisions.current(connection)
        missing = self._missing(connection, draft.audience, revision)
        members = audience_store.members(draft.audience, revision)
        if not audience_store.people_slice(connection, members, after=0, limit=1, not_reached_by=None):
            raise Invalid(_unknown(missing) if missing else "audience: there is nobody in it.")
        lacks = [*(f"channel {name!r}" for name in gone), *missing]
        fault = f"Told without {', '.join(lacks)}, which is gone.{instead}" if lacks else None
        return replace(draft, steps=tuple(steps)), fault

    def raise_within(self, connection: Connection, draft: Draft, caller: Caller) -> str:
        """The id of an alert that is raised if the caller's own transaction commits; ``announce`` it then.

        Nothing is checked: see ``without_what_is_gone``.
        """
        revision, now = revisions.current_and_clock(connection)
        uid = str(uuid7())
        self._insert(connection, {_Asked(draft, caller, None, b""): uid}, now, revision)
        return uid

    def announce(self, uid: str, draft: Draft, by: str) -> None:
        """Wakes a worker for an alert that was raised within a transaction."""
        self._wake_ups.plan(PRIORITY[draft.severity])
        _log_accepted(uid, draft, by)

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


def _log_accepted(uid: str, draft: Draft, by: str) -> None:
    log.info("alerts.accepted", alert=uid, severity=draft.severity.value, drill=draft.drill, by=by)


def _fingerprint(draft: Draft) -> bytes:
    """The request as it was understood: spacing and order of its JSON do not make it another one."""
    parts: Mapping[str, Any] = {
        "title": draft.title, "body": draft.body, "severity": draft.severity.value, "drill": draft.drill,
        "audience": audiences.to_json(draft.audience), "steps": [[list(s.channels), s.after] for s in draft.steps],
        "expires_in": draft.expires_in, "source": draft.source, "dedup_key": draft.dedup_key,
    }  # fmt: skip
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).digest()


def _unknown(missing: Sequence[str]) -> str:
    return f"audience: not in the directory: {', '.join(missing[:10])}."


def _channels(draft: Draft) -> set[str]:
    return {name for step in draft.steps for name in step.channels}


def _same(row: Row[Any], fingerprint: bytes) -> Accepted | KeyReused:
    if bytes(row.request_hash) != fingerprint:
        return KeyReused("This Idempotency-Key came with another body before. Use a new key for a new alert.")
    return Accepted(row.alert_uid, created=False)


def steps_of(channels: Sequence[str], escalation: Sequence[Step]) -> tuple[Step, ...]:
    """The first step and those after it. Raises Invalid where their times do not rise."""
    steps = tuple(Step(tuple(dict.fromkeys(step.channels)), step.after) for step in (Step(tuple(channels), 0), *escalation))
    if any(later.after <= earlier.after for earlier, later in zip(steps, steps[1:], strict=False)):
        raise Invalid("escalation: each step's after_seconds must be larger than the one before.")
    return steps
