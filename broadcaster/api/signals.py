"""What other systems tell us, as they send it: by an address of its own, with an API key, or as to PagerDuty."""

import json
from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from broadcaster.api.deps import CanSignal, Wired
from broadcaster.api.problems import responses
from broadcaster.domain.errors import Invalid, NotFound, NotSignedIn, TooMany
from broadcaster.domain.signal import Post
from broadcaster.services.signals import Said
from broadcaster.wiring import Wiring

router = APIRouter(tags=["signals"])
pagerduty = APIRouter(tags=["signals"])

BODY: Final = {
    "requestBody": {
        "required": True,
        "content": {"*/*": {"schema": {"description": "As the source's format has it, 1 MiB at most."}}},
    }
}
Token = Annotated[str, Path(max_length=200, pattern=r"^[A-Za-z0-9_-]+$", description="The source's own, from its making.")]
Format = Annotated[str, Path(max_length=32, pattern=r"^[a-z][a-z0-9_]*$", description="The source's format.")]


class SaidOf(BaseModel):
    """What became of one signal."""

    key: str
    status: str = Field(description="firing, acknowledged or resolved")
    title: str
    rule: str | None = Field(description="The rule that takes it.")
    what: str = Field(
        description="raise, go_on (it was raised before), clear, acknowledge, drop (by a rule), no_rule, "
        "nothing_to_clear, or stale (its source has said something later)"
    )


class Taken(BaseModel):
    signals: list[SaidOf]


@router.post(
    "/signals/{source_format}/{token}",
    status_code=202,
    response_model=Taken,
    summary="A signal of another system",
    responses=responses(400, 401, 404, 413, 422, 429, 503),
    openapi_extra=BODY,
)
async def take_signal(source_format: Format, token: Token, request: Request, wired: Wired) -> Taken:
    """Needs no API key: the address is the secret. Saying the same again is harmless."""
    said = await run_in_threadpool(wired.signals.take, token, await post_of(request), source_format)
    return taken(said)


@router.post(
    "/signals",
    status_code=202,
    response_model=Taken,
    summary="A signal of another system, with an API key",
    responses=responses(400, 401, 403, 404, 413, 422, 429, 503),
    openapi_extra=BODY,
)
async def take_signal_with_key(
    request: Request,
    caller: CanSignal,
    wired: Wired,
    source: Annotated[str, Query(min_length=1, max_length=100, pattern=r"^[^\x00]*$", description="The source's name.")],
) -> Taken:
    post = await post_of(request)

    def take() -> list[Said]:
        return wired.signals.take_named(source, post, test=caller.test)

    return taken(await run_in_threadpool(take))


@pagerduty.post(
    "/v2/enqueue",
    status_code=202,
    summary="As PagerDuty's Events API v2",
    responses={
        202: {"description": "Taken.", "content": {"application/json": {"schema": {"type": "object"}}}},
        400: {"description": "Not an event.", "content": {"application/json": {"schema": {"type": "object"}}}},
        429: {"description": "Too many events.", "content": {"application/json": {"schema": {"type": "object"}}}},
        **responses(413, 503),
    },
    openapi_extra=BODY,
)  # fmt: skip
async def enqueue(request: Request, wired: Wired) -> JSONResponse:
    """Any tool that can page PagerDuty can page us: its routing key is a source's token. Answers are PagerDuty's own
    (https://developer.pagerduty.com/docs/send-alert-event#api-response-codes--retry-logic)."""
    post = await post_of(request)
    try:
        said = await run_in_threadpool(_enqueue, wired, post)
    except TooMany as problem:
        body = {"status": "throttle exceeded", "message": problem.detail}
        return JSONResponse(body, 429, {"Retry-After": str(problem.retry_after)})
    except (Invalid, NotFound, NotSignedIn) as problem:
        body_of_fault: dict[str, Any] = {"status": "invalid event", "message": "Event object is invalid"}
        return JSONResponse({**body_of_fault, "errors": [problem.detail]}, 400)
    key = said[0].signal.key if said else ""
    return JSONResponse({"status": "success", "message": "Event processed", "dedup_key": key}, 202)


def _enqueue(wired: Wiring, post: Post) -> list[Said]:
    try:
        given = json.loads(post.body)
        key = given["routing_key"]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise Invalid("'routing_key' is missing or blank") from None
    if not isinstance(key, str) or not key.isascii() or not 1 <= len(key) <= 200:
        raise Invalid("'routing_key' is missing or blank")
    return wired.signals.take(key, post, "pagerduty")


async def post_of(request: Request) -> Post:
    """Problem documents for bodies that are too large come from ``limits``."""
    return Post({name.lower(): value for name, value in request.headers.items()}, await request.body())


def taken(said: list[Said]) -> Taken:
    return Taken(signals=[of(one) for one in said])


def of(said: Said) -> SaidOf:
    s = said.signal
    return SaidOf(key=s.key, status=s.status.value, title=s.title, rule=said.rule, what=said.what)
