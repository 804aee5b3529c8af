"""From a cause to an alert and to the all-clear: one incident for everything that fails together.

A cause (a monitor that is down, a signal that fires) joins the open incident of its group, or opens one. The rows are the
truth and ``next_at`` is the plan: whichever process is free takes the next step, and each step can be taken again after a
crash, because an alert is raised under a key of the incident's own.

waiting -> releasing -> told -> clearing -> closed; waiting for approval is ``asking``; what goes away, or is dismissed,
before it was told says nothing to anybody.
"""

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

import structlog
from sqlalchemy import Connection, Row
from uuid_utils import uuid7

from broadcaster.domain import templates
from broadcaster.domain.audience import Had
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


@dataclass(frozen=True, slots=True)
class Cause:
    """Something that is down. ``key`` is the same for as long as it lasts; ``kind`` is in words."""

    key: str
    name: str
    kind: str
    reason: str
    severity: Severity | None = None  # None: the policy's


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

    ``title``, ``body``: what is or would be said now. ``retry_at``: when what could not be told is tried again.
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
        """It is down. Saying it again changes its reason only. IntegrityError: another process says it too; begin again."""
        if store.say_again(connection, cause.key, cause.reason):
            return
        now = read_clock(connection)
        # What a test says never joins what is real, nor the other way round.
        group = f"{'test' if sandbox else 'live'}:{group}"
        there = store.open_for(connection, group)
        incident = there.id if there is not None else self._open(connection, policy, group, now, sandbox=sandbox)
        store.add_cause(
            connection,
            {
                "incident_id": incident, "key": cause.key, "key_open": cause.key, "name": cause.name, "kind": cause.kind,
                "reason": cause.reason, "severity": cause.severity, "opened_at": now,
            },
        )  # fmt: skip
        if there is not None and there.state in ("releasing", "told"):  # what had just gone may be back before that was said
            due = {"next_at": now} if there.state == "told" else {}  # the next step looks what there is to say
            store.change(connection, incident, {"cleared_at": None, **due})
        log.warning("incidents.cause", incident=incident, cause=cause.key, joined=there is not None)

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
        else:  # releasing: the alert may be out; told: it is
            store.change(connection, incident.id, {"cleared_at": now, "next_at": now})

    def acknowledge_cause(self, connection: Connection, key: str) -> None:
        """Somebody has it in hand: its incident is not said again. The all-clear still is."""
        incident = store.with_cause(connection, key)
        if incident is not None and incident.state == "told" and incident.cleared_at is None:
            store.change(connection, incident.id, {"remind_at": None, "next_at": read_clock(connection)})

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
            if incident.state == "waiting":  # from here on it may have been told
                store.change(connection, incident.id, {"state": "releasing"})
        try:
            if incident.state in ("waiting", "releasing"):
                self._tell(incident)
            elif incident.state == "told":
                self._go_on(incident)
            elif incident.state == "clearing":
                self._clear(incident)
        except Problem as refused:  # the directory has changed: an audience that is gone, a channel that is no more
            log.error("incidents.could_not_be_told", incident=incident.uid, reason=refused.detail)
            self._put_off(incident, FAULT_WAIT_MS, fault=refused.detail)
        except UNAVAILABLE:
            self._put_off(incident, TROUBLE_MS)
            raise
        except Exception:
            self._put_off(incident, FAULT_WAIT_MS, fault="A fault of our own; see the log.")
            raise
        return True

    def _put_off(self, incident: Row[Any], wait: int, **values: Any) -> None:
        """Its step is taken again in ``wait`` ms, by anybody. A database that is away leaves it to the lease."""
        with suppress(*UNAVAILABLE), self._database.write() as connection:
            if store.held(connection, incident.id, self._owner(), incident.fence) is not None:
                store.end_lease(connection, incident.id, {"next_at": read_clock(connection) + wait, **values})

    def _tell(self, incident: Row[Any]) -> None:
        policy = Policy.from_json(json.loads(incident.policy))
        with self._database.read() as connection:
            causes = store.causes(connection, incident.id)
            now = read_clock(connection)
        lasting = [c for c in causes if c.cleared_at is None] or causes
        words = self._words(policy, lasting, incident.opened_at, now)
        severity = _worst([_severity(c, policy) for c in lasting])
        draft, lacks = self._draft(
            policy, words, policy.title, policy.body, _steps(policy), severity, sandbox=incident.sandbox
        )
        uid = self._raise(incident, draft, "alert")
        remind_at = now + policy.remind_every * 1000 if policy.remind_every else None
        said = {"said_at": now, "severity": severity.value, "fault": lacks}
        self._note(incident, "alert", uid, {"state": "told", "told_at": now, "remind_at": remind_at, **said})
        log.warning("incidents.told", incident=incident.uid, alert=uid, causes=len(lasting))

    def _go_on(self, incident: Row[Any]) -> None:
        """It was told. It is over; or somebody is to be reminded; or what has joined since is to be told."""
        policy = Policy.from_json(json.loads(incident.policy))
        with self._database.write() as connection:
            fresh = store.held(connection, incident.id, self._owner(), incident.fence)
            if fresh is None:
                return
            now = read_clock(connection)
            causes = [c for c in store.causes(connection, incident.id) if c.cleared_at is None]
            if not causes:  # what fails from now on is a new incident
                store.end_lease(connection, incident.id, {"state": "clearing", "group_open": None})
                return
            joined = [c for c in causes if c.opened_at > fresh.said_at]
            update_at = _update_at(fresh, joined, policy)
            reminding = fresh.remind_at is not None and fresh.remind_at <= now
            updating = update_at is not None and update_at <= now
            if not (reminding or updating):
                store.end_lease(connection, incident.id, {"next_at": _sooner(fresh.remind_at, update_at)})
                return
        said = causes if reminding else joined
        words = self._words(policy, said, incident.opened_at, now)
        severity = _worst([_severity(c, policy) for c in said])
        title = policy.reminder_title if reminding else policy.title
        draft, lacks = self._draft(policy, words, title, policy.body, _steps(policy), severity, sandbox=incident.sandbox)
        uid = self._raise(incident, draft, f"word {fresh.reminders}")
        remind_at = now + policy.remind_every * 1000 if fresh.remind_at is not None else None
        highest = _worst([severity, Severity(fresh.severity)]).value
        values = {
            "reminders": fresh.reminders + 1,
            "remind_at": remind_at,
            "said_at": now,
            "severity": highest,
            "fault": lacks,
        }
        self._note(fresh, "reminder" if reminding else "update", uid, values)

    def _clear(self, incident: Row[Any]) -> None:
        """What has not left is stopped; then, once nothing is on its way, everybody who may have got it is told."""
        policy = Policy.from_json(json.loads(incident.policy))
        with self._database.read() as connection:
            told = store.alerts_of(connection, incident.id)
            causes = store.causes(connection, incident.id)
            now = read_clock(connection)
        uids = [row.alert_uid for row in told if row.what != "all_clear"]
        # A word that was raised by a process that died before it could note it.
        last = self._alerts.remembered(self._callers(incident.sandbox), f"incident {incident.uid} word {incident.reminders}")
        uids += [last] if last is not None and last not in uids else []
        for uid in uids:
            try:
                self._alerts.cancel(uid, "all clear")
            except Conflict:  # everything of it has left already
                continue
        with self._database.read() as connection:
            had, sending = store.spread(connection, uids)
        if sending:
            with self._database.write() as connection:
                store.end_lease(connection, incident.id, {"next_at": read_clock(connection) + SENDING_WAIT_MS})
            return
        closed = {"state": "closed", "closed_at": now}
        if not policy.all_clear or not had:
            with self._database.write() as connection:
                store.end_lease(connection, incident.id, {**closed, "next_at": None})
            return
        words = self._words(policy, causes, incident.opened_at, incident.cleared_at or now)
        channels = tuple(dict.fromkeys(name for names, _ in policy.steps for name in names))
        severity, had_it = Severity(incident.severity or policy.severity), Had(tuple(uids))
        steps = (Step(channels, 0),)
        draft, _ = self._draft(
            policy, words, policy.clear_title, policy.clear_body, steps, severity, had_it, sandbox=incident.sandbox
        )
        uid = self._raise(incident, draft, "all clear")
        self._note(incident, "all_clear", uid, closed)
        log.warning("incidents.all_clear", incident=incident.uid, alert=uid)

    # ---- by people ---------------------------------------------------------------------------------------------

    def release(self, uid: str, by: str) -> None:
        """Tells it now. Raises NotFound, and Conflict for what was told or is over."""
        with self._database.write() as connection:
            incident = self._undecided(connection, uid)
            values = {"state": "waiting", "next_at": read_clock(connection), "decided_by": by}
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
            if incident.state not in ("releasing", "told", "dismissed"):
                raise Conflict(f"This incident is {incident.state}; it cannot be closed.")
            now = read_clock(connection)
            for cause in store.causes(connection, incident.id):
                if cause.key_open is not None:
                    store.clear(connection, cause.key_open, now)
            over = (
                {"state": "closed", "closed_at": now, "next_at": None} if incident.state == "dismissed" else {"next_at": now}
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
                    severity=policy.severity.value, opened_at=row.opened_at,
                    due_at=row.next_at if row.state == "waiting" else None, told_at=row.told_at, cleared_at=row.cleared_at,
                    closed_at=row.closed_at, reminders=row.reminders, decided_by=row.decided_by, fault=row.fault,
                    sandbox=row.sandbox,
                    causes=tuple(CauseView(c.name, c.kind, c.reason, c.opened_at, c.cleared_at, c.key) for c in mine),
                    alerts=tuple((a.what, a.alert_uid) for a in alerts[row.id]),
                    body=templates.render(policy.body, words, BODY), policy=policy, remind_at=row.remind_at,
                    retry_at=row.next_at if row.fault else None,
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

    def _draft(
        self,
        policy: Policy,
        words: dict[str, str],
        title: str,
        body: str,
        steps: tuple[Step, ...],
        severity: Severity,
        to: Had | None = None,
        *,
        sandbox: bool,
    ) -> tuple[Draft, str | None]:
        """The alert, and what it lacks: a group, tag, person or channel that is gone stops no other from being told."""
        draft = Draft(
            title=templates.render(title, words, TITLE) or words["name"][:TITLE],
            body=templates.render(body, words, BODY) or words["reasons"][:BODY],
            severity=severity,
            audience=to or policy.audience,
            steps=steps,
            expires_in=policy.expires_in or self._expires_in,
            source=policy.source or self._source,
            drill=policy.drill,
        )
        return self._alerts.without_what_is_gone(draft, sandbox=sandbox)

    def _raise(self, incident: Row[Any], draft: Draft, what: str) -> str:
        """Once, however often this step is taken. The words may differ when it is taken again: the first are kept."""
        key = f"incident {incident.uid} {what}"
        caller = self._callers(incident.sandbox)
        return self._alerts.remembered(caller, key) or self._alerts.accept(draft, caller, key).uid

    def _note(self, incident: Row[Any], what: str, uid: str, values: dict[str, Any]) -> None:
        with self._database.write() as connection:
            store.add_alert(connection, incident.id, what, uid, read_clock(connection))
            fresh = store.held(connection, incident.id, self._owner(), incident.fence)
            if fresh is None:  # somebody else has gone on from here
                return
            if incident.remind_at is not None and fresh.remind_at is None:  # acknowledged meanwhile
                values = {**values, "remind_at": None}
            # Whatever happened while it was being told, the next step sees.
            next_at = None if "closed_at" in values else read_clock(connection)
            store.end_lease(connection, incident.id, {"fault": None, **values, "next_at": next_at})


def _steps(policy: Policy) -> tuple[Step, ...]:
    return tuple(Step(channels, after) for channels, after in policy.steps)


def _sentence(cause: Row[Any], *, named: bool) -> str:
    """Why it is down; with its name where there are several, unless that says it already."""
    text = f"{cause.name}: {cause.reason}" if named and cause.reason != cause.name else str(cause.reason)
    return text if text.endswith((".", "!", "?", "…")) else f"{text}."


def _severity(cause: Row[Any], policy: Policy) -> Severity:
    return policy.severity if cause.severity is None else Severity(cause.severity)


def _worst(severities: Sequence[Severity]) -> Severity:
    return min(severities, key=PRIORITY.__getitem__)


def _update_at(incident: Row[Any], joined: Sequence[Row[Any]], policy: Policy) -> int | None:
    """When what has joined is to be told: at once where it is worse than all that was; None: never."""
    if not joined or not policy.update_after:
        return None
    worse = PRIORITY[_worst([_severity(c, policy) for c in joined])] < PRIORITY[Severity(incident.severity)]
    return int(incident.said_at if worse else incident.said_at + policy.update_after * 1000)


def _sooner(*times: int | None) -> int | None:
    return min((t for t in times if t is not None), default=None)


def check_policy(alerts: Alerts, policy: Policy) -> None:
    """Raises Invalid for a template or a channel that is not there."""
    try:
        policy.check()
    except templates.InvalidTemplate as error:
        raise Invalid(f"alert: {error}") from None
    alerts.check_channels([name for names, _ in policy.steps for name in names])
