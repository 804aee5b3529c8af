"""Incidents over HTTP: what is down for one cause, what was told of it, and whether it shall be."""

from typing import Annotated

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, Field

from broadcaster.api.deps import CanReadMonitors, CanSend, Wired
from broadcaster.api.monitors import Cursor
from broadcaster.api.problems import responses
from broadcaster.api.times import optional, rfc3339
from broadcaster.domain.errors import Forbidden
from broadcaster.domain.messages import Severity
from broadcaster.services.incidents import IncidentView
from broadcaster.services.keys import Caller
from broadcaster.wiring import Wiring

router = APIRouter(tags=["incidents"])

IncidentId = Annotated[str, Path(description="The incident's id (UUIDv7).", max_length=64, pattern=r"^[^\x00]*$")]


class IncidentCause(BaseModel):
    """One thing that is or was down."""

    name: str
    kind: str = Field(description="In words.")
    reason: str
    opened_at: str
    cleared_at: str | None


class IncidentAlert(BaseModel):
    what: str = Field(
        description="alert, update (what has joined, or grown worse), reminder, all_clear, or earlier: of an incident "
        "before this, of which word of its end had not gone out"
    )
    alert: str = Field(description="The alert's id.")


class Incident(BaseModel):
    """Everything that fails together is one incident, and one alert."""

    id: str
    state: str = Field(
        description="waiting (it will be told by itself at due_at), asking (for approval), told, "
        "clearing (the all-clear is on its way), closed or dismissed"
    )
    title: str
    severity: Severity
    opened_at: str
    due_at: str | None
    told_at: str | None
    cleared_at: str | None = Field(description="When the last of its causes went.")
    closed_at: str | None
    reminders: int
    decided_by: str | None = Field(description="Who released or dismissed it.")
    fault: str | None = Field(description="Why it could not be told; it is tried again.")
    lacks: str | None = Field(description="Without what it was told: a group or channel that is gone.")
    sandbox: bool = Field(description="It reaches the sandbox only.")
    causes: list[IncidentCause]
    alerts: list[IncidentAlert]


class IncidentPage(BaseModel):
    items: list[Incident]
    next_cursor: str | None


@router.get(
    "/incidents",
    response_model=IncidentPage,
    summary="Incidents, the newest first",
    responses=responses(401, 403, 422, 429, 503),
)
def list_incidents(
    _caller: CanReadMonitors,
    wired: Wired,
    open: Annotated[bool, Query(description="Only those that are not closed.")] = False,
    cursor: Cursor = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> IncidentPage:
    views, following = wired.incidents.page(None if cursor is None else int(cursor), limit, only_open=open)
    items = [_incident(v, wired) for v in views]
    return IncidentPage(items=items, next_cursor=None if following is None else str(following))


@router.get(
    "/incidents/{incident_id}",
    response_model=Incident,
    summary="One incident",
    responses=responses(401, 403, 404, 422, 429, 503),
)
def get_incident(incident_id: IncidentId, _caller: CanReadMonitors, wired: Wired) -> Incident:
    return _incident(wired.incidents.get(incident_id), wired)


@router.post(
    "/incidents/{incident_id}/release",
    response_model=Incident,
    summary="Tell it now",
    responses=responses(401, 403, 404, 409, 422, 429, 503),
)
def release_incident(incident_id: IncidentId, caller: CanSend, wired: Wired) -> Incident:
    """What is held or asks for approval. 409 once it was told, dismissed, or is over."""
    _check_test(wired.incidents.get(incident_id), caller, wired)
    wired.incidents.release(incident_id, caller.name)
    return _incident(wired.incidents.get(incident_id), wired)


@router.post(
    "/incidents/{incident_id}/dismiss",
    response_model=Incident,
    summary="Tell nobody",
    responses=responses(401, 403, 404, 409, 422, 429, 503),
)
def dismiss_incident(incident_id: IncidentId, caller: CanSend, wired: Wired) -> Incident:
    """For as long as these causes last. 409 once it was told, dismissed, or is over."""
    _check_test(wired.incidents.get(incident_id), caller, wired)
    wired.incidents.dismiss(incident_id, caller.name)
    return _incident(wired.incidents.get(incident_id), wired)


@router.post(
    "/incidents/{incident_id}/close",
    response_model=Incident,
    summary="It is over",
    responses=responses(401, 403, 404, 409, 422, 429, 503),
)
def close_incident(incident_id: IncidentId, caller: CanSend, wired: Wired) -> Incident:
    """Whatever its causes say: the all-clear is due. What still fails is a new incident. 409 where nothing was told."""
    _check_test(wired.incidents.get(incident_id), caller, wired)
    wired.incidents.close(incident_id, caller.name)
    return _incident(wired.incidents.get(incident_id), wired)


def _check_test(incident: IncidentView, caller: Caller, wired: Wiring) -> None:
    if caller.test and not (incident.sandbox or wired.sandbox_only):
        raise Forbidden("This incident is for real people: a test key may not decide about it.")


def _incident(view: IncidentView, wired: Wiring) -> Incident:
    causes = [
        IncidentCause(
            name=c.name, kind=c.kind, reason=c.reason, opened_at=rfc3339(c.opened_at), cleared_at=optional(c.cleared_at)
        )
        for c in view.causes
    ]
    return Incident(
        id=view.uid, state=view.state, title=view.title, severity=Severity(view.severity), opened_at=rfc3339(view.opened_at),
        due_at=optional(view.due_at), told_at=optional(view.told_at), cleared_at=optional(view.cleared_at),
        closed_at=optional(view.closed_at), reminders=view.reminders, decided_by=view.decided_by, fault=view.fault,
        lacks=view.lacks,
        sandbox=view.sandbox or wired.sandbox_only, causes=causes,
        alerts=[IncidentAlert(what=what, alert=uid) for what, uid in view.alerts],
    )  # fmt: skip
