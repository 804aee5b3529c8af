"""The live page's server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html).

Each frame is the whole picture, so a browser that reconnects has missed nothing, and no state is kept between frames.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Final

from fastapi.concurrency import run_in_threadpool

from broadcaster.console import asked, live, sessions
from broadcaster.console.curve import curve
from broadcaster.console.rendering import part
from broadcaster.console.wired import Wired
from broadcaster.domain.errors import Problem
from broadcaster.services.progress import AlertView

INTERVAL: Final = 0.5
HEARTBEAT: Final = 15.0
#: The curve goes on along its time axis while nothing changes.
_REDRAW: Final = 5.0
_RETRY_MS: Final = 2000


@dataclass(frozen=True, slots=True)
class Picture:
    """One frame: numbers for programs, pieces of the page for the browser."""

    view: AlertView
    live: live.Live
    people_reached: int | None
    data: str


async def frames(wired: Wired, uid: str, caller: str) -> AsyncIterator[str]:
    """Until the alert is complete, the key is revoked or the browser goes."""
    yield f"retry: {_RETRY_MS}\n\n"
    number, last, spoke, drawn = 0, None, time.monotonic(), 0.0
    while True:
        try:
            view = await run_in_threadpool(wired.progress.snapshot, uid)
            now = time.monotonic()
            if view != last or now - drawn >= _REDRAW:
                picture = await run_in_threadpool(take, wired, view)
                number, last, spoke, drawn = number + 1, view, now, now
                yield _frame("progress", picture.data, number)
            if live.is_complete(view):
                yield _frame("end", json.dumps({"reason": "complete"}), number + 1)
                return
            if now - spoke >= HEARTBEAT:
                spoke = now
                yield ": still here\n\n"
                await run_in_threadpool(sessions.known, wired, caller)
        except Problem as problem:
            yield _frame("end", json.dumps({"reason": problem.slug}), number + 1)
            return
        await asyncio.sleep(INTERVAL)


def take(wired: Wired, view: AlertView) -> Picture:
    """The alert as the page shows it. Reads the database."""
    people = people_reached(wired, view)
    shown = live.live(view, people, wired.settings.timezone)
    drawn = curve(view, wired.progress.samples(view.uid), int(time.time() * 1000))
    data = {
        "state": view.state,
        "complete": shown.complete,
        "people": view.people,
        "people_reached": people,
        "targeted": view.targeted,
        "reached": view.reached,
        "channels": {c.name: c.counts for c in view.channels},
        "says": shown.says,
        "parts": {
            "state": part("state", shown),
            "trouble": part("trouble", shown),
            "numbers": part("numbers", shown),
            "channels": part("channels", shown),
            "curve": part("curve", drawn),
            "states": part("states", shown),
            "actions": part("actions", shown),
            "why": part("why", asked.why(wired, view.uid), of="watch-parts.html"),
        },
    }
    return Picture(view, shown, people, json.dumps(data, separators=(",", ":")))


def people_reached(wired: Wired, view: AlertView) -> int | None:
    """Distinct people whom a message reached; None where counting them would cost too much now."""
    if live.counts_people_exactly(view):
        return view.reached
    if view.people is not None and (view.targeted <= live.COUNT_PEOPLE_UP_TO or live.is_complete(view)):
        return wired.progress.reached_people(view.uid)
    return None


async def changes(wired: Wired, caller: str, draw: Callable[[], str], interval: float) -> AsyncIterator[str]:
    """What ``draw`` makes (``news``), whenever it differs, until it raises, the key is revoked or the browser goes."""
    yield f"retry: {_RETRY_MS}\n\n"
    number, last, spoke = 0, "", time.monotonic()
    while True:
        try:
            drawn = await run_in_threadpool(draw)
            if drawn != last:
                number, last = number + 1, drawn
                yield _frame("progress", drawn, number)
            if time.monotonic() - spoke >= HEARTBEAT:
                spoke = time.monotonic()
                yield ": still here\n\n"
                await run_in_threadpool(sessions.known, wired, caller)
        except Problem as problem:
            yield _frame("end", json.dumps({"reason": problem.slug}), number + 1)
            return
        await asyncio.sleep(interval)


def news(says: str, parts: Mapping[str, str]) -> str:
    """A frame's data. ``says``: one sentence, for screen readers and the page's title; ``parts``: pieces of the page."""
    return json.dumps({"says": says, "complete": False, "parts": parts}, separators=(",", ":"))


def _frame(event: str, data: str, number: int) -> str:
    return f"event: {event}\nid: {number}\ndata: {data}\n\n"
