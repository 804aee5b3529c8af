"""Stand-ins for what watches: monitors and incidents in every state, as a test puts them there."""

import math
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

from broadcaster.domain.audience import AllOf, Everyone, HasTag, InGroup
from broadcaster.domain.errors import Conflict, NotFound
from broadcaster.domain.messages import Severity
from broadcaster.domain.policy import Policy, Release
from broadcaster.services import incidents, monitors
from broadcaster.services.incidents import CauseView, IncidentView
from broadcaster.services.monitors import Changed, MonitorView, Seen, VantageView, Watch, Window

HOSTILE = """<script>alert(1)</script>"><img src=x onerror=alert(2)>'{{ 7*7 }}"""
POLICY = Policy(Everyone(), ((("sms", "slack"), 0), (("push",), 300)), Severity.CRITICAL)
MINUTE = 60_000


def seen(now: int, pattern: str, *, vantage: str = "main", every: int = MINUTE, around: int = 40) -> tuple[Seen, ...]:
    """Looks, the oldest first, the last one at ``now``: o good, d bad, f failed, u cannot say."""
    words = {
        "o": ("ok", "ok", "Mail was taken by the server."), "d": ("degraded", "slow", "The server took long to answer."),
        "f": ("failed", "refused", "The server refused the connection."),
        "u": ("unknown", "cannot_say", "Our own network did not answer."),
    }  # fmt: skip
    found = []
    for n, letter in enumerate(pattern):
        at = now - (len(pattern) - 1 - n) * every
        latency = {"u": None, "d": around * 12, "f": 10_000}.get(letter, around + round(around * 0.4 * math.sin(n / 2)))
        found.append(Seen(n + 1, vantage, at, at, *words[letter], latency, {}))
    return tuple(found)


def monitor(uid: str, now: int, **changes: Any) -> MonitorView:
    """One that works."""
    name = changes.pop("name", "Sending mail")
    pattern = changes.pop("pattern", "o" * 40)
    watch = Watch(name, "smtp", {"host": "smtp.example.nhs.uk", "port": 587, "tls": {"verify": True}}, policy=POLICY)
    fields: dict[str, Any] = {
        "watch": replace(watch, **changes.pop("watch", {})), "secrets": ("/password",), "created_at": now - 999_999 * MINUTE,
        "paused_at": None, "state": "ok", "state_since": now - 3 * 1440 * MINUTE, "code": "ok",
        "reason": "Mail was taken by the server.", "seen_at": None, "in_maintenance": False,
        "vantages": (vantage("main", now, ok=4_310, working=4_310),), "recent": seen(now - 4_000, pattern),
    }  # fmt: skip
    return MonitorView(uid, **{**fields, **changes})


def vantage(name: str, now: int, holds: str | None = "ok", *, late: bool = False, **in_a_row: int) -> VantageView:
    return VantageView(name, now + 56_000, now - 4_000 - late * 20 * MINUTE, holds, in_a_row, late)


def some_monitors(now: int) -> list[MonitorView]:
    return [
        monitor("down", now, pattern="o" * 28 + "ooduoo" + "f" * 6, state="down", state_since=now - 4 * MINUTE,
                code="refused", reason="The server refused the connection.",
                vantages=(vantage("leeds", now, "failed", failed=6), vantage("london", now, "failed", failed=5))),
        monitor("fenced", now, name="Reading mail (webmail)", pattern="oooffff", state="down", state_since=now - 50 * MINUTE,
                reason="The sign-in page answered with an error (503).", in_maintenance=True),
        monitor("slow", now, name="Directory", pattern="o" * 30 + "d" * 10, state="degraded", state_since=now - 9 * MINUTE,
                reason="The server took long to answer.", vantages=(vantage("main", now, "degraded", degraded=10),)),
        monitor("new", now, name="Shared calendars", pattern="", state="unknown", state_since=now - 5_000, code=None,
                reason=None, vantages=(vantage("main", now, None),), watch={"policy": None}),
        monitor("left", now, name="Phones", vantages=(vantage("main", now, ok=9, late=True),)),
        monitor("well", now),
        monitor("paused", now, name="Old mail server", state="down", paused_at=now - 26 * 60 * MINUTE,
                reason="The server refused the connection.", recent=seen(now - 26 * 60 * MINUTE, "ooofff")),
        monitor("hostile", now, name=HOSTILE, reason=HOSTILE, vantages=(vantage(HOSTILE, now, ok=3),),
                secrets=(f"/{HOSTILE}",),
                recent=tuple(replace(s, reason=HOSTILE, vantage=HOSTILE) for s in seen(now, "ofo")),
                watch={"kind": HOSTILE, "config": {HOSTILE: HOSTILE, "list": [HOSTILE, {HOSTILE: 1}]}, "control": HOSTILE,
                       "policy": replace(POLICY, audience=InGroup(HOSTILE), group=HOSTILE, steps=(((HOSTILE,), 0),))}),
    ]  # fmt: skip


def cause(uid: str, opened_at: int, cleared_at: int | None = None, **changes: Any) -> CauseView:
    fields: dict[str, Any] = {
        "name": "Sending mail", "kind": "Sending mail (SMTP)", "reason": "The server refused the connection.",
        "opened_at": opened_at, "cleared_at": cleared_at, "key": f"monitor:{uid}",
    }  # fmt: skip
    return CauseView(**{**fields, **changes})


def incident(uid: str, now: int, state: str, **changes: Any) -> IncidentView:
    """One that was opened five minutes ago. ``policy``: what differs."""
    opened = now - 5 * MINUTE
    fields: dict[str, Any] = {
        "title": "Sending mail is down", "severity": "critical", "opened_at": opened, "due_at": None, "told_at": None,
        "cleared_at": None, "closed_at": None, "reminders": 0, "decided_by": None, "fault": None, "lacks": None,
        "sandbox": True,
        "causes": (cause("down", opened),), "alerts": (), "body": "The server refused the connection. Since 03:04.",
        "policy": replace(POLICY, **changes.pop("policy", {})), "remind_at": None, "retry_at": None,
    }  # fmt: skip
    return IncidentView(uid, state, **{**fields, **changes})


def some_incidents(now: int, alert: str) -> list[IncidentView]:
    grouped = {"group": "mail", "remind_every": 1800}
    two = AllOf((InGroup("Clinicians"), HasTag("site", "Northmoor")))
    causes = (
        cause("down", now - 31 * MINUTE),
        cause("fenced", now - 30 * MINUTE, now - 2 * MINUTE, name="Reading mail (webmail)", kind="Web page",
              reason="The sign-in page answered with an error (503)."),
        cause("", now - 20 * MINUTE, name="Queue of mail relay 2", kind="Prometheus Alertmanager", key="signal:am:7",
              reason="More than 4,000 messages wait."),
    )  # fmt: skip
    ended = {"cleared_at": now - 60 * MINUTE, "closed_at": now - 59 * MINUTE, "opened_at": now - 95 * MINUTE}
    over = (cause("down", now - 95 * MINUTE, now - 60 * MINUTE),)
    return [
        incident("waiting", now, "waiting", due_at=now + 100_000, policy={"release": Release.HOLD, "audience": two}),
        incident("asking", now, "asking", policy={"release": Release.APPROVE, "drill": True}, title="Directory is slow",
                 severity="high", causes=(cause("slow", now - 9 * MINUTE, name="Directory"),)),
        incident("told", now, "told", title="Sending mail, Queue of mail relay 2 is down", causes=causes, policy=grouped,
                 opened_at=now - 31 * MINUTE, told_at=now - 29 * MINUTE, remind_at=now + MINUTE,
                 alerts=(("alert", alert), ("reminder", "trouble"))),
        incident("sending", now, "waiting", due_at=now - 1_000, decided_by="key-1"),
        incident("fault", now, "waiting", due_at=now - 1_000, decided_by="key-1", fault="There is no group “Night staff”.",
                 retry_at=now + 21_000),
        incident("clearing", now, "clearing", told_at=now - 4 * MINUTE, cleared_at=now - 5_000,
                 causes=(cause("down", now - 5 * MINUTE, now - 5_000),)),
        incident("dismissed", now, "dismissed", decided_by="key-1"),
        incident("closed", now, "closed", told_at=now - 94 * MINUTE, alerts=(("alert", "done"), ("all_clear", "cancelled")),
                 decided_by="key-1", causes=over, **ended),
        incident("untold", now, "closed", causes=over, **ended),
        incident("hostile", now, "asking", title=HOSTILE, body=HOSTILE, decided_by="hostile", fault=HOSTILE,
                 causes=(cause("x", now - MINUTE, name=HOSTILE, kind=HOSTILE, reason=HOSTILE),),
                 alerts=(("alert", "hostile"),),
                 policy={"audience": InGroup(HOSTILE), "group": HOSTILE, "steps": (((HOSTILE,), 0),)}),
    ]  # fmt: skip


@dataclass
class Monitors:
    views: dict[str, MonitorView] = field(default_factory=dict)
    done: list[tuple[Any, ...]] = field(default_factory=list)
    maintenance: list[Window] = field(default_factory=list)
    kinds = {"smtp": SimpleNamespace(label="Sending mail (SMTP)")}

    def worst_first(self, offset: int, limit: int) -> list[MonitorView]:
        return list(self.views.values())[offset : offset + limit]

    def tally(self) -> monitors.Tally:
        running = [v for v in self.views.values() if v.paused_at is None]
        counts = {state: sum(v.state == state for v in running) for state in ("down", "degraded", "unknown", "ok")}
        late = sum(any(vantage.late for vantage in v.vantages) for v in running)
        return monitors.Tally(**counts, paused=len(self.views) - len(running), unwatched=late)

    def get(self, uid: str) -> MonitorView:
        if uid not in self.views:
            raise NotFound("There is no monitor with this id.")
        return self.views[uid]

    def readings(self, uid: str, cursor: int | None, limit: int) -> tuple[list[Seen], int | None]:
        return list(self.get(uid).recent[::-1])[:limit], None

    def changes(self, uid: str, cursor: int | None, limit: int) -> tuple[list[Changed], int | None]:
        view = self.get(uid)
        evidence = {v.name: {"holds": v.holds, **v.in_a_row} for v in view.vantages}
        if view.state == "unknown":
            return [], None
        before = Changed(view.state_since - 9 * MINUTE, "unknown", "ok", "ok", "Mail was taken by the server.", {"main": {}})
        return [Changed(view.state_since, "ok", view.state, view.code, view.reason, evidence), before], None

    def windows(self) -> list[Window]:
        return self.maintenance

    def look_now(self, uid: str) -> MonitorView:
        if self.get(uid).paused_at is not None:
            raise Conflict("This monitor is paused; resume it first.")
        self.done.append(("look", uid))
        return self.get(uid)

    def pause(self, uid: str) -> MonitorView:
        self.done.append(("pause", uid))
        self.views[uid] = replace(self.get(uid), paused_at=self.get(uid).created_at)
        return self.get(uid)

    def resume(self, uid: str) -> MonitorView:
        self.done.append(("resume", uid))
        self.views[uid] = replace(self.get(uid), paused_at=None)
        return self.get(uid)

    def add_window(self, monitor: str | None, from_at: int | None, until_at: int, note: str, by: str) -> Window:
        self.done.append(("maintenance", monitor, until_at, note, by))
        self.maintenance.append(Window("w1", monitor, None, until_at - 3_600_000, until_at, note))
        return self.maintenance[-1]

    def end_window(self, uid: str) -> None:
        self.done.append(("end", uid))


@dataclass
class Incidents:
    views: dict[str, IncidentView] = field(default_factory=dict)
    done: list[tuple[str, str, str]] = field(default_factory=list)

    def page(self, cursor: int | None, limit: int, *, only_open: bool = False) -> tuple[list[IncidentView], int | None]:
        found = [v for v in self.views.values() if not only_open or v.closed_at is None]
        return ([], None) if cursor == 1 else (found[:limit], 17 if found and not only_open else None)

    def tally(self) -> incidents.Tally:
        found = [v for v in self.views.values() if v.closed_at is None]
        return incidents.Tally(
            len(found), sum(v.state in ("waiting", "asking") and v.decided_by in (None, "hostile") for v in found)
        )

    def get(self, uid: str) -> IncidentView:
        if uid not in self.views:
            raise NotFound("There is no incident with this id.")
        return self.views[uid]

    def of_alert(self, alert_uid: str) -> IncidentView | None:
        return next((v for v in self.views.values() if alert_uid in [uid for _, uid in v.alerts]), None)

    def of_cause(self, key: str, limit: int) -> list[IncidentView]:
        return [v for v in self.views.values() if key in [c.key for c in v.causes]][:limit]

    def release(self, uid: str, by: str) -> None:
        self._decide(uid, "release", by, "waiting")

    def dismiss(self, uid: str, by: str) -> None:
        self._decide(uid, "dismiss", by, "dismissed")

    def _decide(self, uid: str, what: str, by: str, state: str) -> None:
        if self.get(uid).state not in ("waiting", "asking"):
            raise Conflict(f"This incident is {self.get(uid).state}; there is nothing left to decide.")
        self.done.append((what, uid, by))
        self.views[uid] = replace(self.get(uid), state=state, decided_by=by)
