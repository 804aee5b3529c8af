"""The console's pages for incidents: what is down, what was told, and whether it is to be told.

What is shown: ``deciding``. How: ``templates/incidents.html``, ``incident.html``, ``watch-parts.html``.
"""

from dataclasses import dataclass
from typing import Final

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

from broadcaster.console import deciding, sessions, stream, words
from broadcaster.console.asked import readers_words, standing
from broadcaster.console.monitor_pages import events
from broadcaster.console.rendering import PageRoute, page, part, redirect
from broadcaster.console.sessions import SignedIn
from broadcaster.console.wired import Cursor, Wired, Wiring
from broadcaster.domain.errors import Conflict, Forbidden, NotFound
from broadcaster.services.incidents import IncidentView
from broadcaster.services.keys import Caller, Scope

router = APIRouter(include_in_schema=False, route_class=PageRoute)

TICK: Final = 1.0  # s: a countdown is shown
_OPEN: Final = 100
_PAST: Final = 25
_TOLD: Final = 5  # the last alerts of one incident, with their reach
_PARTS: Final = "watch-parts.html"


@dataclass(frozen=True, slots=True)
class Told:
    """An alert of an incident."""

    what: str
    uid: str
    title: str
    at: str
    reach: str


# ---- all of them -----------------------------------------------------------------------------------------------------


@router.get("/console/incidents")
def incidents(request: Request, wiring: Wiring, caller: SignedIn, cursor: Cursor = None, refresh: str = "on") -> Response:
    views, following = wiring.incidents.page(cursor, _PAST)
    to = readers_words(wiring)
    past = [deciding.shown(view, to) for view in views if view.closed_at is not None]
    return page(
        request,
        "incidents.html",
        caller=caller,
        open=_open(wiring),
        past=past,
        following=following,
        first=cursor is None,
        refresh=refresh != "off" and cursor is None,
    )


@router.get("/console/incidents/stream")
async def incidents_stream(request: Request, wiring: Wiring) -> Response:
    caller = await run_in_threadpool(sessions.caller, request)

    def draw() -> str:
        found = _open(wiring)
        return stream.news(_count(found), {"open": part("open_incidents", found, of=_PARTS)})

    return events(wiring, caller, draw)


def _open(wiring: Wired) -> list[deciding.Shown]:
    """What waits for somebody, or could not be sent, first."""
    to = readers_words(wiring)
    views, _ = wiring.incidents.page(None, _OPEN, only_open=True)
    return sorted((deciding.shown(view, to) for view in views), key=lambda shown: not shown.urgent)


def _count(found: list[deciding.Shown]) -> str:
    waiting = sum(shown.undecided for shown in found)
    if waiting:
        return f"{waiting} {words.plural(waiting, 'incident')} {'waits' if waiting == 1 else 'wait'} for you."
    return f"{len(found)} open."


@router.get("/console/standing/stream")
async def standing_stream(request: Request, wiring: Wiring) -> Response:
    """The line with counts, above the list of alerts."""
    caller = await run_in_threadpool(sessions.caller, request)

    def draw() -> str:
        found = standing(wiring, caller)
        return stream.news(found.says if found else "", {"standing": part("standing", found, of=_PARTS)})

    return events(wiring, caller, draw)


# ---- one -------------------------------------------------------------------------------------------------------------


@router.get("/console/incidents/{uid}")
def incident(request: Request, wiring: Wiring, caller: SignedIn, uid: str, refresh: str = "on") -> Response:
    return _page(request, wiring, caller, wiring.incidents.get(uid), refresh=refresh != "off")


@router.get("/console/incidents/{uid}/stream")
async def incident_stream(request: Request, wiring: Wiring, uid: str) -> Response:
    caller = await run_in_threadpool(sessions.caller, request)
    await run_in_threadpool(wiring.incidents.get, uid)  # 404 now, not in mid-stream

    def draw() -> str:
        view = wiring.incidents.get(uid)
        shown = deciding.shown(view, readers_words(wiring))
        parts = {
            "mark": part("mark", shown.mark, of=_PARTS),
            "outlook": part("outlook", shown, of=_PARTS),
            "decide": part("decide", shown, _refusal(wiring, caller, view), of=_PARTS),
            "causes": part("causes", shown, of=_PARTS),
            "told": part("told", _told(wiring, view), of=_PARTS),
        }
        return stream.news(f"{shown.outlook.headline}.", parts)

    return events(wiring, caller, draw, TICK)


@router.post("/console/incidents/{uid}/send")
def send(request: Request, wiring: Wiring, caller: SignedIn, uid: str) -> Response:
    _must_decide(wiring, caller, wiring.incidents.get(uid))
    try:
        wiring.incidents.release(uid, caller.uid)
    except Conflict:
        return _too_late(request, wiring, caller, uid)
    return redirect(f"/console/incidents/{uid}")


@router.get("/console/incidents/{uid}/dismiss")
def dismiss_form(request: Request, wiring: Wiring, caller: SignedIn, uid: str) -> Response:
    view = wiring.incidents.get(uid)
    _must_decide(wiring, caller, view)
    if not deciding.is_undecided(view):
        return redirect(f"/console/incidents/{uid}")
    to = readers_words(wiring)
    due = to.exact(view.due_at) if view.due_at is not None else ""
    return page(request, "dismiss.html", caller=caller, incident=deciding.shown(view, to), due=due)


@router.post("/console/incidents/{uid}/dismiss")
def dismiss(request: Request, wiring: Wiring, caller: SignedIn, uid: str) -> Response:
    _must_decide(wiring, caller, wiring.incidents.get(uid))
    try:
        wiring.incidents.dismiss(uid, caller.uid)
    except Conflict:
        return _too_late(request, wiring, caller, uid)
    return redirect(f"/console/incidents/{uid}")


def _too_late(request: Request, wiring: Wired, caller: Caller, uid: str) -> Response:
    """Its time ran out, it went by itself, or somebody else was first: the page says how it stands now."""
    return _page(request, wiring, caller, wiring.incidents.get(uid), refresh=False, status=409)


def _page(
    request: Request, wiring: Wired, caller: Caller, view: IncidentView, *, refresh: bool, status: int = 200
) -> Response:
    shown = deciding.shown(view, readers_words(wiring))
    return page(
        request,
        "incident.html",
        status,
        caller=caller,
        incident=shown,
        told=_told(wiring, view),
        refusal=_refusal(wiring, caller, view),
        refresh=refresh and shown.open,
        soon=shown.undecided,
        too_late=status == 409,
    )


def _must_decide(wiring: Wired, caller: Caller, view: IncidentView) -> None:
    """Raises Forbidden."""
    caller.must_have(Scope.ALERTS_SEND)
    if refused := _refusal(wiring, caller, view):
        raise Forbidden(refused)


def _refusal(wiring: Wired, caller: Caller, view: IncidentView) -> str:
    """Why this caller may not decide, or nothing. Whatever a test key sends reaches the sandbox only."""
    if Scope.ALERTS_SEND not in caller.scopes:
        return "Your key may look, but not decide. Somebody whose key may send alerts has to."
    if caller.test and not (view.sandbox or wiring.sandbox_only):
        return "Yours is a test key, and this would reach real people. Sign in with another key to decide."
    return ""


def _told(wiring: Wired, view: IncidentView) -> list[Told]:
    """The last of its alerts, in order, and how far each has come."""
    to, found = readers_words(wiring), []
    for what, uid in view.alerts[-_TOLD:]:
        try:
            alert = wiring.progress.snapshot(uid)
        except NotFound:
            continue
        word = words.ALERT_STATES[alert.state][0].lower()
        reach = f"{words.count(alert.reached)} of {words.count(alert.targeted)} arrived, {word}"
        found.append(Told(words.TOLD.get(what, what), uid, alert.title, to.clock(alert.created_at), reach))
    return found
