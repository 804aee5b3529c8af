"""People, contacts, tags and groups: reading and changing them one at a time. Many at once: ``services.importing``.

``writing`` is the directory's write transaction, shared with the importer; ``settle`` cleans up after an import that died.
"""

import math
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final, Literal

import structlog
from sqlalchemy import Connection, Row
from uuid_utils import uuid7

from broadcaster.domain.channel import Channel, ChannelSet
from broadcaster.domain.errors import Conflict, Invalid, NotFound, Unavailable
from broadcaster.domain.messages import Address, InvalidAddress
from broadcaster.store import directory as store
from broadcaster.store import imports, revisions
from broadcaster.store.database import Database, read_clock
from broadcaster.store.tables import contacts, group_members, recipient_tags

log = structlog.get_logger(__name__)

#: Browsers enrol themselves (``services.subscriptions``): nobody types such an address.
ENROLLED: Final = "push"
LEASE_MS: Final = 20_000
_CLEAN_IDS: Final = 2_000  # ids looked at in one transaction
_CLEAN_SECONDS: Final = 5.0  # what one caller spends on somebody else's leftovers


class Unset(Enum):
    """Left out, as opposed to null."""

    UNSET = "unset"


UNSET: Final = Unset.UNSET
_Unset = Literal[Unset.UNSET]


@dataclass(frozen=True, slots=True)
class Person:
    """What a new recipient is made of. Contacts: channel -> addresses as typed; groups by name or id."""

    name: str
    external_id: str | None = None
    contacts: Mapping[str, Sequence[str]] = field(default_factory=dict)
    tags: Mapping[str, Sequence[str]] = field(default_factory=dict)
    groups: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Change:
    """What changes. ``contacts`` and ``tags`` replace the channels and keys they name; ``groups`` replaces all."""

    name: str | _Unset = UNSET
    external_id: str | None | _Unset = UNSET
    contacts: Mapping[str, Sequence[str]] = field(default_factory=dict)
    tags: Mapping[str, Sequence[str]] = field(default_factory=dict)
    groups: Sequence[str] | _Unset = UNSET


@dataclass(frozen=True, slots=True)
class ContactView:
    uid: str
    channel: str
    masked: str
    disabled_at: int | None
    disabled_reason: str | None


@dataclass(frozen=True, slots=True)
class RecipientView:
    uid: str
    external_id: str | None
    name: str
    contacts: tuple[ContactView, ...]
    tags: dict[str, list[str]]
    groups: tuple[tuple[str, str], ...]  # (id, name)
    created_at: int


@dataclass(frozen=True, slots=True)
class GroupView:
    uid: str
    name: str
    description: str | None
    members: int
    created_at: int


@dataclass(frozen=True, slots=True)
class Stats:
    """``contacts``: usable ones, per channel."""

    revision: int
    people: int
    groups: int
    contacts: dict[str, int]


class Directory:
    """Who can be told, and where."""

    def __init__(self, database: Database, channels: ChannelSet) -> None:
        self._database = database
        self._channels = channels

    # ---- people ------------------------------------------------------------------------------------------------

    def create(self, person: Person) -> RecipientView:
        """Raises Invalid (address, unknown channel or group), Conflict (external id), Unavailable (import)."""
        addresses = self._addresses(person.contacts)
        with writing(self._database) as (connection, revision):
            if person.external_id is not None and store.is_taken(connection, person.external_id):
                raise Conflict("Somebody else has this external_id.")
            uid, at = str(uuid7()), read_clock(connection)
            number = store.insert_recipient(
                connection, uid=uid, external_id=person.external_id, name=person.name, created_at=at, from_rev=revision
            )
            _replace_contacts(connection, number, addresses, revision, at)
            _replace_tags(connection, number, person.tags, revision)
            _replace_groups(connection, number, person.groups, revision)
            return _view(connection, uid, revision)

    def get(self, uid: str) -> RecipientView:
        """Raises NotFound."""
        with self._database.read() as connection:
            return _view(connection, uid, revisions.current(connection))

    def change(self, uid: str, change: Change) -> RecipientView:
        """Raises NotFound and what ``create`` raises."""
        addresses = self._addresses(change.contacts)
        with writing(self._database) as (connection, revision):
            number = _person(connection, uid, revision).id
            values: dict[str, Any] = {}
            if change.name is not UNSET:
                values["name"] = change.name
            if change.external_id is not UNSET:
                wanted = change.external_id
                if wanted is not None and store.is_taken(connection, wanted, by_other_than=number):
                    raise Conflict("Somebody else has this external_id.")
                values["external_id"] = wanted
            if values:
                store.update_recipient(connection, number, **values)
            _replace_contacts(connection, number, addresses, revision, read_clock(connection))
            _replace_tags(connection, number, change.tags, revision)
            if change.groups is not UNSET:
                _replace_groups(connection, number, change.groups, revision)
            return _view(connection, uid, revision)

    def delete(self, uid: str) -> None:
        """Raises NotFound, Unavailable."""
        with writing(self._database) as (connection, revision):
            store.end_recipient(connection, _person(connection, uid, revision).id, revision)

    def list(
        self,
        *,
        after: int = 0,
        limit: int = 50,
        search: str | None = None,
        tag: tuple[str, str] | None = None,
        group: str | None = None,
    ) -> tuple[list[RecipientView], int | None]:
        """People and where the next page begins. ``group``: name or id; raises Invalid where there is none."""
        with self._database.read() as connection:
            revision = revisions.current(connection)
            inside = None
            if group is not None:
                found = store.find_group(connection, group, revision)
                if found is None:
                    raise Invalid("group: there is no such group.")
                inside = found.id
            rows = store.page(
                connection, revision, after=after, limit=limit + 1, search=search, tag=tag, group=inside
            )
            return _views(connection, rows[:limit], revision), _following(rows, limit)

    # ---- groups ------------------------------------------------------------------------------------------------

    def create_group(self, name: str, description: str | None = None) -> GroupView:
        """Raises Conflict (name), Unavailable."""
        with writing(self._database) as (connection, revision):
            if store.is_group_name_taken(connection, name):
                raise Conflict("There is a group of this name.")
            uid, at = str(uuid7()), read_clock(connection)
            store.insert_group(
                connection, uid=uid, name=name, description=description, created_at=at, from_rev=revision
            )
            return GroupView(uid, name, description, 0, at)

    def get_group(self, uid: str) -> GroupView:
        """Raises NotFound."""
        with self._database.read() as connection:
            revision = revisions.current(connection)
            return _group_views(connection, [_group(connection, uid, revision)], revision)[0]

    def change_group(self, uid: str, *, name: str | _Unset, description: str | None | _Unset) -> GroupView:
        """Raises NotFound, Conflict, Unavailable."""
        with writing(self._database) as (connection, revision):
            number = _group(connection, uid, revision).id
            if name is not UNSET and store.is_group_name_taken(connection, name, by_other_than=number):
                raise Conflict("There is a group of this name.")
            given = {"name": name, "description": description}
            values = {key: value for key, value in given.items() if value is not UNSET}
            if values:
                store.update_group(connection, number, **values)
            return _group_views(connection, [_group(connection, uid, revision)], revision)[0]

    def delete_group(self, uid: str) -> None:
        """The people stay. Raises NotFound, Unavailable."""
        with writing(self._database) as (connection, revision):
            store.end_group(connection, _group(connection, uid, revision).id, revision)

    def list_groups(
        self, *, after: int = 0, limit: int = 50, search: str | None = None
    ) -> tuple[list[GroupView], int | None]:
        with self._database.read() as connection:
            revision = revisions.current(connection)
            rows = store.groups_page(connection, revision, after=after, limit=limit + 1, search=search)
            return _group_views(connection, rows[:limit], revision), _following(rows, limit)

    def members(self, uid: str, *, after: int = 0, limit: int = 50) -> tuple[list[RecipientView], int | None]:
        """Raises NotFound."""
        with self._database.read() as connection:
            revision = revisions.current(connection)
            number = _group(connection, uid, revision).id
            rows = store.page(connection, revision, after=after, limit=limit + 1, group=number)
            return _views(connection, rows[:limit], revision), _following(rows, limit)

    def add_member(self, group: str, uid: str) -> None:
        """Harmless when they are in already. Raises NotFound, Unavailable."""
        with writing(self._database) as (connection, revision):
            inside, number = _group(connection, group, revision).id, _person(connection, uid, revision).id
            if inside not in {row.group_id for row in store.current_members(connection, [number])}:
                row = {"group_id": inside, "recipient_id": number, "from_rev": revision}
                store.insert_rows(connection, group_members, [row])

    def remove_member(self, group: str, uid: str) -> None:
        """Harmless when they are out already. Raises NotFound, Unavailable."""
        with writing(self._database) as (connection, revision):
            inside, number = _group(connection, group, revision).id, _person(connection, uid, revision).id
            store.end_member(connection, inside, number, revision)

    # ---- numbers -----------------------------------------------------------------------------------------------

    def stats(self) -> Stats:
        with self._database.read() as connection:
            revision = revisions.current(connection)
            return Stats(
                revision,
                store.count_people(connection, revision),
                store.count_groups(connection, revision),
                store.count_contacts(connection, revision),
            )

    def _addresses(self, given: Mapping[str, Sequence[str]]) -> dict[str, list[Address]]:
        """Parsed, each once. Raises Invalid with the place, and never with the address."""
        found: dict[str, list[Address]] = {}
        for name, raws in given.items():
            if name == ENROLLED:
                raise Invalid(f"contacts.{name}: browsers enrol themselves; make an enrolment link.")
            channel = channel_of(self._channels, name)
            if channel is None:
                raise Invalid(f"contacts.{name}: this channel is not configured here.")
            parsed: dict[str, Address] = {}
            for i, raw in enumerate(raws):
                try:
                    address = channel.parse_address(raw)
                except InvalidAddress as error:
                    raise Invalid(f"contacts.{name}[{i}]: {error}") from None
                parsed[address.identity] = address
            found[name] = list(parsed.values())
        return found


def channel_of(channels: ChannelSet, name: str) -> Channel | None:
    """The channel that judges addresses: the live one, else the sandbox's."""
    return channels.live.get(name) or channels.sandbox.get(name)


# ---- writing -------------------------------------------------------------------------------------------------------


@contextmanager
def writing(database: Database) -> Iterator[tuple[Connection, int]]:
    """A write transaction and the new revision that its rows carry. Raises Unavailable while an import runs."""
    settle(database)
    with database.write() as connection:
        revision = store.bump(connection)
        if revision is None:  # an import began this moment
            raise Unavailable("An import is running; nobody else can change the directory until it is done.", 5)
        yield connection, revision


def settle(database: Database) -> None:
    """Returns once nobody is importing, and nothing is left of an import that broke off. Raises Unavailable."""
    with database.read() as connection:
        lease = imports.lease(connection)
    if lease is None:
        return
    if lease.left > 0:
        raise Unavailable(
            "An import is running; nobody else can change the directory until it is done.",
            retry_after=max(1, math.ceil(lease.left / 1000)),
        )
    owner = f"clean/{uuid7()}"
    with database.write() as connection:
        revision = imports.take_over(connection, owner, LEASE_MS)
    if revision is None:
        raise Unavailable("An import is running; nobody else can change the directory until it is done.", 5)
    log.warning("directory.import_abandoned", owner=lease.owner)
    if not clean(database, owner, revision, seconds=_CLEAN_SECONDS):
        raise Unavailable("What an unfinished import has left is being cleaned up.", retry_after=1)


def clean(database: Database, owner: str, revision: int, *, seconds: float = math.inf) -> bool:
    """Takes back, in slices, what an import has written under ``owner``'s lease; then ends the lease. Whether it got done."""
    until = time.monotonic() + seconds
    for work in (imports.clean_new, imports.clean_ended):
        for table in imports.DIRTY:
            with database.read() as connection:
                found = imports.leftovers(connection, table, revision)
            if found is None:
                continue
            for first in range(found[0], found[1] + 1, _CLEAN_IDS):
                out_of_time = time.monotonic() > until
                with database.write() as connection:
                    if not imports.renew(connection, owner, 0 if out_of_time else LEASE_MS) or out_of_time:
                        return False
                    work(connection, table, first, min(first + _CLEAN_IDS - 1, found[1]), revision)
    with database.write() as connection:
        imports.release(connection, owner)
    return True


def _person(connection: Connection, uid: str, revision: int) -> Row[Any]:
    row = store.recipient(connection, uid, revision)
    if row is None:
        raise NotFound("There is no recipient of this id.")
    return row


def _group(connection: Connection, uid: str, revision: int) -> Row[Any]:
    row = store.group(connection, uid, revision)
    if row is None:
        raise NotFound("There is no group of this id.")
    return row


def _replace_contacts(
    connection: Connection, number: int, wanted: Mapping[str, Sequence[Address]], revision: int, at: int
) -> None:
    """An address that stays keeps its row, and with it whether its owner has opted out."""
    have = {(row.channel, row.identity): row.id for row in store.current_contacts(connection, [number])}
    given = {(channel, a.identity): a for channel, addresses in wanted.items() for a in addresses}
    gone = [row for key, row in have.items() if key[0] in wanted and key not in given]
    store.end_rows(connection, contacts, gone, revision)
    rows = [
        {
            "uid": str(uuid7()), "recipient_id": number, "channel": channel, "address": a.value,
            "identity": a.identity, "masked": a.masked, "created_at": at, "from_rev": revision,
        }
        for (channel, identity), a in given.items()
        if (channel, identity) not in have
    ]  # fmt: skip
    store.insert_rows(connection, contacts, rows)


def _replace_tags(connection: Connection, number: int, wanted: Mapping[str, Sequence[str]], revision: int) -> None:
    have = {(row.key, row.value): row.id for row in store.current_tags(connection, [number])}
    given = {(key, value): None for key, values in wanted.items() for value in values}
    gone = [row for pair, row in have.items() if pair[0] in wanted and pair not in given]
    store.end_rows(connection, recipient_tags, gone, revision)
    new = [pair for pair in given if pair not in have]
    rows = [{"recipient_id": number, "key": key, "value": value, "from_rev": revision} for key, value in new]
    store.insert_rows(connection, recipient_tags, rows)


def _replace_groups(connection: Connection, number: int, names: Sequence[str], revision: int) -> None:
    wanted: dict[int, None] = {}
    for i, name in enumerate(names):
        found = store.find_group(connection, name, revision)
        if found is None:
            raise Invalid(f"groups[{i}]: there is no such group; make it first with POST /groups.")
        wanted[found.id] = None
    have = {row.group_id: row.id for row in store.current_members(connection, [number])}
    store.end_rows(connection, group_members, (row for group, row in have.items() if group not in wanted), revision)
    rows = [{"group_id": g, "recipient_id": number, "from_rev": revision} for g in wanted if g not in have]
    store.insert_rows(connection, group_members, rows)


def _view(connection: Connection, uid: str, revision: int) -> RecipientView:
    return _views(connection, [_person(connection, uid, revision)], revision)[0]


def _views(connection: Connection, rows: Sequence[Row[Any]], revision: int) -> list[RecipientView]:
    numbers = [row.id for row in rows]
    addresses: dict[int, list[ContactView]] = defaultdict(list)
    for c in store.contacts_of(connection, numbers, revision):
        addresses[c.recipient_id].append(ContactView(c.uid, c.channel, c.masked, c.disabled_at, c.disabled_reason))
    tags: dict[int, dict[str, list[str]]] = defaultdict(dict)
    for t in store.tags_of(connection, numbers, revision):
        tags[t.recipient_id].setdefault(t.key, []).append(t.value)
    inside: dict[int, list[tuple[str, str]]] = defaultdict(list)
    for g in store.groups_of(connection, numbers, revision) if numbers else ():
        inside[g.recipient_id].append((g.uid, g.name))
    return [
        RecipientView(
            r.uid, r.external_id, r.name, tuple(addresses[r.id]), tags[r.id], tuple(inside[r.id]), r.created_at
        )
        for r in rows
    ]


def _group_views(connection: Connection, rows: Sequence[Row[Any]], revision: int) -> list[GroupView]:
    counts = store.count_members(connection, [row.id for row in rows], revision) if rows else {}
    return [GroupView(r.uid, r.name, r.description, counts.get(r.id, 0), r.created_at) for r in rows]


def _following(rows: Sequence[Row[Any]], limit: int) -> int | None:
    return int(rows[limit - 1].id) if len(rows) > limit else None
