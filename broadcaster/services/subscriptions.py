"""Browsers that want to be told: enrolment links, push subscriptions, and leaving again."""

import hashlib
import hmac
import json
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy.exc import IntegrityError
from uuid_utils import uuid7

from broadcaster.domain import tokens
from broadcaster.domain.channel import ChannelSet
from broadcaster.domain.errors import Invalid, NotFound, NotSignedIn
from broadcaster.domain.messages import Address
from broadcaster.services.directory import parse_address
from broadcaster.store import directory as people
from broadcaster.store import revisions
from broadcaster.store import subscriptions as store
from broadcaster.store.database import Database, read_clock
from broadcaster.store.tables import contacts

LINK_DAYS: Final = 14


@dataclass(frozen=True, slots=True)
class Enrolment:
    """Whom a link is for."""

    recipient: int
    name: str


@dataclass(frozen=True, slots=True)
class Subscribed:
    id: str
    created: bool


@dataclass(frozen=True, slots=True)
class Link:
    """``expires_at``: ms since the epoch."""

    url: str
    expires_at: int


class Subscriptions:
    """Web push enrolment. A link is personal: whoever has it can enrol a browser for that person, and do nothing else."""

    def __init__(
        self, database: Database, channels: ChannelSet, secret: bytes, public_url: str, vapid_public_key: str
    ) -> None:
        self._database = database
        self._channels = channels
        self._secret = secret
        self._public_url = public_url
        self.vapid_public_key = vapid_public_key

    def link(self, recipient_uid: str) -> Link:
        """A personal enrolment link, good for 14 days. Raises NotFound."""
        with self._database.read() as connection:
            row = people.recipient_by_uid(connection, recipient_uid, revisions.current(connection))
            if row is None:
                raise NotFound("There is no recipient with this id.")
            expires = read_clock(connection) // 1000 + LINK_DAYS * 86_400
        return Link(f"{self._public_url}/enrol/{tokens.sign(self._secret, 'enrol', row.id, expires)}", expires * 1000)

    def enrolment(self, token: str) -> Enrolment | None:
        """Whom the link is for; None when it is not ours, has run out, or the person is gone."""
        numbers = tokens.verify(self._secret, "enrol", token)
        if numbers is None or len(numbers) != 2:
            return None
        with self._database.read() as connection:
            if read_clock(connection) >= numbers[1] * 1000:
                return None
            row = people.recipient_by_id(connection, numbers[0], revisions.current(connection))
        return None if row is None else Enrolment(row.id, row.name)

    def subscribe_by_token(self, token: str, subscription: dict[str, Any], user_agent: str | None) -> Subscribed:
        """A browser enrols itself. Raises NotSignedIn for a link that does not hold, Invalid for the subscription."""
        enrolment = self.enrolment(token)
        if enrolment is None:
            raise NotSignedIn("This enrolment link is not valid any more. Ask for a new one.")
        return self._subscribe(enrolment.recipient, subscription, user_agent)

    def subscribe(self, recipient_uid: str, subscription: dict[str, Any], user_agent: str | None) -> Subscribed:
        """A program enrols a person's browser. Raises NotFound, Invalid."""
        with self._database.read() as connection:
            row = people.recipient_by_uid(connection, recipient_uid, revisions.current(connection))
        if row is None:
            raise NotFound("There is no recipient with this id.")
        return self._subscribe(row.id, subscription, user_agent)

    def unsubscribe(self, endpoint: str, auth: str) -> None:
        """Ends this subscription and no other. Knowing its auth secret proves that it is the caller's. Raises NotFound."""
        with self._database.write() as connection:
            row = store.by_hash(connection, _hash(endpoint))
            known = json.loads(row.address)["keys"]["auth"] if row is not None else ""
            if row is None or not hmac.compare_digest(known.rstrip("=").encode(), auth.rstrip("=").encode()):
                raise NotFound("There is no such subscription.")
            store.disable(connection, row.contact_id, read_clock(connection), "unsubscribed")

    def _subscribe(self, recipient: int, subscription: dict[str, Any], user_agent: str | None) -> Subscribed:
        if "push" not in self._channels.live:
            raise Invalid("Web push is not configured here.")
        address = parse_address(self._channels, "push", json.dumps(subscription))
        try:
            return self._enrol(recipient, address, user_agent)
        except IntegrityError:  # the same browser has said it twice at once: now it is there
            return self._enrol(recipient, address, user_agent)

    def _enrol(self, recipient: int, address: Address, user_agent: str | None) -> Subscribed:
        digest = _hash(address.identity)
        with self._database.write() as connection:
            before = store.by_hash(connection, digest)
            if before is not None and before.recipient_id == recipient and before.to_rev is None:
                store.refresh(connection, before.contact_id, address.value)
                return Subscribed(before.uid, created=False)
            revision, at = revisions.current(connection), read_clock(connection)
            if before is not None:  # the ward's computer has a new user: the last one's alerts stop here
                people.end(connection, contacts, [before.contact_id], revision)
                store.disable(connection, before.contact_id, at, "enrolled by another person")
                store.forget(connection, before.contact_id)
            uid = str(uuid7())
            # No revision of its own: a browser that enrols while an alert is being planned may or may not be in it.
            contact = people.add_contact(
                connection, uid=uid, recipient_id=recipient, channel="push", address=address.value,
                identity=address.identity, masked=address.masked, created_at=at, from_rev=revision,
            )  # fmt: skip
            store.add(
                connection, contact_id=contact, endpoint_hash=digest, vapid_public_key=self.vapid_public_key,
                user_agent=user_agent, created_at=at,
            )  # fmt: skip
            return Subscribed(uid, created=True)


def _hash(endpoint: str) -> str:
    return hashlib.sha256(endpoint.encode()).hexdigest()
