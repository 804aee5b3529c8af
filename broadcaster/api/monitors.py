"""Monitors over HTTP: make, change, pause, look at, try out."""

import json
from typing import Annotated, Any, Final, Self

from fastapi import APIRouter, Path, Query, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, model_validator

from broadcaster.api.alerts import Channel, EscalationStep, Words, sayable
from broadcaster.api.deps import CanReadMonitors, CanWriteMonitors, Wired
from broadcaster.api.problems import responses
from broadcaster.api.recipients import Text
from broadcaster.api.times import optional, rfc3339
from broadcaster.domain import audience as audiences
from broadcaster.domain import policy as policies
from broadcaster.domain.errors import Forbidden, Invalid
from broadcaster.domain.judgement import State
from broadcaster.domain.messages import Severity
from broadcaster.domain.monitor import Verdict
from broadcaster.domain.policy import Policy, Release
from broadcaster.services.alerts import Step, steps_of
from broadcaster.services.keys import Caller, Scope
from broadcaster.services.monitors import MonitorView, Watch
from broadcaster.wiring import Wiring

router = APIRouter(tags=["monitors"])

_DAY: Final = 86_400
_CONFIG: Final = 64 * 1024  # bytes of JSON
_TIMEOUT: Final = 10.0
_TEMPLATE: Final = "May hold {{name}}, {{reason}}, {{reasons}}, {{count}}, {{since}}, {{duration}} and {{source}}."

MonitorId = Annotated[str, Path(description="The monitor's id (UUIDv7).", max_length=64, pattern=r"^[^\x00]*$")]
Cursor = Annotated[str | None, Query(pattern=r"^[0-9]{1,18}$")]
Seconds = Annotated[float, Field(allow_inf_nan=False, strict=True)]
Vantage = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")]
KindName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,31}$")]
_PORT: Final = (
    r"([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"  # 1 to 65535, for the schema
)
HostPort = Annotated[
    str, StringConstraints(pattern=rf"^(\[[0-9A-Fa-f:.]{{2,45}}\]|[A-Za-z0-9]([A-Za-z0-9._-]{{0,252}})):{_PORT}$")
]


def _small(config: dict[str, Any]) -> dict[str, Any]:
    if len(json.dumps(sayable(config))) > _CONFIG:
        raise ValueError(f"is larger than {_CONFIG} bytes")
    return config


def _never_or_rarely(seconds: int) -> int:
    if 0 < seconds < 60:
        raise ValueError("must be 0 (never), or at least 60")
    return seconds


Config = Annotated[
    dict[str, Any], AfterValidator(_small), Field(description="What the kind asks for: its schema is in /monitor-kinds.")
]


class AlertRule(BaseModel):
    """What is told, to whom and when, once the monitor is down: one alert, and an all-clear to those who may have got it."""

    model_config = ConfigDict(extra="forbid")

    title: Words = Field(policies.DEFAULT_TITLE, max_length=policies.TITLE, description=_TEMPLATE)
    body: Words = Field(policies.DEFAULT_BODY, max_length=policies.BODY, description=_TEMPLATE)
    all_clear_title: Words = Field(policies.DEFAULT_CLEAR_TITLE, max_length=policies.TITLE, description=_TEMPLATE)
    all_clear_body: Words = Field(policies.DEFAULT_CLEAR_BODY, max_length=policies.BODY, description=_TEMPLATE)
    reminder_title: Words = Field(policies.DEFAULT_REMINDER_TITLE, max_length=policies.TITLE, description=_TEMPLATE)
    severity: Severity = Severity.HIGH
    audience: Annotated[dict[str, Any], AfterValidator(sayable)] = Field(description="Who, as in an alert.")
    channels: list[Channel] = Field(default=["sms", "slack", "push"], min_length=1, max_length=8)
    escalation: list[EscalationStep] = Field(default=[], max_length=8)
    release: Release = Field(
        Release.NOW, description="now; hold: after hold_seconds, unless it is dismissed; approve: when somebody says so."
    )
    hold_seconds: int = Field(120, strict=True, ge=1, le=_DAY)
    group: Text | None = Field(None, description="Monitors of one group that fail together are one alert.")
    group_wait_seconds: Seconds = Field(0.5, ge=0, le=600, description="What fails within it is told together.")
    remind_every_seconds: Annotated[int, AfterValidator(_never_or_rarely)] = Field(
        0, strict=True, ge=0, le=7 * _DAY, description="While it lasts; 0: never, else at least 60."
    )
    update_after_seconds: int = Field(
        600,
        strict=True,
        ge=0,
        le=7 * _DAY,
        description="What joins later is told when the last word is so old, or at once if it is worse; 0: never.",
    )
    all_clear: bool = Field(True, strict=True, description="Whether its end is told.")
    on_degraded: bool = Field(False, strict=True, description="Whether degraded is told too.")
    expires_in: int | None = Field(
        None, strict=True, ge=60, le=7 * _DAY, description="Seconds after which nothing more is sent."
    )
    source: Words | None = Field(None, max_length=60, description="Who says it; people see this first.")
    drill: bool = Field(False, strict=True, description='An exercise: every message begins with "DRILL".')


class NewMonitor(BaseModel):
    """What to look at, how often, and when it counts as down. Secrets in config are written only."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "name": "Mail",
                    "kind": "smtp",
                    "config": {"host": "mail.example.org"},
                    "interval_seconds": 30,
                    "alert": {"severity": "critical", "audience": {"everyone": True}, "channels": ["sms", "push"]},
                }
            ]
        },
    )

    name: Text = Field(description="No other monitor has it; alerts name it.")
    kind: KindName
    config: Config
    interval_seconds: Seconds = Field(60, ge=1, le=_DAY, description="Between two looks from one vantage.")
    timeout_seconds: Seconds | None = Field(
        None, ge=0.1, le=300, description="For one look; at most the interval. 10 unless given, or a shorter interval."
    )
    failures: int = Field(3, ge=1, le=20, description="Failed looks in a row until it is down.")
    successes: int = Field(5, ge=1, le=100, description="Good looks in a row until it is well again.")
    quorum: int = Field(1, ge=1, le=20, description="Vantages that must agree.")
    hold_down_seconds: Seconds = Field(60, ge=0, le=_DAY, description="Without any failed look, before it is well again.")
    sign_in_pause_seconds: Seconds = Field(
        300, ge=1, le=_DAY, description="Between looks once our password is refused, so that no mailbox is locked."
    )
    vantages: list[Vantage] = Field(default=["main"], min_length=1, max_length=20, description="Where it is looked at from.")
    control: HostPort | None = Field(
        None, description="host:port; what fails while this cannot be reached either says nothing of the target."
    )
    alert: AlertRule | None = Field(None, description="null: it is watched, and nobody is told.")

    @model_validator(mode="after")
    def _looks_end(self) -> Self:
        if self.timeout_seconds is not None and self.timeout_seconds > self.interval_seconds:
            raise ValueError("timeout_seconds must be at most interval_seconds")
        return self


class Trial(BaseModel):
    """One look, of which nothing is kept."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"kind": "smtp", "config": {"host": "h"}}]})

    kind: KindName
    config: Config
    timeout_seconds: Seconds = Field(_TIMEOUT, ge=0.1, le=60)


class Rule(BaseModel):
    """A monitor's alert, as it was given."""

    title: str
    body: str
    all_clear_title: str
    all_clear_body: str
    reminder_title: str
    severity: Severity
    audience: dict[str, Any]
    channels: list[str]
    escalation: list[EscalationStep]
    release: Release
    hold_seconds: int
    group: str | None
    group_wait_seconds: float
    remind_every_seconds: int
    update_after_seconds: int
    all_clear: bool
    on_degraded: bool
    expires_in: int | None
    source: str | None
    drill: bool


class VantageState(BaseModel):
    """How one vantage sees it."""

    name: str
    next_at: str | None = Field(description="When it looks next; null while paused.")
    last_at: str | None
    holds: Verdict | None = Field(description="What it takes for true; null: it has not seen enough.")
    in_a_row: dict[str, int] = Field(description="Its last looks: how many in a row failed, were ok, …")


class RecentLook(BaseModel):
    at: str
    verdict: Verdict
    latency_ms: int | None


class MonitorLinks(BaseModel):
    self: str
    readings: str
    changes: str


class Monitor(BaseModel):
    """A monitor with its state. Secrets are not shown."""

    id: str
    name: str
    kind: str
    config: dict[str, Any]
    secrets: list[str] = Field(description="JSON pointers into config of what is kept and not shown.")
    interval_seconds: float
    timeout_seconds: float
    failures: int
    successes: int
    quorum: int
    hold_down_seconds: float
    sign_in_pause_seconds: float
    vantages: list[str]
    control: str | None
    alert: Rule | None
    created_at: str
    paused_at: str | None
    state: State = Field(description="ok, degraded, down; unknown: never seen well yet, or too few vantages can say")
    state_since: str
    code: str | None
    reason: str | None
    heard_at: str | None = Field(description="The last heartbeat.")
    in_maintenance: bool = Field(description="Nothing is told now.")
    looks: list[VantageState]
    recent: list[RecentLook] = Field(description="The last 40 readings, the oldest first.")
    links: MonitorLinks


class CreatedMonitor(Monitor):
    ping_url: str | None = Field(
        description="Of a heartbeat: the address to call. Shown this once; whoever has it can say that all is well."
    )


class MonitorPage(BaseModel):
    items: list[Monitor]
    next_cursor: str | None


class TrialReading(BaseModel):
    verdict: Verdict
    code: str
    reason: str
    latency_ms: int | None
    detail: dict[str, Any]


class MonitorKind(BaseModel):
    name: str
    label: str
    codes: dict[str, str] = Field(description="Every code of its readings, and what it means.")
    config_schema: dict[str, Any] = Field(description="JSON schema of config.")


class MonitorKinds(BaseModel):
    items: list[MonitorKind]


@router.get(
    "/monitor-kinds",
    response_model=MonitorKinds,
    summary="What can be watched, and what each kind asks for",
    responses=responses(401, 403, 429, 503),
)
def list_kinds(_caller: CanReadMonitors, wired: Wired) -> MonitorKinds:
    items = [
        MonitorKind(name=name, label=k.label, codes=dict(k.codes), config_schema=k.config.model_json_schema())
        for name, k in wired.kinds.items()
    ]
    return MonitorKinds(items=items)


@router.post(
    "/monitors",
    status_code=201,
    response_model=CreatedMonitor,
    summary="Watch something",
    responses=responses(400, 401, 403, 409, 422, 429, 503),
)
def create_monitor(body: NewMonitor, response: Response, caller: CanWriteMonitors, wired: Wired) -> CreatedMonitor:
    """It looks at once. A heartbeat's answer has the address that is to be called; it is shown this once."""
    view, token = wired.monitors.create(_watch(body, caller, wired))
    response.headers["Location"] = f"/api/v1/monitors/{view.uid}"
    ping_url = None if token is None else f"{wired.settings.resolved_public_url}/api/v1/heartbeats/{token}"
    return CreatedMonitor(**dict(_monitor(view)), ping_url=ping_url)


@router.get(
    "/monitors",
    response_model=MonitorPage,
    summary="Every monitor, with its state",
    responses=responses(401, 403, 422, 429, 503),
)
def list_monitors(
    _caller: CanReadMonitors,
    wired: Wired,
    name: Annotated[
        str | None, Query(max_length=200, pattern=r"^[^\x00]*$", description="Only the one of this name.")
    ] = None,
    cursor: Cursor = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> MonitorPage:
    views, following = wired.monitors.page(None if cursor is None else int(cursor), limit, name)
    return MonitorPage(items=[_monitor(v) for v in views], next_cursor=None if following is None else str(following))


@router.post(
    "/monitors/try",
    response_model=TrialReading,
    summary="One look with a config, of which nothing is kept",
    responses=responses(400, 401, 403, 422, 429, 503),
)
async def try_monitor(body: Trial, _caller: CanWriteMonitors, wired: Wired) -> TrialReading:
    """From the API's own host; answers after `timeout_seconds` at the latest."""
    seen = await wired.monitors.try_out(body.kind, body.config, body.timeout_seconds)
    latency = None if seen.latency is None else round(seen.latency * 1000)
    return TrialReading(
        verdict=seen.verdict, code=seen.code, reason=seen.reason, latency_ms=latency, detail=dict(seen.detail)
    )


@router.get(
    "/monitors/{monitor_id}",
    response_model=Monitor,
    summary="One monitor, with its state",
    responses=responses(401, 403, 404, 422, 429, 503),
)
def get_monitor(monitor_id: MonitorId, _caller: CanReadMonitors, wired: Wired) -> Monitor:
    return _monitor(wired.monitors.get(monitor_id))


@router.put(
    "/monitors/{monitor_id}",
    response_model=Monitor,
    summary="Change a monitor",
    responses=responses(400, 401, 403, 404, 409, 422, 429, 503),
)
def replace_monitor(monitor_id: MonitorId, body: NewMonitor, caller: CanWriteMonitors, wired: Wired) -> Monitor:
    """The whole of it; its kind stays. Secrets that are left out of a config that is otherwise the same are kept."""
    return _monitor(wired.monitors.replace(monitor_id, _watch(body, caller, wired), keep_secrets=True))


@router.delete(
    "/monitors/{monitor_id}",
    status_code=204,
    response_class=Response,
    summary="Watch it no more",
    responses=responses(401, 403, 404, 422, 429, 503),
)
def delete_monitor(monitor_id: MonitorId, _caller: CanWriteMonitors, wired: Wired) -> Response:
    """What it has raised ends with it: whoever may have got the alert gets the all-clear."""
    wired.monitors.delete(monitor_id)
    return Response(status_code=204)


@router.post(
    "/monitors/{monitor_id}/look",
    status_code=202,
    response_model=Monitor,
    summary="Look at once",
    responses=responses(401, 403, 404, 409, 422, 429, 503),
)
def look_now(monitor_id: MonitorId, _caller: CanWriteMonitors, wired: Wired) -> Monitor:
    """From every vantage; the readings follow."""
    return _monitor(wired.monitors.look_now(monitor_id))


@router.post(
    "/monitors/{monitor_id}/pause",
    response_model=Monitor,
    summary="Look no more until it is resumed",
    responses=responses(401, 403, 404, 422, 429, 503),
)
def pause_monitor(monitor_id: MonitorId, _caller: CanWriteMonitors, wired: Wired) -> Monitor:
    return _monitor(wired.monitors.pause(monitor_id))


@router.post(
    "/monitors/{monitor_id}/resume",
    response_model=Monitor,
    summary="Look again",
    responses=responses(401, 403, 404, 422, 429, 503),
)
def resume_monitor(monitor_id: MonitorId, _caller: CanWriteMonitors, wired: Wired) -> Monitor:
    return _monitor(wired.monitors.resume(monitor_id))


def _watch(body: NewMonitor, caller: Caller, wired: Wiring) -> Watch:
    timeout = min(_TIMEOUT, body.interval_seconds) if body.timeout_seconds is None else body.timeout_seconds
    return Watch(
        name=body.name, kind=body.kind, config=body.config, interval=body.interval_seconds, timeout=timeout,
        failures=body.failures, successes=body.successes, quorum=body.quorum, hold_down=body.hold_down_seconds,
        sign_in_pause=body.sign_in_pause_seconds, vantages=tuple(body.vantages), control=body.control,
        policy=None if body.alert is None else policy_of(body.alert, caller, wired),
    )  # fmt: skip


def policy_of(rule: AlertRule, caller: Caller, wired: Wiring) -> Policy:
    """Whoever says what is told, and to whom, sends it: the key must be one that may. Raises Forbidden, Invalid."""
    caller.must_have(Scope.ALERTS_SEND)
    if caller.test and not wired.sandbox_only:
        raise Forbidden("This would be told for real, which a test key may not do. Use a live key, or alert null.")
    try:
        audience = audiences.parse(rule.audience)
    except audiences.InvalidAudience as error:
        raise Invalid(f"alert.{error}") from None
    wired.alerts.check_audience(audience)
    steps = steps_of(rule.channels, [Step(tuple(e.channels), e.after_seconds) for e in rule.escalation])
    return Policy(
        audience=audience, steps=tuple((step.channels, step.after) for step in steps), severity=rule.severity,
        title=rule.title, body=rule.body, clear_title=rule.all_clear_title, clear_body=rule.all_clear_body,
        reminder_title=rule.reminder_title, release=rule.release, hold=rule.hold_seconds, group=rule.group or "",
        group_wait=rule.group_wait_seconds, remind_every=rule.remind_every_seconds,
        update_after=rule.update_after_seconds, all_clear=rule.all_clear,
        on_degraded=rule.on_degraded, expires_in=rule.expires_in, source=rule.source, drill=rule.drill,
    )  # fmt: skip


def _monitor(view: MonitorView) -> Monitor:
    watch, base = view.watch, f"/api/v1/monitors/{view.uid}"
    looks = [
        VantageState(
            name=v.name, next_at=optional(v.next_at), last_at=optional(v.last_at),
            holds=None if v.holds is None else Verdict(v.holds), in_a_row=dict(v.in_a_row),
        )
        for v in view.vantages
    ]  # fmt: skip
    recent = [RecentLook(at=rfc3339(r.at), verdict=Verdict(r.verdict), latency_ms=r.latency_ms) for r in view.recent]
    return Monitor(
        id=view.uid, name=watch.name, kind=watch.kind, config=dict(watch.config), secrets=list(view.secrets),
        interval_seconds=watch.interval, timeout_seconds=watch.timeout, failures=watch.failures, successes=watch.successes,
        quorum=watch.quorum, hold_down_seconds=watch.hold_down, sign_in_pause_seconds=watch.sign_in_pause,
        vantages=list(watch.vantages), control=watch.control, alert=None if watch.policy is None else rule_of(watch.policy),
        created_at=rfc3339(view.created_at), paused_at=optional(view.paused_at), state=State(view.state),
        state_since=rfc3339(view.state_since), code=view.code, reason=view.reason, heard_at=optional(view.seen_at),
        in_maintenance=view.in_maintenance, looks=looks, recent=recent,
        links=MonitorLinks(self=base, readings=f"{base}/readings", changes=f"{base}/changes"),
    )  # fmt: skip


def rule_of(policy: Policy) -> Rule:
    (first, _), *rest = policy.steps
    return Rule(
        title=policy.title, body=policy.body, all_clear_title=policy.clear_title, all_clear_body=policy.clear_body,
        reminder_title=policy.reminder_title, severity=policy.severity, audience=audiences.to_json(policy.audience),
        channels=list(first),
        escalation=[EscalationStep(after_seconds=after, channels=list(channels)) for channels, after in rest],
        release=policy.release, hold_seconds=policy.hold, group=policy.group or None, group_wait_seconds=policy.group_wait,
        remind_every_seconds=policy.remind_every, update_after_seconds=policy.update_after,
        all_clear=policy.all_clear, on_degraded=policy.on_degraded,
        expires_in=policy.expires_in, source=policy.source, drill=policy.drill,
    )  # fmt: skip
