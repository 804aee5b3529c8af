"""What other systems tell us: sources, the rule table, and taking a request in.

A request becomes signals (``ingest``), each signal finds its rule, and the rule's alert is raised as an incident, where it
is grouped with what fails with it. Saying it again, late, twice or in another order changes nothing: a signal has a key,
and what its source said later counts.
"""

import base64
import binascii
import hashlib
import hmac
import json
import math
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import structlog
from sqlalchemy import Connection, Row
from sqlalchemy.exc import IntegrityError, OperationalError
from uuid_utils import uuid7

from broadcaster.domain.errors import Conflict, Invalid, NotFound, NotSignedIn, TooMany
from broadcaster.domain.matching import Match
from broadcaster.domain.policy import Policy
from broadcaster.domain.signal import Format, NotThisFormat, Post, Signal, Status, TakesOptions
from broadcaster.services.alerts import Alerts
from broadcaster.services.incidents import Cause, Incidents, check_policy
from broadcaster.services.keys import RequestRate
from broadcaster.services.sealing import Sealer
from broadcaster.store import incidents as incident_store
from broadcaster.store import signals as store
from broadcaster.store.database import Database, lost_a_race, read_clock

log = structlog.get_logger(__name__)

PER_MINUTE: Final = 300
MOST_SOURCES: Final = 200
MOST_RULES: Final = 500
SLICE: Final = 50  # signals in one transaction: SQLite's one write lock is not held for long
WHOLE_SECOND_MS: Final = 1_000  # sources that write whole seconds: an end may seem to be before its beginning
SENT_AGAIN_MS: Final = 15_000  # a request whose answer was lost is sent again within this
TOLERANCE: Final = 300  # s that a signed request may be old or early (Standard Webhooks)
_RACES: Final = 5
#: By default the alert says what the signal says.
TITLE: Final = "{{name}}"
CLEAR_TITLE: Final = "Over: {{name}}"
REMINDER_TITLE: Final = "Still: {{name}}"
#: s. What joins an incident that was told is told within a minute; a storm is one message a minute.
UPDATE_AFTER: Final = 60
BODY: Final = "{{reasons}}"


@dataclass(frozen=True, slots=True)
class SourceView:
    """Times in ms since the epoch. ``signed``: its requests must carry a signature (Standard Webhooks)."""

    uid: str
    name: str
    format: str
    options: Mapping[str, str]
    per_minute: int
    test: bool
    signed: bool
    created_at: int
    heard_at: int | None
    heard: int
    refused: int


@dataclass(frozen=True, slots=True)
class Rule:
    """``policy`` None: what it means is dropped. ``as_signalled``: the alert's severity is the signal's, where it has one.
    ``group_by``: labels; a signal with other values of them is an incident of its own."""

    name: str
    match: Match
    policy: Policy | None
    as_signalled: bool = True
    group_by: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RuleView:
    uid: str
    position: int
    rule: Rule


@dataclass(frozen=True, slots=True)
class Said:
    """What became, or would become, of one signal. ``rule``: the name of the one that takes it. ``what``: raise, go_on,
    clear, acknowledge, drop (by a rule), no_rule, nothing_to_clear, stale."""

    signal: Signal
    rule: str | None
    what: str


@dataclass(frozen=True, slots=True)
class SignalView:
    id: int
    source: str
    key: str
    status: str
    title: str
    severity: str | None
    labels: Mapping[str, str]
    first_at: int
    last_at: int
    times: int


class Signals:
    """One per API process."""

    def __init__(
        self, database: Database, formats: Mapping[str, Format], alerts: Alerts, incidents: Incidents, sealer: Sealer
    ) -> None:
        self._database = database
        self.formats = formats
        self._alerts = alerts
        self._incidents = incidents
        self._sealer = sealer
        self._rates: dict[str, RequestRate] = {}

    # ---- taking in ---------------------------------------------------------------------------------------------

    def take(self, token: str, post: Post, format_name: str | None = None) -> list[Said]:
        """By the token in a source's address, or a routing key. Raises NotFound, NotSignedIn, TooMany, Invalid."""
        with self._database.read() as connection:
            source = store.source(connection, digest=_hash(token))
        if source is None or (format_name is not None and source.format != format_name):
            raise NotFound("There is no source of signals with this address.")
        return self._take(source, post)

    def take_named(self, name: str, post: Post, *, test: bool) -> list[Said]:
        """By the name of a source, for who has an API key; a test key reaches test sources only. Raises likewise."""
        with self._database.read() as connection:
            source = store.source(connection, name=name)
        if source is None or (test and not source.test):
            raise NotFound("There is no source of signals with this name.")
        return self._take(source, post)

    def _take(self, source: Row[Any], post: Post) -> list[Said]:
        request = self._signed(source, post)  # before its rate is spent: that is the source's own
        wait = self._rates.setdefault(source.uid, RequestRate(source.per_minute)).wait(source.uid)
        if wait > 0:
            raise TooMany("This source has sent too many requests in the last minute.", retry_after=math.ceil(wait))
        if request is not None and self._was_taken(source, request):
            return []
        try:
            signals = self.formats[source.format].read(post, json.loads(source.options))
        except NotThisFormat as error:
            with self._database.write() as connection:
                store.heard(connection, source.id, refused=True)
            raise Invalid(f"This is not what {self.formats[source.format].label} sends: {error}") from None
        said: list[Said] = []
        latest = list({s.key: s for s in signals}.values())  # the last word on each
        for start in range(0, max(1, len(latest)), SLICE):
            said += self._write(source, latest[start : start + SLICE], first=start == 0)
        self._remember(source, request)
        return said

    def _remember(self, source: Row[Any], request: str | None) -> None:
        """Only now: a request that broke off is taken when it comes again."""
        if request is not None:
            with self._database.write() as connection:
                store.remember(connection, source.id, request)

    def _write(self, source: Row[Any], signals: Sequence[Signal], *, first: bool) -> list[Said]:
        for n in range(_RACES):
            try:
                with self._database.write() as connection:
                    if not store.hold_source(connection, source.id):
                        raise NotFound("There is no source of signals with this address.")  # it was deleted meanwhile
                    if first:
                        store.heard(connection, source.id)
                    return self._follow_all(connection, source, sorted(signals, key=lambda s: s.key))
            except (IntegrityError, OperationalError) as error:
                # Another request has opened the same incident, which now is there; or others were in the way.
                again = isinstance(error, IntegrityError) or lost_a_race(error)
                if n == _RACES - 1 or not again:
                    raise
        raise AssertionError("unreachable")

    def _follow_all(self, connection: Connection, source: Row[Any], signals: Sequence[Signal]) -> list[Said]:
        rules = [_rule(row) for row in store.rules(connection)]
        numbers = {row.uid: row.id for row in store.rules(connection)}
        known = store.known(connection, source.id, [s.key for s in signals])
        raised = incident_store.open_keys(connection, [_key(source, s) for s in signals])
        now = read_clock(connection)
        said, rows = [], []
        for signal in signals:
            before = known.get(signal.key)
            found = _decide(signal, before, source.name, rules, now, raised=_key(source, signal) in raised)
            said.append(found[0])
            if found[0].what != "stale":
                rows.append(_row(source, signal, None if found[1] is None else numbers[found[1].uid], now, before))
            self._follow(connection, source, found[0], found[1])
        if rows:
            store.keep(connection, rows)
        return said

    def _follow(self, connection: Connection, source: Row[Any], said: Said, view: RuleView | None) -> None:
        key, signal = _key(source, said.signal), said.signal
        if said.what in ("raise", "go_on") and view is not None and view.rule.policy is not None:
            policy = view.rule.policy
            if view.rule.as_signalled:
                policy = replace(policy, severity=signal.severity or policy.severity)
            reason = signal.body or f"Reported by {source.name}."
            cause = Cause(key, signal.title, source.name, reason, policy.severity)
            values = [signal.labels.get(name, "") for name in view.rule.group_by]
            group = policy.group or json.dumps([f"rule:{view.uid}", *values])
            self._incidents.raise_cause(connection, cause, policy, group, sandbox=source.test)
        elif said.what == "clear":
            self._incidents.clear_cause(connection, key)
        elif said.what == "acknowledge":
            self._incidents.acknowledge_cause(connection, key)

    def _signed(self, source: Row[Any], post: Post) -> str | None:
        """The id of a signed request; None where the source signs nothing. Raises NotSignedIn.

        Standard Webhooks: HMAC-SHA-256 of "id.timestamp.body", the secret in base64 behind "whsec_"
        (https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md).
        """
        if source.secrets is None:
            return None
        refused = NotSignedIn("The request's signature does not hold, or is too old.")
        request, stamp = post.headers.get("webhook-id", ""), post.headers.get("webhook-timestamp", "")
        with self._database.read() as connection:
            now = read_clock(connection) / 1000
        if not request or len(request) > 256 or not stamp.isascii() or not stamp.isdigit() or len(stamp) > 12:
            raise refused
        if abs(now - int(stamp)) > TOLERANCE:
            raise refused
        key = _signing_key(json.loads(self._sealer.open(source.secrets))["signing"])
        wanted = base64.b64encode(hmac.digest(key, f"{request}.{stamp}.".encode() + post.body, "sha256")).decode()
        given = post.headers.get("webhook-signature", "").split(" ")
        if not any(hmac.compare_digest(f"v1,{wanted}".encode(), one.encode()) for one in given[:10]):
            raise refused
        return request

    def _was_taken(self, source: Row[Any], request: str) -> bool:
        with self._database.read() as connection:
            return store.was_taken(connection, source.id, request)

    # ---- trying out --------------------------------------------------------------------------------------------

    def try_out(self, uid: str, post: Post) -> list[Said]:
        """What this body would do; nothing is done or kept. Raises NotFound, Invalid."""
        with self._database.read() as connection:
            source = _source(store.source(connection, uid=uid))
            rules = [_rule(row) for row in store.rules(connection)]
            try:
                signals = self.formats[source.format].read(post, json.loads(source.options))
            except NotThisFormat as error:
                raise Invalid(f"This is not what {self.formats[source.format].label} sends: {error}") from None
            latest = {s.key: s for s in signals}
            known = store.known(connection, source.id, list(latest), lock=False)
            raised = incident_store.open_keys(connection, [_key(source, s) for s in latest.values()])
            now = read_clock(connection)
        return [
            _decide(s, known.get(s.key), source.name, rules, now, raised=_key(source, s) in raised)[0]
            for s in latest.values()
        ]

    # ---- sources -----------------------------------------------------------------------------------------------

    def create_source(
        self,
        name: str,
        format_name: str,
        options: Mapping[str, str],
        *,
        per_minute: int = PER_MINUTE,
        test: bool = False,
        signing: str | None = None,
    ) -> tuple[SourceView, str]:
        """The source, and the token of its address, which is never shown again. Raises Invalid, Conflict."""
        if format_name not in self.formats:
            raise Invalid(f"format: must be one of {', '.join(sorted(self.formats))}.")
        self._check_options(self.formats[format_name], options)
        if signing is not None:
            _signing_key(signing)
        token, uid = secrets.token_urlsafe(24), str(uuid7())
        try:
            with self._database.write() as connection:
                if len(store.sources(connection)) >= MOST_SOURCES:
                    raise Conflict(f"There are {MOST_SOURCES} sources already; delete some first.")
                store.add_source(
                    connection,
                    {
                        "uid": uid, "name": name, "format": format_name, "options": json.dumps(dict(options)),
                        "token_hash": _hash(token), "per_minute": per_minute, "test": test,
                        "secrets": None if signing is None else self._sealer.seal(json.dumps({"signing": signing})),
                        "created_at": read_clock(connection),
                    },
                )  # fmt: skip
        except IntegrityError:
            raise Conflict("There is a source with this name already.") from None
        return self.source(uid), token

    @staticmethod
    def _check_options(chosen: Format, options: Mapping[str, str]) -> None:
        if options and not isinstance(chosen, TakesOptions):
            raise Invalid(f"options: {chosen.label} takes none.")
        if isinstance(chosen, TakesOptions):
            try:
                chosen.check(options)
            except NotThisFormat as error:
                raise Invalid(f"options: {error}") from None

    def sources(self) -> list[SourceView]:
        """By name."""
        with self._database.read() as connection:
            return [_view(row) for row in store.sources(connection)]

    def source(self, uid: str) -> SourceView:
        """Raises NotFound."""
        with self._database.read() as connection:
            return _view(_source(store.source(connection, uid=uid)))

    def delete_source(self, uid: str) -> None:
        """Nothing is taken from it any more; what it had raised is over. Raises NotFound."""
        with self._database.write() as connection:
            source = _source(store.source(connection, uid=uid))
            if not store.hold_source(connection, source.id):
                raise NotFound("There is no source of signals with this id.")  # another has just deleted it
            for key in store.lasting_of(connection, source.id):
                self._incidents.clear_cause(connection, f"signal:{source.uid}:{key}")
            store.end_source(connection, source.id)

    # ---- rules -------------------------------------------------------------------------------------------------

    def rules(self) -> list[RuleView]:
        """In the order in which they are asked."""
        with self._database.read() as connection:
            return [_rule(row) for row in store.rules(connection)]

    def rule(self, uid: str) -> RuleView:
        """Raises NotFound."""
        found = next((view for view in self.rules() if view.uid == uid), None)
        if found is None:
            raise NotFound("There is no rule with this id.")
        return found

    def add_rule(self, rule: Rule, position: int | None = None) -> RuleView:
        """At this place (0 is the first), or the last. Raises Invalid, Conflict."""
        values, uid = self._rule_values(rule), str(uuid7())
        with self._database.write() as connection:
            there = store.rules(connection)
            if len(there) >= MOST_RULES:
                raise Conflict(f"There are {MOST_RULES} rules already; delete some first.")
            place = len(there) if position is None else min(position, len(there))
            store.add_rule(connection, {"uid": uid, **values, "position": place, "created_at": read_clock(connection)})
            self._number(connection, [*there[:place], None, *there[place:]])
        return self.rule(uid)

    def replace_rule(self, uid: str, rule: Rule, position: int | None = None) -> RuleView:
        """The whole of it anew, at this place or where it was. Raises NotFound, Invalid."""
        values = self._rule_values(rule)
        with self._database.write() as connection:
            there = store.rules(connection)
            old = next((row for row in there if row.uid == uid), None)
            if old is None:
                raise NotFound("There is no rule with this id.")
            store.change_rule(connection, old.id, values)
            others: list[Row[Any] | None] = [row for row in there if row.uid != uid]
            place = there.index(old) if position is None else min(position, len(others))
            self._number(connection, [*others[:place], old, *others[place:]])
        return self.rule(uid)

    def delete_rule(self, uid: str) -> None:
        """What it has raised goes on. Raises NotFound."""
        with self._database.write() as connection:
            there = store.rules(connection)
            old = next((row for row in there if row.uid == uid), None)
            if old is None:
                raise NotFound("There is no rule with this id.")
            store.change_rule(connection, old.id, {"deleted_at": read_clock(connection)})
            self._number(connection, [row for row in there if row.uid != uid])

    def page(self, cursor: int | None, limit: int) -> tuple[list[SignalView], int | None]:
        """The newest first, and the cursor of the next page."""
        with self._database.read() as connection:
            rows = store.page(connection, before=cursor, limit=limit)
        views = [
            SignalView(
                r.id, r.source, r.key, r.status, r.title, r.severity, json.loads(r.labels), r.first_at, r.last_at, r.times
            )
            for r in rows
        ]
        return views, rows[-1].id if len(rows) == limit else None

    @staticmethod
    def _number(connection: Connection, order: "Sequence[Row[Any] | None]") -> None:
        """None: the new one, which has its place."""
        for position, row in enumerate(order):
            if row is not None and row.position != position:
                store.change_rule(connection, row.id, {"position": position})

    def _rule_values(self, rule: Rule) -> dict[str, Any]:
        if rule.policy is not None:
            check_policy(self._alerts, rule.policy)
        return {
            "name": rule.name, "match": json.dumps(rule.match.to_json()), "as_signalled": rule.as_signalled,
            "group_by": json.dumps(list(rule.group_by)),
            "policy": None if rule.policy is None else json.dumps(rule.policy.to_json()),
        }  # fmt: skip


def _decide(
    signal: Signal, before: Row[Any] | None, source: str, rules: Sequence[RuleView], now: int, *, raised: bool
) -> tuple[Said, RuleView | None]:
    """What a signal does, given what its source said of the same thing before, and whether that is raised."""
    view = next((v for v in rules if v.rule.match.means(signal, source)), None)
    name = None if view is None else view.rule.name
    if before is not None and _is_stale(signal, before, now):
        return Said(signal, name, "stale"), view  # it comes late, or is played again
    if signal.status is Status.RESOLVED:
        return Said(signal, name, "clear" if raised else "nothing_to_clear"), view
    if signal.status is Status.ACKNOWLEDGED:
        return Said(signal, name, "acknowledge"), view
    if view is None:
        return Said(signal, None, "no_rule"), None
    if view.rule.policy is None:
        return Said(signal, name, "drop"), view
    return Said(signal, name, "go_on" if raised else "raise"), view


def _is_stale(signal: Signal, before: Row[Any], now: int) -> bool:
    """Whether its source has said something later of the same thing. Of one instant, the end counts for more."""
    if signal.at is None or before.said_at is None:
        return False
    at, over = int(signal.at * 1000), before.status == Status.RESOLVED.value
    if signal.status is Status.RESOLVED:
        rounded = WHOLE_SECOND_MS if at % 1000 == 0 else 0
        return bool(at + rounded <= before.said_at if rounded else at < before.said_at)
    if signal.began:  # Alertmanager takes for over what it has not heard of for minutes, and then goes on with the old time
        return bool(over and at <= before.said_at and now - before.last_at < SENT_AGAIN_MS)
    return bool(at < before.said_at or (at == before.said_at and over))


def _row(source: Row[Any], signal: Signal, rule: int | None, now: int, before: Row[Any] | None) -> dict[str, Any]:
    times = (
        [min(int(signal.at * 1000), now)] if signal.at is not None else []
    )  # a clock that is ahead must not outlast its error
    times += [before.said_at] if before is not None and before.said_at is not None else []
    return {
        "source_id": source.id, "key": signal.key, "status": signal.status.value, "title": signal.title,
        "body": signal.body, "severity": None if signal.severity is None else signal.severity.value,
        "labels": json.dumps(dict(signal.labels)), "rule_id": rule, "first_at": now, "last_at": now,
        "said_at": max(times, default=None),
    }  # fmt: skip


def _rule(row: Row[Any]) -> RuleView:
    policy = None if row.policy is None else Policy.from_json(json.loads(row.policy))
    match = Match.from_json(json.loads(row.match))
    rule = Rule(row.name, match, policy, row.as_signalled, tuple(json.loads(row.group_by)))
    return RuleView(row.uid, row.position, rule)


def _view(row: Row[Any]) -> SourceView:
    return SourceView(
        row.uid, row.name, row.format, json.loads(row.options), row.per_minute, row.test, row.secrets is not None,
        row.created_at, row.heard_at, row.heard, row.refused,
    )  # fmt: skip


def _source(row: Row[Any] | None) -> Row[Any]:
    if row is None:
        raise NotFound("There is no source of signals with this id.")
    return row


def _key(source: Row[Any], signal: Signal) -> str:
    return f"signal:{source.uid}:{signal.key}"


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _signing_key(secret: str) -> bytes:
    """Raises Invalid."""
    try:
        key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not 24 <= len(key) <= 64:
        raise Invalid("signing: must be whsec_ and 24 to 64 bytes in base64, as Standard Webhooks has it.")
    return key
