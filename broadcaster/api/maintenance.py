"""Maintenance over HTTP: times in which nothing is told."""

import time
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Final, Self

from fastapi import APIRouter, Path, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, model_validator

from broadcaster.api.deps import CanReadMonitors, CanWriteMonitors, Wired
from broadcaster.api.problems import responses
from broadcaster.api.recipients import Text
from broadcaster.api.times import rfc3339
from broadcaster.domain.errors import Invalid
from broadcaster.services.monitors import Window

router = APIRouter(tags=["monitors"])

LONGEST: Final = 31 * 86_400  # s; what is longer is a pause, and nobody remembers that it is there
_RFC3339: Final = r"^\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}:\d{2}(\.\d{1,6})?([Zz]|[+-]\d{2}:\d{2})$"

WindowId = Annotated[str, Path(description="The window's id (UUIDv7).", max_length=64, pattern=r"^[^\x00]*$")]


_LATEST: Final = 221_845_392_000_000  # 9000-01-01, ms since the epoch: what comes of it can still be written


def _moment(text: str) -> str:
    try:
        at = _ms(text)
    except (ValueError, OverflowError):
        raise ValueError("is no time that there is") from None
    if not 0 <= at < _LATEST:
        raise ValueError("must be before the year 9000")
    return text


Moment = Annotated[
    str,
    StringConstraints(pattern=_RFC3339, max_length=40),
    AfterValidator(_moment),
    Field(examples=["2026-03-01T22:00:00Z"], json_schema_extra={"format": "date-time"}),
]


class NewWindow(BaseModel):
    """Looks go on and states change; nobody is told. Its length by ``until`` or by ``for_seconds``, 31 days at most."""

    model_config = ConfigDict(
        extra="forbid",
        populate_by_name=True,
        json_schema_extra={"examples": [{"monitor": None, "for_seconds": 7200, "note": "Mail servers are moved"}]},
    )

    monitor: Annotated[str, StringConstraints(max_length=64, pattern=r"^[^\x00]*$")] | None = Field(
        description="A monitor's id; null: every monitor."
    )
    begins: Moment | None = Field(None, alias="from", description="Now unless given.")
    until: Moment | None = None
    for_seconds: int | None = Field(None, ge=1, le=LONGEST)
    note: Text = "Maintenance"

    @model_validator(mode="after")
    def _has_one_end(self) -> Self:
        if (self.until is None) == (self.for_seconds is None):
            raise ValueError("give either until or for_seconds")
        return self


class Phase(StrEnum):
    COMING = "coming"
    NOW = "now"
    OVER = "over"


class MaintenanceWindow(BaseModel):
    id: str
    monitor: str | None = Field(description="Its monitor's id; null: every monitor.")
    monitor_name: str | None
    begins: str = Field(serialization_alias="from")
    until: str
    phase: Phase
    note: str


class MaintenanceWindows(BaseModel):
    items: list[MaintenanceWindow]


@router.post(
    "/maintenance",
    status_code=201,
    response_model=MaintenanceWindow,
    summary="Tell nobody for a time",
    responses=responses(400, 401, 403, 404, 422, 429, 503),
)
def start_maintenance(body: NewWindow, caller: CanWriteMonitors, wired: Wired) -> MaintenanceWindow:
    begins = None if body.begins is None else _ms(body.begins)
    since = begins or int(time.time() * 1000)
    until = since + (body.for_seconds or 0) * 1000 if body.until is None else _ms(body.until)
    if until - since > LONGEST * 1000:
        raise Invalid("until: a maintenance lasts 31 days at most; pause the monitor instead.")
    return _window(wired.monitors.add_window(body.monitor, begins, until, body.note, caller.name))


@router.get(
    "/maintenance",
    response_model=MaintenanceWindows,
    summary="Maintenance that is or will be, and the last that was",
    responses=responses(401, 403, 429, 503),
)
def list_maintenance(_caller: CanReadMonitors, wired: Wired) -> MaintenanceWindows:
    return MaintenanceWindows(items=[_window(w) for w in wired.monitors.windows()])


@router.delete(
    "/maintenance/{window_id}",
    status_code=204,
    response_class=Response,
    summary="End it now",
    responses=responses(401, 403, 404, 422, 429, 503),
)
def end_maintenance(window_id: WindowId, _caller: CanWriteMonitors, wired: Wired) -> Response:
    wired.monitors.end_window(window_id)
    return Response(status_code=204)


def _ms(text: str) -> int:
    """ms since the epoch. Raises ValueError, OverflowError."""
    moment = datetime.fromisoformat(text.upper().replace(" ", "T"))
    return (moment - datetime.fromisoformat("1970-01-01T00:00:00+00:00")) // timedelta(milliseconds=1)


def _window(window: Window) -> MaintenanceWindow:
    now = time.time() * 1000
    phase = Phase.COMING if window.from_at > now else Phase.NOW if window.until_at > now else Phase.OVER
    return MaintenanceWindow(
        id=window.uid, monitor=window.monitor, monitor_name=window.name, begins=rfc3339(window.from_at),
        until=rfc3339(window.until_at), phase=phase, note=window.note,
    )  # fmt: skip
