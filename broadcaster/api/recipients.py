"""People over HTTP."""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path as FilePath
from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from broadcaster.api.deps import CanReadDirectory, CanWriteDirectory, Wired
from broadcaster.api.problems import responses
from broadcaster.api.times import optional, rfc3339
from broadcaster.domain.errors import Invalid, Problem, TooLarge
from broadcaster.services.directory import Person, RecipientView
from broadcaster.services.importing import Importer, Options, Progress

router = APIRouter(tags=["recipients"])

IMPORT_LIMIT: Final = 1 << 30  # bytes

RecipientId = Annotated[str, Path(max_length=64, description="The recipient's id (UUIDv7).")]
Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]
RawAddress = Annotated[str, StringConstraints(min_length=1, max_length=4000)]


class NewRecipient(BaseModel):
    """Addresses per channel are written only; answers show them masked."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "name": "Amina Adeyemi",
                    "external_id": "S001234",
                    "contacts": {"sms": ["+447700900123"]},
                    "tags": {"role": "nurse", "site": "Northmoor"},
                }
            ]
        },
    )

    name: Text
    external_id: Text | None = None
    contacts: dict[Text, list[RawAddress]] = Field(default={}, max_length=8)
    tags: dict[Text, Text | list[Text]] = Field(default={}, max_length=50)
    groups: list[Text] = Field(default=[], max_length=200, description="Names or ids of groups that exist.")


class RecipientChange(BaseModel):
    """Only what is given changes. ``contacts`` replaces the addresses of the channels it names."""

    model_config = ConfigDict(extra="forbid")

    name: Text | None = None
    external_id: Text | None = None
    contacts: dict[Text, list[RawAddress]] | None = Field(None, max_length=8)
    tags: dict[Text, Text | list[Text]] | None = Field(None, max_length=50)
    groups: list[Text] | None = Field(None, max_length=200)


class Contact(BaseModel):
    id: str
    channel: str
    address: str = Field(description="Masked.")
    disabled_at: str | None
    disabled_reason: str | None


class GroupName(BaseModel):
    id: str
    name: str


class Recipient(BaseModel):
    id: str
    external_id: str | None
    name: str
    contacts: list[Contact]
    tags: dict[str, list[str]]
    groups: list[GroupName]
    created_at: str


class RecipientPage(BaseModel):
    items: list[Recipient]
    next_cursor: str | None


class BadRow(BaseModel):
    line: int = Field(description="Physical line in the file; the header's is 1.")
    column: str | None
    reason: str


class ImportResult(BaseModel):
    rows: int
    created: int
    updated: int
    unchanged: int
    skipped: int
    errors_total: int
    errors: list[BadRow] = Field(description="The first 1,000.")
    dry_run: bool
    revision: int | None


@router.post(
    "/recipients",
    status_code=201,
    response_model=Recipient,
    summary="Add a person",
    responses=responses(400, 401, 403, 409, 422, 429, 503),
)
def create_recipient(body: NewRecipient, response: Response, _caller: CanWriteDirectory, wired: Wired) -> Recipient:
    view = wired.directory.create(Person(body.name, body.external_id, body.contacts, _tags(body.tags), body.groups))
    response.headers["Location"] = f"/api/v1/recipients/{view.id}"
    return shown(view)


@router.get(
    "/recipients",
    response_model=RecipientPage,
    summary="List and search people",
    responses=responses(401, 403, 422, 429, 503),
)
def list_recipients(
    _caller: CanReadDirectory,
    wired: Wired,
    q: Annotated[str | None, Query(max_length=200, description="Part of a name, or a whole external_id.")] = None,
    tag: Annotated[str | None, Query(max_length=401, description="key:value")] = None,
    group: Annotated[str | None, Query(max_length=200, description="A group's id or name.")] = None,
    cursor: Annotated[str | None, Query(pattern=r"^[0-9]{1,18}$")] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> RecipientPage:
    if any("\x00" in (text or "") for text in (q, tag, group)):
        raise Invalid("q, tag and group must not hold NUL characters.")
    wanted = None
    if tag is not None:
        key, colon, value = tag.partition(":")
        if not colon:
            raise Invalid("tag: expected key:value, for example site:Northmoor.")
        wanted = (key, value)
    views, following = wired.directory.search(text=q, tag=wanted, group=group, cursor=int(cursor or 0), limit=limit)
    return RecipientPage(items=[shown(v) for v in views], next_cursor=None if following is None else str(following))


@router.get(
    "/recipients/{recipient_id}",
    response_model=Recipient,
    summary="One person",
    responses=responses(401, 403, 404, 422, 429, 503),
)
def get_recipient(recipient_id: RecipientId, _caller: CanReadDirectory, wired: Wired) -> Recipient:
    return shown(wired.directory.get(_id(recipient_id)))


@router.patch(
    "/recipients/{recipient_id}",
    response_model=Recipient,
    summary="Change a person",
    responses=responses(400, 401, 403, 404, 409, 422, 429, 503),
)
def change_recipient(
    recipient_id: RecipientId, body: RecipientChange, _caller: CanWriteDirectory, wired: Wired
) -> Recipient:
    tags = None if body.tags is None else _tags(body.tags)
    person = Person(body.name, body.external_id, body.contacts, tags, body.groups)
    return shown(wired.directory.change(_id(recipient_id), person))


@router.delete(
    "/recipients/{recipient_id}",
    status_code=204,
    response_class=Response,
    summary="Remove a person",
    responses=responses(401, 403, 404, 422, 429, 503),
)
def delete_recipient(recipient_id: RecipientId, _caller: CanWriteDirectory, wired: Wired) -> Response:
    wired.directory.delete(_id(recipient_id))
    return Response(status_code=204)


@router.post(
    "/recipients/import",
    response_model=ImportResult,
    summary="Import people from a CSV",
    responses=responses(400, 401, 403, 413, 415, 422, 429, 503),
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"text/csv": {"schema": {"type": "string", "format": "binary"}}},
        }
    },
)
async def import_recipients(
    request: Request,
    _caller: CanWriteDirectory,
    wired: Wired,
    dry_run: bool = False,
    mode: Annotated[str, Query(pattern="^(all_or_nothing|skip_bad)$")] = "all_or_nothing",
    on_duplicate: Annotated[str, Query(pattern="^(update|error)$")] = "update",
) -> Response:
    """Columns: name, external_id, phone, slack, groups (;-separated); any other column becomes a tag.

    All or nothing unless mode=skip_bad. With `Accept: application/x-ndjson` it answers progress lines, then the result
    (with `status` 422 and the problem's members when it was refused).
    """
    if request.headers.get("content-type", "").partition(";")[0].strip() not in ("text/csv", "application/octet-stream"):
        raise UnsupportedType("Send the file as text/csv.")
    options = Options(dry_run, mode == "skip_bad", on_duplicate == "update")
    path = await _spool(request, wired.settings.data_dir)
    if "application/x-ndjson" in request.headers.get("accept", ""):
        return StreamingResponse(_lines(wired.importer, path, options), media_type="application/x-ndjson")
    try:
        return JSONResponse(await run_in_threadpool(_result, wired.importer, path, options))
    finally:
        path.unlink(missing_ok=True)


class UnsupportedType(Problem):
    status, slug, title = 415, "unsupported-type", "This content type is not taken here"


async def _spool(request: Request, folder: FilePath) -> FilePath:
    """The body on disk, for its reading."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=folder, prefix="import-", suffix=".csv", delete=False) as file:
        path, size = FilePath(file.name), 0
        try:
            async for part in request.stream():
                size += len(part)
                if size > IMPORT_LIMIT:
                    raise TooLarge("An import is at most 1 GiB; split the file.")
                file.write(part)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
    return path


def _result(importer: Importer, path: FilePath, options: Options) -> dict[str, Any]:
    for step in importer.run(path, options):
        if not isinstance(step, Progress):
            return step.as_dict()
    raise AssertionError("an import ends with its result")


def _lines(importer: Importer, path: FilePath, options: Options) -> Iterator[str]:
    try:
        for step in importer.run(path, options):
            if isinstance(step, Progress):
                yield json.dumps({"phase": step.phase, "rows": step.rows, "total": step.total}) + "\n"
            else:
                yield json.dumps({"status": 200, **step.as_dict()}) + "\n"
    except Problem as problem:
        # ``errors`` may hold dataclasses' dictionaries only; the status line has long left.
        body = {"status": problem.status, "detail": problem.detail, "errors_total": 0, "errors": [], **problem.extra}
        yield json.dumps(body) + "\n"
    finally:
        path.unlink(missing_ok=True)


def shown(view: RecipientView) -> Recipient:
    return Recipient(
        id=view.id,
        external_id=view.external_id,
        name=view.name,
        contacts=[
            Contact(
                id=c.id, channel=c.channel, address=c.address, disabled_at=optional(c.disabled_at),
                disabled_reason=c.disabled_reason,
            )
            for c in view.contacts
        ],
        tags=view.tags,
        groups=[GroupName(id=g.id, name=g.name) for g in view.groups],
        created_at=rfc3339(view.created_at),
    )  # fmt: skip


def _tags(tags: dict[str, str | list[str]]) -> dict[str, list[str]]:
    return {key: [value] if isinstance(value, str) else list(value) for key, value in tags.items()}


def _id(text: str) -> str:
    return text.replace("\x00", "")
