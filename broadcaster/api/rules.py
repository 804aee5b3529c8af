"""The rule table over HTTP: which signals become which alert. The first rule that means a signal takes it."""

from typing import Annotated

from fastapi import APIRouter, Path, Response
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from broadcaster.api.alerts import Words
from broadcaster.api.deps import CanReadMonitors, CanWriteMonitors, Wired
from broadcaster.api.monitors import AlertRule, Rule, policy_of, rule_of
from broadcaster.api.problems import responses
from broadcaster.api.recipients import Text
from broadcaster.domain.matching import LONGEST_PATTERN, Match
from broadcaster.domain.messages import Severity
from broadcaster.domain.policy import BODY, TITLE
from broadcaster.services import signals as service
from broadcaster.services.keys import Caller
from broadcaster.wiring import Wiring

router = APIRouter(tags=["signals"])

RuleId = Annotated[str, Path(description="The rule's id (UUIDv7).", max_length=64, pattern=r"^[^\x00]*$")]
Label = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f]*$")]
Pattern = Annotated[str, StringConstraints(max_length=LONGEST_PATTERN, pattern=r"^[^\x00]*$")]


class Means(BaseModel):
    """Which signals: what is left out means all."""

    model_config = ConfigDict(extra="forbid")

    sources: list[Text] = Field(default=[], max_length=50, description="Names of sources.")
    severities: list[Severity | None] = Field(default=[], max_length=5, description="null: signals that state none.")
    labels: dict[Label, Pattern] = Field(default={}, max_length=20, description="Name to value; * stands for anything.")
    text: Pattern = Field("", description="Stands in the title or body; capitals do not count.")


class SignalAlert(AlertRule):
    """What is told, to whom and when. Unless it says otherwise, in the signal's own words."""

    title: Words = Field(service.TITLE, max_length=TITLE)
    body: Words = Field(service.BODY, max_length=BODY)
    all_clear_title: Words = Field(service.CLEAR_TITLE, max_length=TITLE)
    reminder_title: Words = Field(service.REMINDER_TITLE, max_length=TITLE)
    update_after_seconds: int = Field(
        service.UPDATE_AFTER, strict=True, ge=0, le=7 * 86_400,
        description="What joins later is told when the last word is so old, or at once if it is worse; 0: never.",
    )  # fmt: skip


class NewRule(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "name": "Mail",
                    "match": {"labels": {"service": "mail*"}},
                    "alert": {"audience": {"everyone": True}, "channels": ["sms", "push"]},
                    "group_by": ["site"],
                }
            ]
        },
    )

    name: Text
    match: Means = Means()
    alert: SignalAlert | None = Field(description="null: what matches is dropped.")
    severity_of_signal: bool = Field(
        True, strict=True, description="The alert's severity is the signal's, where it states one."
    )
    group_by: list[Label] = Field(
        default=[],
        max_length=5,
        description="Labels: signals that differ in them are told apart. Else a rule's are one alert.",
    )
    position: int | None = Field(
        None, ge=0, le=1_000, strict=True, description="0 is asked first; left out: where it is, or last."
    )


class SignalRule(BaseModel):
    id: str
    position: int
    name: str
    match: Means
    alert: Rule | None
    severity_of_signal: bool
    group_by: list[str]


class SignalRules(BaseModel):
    items: list[SignalRule]


@router.get(
    "/signal-rules", response_model=SignalRules, summary="The rule table", responses=responses(401, 403, 422, 429, 503)
)
def list_rules(_caller: CanReadMonitors, wired: Wired) -> SignalRules:
    """In the order in which they are asked."""
    return SignalRules(items=[_shown(view) for view in wired.signals.rules()])


@router.post(
    "/signal-rules",
    status_code=201,
    response_model=SignalRule,
    summary="Add a rule",
    responses=responses(400, 401, 403, 409, 422, 429, 503),
)
def add_rule(body: NewRule, response: Response, caller: CanWriteMonitors, wired: Wired) -> SignalRule:
    view = wired.signals.add_rule(_rule(body, caller, wired), body.position)
    response.headers["Location"] = f"/api/v1/signal-rules/{view.uid}"
    return _shown(view)


@router.get(
    "/signal-rules/{rule_id}",
    response_model=SignalRule,
    summary="One rule",
    responses=responses(401, 403, 404, 422, 429, 503),
)
def get_rule(rule_id: RuleId, _caller: CanReadMonitors, wired: Wired) -> SignalRule:
    return _shown(wired.signals.rule(rule_id))


@router.put(
    "/signal-rules/{rule_id}",
    response_model=SignalRule,
    summary="A rule anew",
    responses=responses(400, 401, 403, 404, 422, 429, 503),
)
def replace_rule(rule_id: RuleId, body: NewRule, caller: CanWriteMonitors, wired: Wired) -> SignalRule:
    return _shown(wired.signals.replace_rule(rule_id, _rule(body, caller, wired), body.position))


@router.delete(
    "/signal-rules/{rule_id}",
    status_code=204,
    response_class=Response,
    summary="Remove a rule",
    responses=responses(401, 403, 404, 422, 429, 503),
)
def delete_rule(rule_id: RuleId, _caller: CanWriteMonitors, wired: Wired) -> Response:
    """What it has raised goes on."""
    wired.signals.delete_rule(rule_id)
    return Response(status_code=204)


def _rule(body: NewRule, caller: Caller, wired: Wiring) -> service.Rule:
    match = Match(tuple(body.match.sources), tuple(body.match.severities), dict(body.match.labels), body.match.text)
    policy = None if body.alert is None else policy_of(body.alert, caller, wired)
    return service.Rule(body.name, match, policy, body.severity_of_signal, tuple(body.group_by))


def _shown(view: service.RuleView) -> SignalRule:
    rule = view.rule
    means = Means(
        sources=list(rule.match.sources), severities=list(rule.match.severities), labels=dict(rule.match.labels),
        text=rule.match.text,
    )  # fmt: skip
    return SignalRule(
        id=view.uid, position=view.position, name=rule.name, match=means,
        alert=None if rule.policy is None else rule_of(rule.policy), severity_of_signal=rule.as_signalled,
        group_by=list(rule.group_by),
    )  # fmt: skip
