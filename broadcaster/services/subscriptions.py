"""Browsers that can be told: enrolling, moving and ending push subscriptions.

A browser that nobody signed in on may enrol with a signed link; to leave, it proves that it owns the subscription by
knowing its ``auth`` secret.
"""

import hashlib
import hmac
import json
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Row
from sqlalchemy.exc import IntegrityError
from uuid_utils import uuid7

from broadcaster.domain import tokens
from broadcaster.domain.channel import ChannelSet
from broadcaster.domain.errors import Conflict, Invalid, NotFound, NotSignedIn
from broadcaster.domain.messages import Address, InvalidAddress
from broadcaster.services.directory import ENROLLED, channel_of
from broadcaster.store import directory as people
from broadcaster.store import revisions
from broadcaster.store import subscriptions as store
from broadcaster.store.database import Database, read_clock

LINK_SECONDS: Final = 14 * 86_400
_PURPOSE: Final = "enrol"
_TRIES: Final = 3


@dataclass(frozen=True, slots=True)
class Subscribed:
    """``created``: False when the browser was enrolled already."""

    uid: str
    recipient: str
    masked: str
    created: bool


@dataclass(frozen=True, slots=True)
class Enrolment:
    """Whom a link enrols. Times are ms since the epoch."""

    recipient: str
    name: str
    expires_at: int


@dataclass(frozen=True, slots=True)
class EnrolmentLink:
    url: str
    expires_at: int


class Subscriptions:
    """Push subscriptions of the people in the directory."""

    def __init__(
        self, database: Database, channels: ChannelSet, secret: bytes, public_url: str, vapid_public_key: str
    ) -> None:
        self._database = database
        self._channels = channels
        self._secret = secret
        self._public_url = public_url.rstrip("/")
        self.vapid_public_key = vapid_public_key

    def link(self, recipient: str, *, seconds: int = LINK_SECONDS) -> EnrolmentLink:
        """A link that enrols browsers for this person until it expires. Raises NotFound."""
        with self._database.read() as connection:
            row = _person(connection, recipient)
            expires = read_clock(connection) // 1000 + seconds
        token = tokens.sign(self._secret, _PURPOSE, row.id, expires)
        return EnrolmentLink(f"{self._public_url}/enrol/{token}", expires * 1000)

    def enrolment(self, token: str) -> Enrolment | None:
        """Whom the link's token enrols; None where it is not ours, has expired, or the person has left."""
        with self._database.read() as connection:
            found = self._enrolled(connection, token)
        return None if found is None else Enrolment(found[0].uid, found[0].name, found[1] * 1000)

    def subscribe(
        self, raw: dict[str, Any], *, recipient: str | None = None, enrolment: str | None = None, user_agent: str | None = None
    ) -> Subscribed:
        """Enrols a browser for one person; again is harmless, and for another person it moves.

        ``raw``: PushSubscription.toJSON(). Raises Invalid (subscription), NotFound (recipient), NotSignedIn (enrolment).
        """
        address = self._parse(raw)
        for _ in range(_TRIES):
            try:
                return self._subscribe(address, recipient, enrolment, user_agent)
            except IntegrityError:  # the same browser, twice at once
                continue
        raise Conflict("This browser is being enrolled at this moment; try again.")

    def unsubscribe(self, endpoint: str, auth: str) -> None:
        """Disables one browser's contact. Raises NotFound, with the same words for a wrong secret."""
        with self._database.write() as connection:
            row = store.by_endpoint(connection, _hash(endpoint))
            kept = json.loads(row.address)["keys"]["auth"] if row is not None else ""
            if not hmac.compare_digest(_plain(kept), _plain(auth)) or row is None:
                raise NotFound("There is no such subscription.")
            store.disable(connection, row.contact_id, read_clock(connection), "unsubscribed")

    def _subscribe(
        self, address: Address, recipient: str | None, enrolment: str | None, user_agent: str | None
    ) -> Subscribed:
        with self._database.write() as connection:
            person = self._whom(connection, recipient, enrolment)
            endpoint = _hash(address.identity)
            row = store.by_endpoint(connection, endpoint)
            fresh = {"vapid_public_key": self.vapid_public_key, "user_agent": user_agent}
            if row is not None and row.recipient_id == person.id and row.to_rev is None:
                store.refresh_contact(connection, row.contact_id, address.value, address.masked)
                store.update_subscription(connection, row.contact_id, **fresh)
                return Subscribed(row.uid, person.uid, address.masked, created=False)
            revision, at, uid = revisions.current(connection), read_clock(connection), str(uuid7())
            if row is not None:
                store.end_contact(connection, row.contact_id, revision, at, "moved")
            contact = store.insert_contact(
                connection, uid=uid, recipient_id=person.id, channel=ENROLLED, address=address.value,
                identity=address.identity, masked=address.masked, created_at=at, from_rev=revision,
            )  # fmt: skip
            if row is None:
                store.insert_subscription(
                    connection, contact_id=contact, endpoint_hash=endpoint, created_at=at, **fresh
                )
            else:
                store.update_subscription(connection, row.contact_id, contact_id=contact, created_at=at, **fresh)
            return Subscribed(uid, person.uid, address.masked, created=True)

    def _parse(self, raw: dict[str, Any]) -> Address:
        channel = channel_of(self._channels, ENROLLED)
        if channel is None:
            raise Invalid("Web push is not configured here.")
        try:
            return channel.parse_address(json.dumps(raw))
        except InvalidAddress as error:
            raise Invalid(str(error)) from None

    def _whom(self, connection: Connection, recipient: str | None, enrolment: str | None) -> Row[Any]:
        if enrolment is None:
            return _person(connection, recipient or "")
        found = self._enrolled(connection, enrolment)
        if found is None:
            raise NotSignedIn("This enrolment link is not valid any more. Ask for a new one.")
        return found[0]

    def _enrolled(self, connection: Connection, token: str) -> tuple[Row[Any], int] | None:
        numbers = tokens.verify(self._secret, _PURPOSE, token)
        if numbers is None or len(numbers) != 2 or numbers[1] * 1000 <= read_clock(connection):
            return None
        row = people.recipient_by_number(connection, numbers[0], revisions.current(connection))
        return None if row is None else (row, numbers[1])


def _person(connection: Connection, uid: str) -> Row[Any]:
    row = people.recipient(connection, uid, revisions.current(connection))
    if row is None:
        raise NotFound("There is no recipient of this id.")
    return row


def _hash(endpoint: str) -> str:
    return hashlib.sha256(endpoint.encode()).hexdigest()


def _plain(secret: str) -> bytes:
    """Browsers write base64url with and without padding."""
    return secret.replace("+", "-").replace("/", "_").rstrip("=").encode()
