"""What Microsoft itself says about Exchange Online: service health by Microsoft Graph.

https://learn.microsoft.com/graph/api/serviceannouncement-list-healthoverviews (permission ServiceHealth.Read.All)

It tells in whose court the ball is, but it lags behind what people see: use it besides a round trip, never instead.
Whatever is wrong with Graph itself says nothing about the mail: UNKNOWN.
"""

import re
import time
from collections.abc import Callable, Iterable
from typing import Any, Final

from pydantic import Field, SecretStr
from yarl import URL

from broadcaster.domain.monitor import Circumstances, Reading, Verdict
from broadcaster.monitors import fields, findings, oauth, web, words
from broadcaster.monitors.findings import Code, Codes, Detail, Trouble, clock, deadline

PATH: Final = "/v1.0/admin/serviceAnnouncement/healthOverviews"
#: Pages of 100 services.
_PAGES: Final = 10

_UNKNOWN: Final = Verdict.UNKNOWN
CODES: Final[Codes] = {
    "ok": Code(Verdict.OK, "Microsoft reports no trouble."),
    "service_interruption": Code(Verdict.FAILED, "Microsoft says that the service is interrupted."),
    "service_degraded": Code(Verdict.DEGRADED, "Microsoft says that the service is degraded, or restored for most only."),
    "service_investigating": Code(Verdict.DEGRADED, "Microsoft is looking into a possible trouble."),
    # Unknown: neither a new outage nor the end of one that was noticed.
    "service_restoring": Code(_UNKNOWN, "Microsoft says that the service is being restored; that is not over yet."),
    "service_unrecognised": Code(_UNKNOWN, "Microsoft reports a status that we do not know."),
    "service_not_listed": Code(_UNKNOWN, "Microsoft's list lacks the service; check its name and the tenant's licences."),
    "auth_refused": Code(_UNKNOWN, "Microsoft refused our application: check its id, secret and permissions."),
    "throttled": Code(_UNKNOWN, "Microsoft asked us to ask less often."),
    "graph_failed": Code(_UNKNOWN, "Microsoft Graph answered with an error or nonsense."),
    "graph_unreachable": Code(_UNKNOWN, "Microsoft Graph could not be reached."),
    **findings.OURS,
}

#: serviceHealthStatus -> code. Meanings: https://learn.microsoft.com/microsoft-365/enterprise/view-service-health#status-definitions
#: and https://learn.microsoft.com/graph/api/resources/servicehealthissue
STATUSES: Final = {
    "serviceOperational": "ok",
    "investigating": "service_investigating",
    "reported": "service_investigating",
    "confirmed": "service_degraded",
    "serviceDegradation": "service_degraded",
    "serviceInterruption": "service_interruption",
    "restoringService": "service_restoring",
    "extendedRecovery": "service_degraded",  # mended for most
    "verifyingService": "service_restoring",
    "investigationSuspended": "service_investigating",  # Microsoft waits for customers' evidence
    "serviceRestored": "ok",
    "falsePositive": "ok",
    "postIncidentReviewPublished": "ok",
    "resolved": "ok",
    "resolvedExternal": "ok",
    "mitigated": "ok",
    "mitigatedExternal": "ok",
}
#: The worst first: of several services it is the reading.
_WORST: Final = ("service_interruption", "service_degraded", "service_investigating", "service_restoring",
                 "service_unrecognised", "service_not_listed", "ok")  # fmt: skip


class Config(fields.Settings):
    """One tenant, and the services of interest."""

    tenant_id: fields.Line = Field(description="The directory (tenant) id, or a domain of the tenant.")
    client_id: fields.Line = Field(description="The application's (client) id.")
    client_secret: fields.Secret = Field(description="The application's secret.")
    services: list[fields.Line] = Field(
        default=["Exchange Online"],
        min_length=1,
        max_length=20,
        description="Services by the name that Microsoft gives them.",
    )
    login_url: fields.BaseUrl = Field("https://login.microsoftonline.com", description="Other in national clouds.")
    graph_url: fields.BaseUrl = Field("https://graph.microsoft.com", description="Other in national clouds.")

    @property
    def token_request(self) -> tuple[str, str, SecretStr, str]:
        url = f"{self.login_url}/{_segment(self.tenant_id)}/oauth2/v2.0/token"
        return url, self.client_id, self.client_secret, f"{self.graph_url}/.default"


class Microsoft365:
    """Keeps its access token until shortly before it ends. ``clock`` gives seconds since the epoch."""

    name: Final = "microsoft365"
    label: Final = "Microsoft 365 service health"
    config: Final = Config
    codes: Final = findings.meanings(CODES)

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._tokens = oauth.Tokens(clock)

    async def look(self, config: Config, circumstances: Circumstances) -> Reading:
        until = deadline(circumstances)
        began = clock()
        try:
            overviews = await self._overviews(config, until)
        except Trouble as trouble:
            return _outside(trouble).reading(CODES)
        return judge(config.services, overviews, clock() - began)

    async def _overviews(self, config: Config, until: float) -> list[dict[str, Any]]:
        """Every service's overview. A token that has been revoked is asked for anew, once."""
        kept = self._tokens.has(*config.token_request)
        try:
            return await self._ask(config, until)
        except Trouble as trouble:
            if trouble.code != "auth_refused":
                raise
            self._tokens.forget(*config.token_request)
            if not kept or trouble.detail.get("http_status") != 401:
                raise
        return await self._ask(config, until)

    async def _ask(self, config: Config, until: float) -> list[dict[str, Any]]:
        token = await self._tokens.get(*config.token_request, until)
        url: URL | None = URL(config.graph_url + PATH)
        found: list[dict[str, Any]] = []
        async with web.Client() as client:
            for _ in range(_PAGES):
                assert url is not None
                page = await _page(client, url, token, until)
                found += [each for each in page["value"] if isinstance(each, dict)]
                url = _next(page, url)
                if url is None:
                    return found
        raise Trouble("graph_failed", detail={"pages": _PAGES})


async def _page(client: web.Client, url: URL, token: str, until: float) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {token}", "Accept": "application/json"}
    async with web.at("graph", client, until), client.request("GET", str(url), headers=headers) as response:
        answer = await web.json_object(response)
    detail: Detail = {"http_status": response.status, "at": "graph"}
    if response.status in (401, 403):
        raise Trouble("auth_refused", detail=detail, refused=True)
    if response.status == 429:
        wait = words.printable(response.headers.get("Retry-After", ""))
        raise Trouble("throttled", detail={**detail, "retry_after": wait})
    if response.status != 200 or not isinstance(answer.get("value"), list):
        raise Trouble("graph_failed", detail=detail)
    return answer


def _next(page: dict[str, Any], url: URL) -> URL | None:
    """The next page, if there is one: of the same origin, or our token would go to a stranger."""
    link = page.get("@odata.nextLink")
    if link is None:
        return None
    try:
        following = URL(link)
        if following.origin() == url.origin():
            return following
    except (ValueError, TypeError):
        pass
    raise Trouble("graph_failed", detail={"at": "graph"})


def judge(services: Iterable[str], overviews: list[dict[str, Any]], latency: float) -> Reading:
    """The worst of the services of interest; names compare without case."""
    statuses = {str(each.get("service", "")).casefold(): str(each.get("status", "")) for each in overviews}
    codes: dict[str, str] = {}
    detail: dict[str, str | int | float | bool | None] = {}
    for service in services:
        status = statuses.get(service.casefold())
        codes[service] = "service_not_listed" if status is None else STATUSES.get(status, "service_unrecognised")
        detail[service] = None if status is None else words.printable(status)
    code = min(codes.values(), key=_WORST.index)
    named = ", ".join(service for service, each in codes.items() if each == code)
    reason = CODES[code].meaning if code == "ok" else f"{CODES[code].meaning[:-1]}: {named}."
    return Reading(CODES[code].verdict, code, reason, latency=round(latency, 4), detail=detail)


#: What the token service and the network say, in this kind's words.
_OUTSIDE: Final = {"token_refused": "auth_refused", "token_unavailable": "graph_unreachable", "not_http": "graph_failed"}


def _outside(trouble: Trouble) -> Trouble:
    code = trouble.code if trouble.code in CODES else _OUTSIDE.get(trouble.code, "graph_unreachable")
    detail = {
        **trouble.detail,
        **({"cause": trouble.code} if code != trouble.code and "cause" not in trouble.detail else {}),
    }
    return Trouble(code, detail=detail, verdict=_UNKNOWN, refused=trouble.refused)


def _segment(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]", lambda found: "".join(f"%{byte:02X}" for byte in found[0].encode()), text)
