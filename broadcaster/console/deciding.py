"""What the pages show of an incident: above all what happens by itself, and what does not. Pure functions.

It is read by a tired person at 4 in the morning: one headline, then short sentences, no sentence about what cannot be.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from broadcaster.console import words
from broadcaster.console.watching import told_how
from broadcaster.services.incidents import AGAIN, CauseView, IncidentView


@dataclass(frozen=True, slots=True)
class Cause:
    """``link``: to its monitor, where it is one. ``over``: it is well again."""

    name: str
    kind: str
    reason: str
    lasted: str
    over: bool
    late: bool  # joined after people were told
    link: str


@dataclass(frozen=True, slots=True)
class Outlook:
    """``tone``: ask, act, past. ``countdown``: until it is sent by itself; empty where nothing is."""

    tone: str
    headline: str
    countdown: str
    sentences: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Shown:
    """An incident, ready to print."""

    uid: str
    title: str
    body: str
    mark: words.Mark
    severity: tuple[str, str]
    drill: bool
    sandbox: bool
    lately: str
    open: bool
    undecided: bool
    urgent: bool  # undecided, or could not be sent as it was meant
    outlook: Outlook
    causes: tuple[Cause, ...]
    still_down: int
    audience: str
    channels: str
    decided: str
    fault: str


@dataclass(frozen=True, slots=True)
class Words:
    """How this reader is told things. ``name``: who did something, by key; ``labels``: of channels, by name."""

    now: int  # ms since the epoch
    zone: str
    name: Callable[[str], str | None]
    labels: Mapping[str, str]

    def clock(self, ms: int) -> str:
        return words.clock(ms, self.now, self.zone)

    def exact(self, ms: int) -> str:
        return words.exact(ms, self.now, self.zone)


def shown(view: IncidentView, to: Words) -> Shown:
    return Shown(
        uid=view.uid,
        title=view.title,
        body=view.body,
        mark=_mark(view),
        severity=words.SEVERITIES.get(view.severity, (view.severity, "grey")),  # type: ignore[call-overload]
        drill=view.policy.drill,
        sandbox=view.sandbox,
        lately=_lately(view, to),
        open=view.closed_at is None,
        undecided=is_undecided(view),
        urgent=is_undecided(view) or (bool(view.fault or view.lacks) and view.closed_at is None),
        outlook=_outlook(view, to),
        causes=tuple(_cause(c, view, to) for c in view.causes),
        still_down=sum(c.cleared_at is None for c in view.causes),
        audience=words.audience(view.policy.audience),
        channels=told_how(view.policy, to.labels),
        decided=_decided(view, to),
        fault=view.fault or "",
    )


def is_undecided(view: IncidentView) -> bool:
    """Whether somebody can still say whether it is sent."""
    return view.state == "asking" or (view.state == "waiting" and view.decided_by is None)


def _mark(view: IncidentView) -> words.Mark:
    if view.fault and view.closed_at is None and view.told_at is None:
        return words.COULD_NOT
    return words.OVER_UNTOLD if view.state == "closed" and view.told_at is None else words.INCIDENT_STATES[view.state]


def _lately(view: IncidentView, to: Words) -> str:
    """From when until when it was, or how long it has lasted."""
    if view.cleared_at is None:
        return words.since(view.opened_at, to.now, to.zone)
    return f"from {to.clock(view.opened_at)} until {to.clock(view.cleared_at)}"


def _cause(cause: CauseView, view: IncidentView, to: Words) -> Cause:
    over = cause.cleared_at is not None
    lasted = words.since(cause.opened_at, to.now, to.zone)
    if cause.cleared_at is not None:
        lasted = f"works again since {to.clock(cause.cleared_at)}; down from {to.clock(cause.opened_at)}"
    late = view.told_at is not None and cause.opened_at > view.told_at
    source, _, uid = cause.key.partition(":")
    return Cause(
        cause.name, cause.kind, cause.reason, lasted, over, late, f"/console/monitors/{uid}" * (source == "monitor")
    )


def _decided(view: IncidentView, to: Words) -> str:
    if view.decided_by is None:
        return ""
    who = to.name(view.decided_by) or view.decided_by
    return f"{who} decided not to send it" if _was_dismissed(view) else f"{who} decided to send it"


def _was_dismissed(view: IncidentView) -> bool:
    return view.state == "dismissed" or (view.state == "closed" and view.told_at is None)


# ---- what happens by itself ------------------------------------------------------------------------------------------


def _outlook(view: IncidentView, to: Words) -> Outlook:
    if view.fault and view.closed_at is None:
        return _troubled(view, view.fault, to)
    return {
        "waiting": _waiting, "asking": _asking, "told": _told, "clearing": _clearing,
        "closed": _closed, "dismissed": _dismissed,
    }[view.state](view, to)  # fmt: skip


def _waiting(view: IncidentView, to: Words) -> Outlook:
    left = (view.due_at or 0) - to.now
    if view.decided_by is not None or left <= 0:
        return _being_sent(view, to)
    whom = f"{words.audience(view.policy.audience)}, by {told_how(view.policy, to.labels)}"
    return Outlook(
        "ask",
        f"This will be sent by itself at {to.exact(view.due_at or 0)}",
        words.countdown(left),
        (
            f"If you do nothing, it is sent to {whom}.",
            "Press “Do not send” to stop that.",
            "If everything works again before then, nothing is sent.",
        ),
    )


def _asking(view: IncidentView, to: Words) -> Outlook:
    whom = f"{words.audience(view.policy.audience)}, by {told_how(view.policy, to.labels)}"
    return Outlook(
        "ask",
        "Nobody is told until somebody decides",
        "",
        (
            "Nothing is sent by itself, however long this lasts.",
            f"Press “Send now” to send it to {whom}.",
            "If everything works again first, this closes by itself and nothing is sent.",
        ),
    )


def _being_sent(_view: IncidentView, _to: Words) -> Outlook:
    return Outlook(
        "act",
        "This is being sent now",
        "",
        (
            "You have nothing to do here.",
            "In a few seconds the alert stands below. There you can stop what has not left yet.",
        ),
    )


def _told(view: IncidentView, to: Words) -> Outlook:
    p = view.policy
    again = "It is not said again by itself while it lasts."
    if p.remind_every:
        at = f", next at {to.clock(view.remind_at)}" if view.remind_at else ""
        again = f"It is said again by itself every {words.span(p.remind_every)} while it lasts{at}."
    over = "Once everything works again, everyone who may have got it is told so by itself."
    if not p.all_clear:
        over = "When everything works again, this closes by itself. Nobody is told: send word yourself."
    joins = f" of “{p.group}”" if p.group else ""
    more = ""
    if p.group:
        more = f"What else{joins} fails meanwhile is added below. " + (
            f"It is sent {words.span(p.update_after)} after the last message, at once if it is more severe."
            if p.update_after
            else "It is not sent."
        )
    told = view.told_at or view.opened_at
    lines = (view.lacks, again, more, over)
    return Outlook("act", f"People were told at {to.clock(told)}", "", tuple(line for line in lines if line))


def _clearing(view: IncidentView, to: Words) -> Outlook:
    word = "People are told so by itself in a moment" if view.policy.all_clear else "It closes by itself in a moment"
    over = view.cleared_at or to.now
    return Outlook(
        "past", f"This is over since {to.clock(over)}", "", (f"{word}: first, nothing of the alert may be on its way.",)
    )


def _closed(view: IncidentView, to: Words) -> Outlook:
    over = to.clock(view.cleared_at or view.closed_at or to.now)
    if view.told_at is None:
        why = "It was over before anything was sent." if view.decided_by is None else f"{_decided(view, to)}."
        if view.fault:
            why = f"It could not be sent: {view.fault}"
        return Outlook("past", f"This is over since {over}. Nobody was told", "", (why, "Nothing more happens."))
    if view.lacks == AGAIN:
        return Outlook("past", f"This is over since {over}", "", (AGAIN,))
    cleared = any(what == "all_clear" for what, _ in view.alerts)
    said = "Everyone who may have got the alert was told that it is over."
    if not cleared:
        said = "Nobody was told that it is over: " + (
            "nobody had got the alert yet." if view.policy.all_clear else "that is how this is set up."
        )
    return Outlook("past", f"This is over since {over}", "", (said, "Nothing more happens."))


def _dismissed(view: IncidentView, to: Words) -> Outlook:
    return Outlook(
        "act",
        "Nobody is told",
        "",
        (
            f"{_decided(view, to)}. That holds for as long as this lasts, and cannot be taken back.",
            "To tell people after all, send an alert by hand.",
            "Something else that fails, or this after it worked again, is a new incident.",
        ),
    )


def _troubled(view: IncidentView, fault: str, to: Words) -> Outlook:
    what = {"told": "A further message", "clearing": "Word that it is over"}.get(view.state, "This")
    again = f"It is tried again by itself at {to.exact(view.retry_at)}." if view.retry_at else "It is tried again by itself."
    nobody = "Nobody has been told. If it cannot wait, send an alert by hand." if view.told_at is None else ""
    return Outlook("ask", f"{what} could not be sent", "", tuple(filter(None, (fault, again, nobody))))
