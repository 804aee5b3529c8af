"""What a recipient opens: enrolling a browser, a message's own page, and what browsers need to show alerts.

What lives here: routes and their headers. What does not: the browser's side (``static/``: ``enrol.js``, ``sw.js``).
"""

import re
import secrets
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Protocol, cast
from zoneinfo import ZoneInfo

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse
from jinja2 import ChainableUndefined, ChoiceLoader, Environment, PackageLoader
from starlette.staticfiles import StaticFiles

from broadcaster.services.incidents import IncidentView
from broadcaster.services.progress import MessageView

router = APIRouter(include_in_schema=False)

STATIC: Final = Path(__file__).parent / "static"
NAME: Final = "Staff alerts"
#: The design system's styles, which the console installs (``console.assets``) and serves.
_DESIGN_SYSTEM: Final = Path(__file__).parents[1] / "console" / "static" / "vendor" / "nhsuk-frontend.min.css"
_TOKEN: Final = re.compile(r"[\w.-]{1,200}", re.ASCII)
_SEVERITIES: Final = {
    "critical": ("Critical", "red"),
    "high": ("High", "orange"),
    "normal": ("Normal", "blue"),
    "low": ("Low", "grey"),
}
#: The token in the address is a person's: it is not told to anybody else, nor kept by caches.
_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "X-Robots-Tag": "noindex",
    "Cache-Control": "no-store",
}
_POLICY: Final = (
    "default-src 'none'; script-src 'self' 'nonce-{nonce}'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "manifest-src 'self'; worker-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_PAGES: Final = Environment(
    loader=ChoiceLoader([PackageLoader("broadcaster.pwa"), PackageLoader("nhsuk_frontend_jinja")]),
    autoescape=True,
    undefined=ChainableUndefined,  # what the design system's templates are written for
    trim_blocks=True,
    lstrip_blocks=True,
)


class _Enrolment(Protocol):
    @property
    def name(self) -> str: ...


class _Subscriptions(Protocol):
    def enrolment(self, token: str) -> _Enrolment | None: ...


class _Progress(Protocol):
    def message(self, token: str) -> MessageView | None: ...


class _Incidents(Protocol):
    def of_alert(self, alert_uid: str) -> IncidentView | None: ...


class _Settings(Protocol):
    @property
    def timezone(self) -> str: ...


class Wired(Protocol):
    """What these pages need of ``wiring.Wiring``."""

    @property
    def settings(self) -> _Settings: ...
    @property
    def sandbox_only(self) -> bool: ...
    @property
    def subscriptions(self) -> _Subscriptions: ...
    @property
    def progress(self) -> _Progress: ...
    @property
    def incidents(self) -> _Incidents: ...


class _Files(StaticFiles):
    """Checked with the server each time (they have ETags): an upgrade is seen at once."""

    def file_response(self, *args: Any, **values: Any) -> Response:
        response = super().file_response(*args, **values)
        response.headers["Cache-Control"] = "no-cache"
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response


def mount_static(app: FastAPI) -> None:
    """/static/pwa/. The design system's files are the console's, under /static/console/vendor/."""
    app.mount("/static/pwa", _Files(directory=STATIC), name="pwa-static")


@router.get("/enrol/{token}")
def enrol(request: Request, token: str) -> Response:
    """ "Get alerts on this computer or phone". The token stays in the address: the app on the Home Screen starts there."""
    person = _wired(request).subscriptions.enrolment(token) if _TOKEN.fullmatch(token) else None
    if person is None:
        return _page(request, "no-link.html", 404, kind="enrol")
    return _page(request, "enrol.html", name=person.name, token=token)


@router.get("/enrol")
def enrol_without_link(request: Request) -> Response:
    return _page(request, "no-link.html", 404, kind="enrol")


@router.get("/m/{token}")
def message(request: Request, token: str) -> Response:
    """What the link in a text opens. No sign-in: whoever has the text has read it already."""
    wired = _wired(request)
    found = wired.progress.message(token) if _TOKEN.fullmatch(token) else None
    if found is None:
        return _page(request, "no-link.html", 404, kind="message")
    zone = ZoneInfo(wired.settings.timezone)
    at, now = datetime.fromtimestamp(found.sent_at / 1000, zone), datetime.now(zone)
    incident = wired.incidents.of_alert(found.alert_uid)
    return _page(
        request,
        "message.html",
        message=found,
        severity=_SEVERITIES.get(found.severity, (found.severity, "grey")),
        at=f"{_clock(at)} on {at.day} {at:%B %Y}",
        at_machine=at.isoformat(timespec="seconds"),
        outage=None if incident is None else _outage(incident, found.alert_uid, now),
        now=_clock(now),
    )


@dataclass(frozen=True, slots=True)
class Outage:
    """How it stands now with what a message is about. ``over``: since when all of it works again, else empty. ``down``,
    ``well``: (name, since when). Without reasons: this page needs no sign-in, and its message says what is fit for all."""

    over: str
    down: tuple[tuple[str, str], ...]
    well: tuple[tuple[str, str], ...]


def _outage(incident: IncidentView, alert: str, now: datetime) -> Outage | None:
    """None for an all-clear, which says by itself that it is over."""
    if ("all_clear", alert) in incident.alerts:
        return None

    def since(ms: int) -> str:
        at = datetime.fromtimestamp(ms / 1000, now.tzinfo)
        return _clock(at) if at.date() == now.date() else f"{_clock(at)} on {at.day} {at:%B}"

    over = incident.cleared_at or incident.closed_at
    return Outage(
        over="" if over is None else since(over),
        down=tuple((c.name, since(c.opened_at)) for c in incident.causes if c.cleared_at is None),
        well=tuple((c.name, since(c.cleared_at)) for c in incident.causes if c.cleared_at is not None),
    )


def _clock(at: datetime) -> str:
    """NHS style: 3:04am."""
    return f"{at.hour % 12 or 12}:{at:%M}{'am' if at.hour < 12 else 'pm'}"


@router.get("/sw.js")
def service_worker() -> Response:
    """At the root, so that it may show alerts for the whole site. Never kept, so that a fix reaches browsers."""
    headers = {
        "Service-Worker-Allowed": "/",
        "Cache-Control": "no-cache",
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "default-src 'none'; connect-src 'self'; img-src 'self'",
    }
    return FileResponse(STATIC / "sw.js", media_type="text/javascript", headers=headers)


@router.get("/manifest.webmanifest")
def manifest(enrolment: str = "") -> Response:
    """With a token it starts at that person's page: on iOS an app on the Home Screen shares no storage with Safari."""
    start = f"/enrol/{enrolment}" if _TOKEN.fullmatch(enrolment) else "/enrol"
    icons = [
        {"src": f"/static/pwa/icon-{size}.png", "sizes": f"{size}x{size}", "type": "image/png", "purpose": purpose}
        for size in (192, 512)
        for purpose in ("any", "maskable")
    ]
    document = {
        "id": "/",
        "name": NAME,
        "short_name": "Alerts",
        "description": "Tells you when a system you work with is down.",
        "lang": "en-GB",
        "start_url": start,
        "scope": "/",
        "display": "standalone",
        "background_color": "#f0f4f5",
        "theme_color": "#005eb8",
        "icons": icons,
    }
    return JSONResponse(document, headers={"Cache-Control": "no-store"}, media_type="application/manifest+json")


def _page(request: Request, template: str, status: int = 200, **values: Any) -> Response:
    nonce = secrets.token_urlsafe(16)
    common = {
        "cspNonce": nonce,
        "app": NAME,
        "vendor": _DESIGN_SYSTEM.is_file(),
        "sandbox_only": _wired(request).sandbox_only,
    }
    html = _PAGES.get_template(template).render({**common, **values})
    return HTMLResponse(html, status, {**_HEADERS, "Content-Security-Policy": _POLICY.format(nonce=nonce)})


def _wired(request: Request) -> Wired:
    return cast(Wired, request.app.state.wiring)
