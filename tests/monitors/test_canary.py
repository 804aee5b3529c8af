"""The canary: against a stand-in whose answers are the API's own models, and which takes nothing that the API would not."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from pydantic import ValidationError

from broadcaster.api.alerts import AcceptedAlert, Alert, NewAlert
from broadcaster.domain.lifecycle import STATES
from broadcaster.domain.monitor import Reading, Verdict
from broadcaster.monitors import canary
from broadcaster.monitors.canary import Canary
from tests.monitors import stand_ins
from tests.monitors.looks import look, run
from tests.monitors.stand_ins import serving
from tests.monitors.web_servers import web_server

KEY = "ab_live_0123456789abcdef0123456789abcdef"
PERSON = "0199c0de-0000-7000-8000-000000000001"
ALERT = "0199c0de-0000-7000-8000-0000000000a1"
LINKS = {"self": "", "deliveries": "", "events": "", "page": ""}


def view(state: str, targeted: int, reached: int, **counts: int) -> dict[str, Any]:
    """What ``GET /api/v1/alerts/{id}`` says, by the API's own model."""
    channel = {
        "channel": "push", "label": "Web push", "targeted": targeted, "reached": reached,
        "counts": {**{str(each): 0 for each in STATES}, **counts},
    }  # fmt: skip
    alert = Alert.model_validate(
        {
            "id": ALERT, "title": canary.TITLE, "body": canary.BODY, "severity": "low", "source": "us", "drill": False,
            "sandbox": False, "state": state, "dedup_key": None, "created_at": "", "expires_at": "", "cancelled_at": None,
            "completed_at": None, "people": 1, "unreachable": 0, "targeted": targeted, "reached": reached,
            "channels": [channel] if state != "planning" else [], "paused_routes": [], "links": LINKS,
        }
    )  # fmt: skip
    made: dict[str, Any] = alert.model_dump(mode="json")
    return made


class Api:
    """``views``: what it says of the alert, one after the other; the last one for ever."""

    def __init__(self, *views: dict[str, Any] | Callable[[], web.Response]) -> None:
        self.views = list(views)
        self.post: Callable[[], web.StreamResponse] | None = None
        self.keys: list[str] = []
        self.alerts: list[NewAlert] = []

    async def _post(self, request: web.Request) -> web.StreamResponse:
        assert request.headers["Authorization"] == f"Bearer {KEY}"
        assert request.content_type == "application/json"
        self.keys.append(request.headers["Idempotency-Key"])
        try:
            self.alerts.append(NewAlert.model_validate(await request.json()))
        except ValidationError as error:
            return web.json_response({"type": "/problems/invalid", "detail": str(error)}, status=422)
        if self.post is not None:
            return self.post()
        accepted = AcceptedAlert.model_validate({"id": ALERT, "created": True, "links": LINKS})
        return web.json_response(accepted.model_dump(), status=202)

    async def _get(self, request: web.Request) -> web.StreamResponse:
        assert request.headers["Authorization"] == f"Bearer {KEY}"
        assert request.match_info["id"] == ALERT
        found = self.views.pop(0) if len(self.views) > 1 else self.views[0]
        return found() if callable(found) else web.json_response(found)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[dict[str, Any]]:
        async with web_server([web.post("/api/v1/alerts", self._post), web.get("/api/v1/alerts/{id}", self._get)]) as base:
            yield {"api_url": f"{base}/", "api_key": KEY, "recipient": PERSON}


def seen(api: Api, timeout: float = 10.0, loop: str = "asyncio", **changes: Any) -> Reading:
    async def main() -> Reading:
        async with api.serving() as config:
            return await look(Canary(), {**config, **changes}, timeout)

    return run(main, loop)


@pytest.mark.parametrize(
    ("views", "verdict", "code"),
    [
        ([view("planning", 0, 0), view("sending", 1, 0), view("sent", 1, 0, accepted=1),
          view("completed", 1, 1, delivered=1)], Verdict.OK, "ok"),
        ([view("completed", 0, 0)], Verdict.FAILED, "nobody_targeted"),
        ([view("completed", 1, 0, skipped=1)], Verdict.FAILED, "nobody_targeted"),
        ([view("sending", 1, 0, sending=1), view("completed", 1, 0, failed=1)], Verdict.FAILED, "not_delivered"),
        ([view("cancelled", 1, 0, cancelled=1)], Verdict.FAILED, "not_delivered"),
        ([view("completed", 2, 1, delivered=1, failed=1)], Verdict.FAILED, "not_delivered"),
        ([lambda: web.json_response({"id": ALERT})], Verdict.FAILED, "api_failed"),
        ([lambda: web.json_response({"type": "/problems/not-found"}, status=404)], Verdict.FAILED, "api_refused"),
    ],
)  # fmt: skip
def test_alerts(views: list[Any], verdict: Verdict, code: str, loop: str) -> None:
    api = Api(*views)
    found = seen(api, loop=loop)
    assert (found.verdict, found.code) == (verdict, code), found
    assert len(api.keys) == 1
    assert api.alerts[0].audience == {"recipients": [PERSON]}
    assert (api.alerts[0].severity, api.alerts[0].title) == ("low", "Canary: please ignore")
    if code in ("ok", "not_delivered"):
        assert str(found.detail["push"]).endswith(f" of {views[-1]['targeted']}")


def test_a_slow_delivery() -> None:
    found = seen(Api(view("completed", 1, 1, delivered=1)), degraded_after=0.000001)
    assert (found.verdict, found.code) == (Verdict.DEGRADED, "slow")


def test_a_delivery_that_does_not_come() -> None:
    found = seen(Api(view("sent", 1, 0, accepted=1)), deadline=3.0)
    assert (found.verdict, found.code, found.detail["state"]) == (Verdict.FAILED, "not_delivered", "sent"), found


@pytest.mark.parametrize(
    ("status", "verdict", "code", "refused"),
    [
        (401, Verdict.FAILED, "api_refused", True),
        (403, Verdict.FAILED, "api_refused", True),
        (422, Verdict.FAILED, "api_refused", False),
        (409, Verdict.FAILED, "api_refused", False),
        (429, Verdict.UNKNOWN, "api_throttled", False),
        (503, Verdict.FAILED, "api_failed", False),
        (302, Verdict.FAILED, "api_failed", False),
        (200, Verdict.FAILED, "api_failed", False),
    ],
)
def test_refusals(status: int, verdict: Verdict, code: str, refused: bool) -> None:
    api = Api(view("planning", 0, 0))
    api.post = lambda: web.json_response({"type": "/problems/some", "detail": KEY}, status=status)
    found = seen(api)
    assert (found.verdict, found.code, found.refused) == (verdict, code, refused), found
    assert found.detail["problem"] == "/problems/some"


def test_nobody_answers() -> None:
    async def main() -> Reading:
        async with stand_ins.nobody() as port:
            return await look(Canary(), {"api_url": f"http://127.0.0.1:{port}", "api_key": KEY, "recipient": PERSON})

    found = run(main)
    assert (found.verdict, found.code, found.detail["cause"]) == (Verdict.FAILED, "api_unreachable", "connection_refused")


def test_nonsense_answers() -> None:
    async def main() -> Reading:
        async with serving(stand_ins.once_asked(stand_ins.says(b"SSH-2.0\r\n"))) as port:
            return await look(Canary(), {"api_url": f"http://127.0.0.1:{port}", "api_key": KEY, "recipient": PERSON})

    assert run(main).code == "api_failed"


def test_an_alert_whose_answer_was_lost_is_handed_in_again_with_the_same_key() -> None:
    """The API answers the same key with the same alert: nobody gets two."""
    keys: list[str] = []

    async def handler(reader: Any, writer: Any) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        keys.append(next(line.split(": ")[1] for line in head.splitlines() if line.lower().startswith("idempotency-key")))

    async def main() -> Reading:
        async with serving(handler) as port:
            return await look(Canary(), {"api_url": f"http://127.0.0.1:{port}", "api_key": KEY, "recipient": PERSON})

    found = run(main)
    assert (found.code, found.detail["cause"]) == ("api_unreachable", "connection_lost"), found
    assert len(keys) == 2
    assert keys[0] == keys[1]
