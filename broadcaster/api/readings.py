"""What a monitor has seen, and how its state has changed: page by page, or all of it as a CSV."""

import csv
import io
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any, Final, TypeVar

from fastapi import APIRouter, Header, Query, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

from broadcaster.api.deps import CanReadMonitors, Wired
from broadcaster.api.monitors import Cursor, MonitorId
from broadcaster.api.problems import responses
from broadcaster.api.times import rfc3339
from broadcaster.domain.errors import NotFound
from broadcaster.domain.judgement import State
from broadcaster.domain.monitor import Verdict
from broadcaster.services.monitors import Changed, Seen

router = APIRouter(tags=["monitors"])

_CSV: Final = "text/csv"
_ROWS: Final = 1_000  # of a CSV, read at a time
_TOLD_AS_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
_BOTH: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "The newest first. As a CSV: all of them, times in RFC 3339.",
        "content": {_CSV: {"schema": {"type": "string"}}},
    },
    **responses(401, 403, 404, 422, 429, 503),
}

Format = Annotated[str | None, Query(pattern="^(json|csv)$", description="Instead of an Accept header.")]
Accept = Annotated[str | None, Header(include_in_schema=False)]
_Row = TypeVar("_Row")


class Reading(BaseModel):
    """One look from one vantage."""

    at: str
    due_at: str
    vantage: str
    verdict: Verdict
    code: str
    reason: str
    latency_ms: int | None
    detail: dict[str, Any] = Field(description="Evidence; what is in it depends on the kind.")


class ReadingPage(BaseModel):
    items: list[Reading]
    next_cursor: str | None


class StateChange(BaseModel):
    at: str
    old: State
    new: State
    code: str | None
    reason: str | None
    evidence: dict[str, Any] = Field(description="vantage -> what it held, and its looks in a row")


class StateChangePage(BaseModel):
    items: list[StateChange]
    next_cursor: str | None


@router.get(
    "/monitors/{monitor_id}/readings",
    response_model=ReadingPage,
    summary="What it has seen in the last 30 days",
    responses=_BOTH,
)
def list_readings(
    monitor_id: MonitorId,
    _caller: CanReadMonitors,
    wired: Wired,
    cursor: Cursor = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    format: Format = None,
    accept: Accept = None,
) -> ReadingPage | Response:
    if _as_csv(format, accept):
        columns = ("at", "due_at", "vantage", "verdict", "code", "reason", "latency_ms", "detail")
        return _sheet(f"readings-{monitor_id}", columns, monitor_id, wired.monitors.readings, _reading_cells)
    views, following = wired.monitors.readings(monitor_id, None if cursor is None else int(cursor), limit)
    items = [
        Reading(
            at=rfc3339(v.at), due_at=rfc3339(v.due_at), vantage=v.vantage, verdict=Verdict(v.verdict), code=v.code,
            reason=v.reason, latency_ms=v.latency_ms, detail=v.detail,
        )
        for v in views
    ]  # fmt: skip
    return ReadingPage(items=items, next_cursor=None if following is None else str(following))


@router.get(
    "/monitors/{monitor_id}/changes",
    response_model=StateChangePage,
    summary="When its state has changed, and why",
    responses=_BOTH,
)
def list_changes(
    monitor_id: MonitorId,
    _caller: CanReadMonitors,
    wired: Wired,
    cursor: Cursor = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    format: Format = None,
    accept: Accept = None,
) -> StateChangePage | Response:
    if _as_csv(format, accept):
        columns = ("at", "old", "new", "code", "reason", "evidence")
        return _sheet(f"changes-{monitor_id}", columns, monitor_id, wired.monitors.changes, _change_cells)
    views, following = wired.monitors.changes(monitor_id, None if cursor is None else int(cursor), limit)
    items = [
        StateChange(
            at=rfc3339(v.at), old=State(v.old), new=State(v.new), code=v.code, reason=v.reason, evidence=v.evidence
        )
        for v in views
    ]  # fmt: skip
    return StateChangePage(items=items, next_cursor=None if following is None else str(following))


def _as_csv(wanted: str | None, accept: str | None) -> bool:
    return _CSV in (accept or "") if wanted is None else wanted == "csv"


def _sheet(
    name: str,
    columns: Sequence[str],
    monitor: str,
    read: Callable[[str, int | None, int], tuple[list[_Row], int | None]],
    cells: Callable[[_Row], list[object]],
) -> StreamingResponse:
    """All rows, some at a time: a month of looks a second does not fit in memory. Raises NotFound."""
    first = read(monitor, None, _ROWS)

    def lines() -> Iterator[str]:
        rows, cursor = first
        yield _line(columns)
        while True:
            yield "".join(_line(cells(row)) for row in rows)
            if cursor is None:
                return
            try:
                rows, cursor = read(monitor, cursor, _ROWS)
            except NotFound:  # deleted in the meantime
                return

    headers = {"Content-Disposition": f'attachment; filename="{name}.csv"', "Cache-Control": "no-store"}
    return StreamingResponse(lines(), media_type=f"{_CSV}; charset=utf-8", headers=headers)


def _reading_cells(seen: Seen) -> list[object]:
    detail = json.dumps(seen.detail) if seen.detail else ""
    times = [rfc3339(seen.at), rfc3339(seen.due_at)]
    return [*times, seen.vantage, seen.verdict, seen.code, seen.reason, seen.latency_ms, detail]


def _change_cells(changed: Changed) -> list[object]:
    evidence = json.dumps(changed.evidence)
    return [rfc3339(changed.at), changed.old, changed.new, changed.code, changed.reason, evidence]


def _line(cells: Sequence[object]) -> str:
    text = io.StringIO()
    csv.writer(text).writerow([_harmless(cell) for cell in cells])
    return text.getvalue()


def _harmless(cell: object) -> object:
    """A spreadsheet takes such a text for a formula; with an apostrophe it is a text."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(_TOLD_AS_FORMULA) else cell
