"""The console's pages for monitors: all of them, and one of them with what can be done to it.

What is shown: ``watching``, ``readings``. How: ``templates/monitors.html``, ``monitor.html``, ``watch-parts.html``.
"""

import time
from collections.abc import Callable
from typing import Annotated, Any, Final

from fastapi import APIRouter, Form, Query, Request, Response
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from broadcaster.console import deciding, readings, sessions, stream, watching
from broadcaster.console.asked import readers_words, standing
from broadcaster.console.rendering import HEADERS, PageRoute, page, part, redirect
from broadcaster.console.sessions import SignedIn
from broadcaster.console.wired import Wired, Wiring
from broadcaster.domain.errors import Conflict
from broadcaster.services.keys import Caller, Scope
from broadcaster.services.monitors import MonitorView

router = APIRouter(include_in_schema=False, route_class=PageRoute)

INTERVAL: Final = 2.0  # s between two looks of a live page
EACH: Final = 100  # monitors on a page
_READINGS: Final = 200
_CHANGES: Final = 20
_INCIDENTS: Final = 10
_NOTE: Final = 200  # characters
_HOURS: Final = (1, 4)
_PARTS: Final = "watch-parts.html"
#: What was done by a form, in words for the page that it leads to.
_DONE: Final = {
    "look": "It looks now. What it sees appears here in a moment.",
    "pause": "It is paused: it does not look, and raises nothing new. What it has raised already goes on.",
    "resume": "It looks again, from now on.",
    "maintenance": "Maintenance has begun: it goes on looking, but nothing is sent.",
    "end-maintenance": "Maintenance has ended. If it is down now, that is sent as usual.",
}

Number = Annotated[int, Query(ge=1, le=1_000, alias="page")]


# ---- all of them -----------------------------------------------------------------------------------------------------


@router.get("/console/monitors")
def monitors(request: Request, wiring: Wiring, caller: SignedIn, number: Number = 1, refresh: str = "on") -> Response:
    caller.must_have(Scope.MONITORS_READ)
    found = _list(wiring, number)
    more = len(found) > EACH
    return page(
        request,
        "monitors.html",
        caller=caller,
        monitors=found[:EACH],
        standing=standing(wiring, caller),
        number=number,
        more=more,
        refresh=refresh != "off",
    )


@router.get("/console/monitors/stream")
async def monitors_stream(request: Request, wiring: Wiring, number: Number = 1) -> Response:
    caller = await _reader(request)

    def draw() -> str:
        how, found = standing(wiring, caller), _list(wiring, number)[:EACH]
        parts = {"standing": part("standing", how, of=_PARTS), "monitors": part("monitors", found, of=_PARTS)}
        return stream.news(how.says if how else "", parts)

    return events(wiring, caller, draw)


def _list(wiring: Wired, number: int) -> list[watching.Shown]:
    """One more than a page has, when there is another page."""
    views = wiring.monitors.worst_first((number - 1) * EACH, EACH + 1)
    now = int(time.time() * 1000)
    return [watching.shown(view, wiring.monitors.kinds, now, wiring.settings.timezone) for view in views]


# ---- one -------------------------------------------------------------------------------------------------------------


@router.get("/console/monitors/{uid}")
def monitor(request: Request, wiring: Wiring, caller: SignedIn, uid: str, done: str = "", refresh: str = "on") -> Response:
    caller.must_have(Scope.MONITORS_READ)
    view = wiring.monitors.get(uid)
    labels = readers_words(wiring).labels
    return page(
        request,
        "monitor.html",
        caller=caller,
        **_live(wiring, view),
        settings=watching.settings(view),
        rules=[*watching.rules(view), *watching.consequence(view.watch.policy, labels)],
        may_change=Scope.MONITORS_WRITE in caller.scopes,
        done=_DONE.get(done, ""),
        refresh=refresh != "off",
    )


@router.get("/console/monitors/{uid}/stream")
async def monitor_stream(request: Request, wiring: Wiring, uid: str) -> Response:
    caller = await _reader(request)
    await run_in_threadpool(wiring.monitors.get, uid)  # 404 now, not in mid-stream

    def draw() -> str:
        values = _live(wiring, wiring.monitors.get(uid))
        m, may_change = values["monitor"], Scope.MONITORS_WRITE in caller.scopes
        parts = {
            "state": part("state", m, of=_PARTS),
            "actions": part("actions", m, values["windows"], may_change, of=_PARTS),
            "places": part("places", values["places"], of=_PARTS),
            "chart": part("chart", values["chart"], of=_PARTS),
            "changes": part("changes", values["changes"], of=_PARTS),
            "incidents": part("incident_lines", values["incidents"], of=_PARTS),
        }
        return stream.news(f"{m.mark.label}.", parts)

    return events(wiring, caller, draw)


def _live(wiring: Wired, view: MonitorView) -> dict[str, Any]:
    """What of the page changes."""
    now, zone = int(time.time() * 1000), wiring.settings.timezone
    seen, _ = wiring.monitors.readings(view.uid, None, _READINGS)
    changes, _ = wiring.monitors.changes(view.uid, None, _CHANGES)
    found = wiring.incidents.of_cause(f"monitor:{view.uid}", _INCIDENTS)
    mine = watching.windows_of(view.uid, wiring.monitors.windows(), now)
    return {
        "monitor": watching.shown(view, wiring.monitors.kinds, now, zone),
        "places": [watching.place(v, now, zone) for v in view.vantages],
        "chart": readings.chart(seen, now, zone),
        "changes": [watching.step(c, now, zone) for c in changes],
        "incidents": [deciding.shown(i, readers_words(wiring)) for i in found],
        "windows": [watching.window(w, now, zone) for w in mine],
    }


# ---- what can be done to it ------------------------------------------------------------------------------------------


@router.post("/console/monitors/{uid}/look")
def look(wiring: Wiring, caller: SignedIn, uid: str) -> Response:
    caller.must_have(Scope.MONITORS_WRITE)
    try:
        wiring.monitors.look_now(uid)
    except Conflict:  # somebody has just paused it: the page says so
        return redirect(f"/console/monitors/{uid}")
    return redirect(f"/console/monitors/{uid}?done=look")


@router.post("/console/monitors/{uid}/pause")
def pause(wiring: Wiring, caller: SignedIn, uid: str) -> Response:
    caller.must_have(Scope.MONITORS_WRITE)
    wiring.monitors.pause(uid)
    return redirect(f"/console/monitors/{uid}?done=pause")


@router.post("/console/monitors/{uid}/resume")
def resume(wiring: Wiring, caller: SignedIn, uid: str) -> Response:
    caller.must_have(Scope.MONITORS_WRITE)
    wiring.monitors.resume(uid)
    return redirect(f"/console/monitors/{uid}?done=resume")


@router.get("/console/monitors/{uid}/maintenance")
def maintenance_form(request: Request, wiring: Wiring, caller: SignedIn, uid: str) -> Response:
    """A page of its own: one that loads itself again would take away what is being typed."""
    caller.must_have(Scope.MONITORS_WRITE)
    view = wiring.monitors.get(uid)
    return page(request, "maintenance.html", caller=caller, uid=view.uid, name=view.watch.name, hours=_HOURS, longest=_NOTE)


@router.post("/console/monitors/{uid}/maintenance")
def maintenance(
    request: Request,
    wiring: Wiring,
    caller: SignedIn,
    uid: str,
    hours: Annotated[int, Form()],
    note: Annotated[str, Form()] = "",
) -> Response:
    caller.must_have(Scope.MONITORS_WRITE)
    name, note = wiring.monitors.get(uid).watch.name, " ".join(note.split())
    error = "" if note else "Enter why, so that others know"
    error = error if len(note) <= _NOTE else f"The note must be {_NOTE} characters or fewer"
    if error or hours not in _HOURS:
        values = {"uid": uid, "name": name, "hours": _HOURS, "longest": _NOTE, "note": note}
        return page(request, "maintenance.html", 422, caller=caller, error=error or "Choose one of the buttons", **values)
    until = int(time.time() * 1000) + hours * 3_600_000
    wiring.monitors.add_window(uid, None, until, note, caller.uid)
    return redirect(f"/console/monitors/{uid}?done=maintenance")


@router.post("/console/monitors/{uid}/maintenance/{window}/end")
def end_maintenance(wiring: Wiring, caller: SignedIn, uid: str, window: str) -> Response:
    """Of this monitor only: what silences all monitors is not ended from the page of one."""
    caller.must_have(Scope.MONITORS_WRITE)
    if any(w.uid == window and w.monitor == uid for w in wiring.monitors.windows()):
        wiring.monitors.end_window(window)
    return redirect(f"/console/monitors/{uid}?done=end-maintenance")


# ---- live ------------------------------------------------------------------------------------------------------------


async def _reader(request: Request) -> Caller:
    caller = await run_in_threadpool(sessions.caller, request)
    caller.must_have(Scope.MONITORS_READ)
    return caller


def events(wiring: Wired, caller: Caller, draw: Callable[[], str], interval: float | None = None) -> Response:
    """A stream of what ``draw`` makes."""
    frames = stream.changes(wiring, caller.uid, draw, INTERVAL if interval is None else interval)
    return StreamingResponse(frames, 200, {**HEADERS, "X-Accel-Buffering": "no"}, "text/event-stream")
