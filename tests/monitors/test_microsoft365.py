"""Microsoft's service health: a stand-in that is as strict as Graph about addresses, parameters and tokens."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from broadcaster.domain.monitor import Reading, Verdict
from broadcaster.monitors.microsoft365 import CODES, STATUSES, Config, Microsoft365, judge
from tests.monitors import stand_ins
from tests.monitors.looks import check, look, run
from tests.monitors.web_servers import web_server

TENANT = "7d3b1c2e-5a4f-4c8e-9a1b-2c3d4e5f6a7b"
CLIENT = "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0"
SECRET = "Abc8Q~not.a.real.secret_value"
TOKEN = "eyJ0eXAiOiJKV1QiLCJub25jZSI6.eyJhdWQi.signature"


def overview(service: str, id: str, status: str) -> dict[str, str]:
    return {"service": service, "status": status, "id": id}


def overviews(exchange: str = "serviceOperational") -> dict[str, Any]:
    return {
        "@odata.context": "https://graph.microsoft.com/v1.0/$metadata#admin/serviceAnnouncement/healthOverviews",
        "value": [
            overview("Exchange Online", "Exchange", exchange),
            overview("Microsoft Teams", "microsoftteams", "serviceOperational"),
            overview("SharePoint Online", "SharePoint", "serviceRestored"),
        ],
    }


class Graph:
    """Token endpoint and Graph. What it answers may be replaced; what it was asked is counted."""

    def __init__(self) -> None:
        self.token: Callable[[], web.Response] = lambda: web.json_response(
            {"token_type": "Bearer", "expires_in": 3599, "ext_expires_in": 3599, "access_token": TOKEN}
        )
        self.health: Callable[[web.Request], web.Response] = lambda _: web.json_response(overviews())
        self.asked = {"token": 0, "health": 0}
        self.base = ""

    async def _token(self, request: web.Request) -> web.Response:
        self.asked["token"] += 1
        assert dict(await request.post()) == {
            "grant_type": "client_credentials", "client_id": CLIENT, "client_secret": SECRET,
            "scope": f"{self.base}/.default",
        }  # fmt: skip
        return self.token()

    async def _health(self, request: web.Request) -> web.Response:
        self.asked["health"] += 1
        assert request.headers["Authorization"] == f"Bearer {TOKEN}"
        assert not await request.read()
        return self.health(request)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[dict[str, Any]]:
        """A configuration for it."""
        routes = [
            web.post(f"/{TENANT}/oauth2/v2.0/token", self._token),
            web.get("/v1.0/admin/serviceAnnouncement/healthOverviews", self._health),
        ]
        async with web_server(routes) as self.base:
            yield {
                "tenant_id": TENANT, "client_id": CLIENT, "client_secret": SECRET, "login_url": self.base,
                "graph_url": f"{self.base}/",
            }  # fmt: skip


def seen(graph: Graph, loop: str = "asyncio", **changes: Any) -> Reading:
    async def main() -> Reading:
        async with graph.serving() as config:
            return await look(Microsoft365(), {**config, **changes})

    return run(main, loop)


@pytest.mark.parametrize("status", STATUSES)
def test_every_status(status: str) -> None:
    graph = Graph()
    graph.health = lambda _: web.json_response(overviews(status))
    found = seen(graph)
    assert (found.code, found.verdict) == (STATUSES[status], CODES[STATUSES[status]].verdict)
    assert found.detail["Exchange Online"] == status


def test_the_statuses_that_matter(loop: str) -> None:
    for status, verdict in (
        ("serviceOperational", Verdict.OK),
        ("investigating", Verdict.DEGRADED),
        ("serviceDegradation", Verdict.DEGRADED),
        ("serviceInterruption", Verdict.FAILED),
        ("restoringService", Verdict.UNKNOWN),
        ("unknownFutureValue", Verdict.UNKNOWN),
    ):
        graph = Graph()
        graph.health = lambda _, status=status: web.json_response(overviews(status))  # type: ignore[misc]
        assert seen(graph, loop).verdict is verdict


def test_a_service_that_is_not_listed() -> None:
    found = seen(Graph(), services=["exchange online", "Yammer"])
    assert (found.verdict, found.code) == (Verdict.UNKNOWN, "service_not_listed")
    assert "Yammer" in found.reason


def _response(status: int, headers: Mapping[str, str] | None = None, **body: Any) -> Callable[[web.Request], web.Response]:
    return lambda _: web.json_response(body, status=status, headers=headers)


@pytest.mark.parametrize(
    ("health", "code", "refused"),
    [
        (_response(401, error={"code": "InvalidAuthenticationToken", "message": "Expired"}), "auth_refused", True),
        (_response(403, error={"code": "Forbidden", "message": "Insufficient privileges"}), "auth_refused", True),
        (_response(429, {"Retry-After": "120"}, error={"code": "TooManyRequests"}), "throttled", False),
        (_response(503, error={"code": "serviceNotAvailable"}), "graph_failed", False),
        (_response(200, nothing="useful"), "graph_failed", False),
        (_response(302, {"Location": "http://127.0.0.1:1/"}), "graph_failed", False),
        (lambda _: web.Response(text="[" * 100_000), "graph_failed", False),
    ],
)  # fmt: skip
def test_trouble_of_graph_says_nothing_about_the_mail(health: Any, code: str, refused: bool) -> None:
    graph = Graph()
    graph.health = health
    found = seen(graph)
    assert (found.verdict, found.code, found.refused) == (Verdict.UNKNOWN, code, refused), found
    if code == "throttled":
        assert found.detail["retry_after"] == "120"


@pytest.mark.parametrize(
    ("status", "error", "code", "refused"),
    [
        (401, "invalid_client", "auth_refused", True),  # AADSTS7000215: a wrong or expired secret
        (400, "invalid_request", "auth_refused", True),  # AADSTS90002: no such tenant
        (429, "temporarily_unavailable", "graph_unreachable", False),
        (503, "temporarily_unavailable", "graph_unreachable", False),
    ],
)
def test_trouble_with_the_token(status: int, error: str, code: str, refused: bool) -> None:
    graph = Graph()
    graph.token = lambda: web.json_response({"error": error, "error_description": f"AADSTS: {SECRET}"}, status=status)
    found = seen(graph)
    assert (found.verdict, found.code, found.refused) == (Verdict.UNKNOWN, code, refused), found
    assert graph.asked == {"token": 1, "health": 0}


def test_graph_is_away() -> None:
    async def main() -> Reading:
        async with stand_ins.nobody() as port:
            where = f"http://127.0.0.1:{port}"
            config = {
                "tenant_id": TENANT,
                "client_id": CLIENT,
                "client_secret": SECRET,
                "login_url": where,
                "graph_url": where,
            }
            return await look(Microsoft365(), config)

    found = run(main)
    assert (found.verdict, found.code, found.detail["cause"]) == (Verdict.UNKNOWN, "graph_unreachable", "connection_refused")


def test_a_token_is_kept_until_shortly_before_its_end() -> None:
    now = 1_000_000.0

    async def main() -> None:
        nonlocal now
        kind, graph = Microsoft365(clock=lambda: now), Graph()
        async with graph.serving() as config:
            for later, asked in ((0, 1), (3_400, 1), (100, 2)):
                now += later
                assert (await look(kind, config)).code == "ok"
                assert graph.asked["token"] == asked
            assert (await look(kind, {**config, "services": ["Microsoft Teams"]})).code == "ok"
            assert graph.asked["token"] == 2

    run(main)


def test_a_kept_token_that_was_revoked_is_replaced_at_once() -> None:
    async def main() -> None:
        kind, graph = Microsoft365(), Graph()
        async with graph.serving() as config:
            assert (await look(kind, config)).code == "ok"
            answers = iter([web.json_response({}, status=401), web.json_response(overviews())])
            graph.health = lambda _: next(answers)
            assert (await look(kind, config)).code == "ok"
            assert graph.asked == {"token": 2, "health": 3}

    run(main)


def test_pages_are_followed_but_never_to_a_stranger() -> None:
    graph = Graph()

    def first(request: web.Request) -> web.Response:
        if "$skip" in request.query:
            return web.json_response(overviews("serviceInterruption"))
        link = f"{graph.base}/v1.0/admin/serviceAnnouncement/healthOverviews?$skip=100"
        return web.json_response({"value": [], "@odata.nextLink": link})

    graph.health = first
    assert seen(graph).code == "service_interruption"
    graph.health = lambda _: web.json_response({"value": [], "@odata.nextLink": "http://127.0.0.2:80/"})
    assert seen(graph).code == "graph_failed"


@given(
    st.dictionaries(st.text(min_size=1, max_size=20), st.sampled_from([*STATUSES, "somethingNew"]), max_size=6), st.data()
)
def test_the_worst_service_is_the_reading(statuses: dict[str, str], data: st.DataObject) -> None:
    names = {name.casefold(): status for name, status in statuses.items()}
    services = data.draw(st.lists(st.sampled_from([*statuses, "Exchange Online"]), min_size=1, max_size=5, unique=True))
    reading = judge(services, [overview(name, name, status) for name, status in statuses.items()], 0.1)
    order = ["failed", "degraded", "unknown", "ok"]
    verdicts = []
    for service in services:
        status = names.get(service.casefold())
        code = "service_not_listed" if status is None else STATUSES.get(status, "service_unrecognised")
        verdicts.append(CODES[code].verdict)
    assert reading.verdict == min(verdicts, key=order.index)


def test_a_tenant_cannot_lead_to_another_address() -> None:
    made = Config(tenant_id="../../evil?x=", client_id="a", client_secret="b")
    assert made.token_request[0] == "https://login.microsoftonline.com/..%2F..%2Fevil%3Fx%3D/oauth2/v2.0/token"
    check(Microsoft365(), made, judge(["Exchange Online"], [], 0.0))
