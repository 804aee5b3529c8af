"""Groups over HTTP."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Response
from pydantic import BaseModel, ConfigDict

from broadcaster.api.deps import CanReadDirectory, CanWriteDirectory, Wired
from broadcaster.api.problems import responses
from broadcaster.api.recipients import RecipientPage, Text, shown
from broadcaster.api.times import rfc3339
from broadcaster.services.directory import GroupView

router = APIRouter(tags=["groups"])

GroupId = Annotated[str, Path(max_length=64, description="The group's id (UUIDv7).", pattern=r"^[^\x00]*$")]
MemberId = Annotated[str, Path(max_length=64, description="The recipient's id (UUIDv7).", pattern=r"^[^\x00]*$")]
Cursor = Annotated[str | None, Query(pattern=r"^[0-9]{1,18}$")]


class NewGroup(BaseModel):
    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"name": "On call"}]})

    name: Text
    description: Text | None = None


class GroupChange(BaseModel):
    """Only what is given changes."""

    model_config = ConfigDict(extra="forbid")

    name: Text | None = None
    description: Text | None = None


class Group(BaseModel):
    id: str
    name: str
    description: str | None
    members: int
    created_at: str


class GroupPage(BaseModel):
    items: list[Group]
    next_cursor: str | None


@router.post(
    "/groups",
    status_code=201,
    response_model=Group,
    summary="Add a group",
    responses=responses(400, 401, 403, 409, 422, 429, 503),
)
def create_group(body: NewGroup, response: Response, _caller: CanWriteDirectory, wired: Wired) -> Group:
    view = wired.directory.create_group(body.name, body.description)
    response.headers["Location"] = f"/api/v1/groups/{view.id}"
    return _group(view)


@router.get("/groups", response_model=GroupPage, summary="List groups", responses=responses(401, 403, 422, 429, 503))
def list_groups(
    _caller: CanReadDirectory,
    wired: Wired,
    cursor: Cursor = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> GroupPage:
    views, following = wired.directory.list_groups(cursor=int(cursor or 0), limit=limit)
    return GroupPage(items=[_group(v) for v in views], next_cursor=None if following is None else str(following))


@router.get(
    "/groups/{group_id}", response_model=Group, summary="One group", responses=responses(401, 403, 404, 422, 429, 503)
)
def get_group(group_id: GroupId, _caller: CanReadDirectory, wired: Wired) -> Group:
    return _group(wired.directory.get_group(group_id))


@router.patch(
    "/groups/{group_id}",
    response_model=Group,
    summary="Change a group",
    responses=responses(400, 401, 403, 404, 409, 422, 429, 503),
)
def change_group(group_id: GroupId, body: GroupChange, _caller: CanWriteDirectory, wired: Wired) -> Group:
    return _group(wired.directory.change_group(group_id, body.name, body.description))


@router.delete(
    "/groups/{group_id}",
    status_code=204,
    response_class=Response,
    summary="Remove a group; its members stay",
    responses=responses(401, 403, 404, 422, 429, 503),
)
def delete_group(group_id: GroupId, _caller: CanWriteDirectory, wired: Wired) -> Response:
    wired.directory.delete_group(group_id)
    return Response(status_code=204)


@router.get(
    "/groups/{group_id}/members",
    response_model=RecipientPage,
    summary="Who is in it",
    responses=responses(401, 403, 404, 422, 429, 503),
)
def list_members(
    group_id: GroupId,
    _caller: CanReadDirectory,
    wired: Wired,
    cursor: Cursor = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> RecipientPage:
    group = wired.directory.get_group(group_id)
    views, following = wired.directory.search(text=None, tag=None, group=group.id, cursor=int(cursor or 0), limit=limit)
    return RecipientPage(items=[shown(v) for v in views], next_cursor=None if following is None else str(following))


@router.put(
    "/groups/{group_id}/members/{recipient_id}",
    status_code=204,
    response_class=Response,
    summary="Put a person in",
    responses=responses(401, 403, 404, 409, 422, 429, 503),
)
def add_member(group_id: GroupId, recipient_id: MemberId, _caller: CanWriteDirectory, wired: Wired) -> Response:
    wired.directory.add_member(group_id, recipient_id)
    return Response(status_code=204)


@router.delete(
    "/groups/{group_id}/members/{recipient_id}",
    status_code=204,
    response_class=Response,
    summary="Take a person out",
    responses=responses(401, 403, 404, 422, 429, 503),
)
def remove_member(group_id: GroupId, recipient_id: MemberId, _caller: CanWriteDirectory, wired: Wired) -> Response:
    wired.directory.remove_member(group_id, recipient_id)
    return Response(status_code=204)


def _group(view: GroupView) -> Group:
    return Group(
        id=view.id, name=view.name, description=view.description, members=view.members, created_at=rfc3339(view.created_at)
    )
