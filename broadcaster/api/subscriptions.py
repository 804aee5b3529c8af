"""Web push enrolment over HTTP."""

from typing import Annotated

from fastapi import APIRouter, Depends, Header, Path, Response
from fastapi.security.http import HTTPAuthorizationCredentials
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from broadcaster.api.deps import CanWriteDirectory, Wired, bearer
from broadcaster.api.problems import responses
from broadcaster.api.times import rfc3339
from broadcaster.domain.errors import Invalid, NotSignedIn
from broadcaster.services.keys import Scope

router = APIRouter(tags=["push"])

Plain = Annotated[str, StringConstraints(min_length=1, max_length=2048, pattern=r"^[\x21-\x7e]+$")]


class SubscriptionKeys(BaseModel):
    model_config = ConfigDict(extra="forbid")

    p256dh: Plain
    auth: Plain


class NewSubscription(BaseModel):
    """What `PushSubscription.toJSON()` gives, and for whom: an enrolment token, or (with an API key) a recipient."""

    model_config = ConfigDict(extra="forbid")

    endpoint: Plain
    keys: SubscriptionKeys
    expirationTime: float | None = None  # noqa: N815 - the browser's own name (Push API)
    enrolment: Annotated[str, StringConstraints(max_length=200)] | None = None
    recipient: Annotated[str, StringConstraints(max_length=64, pattern=r"^[^\x00]*$")] | None = None


class EndedSubscription(BaseModel):
    model_config = ConfigDict(extra="forbid")

    endpoint: Plain
    auth: Plain = Field(description="The subscription's auth secret: proof that it is yours.")


class Subscription(BaseModel):
    id: str
    created: bool


class PushKey(BaseModel):
    public_key: str = Field(description="applicationServerKey, base64url (RFC 8292, section 3.2).")


class EnrolmentLink(BaseModel):
    url: str
    expires_at: str


@router.get("/push/key", response_model=PushKey, summary="The key browsers subscribe with")
def push_key(wired: Wired) -> PushKey:
    return PushKey(public_key=wired.vapid_public_key)


@router.post(
    "/push/subscriptions",
    status_code=201,
    response_model=Subscription,
    summary="Enrol a browser",
    responses={
        200: {"model": Subscription, "description": "It was enrolled already."},
        **responses(400, 401, 403, 404, 422, 429, 503),
    },
)
def subscribe(
    body: NewSubscription,
    response: Response,
    wired: Wired,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)] = None,
    user_agent: Annotated[str | None, Header()] = None,
) -> Subscription:
    """Either `enrolment` (the token of a personal link), or an API key with directory:write and `recipient`."""
    subscription = {"endpoint": body.endpoint, "keys": body.keys.model_dump()}
    agent = user_agent[:200] if user_agent else None
    if (body.enrolment is None) == (body.recipient is None):
        raise Invalid("Give either enrolment or recipient.")
    if body.enrolment is not None:
        done = wired.subscriptions.subscribe_by_token(body.enrolment, subscription, agent)
    else:
        if credentials is None:
            raise NotSignedIn("An API key with directory:write is needed to enrol somebody by recipient.")
        wired.keys.authenticate(credentials.credentials).must_have(Scope.DIRECTORY_WRITE)
        done = wired.subscriptions.subscribe(body.recipient or "", subscription, agent)
    if not done.created:
        response.status_code = 200
    return Subscription(id=done.id, created=done.created)


@router.delete(
    "/push/subscriptions",
    status_code=204,
    response_class=Response,
    summary="Leave, with this browser only",
    responses=responses(400, 404, 422, 503),
)
def unsubscribe(body: EndedSubscription, wired: Wired) -> Response:
    wired.subscriptions.unsubscribe(body.endpoint, body.auth)
    return Response(status_code=204)


@router.post(
    "/recipients/{recipient_id}/enrolment-links",
    status_code=201,
    response_model=EnrolmentLink,
    summary="A personal link that enrols a browser",
    responses=responses(401, 403, 404, 422, 429, 503),
)
def make_link(
    recipient_id: Annotated[str, Path(max_length=64, pattern=r"^[^\x00]*$")], _caller: CanWriteDirectory, wired: Wired
) -> EnrolmentLink:
    link = wired.subscriptions.link(recipient_id)
    return EnrolmentLink(url=link.url, expires_at=rfc3339(link.expires_at))
