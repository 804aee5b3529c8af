"""Sources of signals over HTTP: who may tell us what, in which format; and what they said."""

from typing import Annotated, Final

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, StringConstraints

from broadcaster.api.alerts import sayable
from broadcaster.api.deps import CanReadMonitors, CanWriteSources, Wired
from broadcaster.api.monitors import Cursor
from broadcaster.api.problems import responses
from broadcaster.api.recipients import Text
from broadcaster.api.signals import BODY, Taken, post_of, taken
from broadcaster.api.times import optional, rfc3339
from broadcaster.domain.errors import Forbidden
from broadcaster.services.keys import Caller
from broadcaster.services.signals import PER_MINUTE, SourceView
from broadcaster.wiring import Wiring

router = APIRouter(tags=["signals"])

_OPTION: Final = 200  # characters
SourceId = Annotated[str, Path(description="The source's id (UUIDv7).", max_length=64, pattern=r"^[^\x00]*$")]
Option = Annotated[str, StringConstraints(max_length=_OPTION, pattern=r"^[^\x00]*$")]


class NewSource(BaseModel):
    """A system that tells us what it sees."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"name": "Prometheus", "format": "alertmanager"}]}
    )

    name: Text = Field(description="No other source has it; rules and alerts name it.")
    format: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,31}$")] = Field(description="See /signal-formats.")
    options: Annotated[dict[Option, Option], Field(max_length=100), AfterValidator(sayable)] = Field(
        default={}, description="The generic format's mapping: where things stand in a body, and what its words mean."
    )
    requests_per_minute: int = Field(PER_MINUTE, ge=1, le=60_000, strict=True)
    test: bool = Field(False, strict=True, description="What it raises reaches the sandbox only.")
    signing_secret: SecretStr | None = Field(
        None, description="whsec_…: its requests must be signed as Standard Webhooks has it. Written only.", max_length=200
    )


class Source(BaseModel):
    id: str
    name: str
    format: str
    options: dict[str, str]
    requests_per_minute: int
    test: bool
    signed: bool = Field(description="Its requests must carry a signature.")
    created_at: str
    heard_at: str | None
    requests: int
    refused: int = Field(description="Requests that were not in its format.")


class CreatedSource(Source):
    url: str = Field(description="Where it posts to. The address is the secret: shown now, and never again.")
    routing_key: str | None = Field(description="For tools that can page PagerDuty: with our /v2/enqueue.")


class Sources(BaseModel):
    items: list[Source]


class SignalFormat(BaseModel):
    name: str
    label: str


class SignalFormats(BaseModel):
    items: list[SignalFormat]


class Signal(BaseModel):
    """What a source said last of one thing."""

    source: str
    key: str
    status: str
    title: str
    severity: str | None
    labels: dict[str, str]
    first_at: str
    last_at: str
    times: int = Field(description="How often it was said.")


class SignalPage(BaseModel):
    items: list[Signal]
    next_cursor: str | None


@router.get(
    "/signal-formats",
    response_model=SignalFormats,
    summary="Formats that are read",
    responses=responses(401, 403, 422, 429, 503),
)
def list_formats(_caller: CanReadMonitors, wired: Wired) -> SignalFormats:
    return SignalFormats(items=[SignalFormat(name=f.name, label=f.label) for f in wired.signals.formats.values()])


@router.post(
    "/signal-sources",
    status_code=201,
    response_model=CreatedSource,
    summary="Take signals from a system",
    responses=responses(400, 401, 403, 409, 422, 429, 503),
)
def create_source(body: NewSource, response: Response, caller: CanWriteSources, wired: Wired) -> CreatedSource:
    _check(caller, wired, test=body.test)
    signing = body.signing_secret.get_secret_value() if body.signing_secret else None
    view, token = wired.signals.create_source(
        body.name, body.format, body.options, per_minute=body.requests_per_minute, test=body.test, signing=signing
    )
    response.headers["Location"] = f"/api/v1/signal-sources/{view.uid}"
    return CreatedSource(**_source(view).model_dump(), **_address(view, token, wired))


@router.get("/signal-sources", response_model=Sources, summary="Every source", responses=responses(401, 403, 422, 429, 503))
def list_sources(_caller: CanReadMonitors, wired: Wired) -> Sources:
    return Sources(items=[_source(view) for view in wired.signals.sources()])


@router.get(
    "/signal-sources/{source_id}",
    response_model=Source,
    summary="One source",
    responses=responses(401, 403, 404, 422, 429, 503),
)
def get_source(source_id: SourceId, _caller: CanReadMonitors, wired: Wired) -> Source:
    return _source(wired.signals.source(source_id))


@router.delete(
    "/signal-sources/{source_id}",
    status_code=204,
    response_class=Response,
    summary="Take nothing from it any more",
    responses=responses(401, 403, 404, 422, 429, 503),
)
def delete_source(source_id: SourceId, caller: CanWriteSources, wired: Wired) -> Response:
    """What it had raised is over, with an all-clear where one is due."""
    _check(caller, wired, test=wired.signals.source(source_id).test)
    wired.signals.delete_source(source_id)
    return Response(status_code=204)


@router.post(
    "/signal-sources/{source_id}/try",
    response_model=Taken,
    summary="What a body would do, without doing it",
    responses=responses(400, 401, 403, 404, 413, 422, 429, 503),
    openapi_extra=BODY,
)
async def try_body(source_id: SourceId, request: Request, _caller: CanWriteSources, wired: Wired) -> Taken:
    return taken(await run_in_threadpool(wired.signals.try_out, source_id, await post_of(request)))


@router.get(
    "/signals", response_model=SignalPage, summary="What sources said last", responses=responses(401, 403, 422, 429, 503)
)
def list_signals(
    _caller: CanReadMonitors,
    wired: Wired,
    cursor: Cursor = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> SignalPage:
    views, following = wired.signals.page(None if cursor is None else int(cursor), limit)
    items = [
        Signal(
            source=v.source, key=v.key, status=v.status, title=v.title, severity=v.severity, labels=dict(v.labels),
            first_at=rfc3339(v.first_at), last_at=rfc3339(v.last_at), times=v.times,
        )
        for v in views
    ]  # fmt: skip
    return SignalPage(items=items, next_cursor=None if following is None else str(following))


def _check(caller: Caller, wired: Wiring, *, test: bool) -> None:
    if caller.test and not (test or wired.sandbox_only):
        raise Forbidden("What a source says is told for real, which a test key may not do. Use a live key, or test true.")


def _source(view: SourceView) -> Source:
    return Source(
        id=view.uid, name=view.name, format=view.format, options=dict(view.options), requests_per_minute=view.per_minute,
        test=view.test, signed=view.signed, created_at=rfc3339(view.created_at), heard_at=optional(view.heard_at),
        requests=view.heard, refused=view.refused,
    )  # fmt: skip


def _address(view: SourceView, token: str, wired: Wiring) -> dict[str, str | None]:
    url = f"{wired.settings.resolved_public_url}/api/v1/signals/{view.format}/{token}"
    return {"url": url, "routing_key": token if view.format == "pagerduty" else None}
