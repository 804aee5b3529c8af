"""Every error leaves the API as an RFC 9457 problem document with a stable ``type``."""

import json
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.routing import Match

from broadcaster.domain.errors import Problem, Unavailable
from broadcaster.store.database import UNAVAILABLE

log = structlog.get_logger(__name__)

TYPE_BASE = "urn:alert-broadcaster:problem:"
MEDIA_TYPE = "application/problem+json"


class ProblemDocument(BaseModel):
    """RFC 9457, section 3. ``errors`` names each faulty place of an invalid request."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(examples=[TYPE_BASE + "invalid"])
    title: str
    status: int
    detail: str
    errors: list[dict[str, Any]] | None = None


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The ``responses=`` of a route: what each status means, as a problem document."""
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemDocument"}}}
    return {status: {"description": _MEANINGS[status], "content": content} for status in statuses}


_MEANINGS = {
    400: "The request cannot be read",
    401: "A valid API key is needed",
    403: "This API key may not do that",
    404: "There is no such thing here",
    409: "It does not fit what is already there",
    413: "The request is too large",
    415: "This content type is not taken here",
    422: "The request is not valid",
    429: "Too many requests",
    503: "Not now; repeat it with the same Idempotency-Key",
}


def install(app: FastAPI) -> None:
    """Hooks the handlers into ``app``."""
    app.add_exception_handler(Problem, _on_problem)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http)
    for unavailable in UNAVAILABLE:
        app.add_exception_handler(unavailable, _on_database)
    app.add_exception_handler(Exception, _on_bug)
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        """With the schema that ``responses`` refers to: FastAPI knows those of models only."""
        found = generate()
        found.setdefault("components", {}).setdefault("schemas", {})["ProblemDocument"] = ProblemDocument.model_json_schema()
        return found

    app.openapi = openapi  # type: ignore[method-assign] # FastAPI's documented way


class ProblemResponse(JSONResponse):
    """ASCII only: a place in a request may be named by half a surrogate pair, which UTF-8 cannot say."""

    media_type = MEDIA_TYPE

    def render(self, content: Any) -> bytes:
        return json.dumps(content).encode("ascii")


def document(problem: Problem) -> ProblemResponse:
    body = {
        "type": TYPE_BASE + problem.slug,
        "title": problem.title,
        "status": problem.status,
        "detail": problem.detail,
    }
    headers = {"Retry-After": str(problem.retry_after)} if isinstance(problem, Unavailable) else {}
    if problem.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return ProblemResponse({**body, **problem.extra}, problem.status, headers)


def as_document(error: Exception) -> ProblemResponse | None:
    """What the handlers below answer to it, for who stands before the router; None: a fault of our own."""
    if isinstance(error, Problem):
        return document(error)
    return _unavailable(error) if isinstance(error, UNAVAILABLE) else None


async def _on_problem(_request: Request, error: Exception) -> ProblemResponse:
    assert isinstance(error, Problem)
    return document(error)


async def _on_invalid(_request: Request, error: Exception) -> ProblemResponse:
    assert isinstance(error, RequestValidationError)
    # The input itself is left out: it may hold a phone number.
    errors = [{"at": ".".join(str(part) for part in e["loc"]), "problem": e["msg"]} for e in error.errors()]
    unreadable = any(e["type"] == "json_invalid" for e in error.errors())
    status, slug, title = (400, "bad-request", _MEANINGS[400]) if unreadable else (422, "invalid", _MEANINGS[422])
    detail = "; ".join(f"{e['at']}: {e['problem']}" for e in errors[:5])
    body = {"type": TYPE_BASE + slug, "title": title, "status": status, "detail": detail, "errors": errors}
    return ProblemResponse(body, status)


async def _on_http(request: Request, error: Exception) -> ProblemResponse:
    assert isinstance(error, HTTPException)
    headers = {"Allow": ", ".join(_methods(request))} if error.status_code == 405 else error.headers
    body = {"type": "about:blank", "title": str(error.detail), "status": error.status_code, "detail": str(error.detail)}
    return ProblemResponse(body, error.status_code, headers)


def _methods(request: Request) -> list[str]:
    """What this path takes (RFC 9110, section 15.5.6): the router names the first route's methods only."""

    def takes(method: str) -> bool:
        scope = {**request.scope, "method": method, "path_params": {}}
        return any(route.matches(scope)[0] is Match.FULL for route in request.app.routes)

    return [method for method in ("DELETE", "GET", "HEAD", "PATCH", "POST", "PUT") if takes(method)]


async def _on_database(_request: Request, error: Exception) -> ProblemResponse:
    return _unavailable(error)


def _unavailable(error: Exception) -> ProblemResponse:
    # The statement's parameters may hold addresses: only the driver's class goes to the log.
    log.error("api.database_unavailable", error=type(getattr(error, "orig", error)).__name__)
    # A connection that is lost during COMMIT leaves it open whether it was kept: the key makes the repeat harmless.
    return document(Unavailable("The database does not answer. Repeat the request with the same Idempotency-Key."))


async def _on_bug(request: Request, error: Exception) -> ProblemResponse:
    log.error("api.bug", path=request.url.path, error=type(error).__name__, exc_info=error)
    body = {"type": TYPE_BASE + "internal", "title": "A fault in the broadcaster", "status": 500}
    return ProblemResponse({**body, "detail": "It has been logged. Nothing else is known here."}, 500)
