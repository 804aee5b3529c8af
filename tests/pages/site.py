"""The pages on a real HTTP server, with stand-ins for the services that return what a test puts there."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, Response
from itsdangerous import URLSafeTimedSerializer

from broadcaster.console import pages as console
from broadcaster.domain.channel import Traits
from broadcaster.domain.errors import NotFound, NotSignedIn
from broadcaster.domain.lifecycle import STATES
from broadcaster.pwa import pages as pwa
from broadcaster.services.keys import Caller, Scope
from broadcaster.services.progress import AlertView, ChannelView, DeliveryView, MessageView, RouteTrouble, Sample
from tests.pages import watched

SECRET = b"a secret of the tests, long enough"
KEY = "ab_test_abcdefghijkl_" + "x" * 43
READ_ONLY_KEY = "ab_test_abcdefghijkl_" + "y" * 43
HOSTILE = watched.HOSTILE
UID = "0190a1b2-c3d4-7000-8000-000000000001"


def channel(name: str, label: str, *, receipts: bool = True, **counts: int) -> ChannelView:
    whole = {state.value: counts.get(state.value, 0) for state in STATES}
    reached = whole["delivered"] + (0 if receipts else whole["accepted"])
    return ChannelView(name, label, sum(whole.values()), whole, reached)


def alert(uid: str = UID, **changes: Any) -> AlertView:
    """An alert in the middle of being sent."""
    now = int(time.time() * 1000)
    channels = changes.pop(
        "channels",
        (
            channel("sms", "SMS", delivered=742, accepted=131, sending=40, queued=212, uncertain=4, failed=11, retrying=60),
            channel("slack", "Slack", receipts=False, accepted=640, queued=108, skipped=2),
            channel("push", "Web push", delivered=288, accepted=9, failed=3, unconfirmed=0),
        ),
    )
    fields: dict[str, Any] = {
        "uid": uid,
        "title": "Email is down across the trust",
        "body": "Northmoor Trust IT: email has been down since 9:40am. Use Teams chat and the phone. "
        "Do not try your password again, it locks your account.\nNext update at 11am.",
        "severity": "critical",
        "source": "Northmoor Trust IT",
        "drill": False,
        "sandbox": True,
        "state": "sending",
        "created_at": now - 14_200,
        "expires_at": now + 4 * 3_600_000,
        "cancelled_at": None,
        "completed_at": None,
        "people": 1_900,
        "unreachable": 23,
        "targeted": sum(c.targeted for c in channels),
        "channels": channels,
        "reached": sum(c.reached for c in channels),
        "first_reached_at": now - 13_400,
        "last_reached_at": now - 200,
        "routes": (),
    }
    return AlertView(**{**fields, **changes})


def done(uid: str = UID, **changes: Any) -> AlertView:
    now = int(time.time() * 1000)
    channels = (
        channel("sms", "SMS", delivered=1180, failed=12, unconfirmed=8),
        channel("slack", "Slack", receipts=False, accepted=748, skipped=2),
        channel("push", "Web push", delivered=297, failed=3),
    )
    made = now - 120_000
    fields: dict[str, Any] = {
        "channels": channels, "state": "completed", "created_at": made, "completed_at": made + 42_000,
        "first_reached_at": made + 610, "last_reached_at": made + 31_300,
    }  # fmt: skip
    return alert(uid, **{**fields, **changes})


def samples(view: AlertView, every: int = 500) -> list[Sample]:
    """A curve that ends where ``view`` stands."""
    end = (view.last_reached_at or view.created_at) - view.created_at
    found = []
    for ms in range(every, end, every):
        for n, c in enumerate(view.channels):
            share = min(1.0, (ms / end) ** (0.6, 0.9, 0.35)[n % 3])
            arrived = int(c.counts["delivered"] * share)
            accepted = min(c.targeted, int((c.counts["accepted"] + c.counts["delivered"]) * min(1.0, share * 1.04)))
            found.append(Sample(view.created_at + ms, c.name, c.targeted, max(accepted, arrived), arrived))
    return found


def delivery(number: int, **changes: Any) -> DeliveryView:
    view = DeliveryView(
        number, "7K2M9QX", f"r-{number}", "Asha Patel", "sms", "+44 7••• •••012", "failed", 1, "30005",
        "The number is not in use", int(time.time() * 1000),
    )  # fmt: skip
    return replace(view, **changes)


@dataclass
class Settings:
    timezone: str = "Europe/London"
    resolved_public_url: str = "http://localhost"


@dataclass
class Keys:
    revoked: bool = False
    test: bool = True

    def authenticate(self, key: str) -> Caller:
        if key not in (KEY, READ_ONLY_KEY):
            raise NotSignedIn("This API key is not known, or was revoked.")
        return self.by_uid("key-1" if key == KEY else "key-2")

    def by_uid(self, uid: str) -> Caller:
        if self.revoked or uid not in ("key-1", "key-2", "key-3", "key-4"):
            raise NotSignedIn("This session's API key is not known, or was revoked.")
        watching = [Scope.MONITORS_READ, Scope.MONITORS_WRITE]
        scopes = {
            "key-1": [Scope.ALERTS_SEND, Scope.ALERTS_READ, *watching], "key-2": [Scope.ALERTS_READ, Scope.MONITORS_READ],
            "key-3": [], "key-4": [Scope.ALERTS_READ],
        }[uid]  # fmt: skip
        return Caller(1, uid, "Service desk", frozenset(scopes), self.test)

    def name_of(self, uid: str) -> str | None:
        return {"key-1": "Service desk", "hostile": HOSTILE}.get(uid)


@dataclass
class Alerts:
    cancelled: list[tuple[str, str]] = field(default_factory=list)

    def cancel(self, uid: str, by: str) -> None:
        self.cancelled.append((uid, by))


@dataclass
class Progress:
    views: dict[str, AlertView] = field(default_factory=dict)
    rows: list[DeliveryView] = field(default_factory=list)
    messages: dict[str, MessageView] = field(default_factory=dict)
    asked: list[tuple[Any, ...]] = field(default_factory=list)

    def snapshot(self, uid: str) -> AlertView:
        if uid not in self.views:
            raise NotFound("There is no alert with this id.")
        return self.views[uid]

    def samples(self, uid: str) -> list[Sample]:
        return samples(self.snapshot(uid))

    def reached_people(self, uid: str) -> int:
        return min(self.snapshot(uid).reached, 1_612)

    def list_alerts(self, cursor: int | None, limit: int) -> tuple[list[AlertView], int | None]:
        self.asked.append((cursor, limit))
        return ([], None) if cursor == 1 else (list(self.views.values()), 17)

    def deliveries(
        self, uid: str, state: str | None = None, channel: str | None = None, cursor: int | None = None, limit: int = 100
    ) -> tuple[list[DeliveryView], int | None]:
        self.asked.append((uid, state, channel, cursor, limit))
        rows = [r for r in self.rows if state in (None, r.state) and channel in (None, r.channel)]
        return rows[:limit], (rows[limit - 1].id if len(rows) > limit else None)

    def message(self, token: str) -> MessageView | None:
        return self.messages.get(token)


@dataclass
class Person:
    name: str


class Subscriptions:
    def enrolment(self, token: str) -> Person | None:
        return {"good.token-1": Person("Asha Patel"), "hostile": Person(HOSTILE)}.get(token)


@dataclass
class Channels:
    """Only what they are called."""

    def first(self) -> list[SimpleNamespace]:
        names = {"sms": "SMS", "slack": "Slack", "push": "Web push"}
        made = [Traits(name, label, 1, None, duplicates_collapse=True, gives_receipts=True) for name, label in names.items()]
        return [SimpleNamespace(traits=traits) for traits in made]


@dataclass
class Wiring:
    settings: Settings = field(default_factory=Settings)
    secret: bytes = SECRET
    sandbox_only: bool = True
    keys: Keys = field(default_factory=Keys)
    alerts: Alerts = field(default_factory=Alerts)
    progress: Progress = field(default_factory=Progress)
    subscriptions: Subscriptions = field(default_factory=Subscriptions)
    channels: Channels = field(default_factory=Channels)
    monitors: watched.Monitors = field(default_factory=watched.Monitors)
    incidents: watched.Incidents = field(default_factory=watched.Incidents)
    posted: list[tuple[str, str, Any]] = field(default_factory=list)  # what browsers told the API
    answers: list[int] = field(default_factory=list)  # what the API says to that, 204 when empty


@dataclass
class Site:
    url: str
    app: FastAPI

    @property
    def wiring(self) -> Wiring:
        found: Wiring = self.app.state.wiring
        return found

    def use(self, wiring: Wiring) -> None:
        wiring.settings.resolved_public_url = self.url
        self.app.state.wiring = wiring

    def enter(self, uid: str = "key-1") -> str:
        """The address of a sign-in link, as the command line makes it."""
        return f"{self.url}/console/enter/{URLSafeTimedSerializer(SECRET, salt='enter').dumps(uid)}"


@contextmanager
def serve(wiring: Wiring, port: int = 0) -> Iterator[Site]:
    app = FastAPI()
    app.state.wiring = wiring
    for part in (console, pwa):
        app.include_router(part.router)
        part.mount_static(app)
    app.add_api_route("/api/v1/push/key", lambda: {"public_key": "BA" + "A" * 85})

    async def take(request: Request) -> Response:
        wired: Wiring = app.state.wiring
        wired.posted.append((request.method, request.url.path, await request.json()))
        return Response(status_code=wired.answers.pop(0) if wired.answers else 204)

    for path in ("/api/v1/push/subscriptions", "/api/v1/receipts/push"):
        app.add_api_route(path, take, methods=["POST", "DELETE"])
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="warning", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    found = server.servers[0].sockets[0].getsockname()[1]
    site = Site(f"http://127.0.0.1:{found}", app)
    site.use(wiring)
    try:
        yield site
    finally:
        server.should_exit = True
        thread.join(10)


def example() -> Wiring:
    """Alerts in every state, people and messages: also what screenshots are taken of."""
    wiring = Wiring()
    now = int(time.time() * 1000)
    views = [
        alert(),
        alert("planning", title="Phones on level 4 are down", state="planning", channels=(), people=None, unreachable=None,
              first_reached_at=None, last_reached_at=None, severity="high", created_at=now - 900),
        alert("trouble", routes=(RouteTrouble("sms:AC5a…:MG5a…", "Twilio refuses our credentials (20003)", now + 30_000),),
              drill=True),
        done("done"),
        alert("cancelled", title="Test of the new paging list", state="cancelled", cancelled_at=now - 3_000, severity="low",
              channels=(channel("sms", "SMS", delivered=310, cancelled=890, accepted=6),)),
        alert("hostile", title=HOSTILE, body=HOSTILE, source=HOSTILE),
    ]  # fmt: skip
    wiring.progress.views = {v.uid: v for v in views}
    names = ["Asha Patel", "Tom Okafor", "Siân Llewellyn", "Maximilian von Hohenstein-Featherstonehaugh", ""]
    wiring.progress.rows = [
        *(delivery(n, name=names[n % 5]) for n in range(1, 14)),
        *(delivery(n, name=names[n % 5], state="uncertain", code="timeout", attempt=2, channel="push",
                   address="updates.push.services.mozilla.com #1f2e3d4c", reason="No answer within 8 s")
          for n in range(20, 23)),
        *(delivery(n, state="queued", code=None, reason=None, channel="slack", address="U02••••9K") for n in range(30, 150)),
    ]  # fmt: skip
    wiring.progress.messages = {
        "live": MessageView("Email is down across the trust", views[0].body, "critical", False, "Trust IT", now, False, UID),
        "drill": MessageView("Email is down", "This is a drill. Do nothing.", "high", True, "Trust IT", now, True, "drill"),
        "over": MessageView("Email is down", "Use the phone.", "high", False, "Trust IT", now, True, "done"),
        "all-clear": MessageView("It works again", "Use email.", "high", False, "Trust IT", now, False, "cancelled"),
        "hostile": MessageView(HOSTILE, HOSTILE, "low", False, HOSTILE, now, False, "hostile"),
    }  # fmt: skip
    wiring.monitors.views = {view.uid: view for view in watched.some_monitors(now)}
    wiring.incidents.views = {view.uid: view for view in watched.some_incidents(now, UID)}
    return wiring


if __name__ == "__main__":  # look at it: python -m tests.pages.site, then open the address
    with serve(example(), 8099) as shown:
        print(shown.enter())
        threading.Event().wait()
