"""The console's pages: sign in, the list of alerts, one alert live, who has it and who has not, cancelling.

What lives here: routes. What does not: who is signed in (``sessions``), what is shown (``live``, ``curve``), how
(``rendering``, ``templates/``).
"""

import time
from pathlib import Path
from typing import Annotated, Any, Final

from fastapi import APIRouter, FastAPI, Form, Request, Response
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool
from starlette.staticfiles import StaticFiles

from broadcaster.console import asked, incident_pages, live, monitor_pages, sessions, stream, words
from broadcaster.console.curve import curve
from broadcaster.console.rendering import HEADERS, PageRoute, page, redirect
from broadcaster.console.sessions import SignedIn
from broadcaster.console.wired import Cursor, Wiring
from broadcaster.domain.errors import NotSignedIn
from broadcaster.domain.lifecycle import State
from broadcaster.services.keys import Scope
from broadcaster.services.progress import AlertView

router = APIRouter(include_in_schema=False, route_class=PageRoute)

STATIC: Final = Path(__file__).parent / "static"
_ALERTS: Final = 25
_DELIVERIES: Final = 100
_GLANCE: Final = 10  # of each state, where all that are not reached are shown


class _Files(StaticFiles):
    """Checked with the server each time (they have ETags): an upgrade is seen at once."""

    def file_response(self, *args: Any, **values: Any) -> Response:
        response = super().file_response(*args, **values)
        response.headers["Cache-Control"] = "no-cache"
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response


def mount_static(app: FastAPI) -> None:
    """/static/console/: our own files, and the design system's once ``assets`` has installed them."""
    app.mount("/static/console", _Files(directory=STATIC, check_dir=False), name="console-static")


# ---- signing in and out -------------------------------------------------------------------------------------------


@router.get("/")
@router.get("/console")
def start() -> Response:
    return redirect(sessions.HOME)


@router.get("/console/sign-in")
def sign_in_form(request: Request, next: str = sessions.HOME) -> Response:  # noqa: A002 - the query's name
    return page(request, "sign-in.html", next=sessions.next_page(next))


@router.post("/console/sign-in")
def sign_in(
    request: Request,
    wiring: Wiring,
    key: Annotated[str, Form()] = "",
    next: Annotated[str, Form()] = "",  # noqa: A002
) -> Response:
    to = sessions.next_page(next)
    if not key.strip():
        return page(request, "sign-in.html", 422, error="Enter an API key", next=to)
    try:
        caller = wiring.keys.authenticate(key.strip())
    except NotSignedIn:
        error = "This API key is not known, or was revoked. Check that you copied all of it"
        return page(request, "sign-in.html", 401, error=error, next=to)
    caller.must_have(Scope.ALERTS_READ)
    response = redirect(to)
    sessions.start(response, wiring, caller.uid)
    return response


@router.get("/console/enter/{token}")
def enter(request: Request, wiring: Wiring, token: str, next: str = sessions.HOME) -> Response:  # noqa: A002
    """A link from the command line. A browser that comes from another site would not send the strict cookie along
    with a redirect, so it gets a page that goes on by itself."""
    caller = sessions.from_link(wiring, token)
    to = sessions.next_page(next)
    from_elsewhere = request.headers.get("sec-fetch-site", "none") not in ("none", "same-origin")
    response = page(request, "entered.html", next=to) if from_elsewhere else redirect(to)
    sessions.start(response, wiring, caller.uid)
    return response


@router.post("/console/sign-out")
def sign_out(wiring: Wiring) -> Response:
    response = redirect("/console/sign-in")
    sessions.end(response, wiring)
    return response


# ---- alerts ---------------------------------------------------------------------------------------------------------


@router.get("/console/alerts")
def alerts(request: Request, wiring: Wiring, caller: SignedIn, cursor: Cursor = None) -> Response:
    views, following = wiring.progress.list_alerts(cursor, _ALERTS)
    zone = wiring.settings.timezone
    shown = [(_heading(view, zone), live.live(view, None, zone)) for view in views]
    return page(
        request,
        "alerts.html",
        caller=caller,
        alerts=shown,
        following=following,
        first=cursor is None,
        standing=asked.standing(wiring, caller),
    )


@router.get("/console/alerts/{uid}")
def alert(request: Request, wiring: Wiring, caller: SignedIn, uid: str, refresh: str = "on") -> Response:
    view = wiring.progress.snapshot(uid)
    shown = live.live(view, stream.people_reached(wiring, view), wiring.settings.timezone)
    drawn = curve(view, wiring.progress.samples(uid), int(time.time() * 1000))
    return page(
        request,
        "alert.html",
        caller=caller,
        alert=_heading(view, wiring.settings.timezone),
        live=shown,
        curve=drawn,
        may_cancel=Scope.ALERTS_SEND in caller.scopes,
        refresh=refresh != "off" and not shown.complete,
        why=asked.why(wiring, uid),
    )


@router.get("/console/alerts/{uid}/stream")
async def alert_stream(request: Request, wiring: Wiring, uid: str) -> Response:
    caller = await run_in_threadpool(sessions.caller, request)
    await run_in_threadpool(wiring.progress.snapshot, uid)  # 404 now, not in mid-stream
    headers = {**HEADERS, "X-Accel-Buffering": "no"}
    return StreamingResponse(stream.frames(wiring, uid, caller.uid), 200, headers, "text/event-stream")


@router.get("/console/alerts/{uid}/cancel")
def cancel_form(request: Request, wiring: Wiring, caller: SignedIn, uid: str) -> Response:
    caller.must_have(Scope.ALERTS_SEND)
    view = wiring.progress.snapshot(uid)
    if view.cancelled_at is not None or live.is_complete(view):
        return redirect(f"/console/alerts/{view.uid}")
    zone = wiring.settings.timezone
    unsent = sum(c.counts[State.QUEUED] + c.counts[State.RETRYING] for c in view.channels)
    return page(
        request,
        "cancel.html",
        caller=caller,
        alert=_heading(view, zone),
        left=words.count(view.targeted - unsent),
        unsent=words.count(unsent),
        planning=view.state == "planning",
    )


@router.post("/console/alerts/{uid}/cancel")
def cancel(wiring: Wiring, caller: SignedIn, uid: str) -> Response:
    caller.must_have(Scope.ALERTS_SEND)
    wiring.alerts.cancel(uid, caller.uid)
    return redirect(f"/console/alerts/{uid}")


# ---- who has it and who has not --------------------------------------------------------------------------------------


@router.get("/console/alerts/{uid}/deliveries")
def deliveries(
    request: Request,
    wiring: Wiring,
    caller: SignedIn,
    uid: str,
    state: str = "",
    channel: str = "",
    cursor: Cursor = None,
) -> Response:
    """Without a state: everybody not reached, a few of each state. With one (or "all"): pages of it."""
    view = wiring.progress.snapshot(uid)
    zone = wiring.settings.timezone
    states = {s.value: w for s, w in words.STATES.items()}
    state = state if state in states or state == "all" else ""
    channel = channel if channel in {c.name for c in view.channels} else ""
    labels = {c.name: c.label for c in view.channels}
    groups, following = [], None
    if state:
        wanted = None if state == "all" else state
        rows, following = wiring.progress.deliveries(uid, wanted, channel or None, cursor, _DELIVERIES)
        groups.append((state, states.get(state), "", rows))
    else:
        for name, n in _unreached(view, channel):
            rows, _ = wiring.progress.deliveries(uid, name, channel or None, None, _GLANCE)
            groups.append((name, states[name], words.count(n), rows))
    return page(
        request,
        "deliveries.html",
        caller=caller,
        alert=_heading(view, zone),
        groups=groups,
        following=following,
        state=state,
        channel=channel,
        states=states,
        labels=labels,
        glance=_GLANCE,
        moment=lambda ms: words.moment(ms, zone),
    )


for further in (monitor_pages, incident_pages):
    router.include_router(further.router)


@router.get("/console/{_:path}")
def nothing_here(request: Request) -> Response:
    detail = "Check the address, or go back to the list of alerts."
    return page(request, "problem.html", 404, title="There is no such page", detail=detail)


def _unreached(view: AlertView, channel: str) -> list[tuple[str, int]]:
    """States that hold people whom nothing has reached, and how many: the worst first."""
    channels = [c for c in view.channels if channel in ("", c.name)]
    found = []
    for state in reversed(words.STATES):
        if state is State.DELIVERED:
            continue
        if state is State.ACCEPTED:
            n = sum(c.counts[state] for c in channels if not live.final_when_taken(c))
        else:
            n = sum(c.counts[state] for c in channels)
        if n:
            found.append((state.value, n))
    worst = {State.FAILED: 0, State.UNCONFIRMED: 1, State.UNCERTAIN: 2}
    return sorted(found, key=lambda item: worst.get(State(item[0]), 3))


def _heading(view: AlertView, zone: str) -> dict[str, Any]:
    """An alert's fixed parts, ready to print."""
    return {
        "uid": view.uid,
        "title": view.title,
        "body": view.body,
        "severity": words.SEVERITIES.get(view.severity, (view.severity, "grey")),  # type: ignore[call-overload]
        "source": view.source,
        "drill": view.drill,
        "sandbox": view.sandbox,
        "at": words.moment(view.created_at, zone),
        "at_machine": words.machine_time(view.created_at),
        "until": words.moment(view.expires_at, zone),
        "cancelled": words.moment(view.cancelled_at, zone) if view.cancelled_at is not None else "",
        "completed": words.moment(view.completed_at, zone) if view.completed_at is not None else "",
        "people": words.count(view.people) if view.people is not None else "",
    }
