"""People and groups: create, read, change, delete, list, search. Every change is one revision."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Row
from sqlalchemy.exc import IntegrityError
from uuid_utils import uuid7

from broadcaster.domain.channel import ChannelSet
from broadcaster.domain.errors import Conflict, Invalid, NotFound, Unavailable
from broadcaster.domain.messages import Address, InvalidAddress
from broadcaster.store import directory as store
from broadcaster.store import revisions
from broadcaster.store.database import Database, read_clock
from broadcaster.store.tables import contacts, group_members, groups, recipient_tags, recipients

_CLEAN: Final = 1_000
Tags = Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True)
class ContactView:
    """An address, masked. ``disabled_at``: ms since the epoch."""

    id: str
    channel: str
    address: str
    disabled_at: int | None
    disabled_reason: str | None


@dataclass(frozen=True, slots=True)
class GroupName:
    id: str
    name: str


@dataclass(frozen=True, slots=True)
class RecipientView:
    """A person as the API shows them."""

    number: int
    id: str
    external_id: str | None
    name: str
    contacts: tuple[ContactView, ...]
    tags: dict[str, list[str]]
    groups: tuple[GroupName, ...]
    created_at: int


@dataclass(frozen=True, slots=True)
class GroupView:
    number: int
    id: str
    name: str
    description: str | None
    members: int
    created_at: int


@dataclass(frozen=True, slots=True)
class Person:
    """A person as somebody enters them; None leaves a part as it is. ``addresses``: channel to raw addresses."""

    name: str | None = None
    external_id: str | None = None
    addresses: Mapping[str, Sequence[str]] | None = None
    tags: Tags | None = None
    groups: Sequence[str] | None = None


class Directory:
    """The directory's ordinary changes. Imports are ``services.importing``."""

    def __init__(self, database: Database, channels: ChannelSet) -> None:
        self._database = database
        self._channels = channels

    # ---- people ------------------------------------------------------------------------------------------------

    def create(self, person: Person) -> RecipientView:
        """Raises Invalid (address, channel, group), Conflict (external_id), Unavailable (an import is running)."""
        addresses = self._parsed(person.addresses or {})
        with self._changing() as (connection, revision):
            values = {
                "uid": str(uuid7()), "external_id": person.external_id, "name": person.name,
                "created_at": read_clock(connection), "from_rev": revision,
            }  # fmt: skip
            number = store.add_recipients(connection, [values])[0]
            self._add_contacts(connection, number, addresses, revision)
            self._set_tags(connection, number, person.tags or {}, revision)
            self._set_groups(connection, number, person.groups or (), revision)
            return self._views(connection, [_there(store.recipient_by_id(connection, number, revision))], revision)[0]

    def get(self, uid: str) -> RecipientView:
        """Raises NotFound."""
        with self._database.read() as connection:
            revision = revisions.current(connection)
            return self._views(connection, [_there(store.recipient_by_uid(connection, uid, revision))], revision)[0]

    def change(self, uid: str, person: Person) -> RecipientView:
        """Changes the parts that are given. A changed number is a new contact; the old one ends."""
        addresses = None if person.addresses is None else self._parsed(person.addresses)
        with self._changing() as (connection, revision):
            row = _there(store.recipient_by_uid(connection, uid, revision))
            words = {"name": person.name, "external_id": person.external_id}
            given = {name: value for name, value in words.items() if value is not None}
            if given:
                store.rename(connection, recipients, row.id, **given)
            if addresses is not None:
                self._set_contacts(connection, row.id, set(person.addresses or {}), addresses, revision)
            if person.tags is not None:
                self._set_tags(connection, row.id, person.tags, revision)
            if person.groups is not None:
                self._set_groups(connection, row.id, person.groups, revision)
            return self._views(connection, [_there(store.recipient_by_id(connection, row.id, revision))], revision)[0]

    def delete(self, uid: str) -> None:
        """Ends the person and all their contacts. Alerts under way still reach them."""
        with self._changing() as (connection, revision):
            row = _there(store.recipient_by_uid(connection, uid, revision))
            store.end_all_of(connection, row.id, revision)

    def search(
        self, *, text: str | None, tag: tuple[str, str] | None, group: str | None, cursor: int, limit: int
    ) -> tuple[list[RecipientView], int | None]:
        """People by number, and the cursor of the next page."""
        with self._database.read() as connection:
            revision = revisions.current(connection)
            rows = store.search(connection, revision, text=text, tag=tag, group=group, after=cursor, limit=limit)
            return self._views(connection, rows, revision), rows[-1].id if len(rows) == limit else None

    def stats(self) -> tuple[int, dict[str, int]]:
        """(people, usable addresses per channel)."""
        with self._database.read() as connection:
            return store.stats(connection, revisions.current(connection))

    # ---- groups ------------------------------------------------------------------------------------------------

    def create_group(self, name: str, description: str | None) -> GroupView:
        """Raises Conflict for a name that is taken."""
        with self._changing() as (connection, revision):
            if store.group(connection, name, revision) is not None:
                raise Conflict("There is a group of this name.")
            at = read_clock(connection)
            uid = str(uuid7())
            store.add_group(
                connection, uid=uid, name=name, description=description, created_at=at, from_rev=revision
            )  # fmt: skip
            return self._groups(connection, [_group(store.group(connection, uid, revision))], revision)[0]

    def get_group(self, name: str) -> GroupView:
        with self._database.read() as connection:
            revision = revisions.current(connection)
            return self._groups(connection, [_group(store.group(connection, name, revision))], revision)[0]

    def change_group(self, uid: str, name: str | None, description: str | None) -> GroupView:
        with self._changing() as (connection, revision):
            row = _group(store.group(connection, uid, revision))
            given = {k: v for k, v in {"name": name, "description": description}.items() if v is not None}
            if given:
                store.rename(connection, groups, row.id, **given)
            return self._groups(connection, [_group(store.group(connection, row.uid, revision))], revision)[0]

    def delete_group(self, uid: str) -> None:
        with self._changing() as (connection, revision):
            store.end_group(connection, _group(store.group(connection, uid, revision)).id, revision)

    def list_groups(self, *, cursor: int, limit: int) -> tuple[list[GroupView], int | None]:
        with self._database.read() as connection:
            revision = revisions.current(connection)
            rows = store.groups_page(connection, revision, after=cursor, limit=limit)
            return self._groups(connection, rows, revision), rows[-1].id if len(rows) == limit else None

    def add_member(self, group: str, recipient: str) -> None:
        """Being a member already is no error."""
        with self._changing() as (connection, revision):
            found = _group(store.group(connection, group, revision))
            person = _there(store.recipient_by_uid(connection, recipient, revision))
            members = {m.group_id for m in store.memberships_of(connection, [person.id], revision)}
            if found.id not in members:
                row = {"group_id": found.id, "recipient_id": person.id, "from_rev": revision}
                store.add_rows(connection, group_members, [row])

    def remove_member(self, group: str, recipient: str) -> None:
        with self._changing() as (connection, revision):
            found = _group(store.group(connection, group, revision))
            person = _there(store.recipient_by_uid(connection, recipient, revision))
            rows = store.memberships_of(connection, [person.id], revision)
            mine = [m.id for m in rows if m.group_id == found.id]
            if not mine:
                raise NotFound("This person is not in this group.")
            store.end(connection, group_members, mine, revision)

    # ---- how a change is made ----------------------------------------------------------------------------------

    @contextmanager
    def _changing(self) -> Iterator[tuple[Connection, int]]:
        """A transaction that makes one revision. Raises Unavailable while an import runs, Conflict for a taken key."""
        clean_up(self._database)
        try:
            with self._database.write() as connection:
                revision = next_revision(connection)
                yield connection, revision
        except IntegrityError:
            raise Conflict("Another person or group has this external_id or name.") from None

    def _parsed(self, addresses: Mapping[str, Sequence[str]]) -> list[tuple[str, Address]]:
        return [(name, parse_address(self._channels, name, raw)) for name, raws in addresses.items() for raw in raws]

    def _add_contacts(
        self, connection: Connection, recipient: int, addresses: Sequence[tuple[str, Address]], revision: int
    ) -> None:
        at = read_clock(connection)
        unique = {(channel, a.identity): (channel, a) for channel, a in addresses}.values()
        rows = [contact_row(recipient, channel, a, at, revision) for channel, a in unique]
        store.add_rows(connection, contacts, rows)

    def _set_contacts(
        self,
        connection: Connection,
        recipient: int,
        named: set[str],
        addresses: Sequence[tuple[str, Address]],
        revision: int,
    ) -> None:
        """Replaces the addresses of the channels that are named; an empty list takes them away."""
        wanted = {(channel, a.identity) for channel, a in addresses}
        there = [c for c in store.contacts_of(connection, [recipient], revision) if c.channel in named]
        store.end(connection, contacts, [c.id for c in there if (c.channel, c.identity) not in wanted], revision)
        known = {(c.channel, c.identity) for c in there}
        fresh = [(channel, a) for channel, a in addresses if (channel, a.identity) not in known]
        self._add_contacts(connection, recipient, fresh, revision)

    def _set_tags(self, connection: Connection, recipient: int, tags: Tags, revision: int) -> None:
        wanted = {(key, value) for key, values in tags.items() for value in values}
        there = {(t.key, t.value): t.id for t in store.tags_of(connection, [recipient], revision)}
        store.end(connection, recipient_tags, [i for tag, i in there.items() if tag not in wanted], revision)
        rows = [
            {"recipient_id": recipient, "key": key, "value": value, "from_rev": revision}
            for key, value in sorted(wanted - set(there))
        ]
        store.add_rows(connection, recipient_tags, rows)

    def _set_groups(self, connection: Connection, recipient: int, names: Sequence[str], revision: int) -> None:
        wanted = set()
        for name in names:
            row = store.group(connection, name, revision)
            if row is None:
                raise Invalid(f"groups: there is no group {name!r}; create it first.")
            wanted.add(row.id)
        there = {m.group_id: m.id for m in store.memberships_of(connection, [recipient], revision)}
        store.end(connection, group_members, [i for g, i in there.items() if g not in wanted], revision)
        rows = [{"group_id": g, "recipient_id": recipient, "from_rev": revision} for g in sorted(wanted - set(there))]
        store.add_rows(connection, group_members, rows)

    def _views(self, connection: Connection, rows: Sequence[Row[Any]], revision: int) -> list[RecipientView]:
        ids = [row.id for row in rows]
        addresses: dict[int, list[ContactView]] = {i: [] for i in ids}
        for c in store.contacts_of(connection, ids, revision):
            addresses[c.recipient_id].append(ContactView(c.uid, c.channel, c.masked, c.disabled_at, c.disabled_reason))
        tags: dict[int, dict[str, list[str]]] = {i: {} for i in ids}
        for t in store.tags_of(connection, ids, revision):
            tags[t.recipient_id].setdefault(t.key, []).append(t.value)
        member: dict[int, list[GroupName]] = {i: [] for i in ids}
        for m in store.memberships_of(connection, ids, revision):
            member[m.recipient_id].append(GroupName(m.uid, m.name))
        return [
            RecipientView(
                r.id, r.uid, r.external_id, r.name, tuple(addresses[r.id]), tags[r.id], tuple(member[r.id]), r.created_at
            )
            for r in rows
        ]

    def _groups(self, connection: Connection, rows: Sequence[Row[Any]], revision: int) -> list[GroupView]:
        counts = store.member_counts(connection, [r.id for r in rows], revision)
        return [GroupView(r.id, r.uid, r.name, r.description, counts.get(r.id, 0), r.created_at) for r in rows]


def next_revision(connection: Connection) -> int:
    """Takes the directory's lock and its next revision. Raises Unavailable while an import holds it."""
    lock = store.lock(connection)
    # Also when its lease has run out: moving the revision would show what it has half written. Cleaning up comes first.
    if lock.import_owner is not None:
        raise Unavailable("An import is running; the directory can be changed when it is done.", retry_after=5)
    store.set_revision(connection, lock.revision + 1)
    return lock.revision + 1


def clean_up(database: Database) -> None:
    """Takes back what an import that died left behind, in slices. Does nothing while one is running."""
    with database.read() as connection:
        lock = store.peek(connection)
        if lock.import_owner is None or lock.import_lease_until > read_clock(connection):
            return
    while True:
        with database.write() as connection:
            lock = store.lock(connection)
            if lock.import_owner is None or lock.import_lease_until > read_clock(connection):
                return
            if store.clean_slice(connection, lock.revision, _CLEAN) == 0:
                store.hold_for_import(connection, None, 0)
                return


def parse_address(channels: ChannelSet, name: str, raw: str) -> Address:
    """The canonical address. Raises Invalid, naming the channel and never the address."""
    channel = channels.live.get(name) or channels.sandbox.get(name)
    if channel is None:
        raise Invalid(f"contacts: there is no channel {name!r}.")
    try:
        return channel.parse_address(raw)
    except InvalidAddress as error:
        raise Invalid(f"contacts.{name}: {error}") from None


def contact_row(recipient: int, channel: str, address: Address, at: int, revision: int) -> dict[str, Any]:
    return {
        "uid": str(uuid7()), "recipient_id": recipient, "channel": channel, "address": address.value,
        "identity": address.identity, "masked": address.masked, "created_at": at, "from_rev": revision,
    }  # fmt: skip


def _there(row: Row[Any] | None) -> Row[Any]:
    if row is None:
        raise NotFound("There is no recipient with this id.")
    return row


def _group(row: Row[Any] | None) -> Row[Any]:
    if row is None:
        raise NotFound("There is no group with this id.")
    return row
