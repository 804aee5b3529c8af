"""Alerts over HTTP: raise, preview, follow, cancel."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Annotated, Any, Final

from fastapi import APIRouter, Header, Path, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from broadcaster.api.deps import CanReadAlerts, CanSend, Wired, get_wiring
from broadcaster.api.problems import responses
from broadcaster.api.times import optional, rfc3339
from broadcaster.domain import audience as audiences
from broadcaster.domain.errors import Invalid
from broadcaster.domain.lifecycle import State
from broadcaster.domain.messages import Severity
from broadcaster.services.alerts import Draft, Plan, Step, steps_of
from broadcaster.services.progress import AlertView
from broadcaster.wiring import Wiring

router = APIRouter(tags=["alerts"])

_DAY: Final = 86_400
_LOOK: Final = 0.5  # s between looks of an event stream
_HEARTBEAT: Final = 15.0  # s
_DEEPEST: Final = 32  # levels of a free tree: twice what an audience may have

AlertId = Annotated[str, Path(description="The alert's id (UUIDv7).", max_length=64, pattern=r"^[^\x00]*$")]
Channel = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]{0,31}$")]
# No control characters but line breaks in what people read.
Words = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, pattern=r"^[^\x00-\x08\x0b-\x1f\x7f]*$")]


def sayable(tree: dict[str, Any]) -> dict[str, Any]:
    """Pydantic looks into typed texts only; what JSON or UTF-8 cannot say would fail at the database, or in an answer."""
    if not _ends(tree, _DEEPEST):
        raise ValueError(f"is nested deeper than {_DEEPEST}")
    try:
        json.dumps(tree, ensure_ascii=False, allow_nan=False).encode()
    except UnicodeEncodeError:
        raise ValueError("holds half a surrogate pair") from None
    except ValueError:
        raise ValueError("holds a number that JSON cannot say") from None
    return tree


def _ends(value: Any, levels: int) -> bool:
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return levels > 0 and all(_ends(part, levels - 1) for part in parts)


class EscalationStep(BaseModel):
    """Channels for those whom no earlier step has reached by then."""

    model_config = ConfigDict(extra="forbid")

    after_seconds: int = Field(ge=1, le=7 * _DAY, strict=True)
    channels: list[Channel] = Field(min_length=1, max_length=8)


class NewAlert(BaseModel):
    """What to say, to whom, over which channels."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "title": "Email is down",
                    "body": "Use the phone list on the ward. Do not retry your password. Next update 10:30.",
                    "severity": "critical",
                    "audience": {"any": [{"tag": "site:Northmoor"}, {"group": "On-call"}]},
                    "channels": ["sms", "push"],
                }
            ]
        },
    )

    title: Words = Field(max_length=120)
    body: Words = Field(max_length=1200)
    severity: Severity = Severity.HIGH
    audience: Annotated[dict[str, Any], AfterValidator(sayable)] = Field(
        description='Who: {"everyone": true}, {"group": …}, {"tag": "key:value"}, {"recipients": […]}, or '
        '{"all"|"any": […]} and {"not": …} of these.'
    )
    channels: list[Channel] = Field(default=["sms", "slack", "push"], min_length=1, max_length=8)
    escalation: list[EscalationStep] = Field(default=[], max_length=8)
    expires_in: int | None = Field(None, ge=60, le=7 * _DAY, description="Seconds after which nothing more is sent.")
    source: Words | None = Field(None, max_length=60, description="Who says it; people see this first.")
    dedup_key: Words | None = Field(
        None, max_length=255, description="While an alert with this key is open, it is the answer."
    )
    drill: bool = Field(False, description='An exercise: every message begins with "DRILL".')


class Links(BaseModel):
    self: str
    deliveries: str
    events: str
    page: str


class AcceptedAlert(BaseModel):
    """Durable: it will be delivered, whatever happens to any process."""

    id: str
    created: bool = Field(description="False: the alert was there (same Idempotency-Key, or an open dedup_key).")
    links: Links


class ChannelCounts(BaseModel):
    channel: str
    label: str
    targeted: int = Field(description="Deliveries planned; always the sum of counts.")
    reached: int = Field(description="Delivered; or accepted, where the channel gives no receipts.")
    counts: dict[str, int]


class PausedRoute(BaseModel):
    name: str
    reason: str
    until: str


class Alert(BaseModel):
    """An alert with its live counts."""

    id: str
    title: str
    body: str
    severity: Severity
    source: str
    drill: bool
    sandbox: bool = Field(description="Made with a test key: reaches the sandbox only.")
    state: str = Field(description="planning, sending, sent (only receipts are awaited), completed or cancelled")
    dedup_key: str | None
    created_at: str
    expires_at: str
    cancelled_at: str | None
    completed_at: str | None
    people: int | None
    unreachable: int | None = Field(description="People that no asked channel can reach.")
    targeted: int
    reached: int
    channels: list[ChannelCounts]
    paused_routes: list[PausedRoute]
    links: Links


class AlertPage(BaseModel):
    items: list[Alert]
    next_cursor: str | None


class PlannedChannel(BaseModel):
    channel: str
    label: str
    deliveries: int
    text: str = Field(description="As the channel would say it, with a sample reference and link.")
    segments: int = Field(description="Units of the sender's rate: SMS segments, else 1.")
    encoding: str | None
    money: float | None = Field(description="For all deliveries, in ``currency``.")
    currency: str | None
    seconds: float | None = Field(description="At the sender's rate; null where none is stated.")


class AlertPlan(BaseModel):
    """What would happen. Nothing has."""

    people: int
    unreachable: int
    directory_revision: int
    seconds: float | None
    channels: list[PlannedChannel]
    warnings: list[str]


class Delivery(BaseModel):
    reference: str = Field(description="What the message carries and a person quotes.")
    recipient: str
    name: str
    channel: str
    address: str = Field(description="Masked.")
    state: State
    attempt: int
    code: str | None
    reason: str | None
    updated_at: str


class DeliveryPage(BaseModel):
    items: list[Delivery]
    next_cursor: str | None


class CancelledAlert(BaseModel):
    stopped: int = Field(description="Deliveries that never left.")
    left: int = Field(description="Deliveries that may have reached somebody.")


@router.post(
    "/alerts",
    status_code=202,
    response_model=AcceptedAlert,
    summary="Raise an alert",
    responses=responses(400, 401, 403, 409, 422, 429, 503),
)
async def raise_alert(
    alert: NewAlert,
    request: Request,
    caller: CanSend,
    idempotency_key: Annotated[str | None, Header(min_length=1, max_length=255)] = None,
) -> Response:
    """Answers as soon as the alert is durable. Send an `Idempotency-Key` header, then a repeat is harmless."""
    wired = get_wiring(request)
    accepted = await asyncio.wrap_future(wired.alerts.hand_in(_draft(alert, wired), caller, idempotency_key))
    answer = AcceptedAlert(id=accepted.uid, created=accepted.created, links=_links(accepted.uid, wired))
    location = {"Location": f"/api/v1/alerts/{accepted.uid}"}
    return Response(answer.model_dump_json(), 202, location, "application/json")


@router.post(
    "/alerts/preview",
    response_model=AlertPlan,
    summary="What an alert would do, without doing it",
    responses=responses(400, 401, 403, 422, 429, 503),
)
def preview_alert(alert: NewAlert, caller: CanSend, wired: Wired) -> AlertPlan:
    return _plan(wired.alerts.preview(_draft(alert, wired), caller))


@router.get(
    "/alerts",
    response_model=AlertPage,
    summary="Alerts, the newest first",
    responses=responses(401, 403, 422, 429, 503),
)
def list_alerts(
    _caller: CanReadAlerts,
    wired: Wired,
    cursor: Annotated[str | None, Query(pattern=r"^\d{1,18}$")] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> AlertPage:
    views, following = wired.progress.list_alerts(None if cursor is None else int(cursor), limit)
    return AlertPage(items=[_alert(v, wired) for v in views], next_cursor=None if following is None else str(following))


@router.get(
    "/alerts/{alert_id}",
    response_model=Alert,
    summary="One alert, live",
    responses=responses(401, 403, 404, 422, 429, 503),
)
def get_alert(alert_id: AlertId, _caller: CanReadAlerts, wired: Wired) -> Alert:
    return _alert(wired.progress.snapshot(alert_id), wired)


@router.get(
    "/alerts/{alert_id}/deliveries",
    response_model=DeliveryPage,
    summary="Who has it and who has not",
    responses=responses(401, 403, 404, 422, 429, 503),
)
def list_deliveries(
    alert_id: AlertId,
    _caller: CanReadAlerts,
    wired: Wired,
    state: State | None = None,
    channel: Annotated[str | None, Query(pattern=r"^[a-z][a-z0-9_-]{0,31}$")] = None,
    cursor: Annotated[str | None, Query(pattern=r"^\d{1,18}$")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> DeliveryPage:
    after = None if cursor is None else int(cursor)
    views, following = wired.progress.deliveries(alert_id, state, channel, after, limit)
    items = [
        Delivery(
            reference=v.reference, recipient=v.recipient, name=v.name, channel=v.channel, address=v.address,
            state=State(v.state), attempt=v.attempt, code=v.code, reason=v.reason, updated_at=rfc3339(v.updated_at),
        )
        for v in views
    ]  # fmt: skip
    return DeliveryPage(items=items, next_cursor=None if following is None else str(following))


@router.get(
    "/alerts/{alert_id}/events",
    summary="Counts as they change (server-sent events)",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "`progress` events with the alert, then `end`.",
            "content": {"text/event-stream": {"schema": {"type": "string"}}},
        },
        **responses(401, 403, 404, 422, 429, 503),
    },
)  # fmt: skip
async def follow_alert(alert_id: AlertId, request: Request, _caller: CanReadAlerts, wired: Wired) -> StreamingResponse:
    """Ends when nothing is left to do. `Last-Event-ID` is not needed: each event carries the whole state."""
    await run_in_threadpool(wired.progress.snapshot, alert_id)  # 404 before the stream begins
    stream = _events(alert_id, request, wired)
    return StreamingResponse(stream, media_type="text/event-stream", headers={"Cache-Control": "no-store"})


@router.post(
    "/alerts/{alert_id}/cancel",
    response_model=CancelledAlert,
    summary="Stop what has not left",
    responses=responses(401, 403, 404, 409, 422, 429, 503),
)
def cancel_alert(alert_id: AlertId, caller: CanSend, wired: Wired) -> CancelledAlert:
    cancelled = wired.alerts.cancel(alert_id, caller.uid)
    return CancelledAlert(stopped=cancelled.stopped, left=cancelled.left)


async def _events(alert_id: str, request: Request, wired: Wiring) -> AsyncIterator[str]:
    last, silent, n = "", 0.0, 0
    while not await request.is_disconnected():
        view = await run_in_threadpool(wired.progress.snapshot, alert_id)
        data = json.dumps(_alert(view, wired).model_dump(mode="json"), separators=(",", ":"))
        if data != last:
            last, silent, n = data, 0.0, n + 1
            yield f"id: {n}\nevent: progress\ndata: {data}\n\n"
        elif silent >= _HEARTBEAT:
            silent = 0.0
            yield ": still here\n\n"
        if view.state in ("completed", "cancelled"):
            yield "event: end\ndata: {}\n\n"
            return
        await asyncio.sleep(_LOOK)
        silent += _LOOK


def _draft(alert: NewAlert, wired: Wiring) -> Draft:
    try:
        audience = audiences.parse(alert.audience)
    except audiences.InvalidAudience as error:
        raise Invalid(str(error)) from None
    return Draft(
        title=alert.title,
        body=alert.body,
        severity=alert.severity,
        audience=audience,
        steps=steps_of(alert.channels, [Step(tuple(e.channels), e.after_seconds) for e in alert.escalation]),
        expires_in=alert.expires_in or wired.settings.expires_in,
        source=alert.source or wired.settings.source,
        drill=alert.drill,
        dedup_key=alert.dedup_key,
    )


def _links(uid: str, wired: Wiring) -> Links:
    base = f"/api/v1/alerts/{uid}"
    page = f"{wired.settings.resolved_public_url}/console/alerts/{uid}"
    return Links(self=base, deliveries=f"{base}/deliveries", events=f"{base}/events", page=page)


def _alert(view: AlertView, wired: Wiring) -> Alert:
    channels = [
        ChannelCounts(channel=c.name, label=c.label, targeted=c.targeted, reached=c.reached, counts=c.counts)
        for c in view.channels
    ]
    return Alert(
        id=view.uid, title=view.title, body=view.body, severity=Severity(view.severity), source=view.source,
        drill=view.drill, sandbox=view.sandbox or wired.sandbox_only, state=view.state, dedup_key=view.dedup_key,
        created_at=rfc3339(view.created_at), expires_at=rfc3339(view.expires_at),
        cancelled_at=optional(view.cancelled_at), completed_at=optional(view.completed_at), people=view.people,
        unreachable=view.unreachable, targeted=view.targeted, reached=view.reached, channels=channels,
        paused_routes=[PausedRoute(name=r.name, reason=r.reason, until=rfc3339(r.until_ms)) for r in view.routes],
        links=_links(view.uid, wired),
    )  # fmt: skip


def _plan(plan: Plan) -> AlertPlan:
    channels = [
        PlannedChannel(
            channel=c.name, label=c.label, deliveries=c.deliveries, text=c.text, segments=c.units, encoding=c.encoding,
            money=None if c.money is None else c.money / 1e6, currency=c.currency, seconds=c.seconds,
        )
        for c in plan.channels
    ]  # fmt: skip
    return AlertPlan(
        people=plan.people, unreachable=plan.unreachable, directory_revision=plan.revision, seconds=plan.seconds,
        channels=channels, warnings=list(plan.warnings),
    )  # fmt: skip
