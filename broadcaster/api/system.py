"""Is it alive, is it ready, and its numbers."""

from typing import Annotated

from fastapi import APIRouter, Depends, Response
from fastapi.security.http import HTTPAuthorizationCredentials
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel, Field

from broadcaster.api.deps import CanReadAlerts, Wired, bearer
from broadcaster.api.problems import responses
from broadcaster.api.times import optional
from broadcaster.domain.errors import NotSignedIn
from broadcaster.services.keys import Scope
from broadcaster.services.routing import RouteView

router = APIRouter(tags=["system"])


class Health(BaseModel):
    status: str


class Part(BaseModel):
    ready: bool
    detail: str | None = None


class Readiness(BaseModel):
    """``accepting`` is what matters to a caller: an alert is taken and will be delivered, also with some parts away."""

    ready: bool = Field(description="Every part is ready.")
    accepting: bool = Field(description="POST /alerts is answered with 202.")
    sandbox: bool = Field(description="No provider is configured: nobody real is told.")
    parts: dict[str, Part]


@router.get("/healthz", response_model=Health, summary="Is the process alive")
def healthz() -> Health:
    return Health(status="ok")


@router.get(
    "/readyz",
    response_model=Readiness,
    summary="What is ready, and whether alerts are accepted",
    responses={503: {"model": Readiness, "description": "Alerts are not accepted now."}},
)
def readyz(response: Response, wired: Wired) -> Readiness:
    """503 only when alerts are not accepted; a part that is away is named with 200."""
    parts = {name: Part(ready=fault is None, detail=fault) for name, fault in wired.readiness().items()}
    accepting = parts["database"].ready
    if not accepting:
        response.status_code = 503
    return Readiness(
        ready=all(p.ready for p in parts.values()), accepting=accepting, sandbox=wired.sandbox_only, parts=parts
    )


class Route(BaseModel):
    """One way to a channel's provider. Messages take the first of a channel that is neither paused nor broken."""

    name: str = Field(examples=["sms:twilio:MG…"])
    channel: str
    position: int = Field(description="1 is the first choice.")
    used: bool = Field(description="What is sent now takes this one.")
    trouble: str | None = Field(description="Why it is not used.")
    until: str | None = Field(description="When it is tried again.")


class Routes(BaseModel):
    items: list[Route]


@router.get(
    "/api/v1/routes",
    response_model=Routes,
    summary="Which route each channel uses now, and why",
    responses=responses(401, 403, 429, 503),
)
def routes(wired: Wired, _caller: CanReadAlerts) -> Routes:
    """A route that does not get messages through is left for the next one, tried again, and taken back when it works."""
    return Routes(items=[_route(view) for view in wired.routing.overview()])


def _route(view: RouteView) -> Route:
    return Route(
        name=view.name,
        channel=view.channel,
        position=view.position,
        used=view.used,
        trouble=view.trouble,
        until=optional(view.until_ms),
    )


@router.get(
    "/metrics",
    response_class=Response,
    summary="Prometheus metrics",
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **responses(401, 403, 503)},
)
def metrics(wired: Wired, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)] = None) -> Response:
    """Needs a key with metrics:read unless BROADCASTER_METRICS_OPEN is set."""
    if not wired.settings.metrics_open:
        if credentials is None:
            raise NotSignedIn("Send the header: Authorization: Bearer <API key with metrics:read>.")
        wired.keys.authenticate(credentials.credentials).must_have(Scope.METRICS_READ)
    wired.observe()
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)
