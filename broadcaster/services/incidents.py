"""From a cause to an alert and to the all-clear: one incident for everything that fails together.

A cause (a monitor that is down, a signal that fires) joins the open incident of its group, or opens one. The rows are the
truth and ``next_at`` is the plan: whichever process is free takes the next step, and whatever becomes of it, a step is taken
whole or not at all, because its alert is raised in the same transaction.

waiting -> told -> clearing -> closed; waiting for approval is ``asking``; what goes away, or is dismissed, before it was
told says nothing to anybody.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

import structlog
from sqlalchemy import Connection, Row
from uuid_utils import uuid7

from broadcaster.domain import templates
from broadcaster.domain.audience import MAX_HAD, Had
from broadcaster.domain.errors import Conflict, Invalid, NotFound, Problem
from broadcaster.domain.messages import PRIORITY, Severity
from broadcaster.domain.policy import BODY, TITLE, Policy, Release
from broadcaster.services.alerts import Alerts, Draft, Step
from broadcaster.services.keys import Caller
from broadcaster.store import incidents as store
from broadcaster.store.database import UNAVAILABLE, Database, read_clock

log = structlog.get_logger(__name__)

LEASE_MS: Final = 30_000
SENDING_WAIT_MS: Final = 500  # between looks whether anything of the alert is still on its way
TROUBLE_MS: Final = 1_000  # until a step is taken again after the database's trouble
FAULT_WAIT_MS: Final = 30_000  # before an alert that could not be raised is tried again
LISTED: Final = 20  # reasons in one text
AGAIN: Final = "It failed again before word of its end could go out; that goes out at the end of the incident after it."


@dataclass(frozen=True, slots=True)
class Cause:
    """Something that is down. ``key`` is the same for as long as it lasts; ``kind`` is in words."""

    key: str
    name: str
    kind: str
    reason: str
    severity: Severity


@dataclass(frozen=True, slots=True)
class CauseView:
    """``key``: as a ``Cause`` has it."""

    name: str
    kind: str
    reason: str
    opened_at: int
    cleared_at: int | None
    key: str


@dataclass(frozen=True, slots=True)
class IncidentView:
    """Times in ms since the epoch. ``due_at``: when it is told by itself. ``alerts``: (what, alert id), in order.

    ``title``, ``body``: what is or would be said now. ``fault``: why something could not be told, and ``retry_at``: when it
    is tried again. ``lacks``: without what it was told.
    """

    uid: str
    state: str
    title: str
    severity: str
    opened_at: int
    due_at: int | None
    told_at: int | None
    cleared_at: int | None
    closed_at: int | None
    reminders: int
    decided_by: str | None
    fault: str | None
    lacks: str | None
    sandbox: bool
    causes: tuple[CauseView, ...]
    alerts: tuple[tuple[str, str], ...]
    body: str
    policy: Policy
    remind_at: int | None
    retry_at: int | None


@dataclass(frozen=True, slots=True)
class Tally:
    """``undecided``: of those that are open, how many wait for somebody, or for their time, before anything is told."""

    open: int = 0
    undecided: int = 0


class Incidents:
    """One per process. ``raise_cause`` and ``clear_cause`` are parts of the caller's own transaction."""

    def __init__(
        self,
        database: Database,
        alerts: Alerts,
        callers: Callable[[bool], Caller],
        *,
        owner: Callable[[], str],
        source: str,
        expires_in: int,
        timezone: str,
    ) -> None:
        """``callers``: in whose name alerts are raised, for the sandbox only (True) or for real."""
        self._database = database
        self._alerts = alerts
        self._callers = callers
        self._owner = owner
        self._source = source
        self._expires_in = expires_in
        self._zone = ZoneInfo(timezone)

    # ---- causes ------------------------------------------------------------------------------------------------

    def raise_cause(
        self, connection: Connection, cause: Cause, policy: Policy, group: str, *, sandbox: bool = False
    ) -> None:
        """It is down. Said again, it is as it is said now. IntegrityError: another process says it too; begin again."""
        if self._say_again(connection, cause):
            return
        now = read_clock(connection)
        # What a test says never joins what is real, nor the other way round.
        group = f"{'test' if sandbox else 'live'}:{group}"
        there = store.open_for(connection, group)
        incident = there.id if there is not None else self._open(connection, policy, group, now, sandbox=sandbox)
        said = {"name": cause.name, "kind": cause.kind, "reason": cause.reason, "severity": cause.severity.value}
        # What comes back in the same incident is the same cause: who was told of it was not told that it had gone.
        if there is None or not store.reopen(connection, incident, cause.key, **said):
            keys = {"incident_id": incident, "key": cause.key, "key_open": cause.key}
            store.add_cause(connection, {**keys, **said, "opened_at": now})
        if there is not None and there.state == "told":  # what had just gone may be back before that was said
            store.change(connection, incident, {"cleared_at": None, **_due(there, now)})
        log.warning("incidents.cause", incident=incident, cause=cause.key, joined=there is not None)

    @staticmethod
    def _say_again(connection: Connection, cause: Cause) -> bool:
        """Whether it lasts already; then it is as it is said now."""
        there = store.cause(connection, cause.key)
        if there is None or (there.name, there.reason, there.severity) == (cause.name, cause.reason, cause.severity):
            return there is not None
        incident = store.with_cause(connection, cause.key)  # before its cause, as everywhere
        if incident is not None and incident.state == "told" and _is_worse(cause.severity, there.severity):
            store.change(connection, incident.id, _due(incident, read_clock(connection)))
        values = {"name": cause.name, "reason": cause.reason, "severity": cause.severity.value}
        return store.say_again(connection, cause.key, **values)

    def _open(self, connection: Connection, policy: Policy, group: str, now: int, *, sandbox: bool) -> int:
        waits = {
            Release.NOW: now + int(policy.group_wait * 1000),
            Release.HOLD: now + policy.hold * 1000,
            Release.APPROVE: None,
        }
        asking = policy.release is Release.APPROVE
        return store.add(
            connection,
            {
                "uid": str(uuid7()), "group_key": group, "group_open": group, "policy": json.dumps(policy.to_json()),
                "sandbox": sandbox, "state": "asking" if asking else "waiting", "opened_at": now,
                "next_at": waits[policy.release],
            },
        )  # fmt: skip

    def clear_cause(self, connection: Connection, key: str) -> None:
        """It is over. When it was the last of its incident, the all-clear is due, if anything was told."""
        incident = store.with_cause(connection, key)
        if incident is None:
            return
        now = read_clock(connection)
        store.clear(connection, key, now)
        if store.lasting(connection, incident.id):
            return
        if incident.state in ("waiting", "asking", "dismissed"):
            ended = {"state": "closed", "cleared_at": now, "closed_at": now, "group_open": None, "next_at": None}
            store.change(connection, incident.id, ended)
            log.info("incidents.gone_untold", incident=incident.uid)
        else:
            store.change(connection, incident.id, {"cleared_at": now, **_due(incident, now)})

    def acknowledge_cause(self, connection: Connection, key: str) -> None:
        """Somebody has it in hand: its incident is not said again. The all-clear still is."""
        incident = store.with_cause(connection, key)
        if incident is not None and incident.state == "told" and incident.cleared_at is None:
            store.change(connection, incident.id, {"remind_at": None, **_due(incident, read_clock(connection))})

    # ---- steps -------------------------------------------------------------------------------------------------

    def run_one(self) -> bool:
        """Takes one incident's next step. False: nothing is due."""
        with self._database.glance() as connection:
            if not store.any_due(connection):
                return False
        with self._database.write() as connection:
            incident = store.claim(connection, self._owner(), LEASE_MS)
        if incident is None:
            return False
        try:
            if incident.state == "waiting":
                self._step(incident, self._tell)
            elif incident.state == "told":
                self._step(incident, self._go_on)
            elif incident.state == "clearing":
                self._recall(incident)
                self._step(incident, self._clear)
        except Problem as refused:  # the directory has changed: an audience that is gone, a channel that is no more
            log.error("incidents.could_not_be_told", incident=incident.uid, reason=refused.detail)
            self._put_off(incident, FAULT_WAIT_MS, refused.detail)
        except UNAVAILABLE:
            self._put_off(incident, TROUBLE_MS)
            raise
        except Exception:
            self._put_off(incident, FAULT_WAIT_MS, "A fault of our own; see the log.")
            raise
        return True

    def _put_off(self, incident: Row[Any], wait: int, fault: str | None = None) -> None:
        """Its step stays due, and is taken again in ``wait`` ms, by anybody. Without the database, when the lease ends."""
        with suppress(*UNAVAILABLE), self._database.write() as connection:
            if store.held(connection, incident.id, self._owner(), incident.fence) is not None:
                values = {"owner": None, "lease_until": read_clock(connection) + wait}
                store.change(connection, incident.id, values if fault is None else {**values, "fault": fault})

    def _step(self, incident: Row[Any], take: "Callable[[_Turn], _Raised | None]") -> None:
        """What is found, said and noted is one transaction, under the incident's lock: whoever dies, is frozen, or loses the
        answer to a COMMIT, the alert and the note of it are both there or neither is."""
        caller = self._callers(incident.sandbox)  # which may have to be made first
        with self._database.write() as connection:
            fresh = store.held(connection, incident.id, self._owner(), incident.fence)
            if fresh is None:  # somebody else has gone on from here
                return
            if fresh.state != incident.state:  # somebody has just decided about it
                store.end_lease(connection, fresh.id, {})
                return
            policy = Policy.from_json(json.loads(fresh.policy))
            raised = take(_Turn(connection, caller, fresh, policy, read_clock(connection)))
        if raised is not None:
            self._alerts.announce(raised.uid, raised.draft, "incident")
            log.warning("incidents.said", incident=incident.uid, what=raised.what, alert=raised.uid)

    def _tell(self, turn: "_Turn") -> "_Raised | None":
        """The first word, of all that is down by now. What has gone before it was told says nothing to anybody."""
        connection, fresh, policy, now = turn.connection, turn.incident, turn.policy, turn.now
        causes = _lasting(connection, fresh)
        if not causes:
            ended = {"state": "closed", "cleared_at": now, "closed_at": now, "group_open": None, "next_at": None}
            store.end_lease(connection, fresh.id, ended)
            log.info("incidents.gone_untold", incident=fresh.uid)
            return None
        remind_at = now + policy.remind_every * 1000 if policy.remind_every else None
        values = {"state": "told", "told_at": now, "remind_at": remind_at}
        return self._say(turn, "alert", causes, values)

    def _go_on(self, turn: "_Turn") -> "_Raised | None":
        """It was told. Now it is over, or somebody is to be reminded, or what has joined or grown worse is to be told."""
        connection, fresh, policy, now = turn.connection, turn.incident, turn.policy, turn.now
        causes = _lasting(connection, fresh)
        if not causes:  # what fails from now on is a new incident
            store.end_lease(connection, fresh.id, {"state": "clearing", "group_open": None, "next_at": now, "fault": None})
            return None
        new = [c for c in causes if c.told_as is None or _is_worse(c.severity, c.told_as)]
        update_at = _update_at(fresh, causes, new, policy)
        if fresh.remind_at is not None and fresh.remind_at <= now:
            again = {"reminders": fresh.reminders + 1, "remind_at": now + policy.remind_every * 1000}
            return self._say(turn, "reminder", causes, again)
        if update_at is not None and update_at <= now:
            # Whoever hears of it now need not be reminded at once.
            again = {"remind_at": None if fresh.remind_at is None else now + policy.remind_every * 1000}
            return self._say(turn, "update", new, again)
        store.end_lease(connection, fresh.id, {"next_at": _sooner(fresh.remind_at, update_at), "fault": None})
        return None

    def _recall(self, incident: Row[Any]) -> None:
        """What has not left is stopped."""
        with self._database.read() as connection:
            going = store.unfinished(connection, incident.id)
        for uid in going:
            with suppress(Conflict):  # everything of it has left already
                self._alerts.cancel(uid, "all clear")

    def _clear(self, turn: "_Turn") -> "_Raised | None":
        """Once nothing is on its way, everybody who may have got it is told."""
        connection, fresh, policy, now = turn.connection, turn.incident, turn.policy, turn.now
        had, sending = store.spread(connection, fresh.id)
        if sending:
            store.end_lease(connection, fresh.id, {"next_at": now + SENDING_WAIT_MS})
            return None
        closed = {"state": "closed", "closed_at": now}
        if not policy.all_clear or not had:
            store.end_lease(connection, fresh.id, {**closed, "next_at": None})
            return None
        causes = store.causes(connection, fresh.id)
        causes = [c for c in causes if c.told_as is not None] or causes
        newer = store.newer_told(connection, fresh)
        back = {c.key for c in _lasting(connection, newer)} if newer is not None else set()
        over = [c for c in causes if c.key not in back]
        if newer is not None and not over and Policy.from_json(json.loads(newer.policy)).all_clear:
            # The last word that people have must be the one that holds.
            store.move_alerts(connection, fresh.id, newer.id)
            store.end_lease(connection, fresh.id, {**closed, "next_at": None, "lacks": AGAIN})
            return None
        told = [row.alert_uid for row in store.alerts_of(connection, fresh.id)]
        had_it = Had((*told[:1], *told[1:][1 - MAX_HAD :]))  # so many words go to the same people again and again
        return self._say(turn, "all_clear", over or causes, closed, had_it)

    def _say(
        self,
        turn: "_Turn",
        what: str,
        causes: Sequence[Row[Any]],
        values: Mapping[str, Any],
        had_it: Had | None = None,
    ) -> "_Raised":
        """Raises an alert about these, notes it and ends the lease. Whatever happens from now on the next step sees."""
        connection, fresh, policy, now = turn.connection, turn.incident, turn.policy, turn.now
        words = self._words(policy, causes, fresh.opened_at, (fresh.cleared_at or now) if had_it else now)
        said = _worst([Severity(c.severity) for c in causes])
        highest = said if fresh.severity is None else _worst([said, Severity(fresh.severity)])
        texts = {
            "alert": (policy.title, policy.body),
            "update": (policy.title, policy.body),
            "reminder": (policy.reminder_title, policy.body),
            "all_clear": (policy.clear_title, policy.clear_body),
        }
        steps = [Step(channels, after) for channels, after in policy.steps]
        if had_it is not None:
            steps = [Step(tuple(dict.fromkeys(name for step in steps for name in step.channels)), 0)]
        title = templates.render(texts[what][0], words, TITLE) or words["name"][:TITLE]
        body = templates.render(texts[what][1], words, BODY) or words["reasons"][:BODY]
        draft = Draft(
            title=title,
            body=body,
            severity=highest if had_it is not None else said,
            audience=had_it or policy.audience,
            steps=tuple(steps),
            expires_in=policy.expires_in or self._expires_in,
            source=policy.source or self._source,
            drill=policy.drill,
        )
        draft, lacks = self._alerts.without_what_is_gone(connection, draft, sandbox=fresh.sandbox)
        uid = self._alerts.raise_within(connection, draft, turn.caller)
        store.add_alert(connection, fresh.id, what, uid, now)
        if had_it is None:
            store.mark_told(connection, [c.id for c in causes])
        next_at = None if "closed_at" in values else now
        noted = {"said_at": now, "severity": highest.value, "fault": None, "lacks": lacks, "next_at": next_at, **values}
        store.end_lease(connection, fresh.id, noted)
        return _Raised(uid, draft, what)

    # ---- by people ---------------------------------------------------------------------------------------------

    def release(self, uid: str, by: str) -> None:
        """Tells it now. Raises NotFound, and Conflict for what was told or is over."""
        with self._database.write() as connection:
            incident = self._undecided(connection, uid)
            values = {"state": "waiting", "decided_by": by, **_due(incident, read_clock(connection))}
            store.change(connection, incident.id, values)

    def dismiss(self, uid: str, by: str) -> None:
        """Nothing is told, for as long as these causes last. Raises NotFound, and Conflict for what was told or is over."""
        with self._database.write() as connection:
            incident = self._undecided(connection, uid)
            now = read_clock(connection)
            # What fails in addition has not been decided about: it is an incident of its own.
            values = {"state": "dismissed", "next_at": None, "group_open": None, "decided_by": by}
            store.change(connection, incident.id, values)
            log.warning("incidents.dismissed", incident=uid, by=by, at=now)

    def close(self, uid: str, by: str) -> None:
        """Whatever its causes say, it is over: the all-clear is due. What still fails is a new incident at once. For sources
        that never take back what they said. Raises NotFound, and Conflict for what was not told, or is over."""
        with self._database.write() as connection:
            incident = store.by_uid(connection, uid, lock=True)
            if incident is None:
                raise NotFound("There is no incident with this id.")
            if incident.state not in ("told", "dismissed"):
                raise Conflict(f"This incident is {incident.state}; it cannot be closed.")
            now = read_clock(connection)
            for cause in store.causes(connection, incident.id):
                if cause.key_open is not None:
                    store.clear(connection, cause.key_open, now)
            over = (
                {"state": "closed", "closed_at": now, "next_at": None}
                if incident.state == "dismissed"
                else _due(incident, now)
            )
            store.change(connection, incident.id, {"cleared_at": now, "group_open": None, **over})
            log.warning("incidents.closed", incident=uid, by=by)

    @staticmethod
    def _undecided(connection: Connection, uid: str) -> Row[Any]:
        incident = store.by_uid(connection, uid, lock=True)
        if incident is None:
            raise NotFound("There is no incident with this id.")
        if incident.state not in ("waiting", "asking"):
            raise Conflict(f"This incident is {incident.state}; there is nothing left to decide.")
        return incident

    def page(self, cursor: int | None, limit: int, *, only_open: bool = False) -> tuple[list[IncidentView], int | None]:
        """The newest first, and the cursor of the next page."""
        with self._database.read() as connection:
            rows = store.page(connection, before=cursor, limit=limit, only_open=only_open)
            views = self._views(connection, rows)
        return views, rows[-1].id if len(rows) == limit else None

    def get(self, uid: str) -> IncidentView:
        """Raises NotFound."""
        with self._database.read() as connection:
            row = store.by_uid(connection, uid)
            if row is None:
                raise NotFound("There is no incident with this id.")
            return self._views(connection, [row])[0]

    def of_cause(self, key: str, limit: int) -> list[IncidentView]:
        """Those in which this was a cause, the newest first."""
        with self._database.read() as connection:
            return self._views(connection, store.page_of_cause(connection, key, limit))

    def tally(self) -> Tally:
        with self._database.read() as connection:
            states = store.tally(connection)
        return Tally(sum(states.values()), states.get("waiting", 0) + states.get("asking", 0))

    def of_alert(self, alert_uid: str) -> IncidentView | None:
        """For what an alert was raised; None: for nothing that is watched."""
        with self._database.read() as connection:
            row = store.of_alert(connection, alert_uid)
            return None if row is None else self._views(connection, [row])[0]

    def _views(self, connection: Connection, rows: Sequence[Row[Any]]) -> list[IncidentView]:
        ids = [row.id for row in rows]
        causes, alerts = store.causes_of(connection, ids), store.alerts_by_incident(connection, ids)
        found = []
        for row in rows:
            policy = Policy.from_json(json.loads(row.policy))
            mine = causes[row.id]
            lasting = [c for c in mine if c.cleared_at is None] or mine
            words = self._words(policy, lasting, row.opened_at, row.closed_at or row.opened_at)
            found.append(
                IncidentView(
                    uid=row.uid, state=row.state, title=templates.render(policy.title, words, TITLE),
                    severity=_worst([Severity(c.severity) for c in lasting]).value, opened_at=row.opened_at,
                    due_at=row.next_at if row.state == "waiting" else None, told_at=row.told_at, cleared_at=row.cleared_at,
                    closed_at=row.closed_at, reminders=row.reminders, decided_by=row.decided_by, fault=row.fault,
                    lacks=row.lacks,
                    sandbox=row.sandbox,
                    causes=tuple(CauseView(c.name, c.kind, c.reason, c.opened_at, c.cleared_at, c.key) for c in mine),
                    alerts=tuple((a.what, a.alert_uid) for a in alerts[row.id]),
                    body=templates.render(policy.body, words, BODY), policy=policy, remind_at=row.remind_at,
                    retry_at=max(row.next_at or 0, row.lease_until) if row.fault else None,
                )
            )  # fmt: skip
        return found

    # ---- words -------------------------------------------------------------------------------------------------

    def _words(self, policy: Policy, causes: Sequence[Row[Any]], since: int, until: int) -> dict[str, str]:
        names = ", ".join(dict.fromkeys(c.name for c in causes))
        listed = [_sentence(c, named=len(causes) > 1) for c in causes[:LISTED]]
        more = len(causes) - len(listed)
        reasons = " ".join([*listed, *([f"And {more} more."] if more else [])])
        first = causes[0] if causes else None
        return {
            "name": names, "names": names, "monitor.name": names,
            "monitor.kind": first.kind if first else "", "reason": first.reason if first else "", "reasons": reasons,
            "count": str(len(causes)), "since": self._clock(since, until),
            "duration": templates.duration((until - since) / 1000), "source": policy.source or self._source,
        }  # fmt: skip

    def _clock(self, at: int, now: int) -> str:
        """A clock time; with its date when that is not today's."""
        moment, today = (datetime.fromtimestamp(t / 1000, self._zone) for t in (at, now))
        return moment.strftime("%H:%M") if moment.date() == today.date() else f"{moment:%H:%M on} {moment.day} {moment:%B}"


@dataclass(frozen=True, slots=True)
class _Turn:
    """A step being taken: the incident is locked, and as it is ``now`` (ms)."""

    connection: Connection
    caller: Caller
    incident: Row[Any]
    policy: Policy
    now: int


@dataclass(frozen=True, slots=True)
class _Raised:
    """An alert of an incident. ``what``: alert, reminder, update, all_clear."""

    uid: str
    draft: Draft
    what: str


def _due(incident: Row[Any], now: int) -> dict[str, Any]:
    """Its next step is due at once, also where it was put off; but not under somebody who is taking it."""
    return {"next_at": now} if incident.owner is not None else {"next_at": now, "lease_until": 0}


def _lasting(connection: Connection, incident: Row[Any]) -> list[Row[Any]]:
    return [cause for cause in store.causes(connection, incident.id) if cause.cleared_at is None]


def _sentence(cause: Row[Any], *, named: bool) -> str:
    """Why it is down; with its name where there are several, unless that says it already."""
    text = f"{cause.name}: {cause.reason}" if named and cause.reason != cause.name else str(cause.reason)
    return text if text.endswith((".", "!", "?", "…")) else f"{text}."


def _worst(severities: Sequence[Severity]) -> Severity:
    return min(severities, key=PRIORITY.__getitem__)


def _update_at(incident: Row[Any], causes: Sequence[Row[Any]], new: Sequence[Row[Any]], policy: Policy) -> int | None:
    """When what is new is to be told: at once where it is worse than all of what lasts that was told; None: never."""
    if not new or not policy.update_after:
        return None
    heard = [Severity(c.told_as) for c in causes if c.told_as is not None] or [Severity(incident.severity)]
    worse = any(_is_worse(cause.severity, _worst(heard)) for cause in new)
    return int(incident.said_at if worse else incident.said_at + policy.update_after * 1000)


def _is_worse(one: str, other: str) -> bool:
    return PRIORITY[Severity(one)] < PRIORITY[Severity(other)]


def _sooner(*times: int | None) -> int | None:
    return min((t for t in times if t is not None), default=None)


def check_policy(alerts: Alerts, policy: Policy) -> None:
    """Raises Invalid for a template or a channel that is not there."""
    try:
        policy.check()
    except templates.InvalidTemplate as error:
        raise Invalid(f"alert: {error}") from None
    alerts.check_channels([name for names, _ in policy.steps for name in names])
