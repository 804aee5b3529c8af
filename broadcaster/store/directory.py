"""Recipients, contacts, groups and tags: reading them at a revision, and changing them under the directory's lock.

Every ordinary change takes the next revision by updating the one row of ``directory``; its row lock makes directory
writers take turns. Rows are ended (``to_rev``), not deleted, so an alert under way still reads the directory it froze.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Table,
    and_,
    delete,
    func,
    insert,
    or_,
    select,
    update,
)

from broadcaster.store.copying import add_all
from broadcaster.store.database import is_postgresql, now_ms
from broadcaster.store.revisions import valid
from broadcaster.store.tables import (
    contacts,
    directory,
    group_members,
    groups,
    recipient_tags,
    recipients,
)

_VERSIONED = (contacts, group_members, recipient_tags, groups, recipients)  # children first, for clean-up


@dataclass(frozen=True, slots=True)
class Lock:
    """The directory's row: its revision, and until when (ms) an import holds it; 0 when none does."""

    revision: int
    import_owner: str | None
    import_lease_until: int


def lock(connection: Connection) -> Lock:
    """The directory, which nobody else can change before this transaction ends."""
    columns = (directory.c.revision, directory.c.import_owner, directory.c.import_lease_until)
    return Lock(*connection.execute(select(*columns).with_for_update()).one())


def peek(connection: Connection) -> Lock:
    """The directory's row without its lock."""
    return Lock(
        *connection.execute(select(directory.c.revision, directory.c.import_owner, directory.c.import_lease_until)).one()
    )


def set_revision(connection: Connection, revision: int) -> None:
    connection.execute(update(directory).values(revision=revision))


def hold_for_import(connection: Connection, owner: str | None, lease: int) -> None:
    """Leases the directory to an import for ``lease`` ms; owner None gives it back."""
    until = now_ms(connection) + lease if owner is not None else 0
    connection.execute(update(directory).values(import_owner=owner, import_lease_until=until))


def clean_slice(connection: Connection, revision: int, limit: int) -> int:
    """Takes back rows that a dead import left above ``revision``; how many, 0 when nothing is left."""
    for table in _VERSIONED:
        for where, undo in ((table.c.from_rev > revision, True), (table.c.to_rev > revision, False)):
            ids = select(table.c.id).where(where).limit(limit)
            found = list(connection.execute(ids).scalars())
            if not found:
                continue
            if undo:
                if table is recipients or table is groups:
                    _remove_children(connection, table, found)
                connection.execute(delete(table).where(table.c.id.in_(found)))
            else:
                connection.execute(update(table).where(table.c.id.in_(found)).values(to_rev=None))
            return len(found)
    return 0


def _remove_children(connection: Connection, table: Table, ids: Sequence[int]) -> None:
    if table is recipients:
        connection.execute(delete(contacts).where(contacts.c.recipient_id.in_(ids)))
        connection.execute(delete(recipient_tags).where(recipient_tags.c.recipient_id.in_(ids)))
        connection.execute(delete(group_members).where(group_members.c.recipient_id.in_(ids)))
    else:
        connection.execute(delete(group_members).where(group_members.c.group_id.in_(ids)))


# ---- writing -------------------------------------------------------------------------------------------------------


def add_recipients(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> list[int]:
    """New recipients (uid, external_id, name, created_at, from_rev); their ids in the same order."""
    if not rows:
        return []
    if is_postgresql(connection):
        numbers = "SELECT nextval(pg_get_serial_sequence('recipients', 'id')) FROM generate_series(1, %s)"
        ids = list(connection.exec_driver_sql(numbers, (len(rows),)).scalars())
        add_all(connection, recipients, ({"id": number, **row} for number, row in zip(ids, rows, strict=True)))
        return ids
    result = connection.execute(insert(recipients).returning(recipients.c.id, sort_by_parameter_order=True), list(rows))
    return [row.id for row in result]


def add_rows(connection: Connection, table: Table, rows: Iterable[Mapping[str, Any]]) -> None:
    """New contacts, tags or members in one go."""
    add_all(connection, table, rows)


def add_contact(connection: Connection, **values: Any) -> int:
    return int(connection.execute(insert(contacts).returning(contacts.c.id), [values]).scalar_one())


def add_group(connection: Connection, **values: Any) -> int:
    return int(connection.execute(insert(groups).returning(groups.c.id), [values]).scalar_one())


def rename(connection: Connection, table: Table, row: int, **values: Any) -> None:
    """Changes words that no audience depends on (a name, a description), in place."""
    connection.execute(update(table).where(table.c.id == row).values(**values))


def end(connection: Connection, table: Table, ids: Iterable[int], revision: int) -> None:
    """These rows stand no longer, from ``revision`` on."""
    wanted = list(ids)
    if wanted:
        mine = and_(table.c.id.in_(wanted), table.c.to_rev.is_(None))
        connection.execute(update(table).where(mine).values(to_rev=revision))


def end_all_of(connection: Connection, recipient: int, revision: int) -> None:
    """A recipient and everything that hangs on it."""
    for table in (contacts, recipient_tags, group_members):
        mine = and_(table.c.recipient_id == recipient, table.c.to_rev.is_(None))
        connection.execute(update(table).where(mine).values(to_rev=revision))
    end(connection, recipients, [recipient], revision)


def end_group(connection: Connection, group: int, revision: int) -> None:
    mine = and_(group_members.c.group_id == group, group_members.c.to_rev.is_(None))
    connection.execute(update(group_members).where(mine).values(to_rev=revision))
    end(connection, groups, [group], revision)


# ---- reading -------------------------------------------------------------------------------------------------------


def recipient_by_uid(connection: Connection, uid: str, revision: int) -> Row[Any] | None:
    query = select(recipients).where(recipients.c.uid == uid, valid(recipients, revision))
    return connection.execute(query).one_or_none()


def recipient_by_id(connection: Connection, recipient: int, revision: int) -> Row[Any] | None:
    query = select(recipients).where(recipients.c.id == recipient, valid(recipients, revision))
    return connection.execute(query).one_or_none()


def by_external_ids(connection: Connection, external_ids: Sequence[str]) -> dict[str, Row[Any]]:
    """Current recipients by the customer's own number."""
    columns = ", ".join(recipients.c.keys())
    given = "= ANY(%s)" if is_postgresql(connection) else "IN (SELECT value FROM json_each(?))"
    values = list(external_ids) if is_postgresql(connection) else json.dumps(list(external_ids))
    sql = f"SELECT {columns} FROM recipients WHERE external_id {given} AND to_rev IS NULL"  # a thousand places cost more
    return {row.external_id: row for row in connection.exec_driver_sql(sql, (values,))}


def search(
    connection: Connection,
    revision: int,
    *,
    text: str | None,
    tag: tuple[str, str] | None,
    group: str | None,
    after: int,
    limit: int,
) -> list[Row[Any]]:
    """Recipients by number, after number ``after``."""
    query = select(recipients).where(valid(recipients, revision), recipients.c.id > after)
    if text:
        pattern = "%" + text.lower().replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
        name = func.lower(recipients.c.name).like(pattern, escape="\\")
        query = query.where(or_(name, recipients.c.external_id == text))
    if tag is not None:
        tagged = select(recipient_tags.c.recipient_id).where(
            recipient_tags.c.key == tag[0], recipient_tags.c.value == tag[1], valid(recipient_tags, revision)
        )
        query = query.where(recipients.c.id.in_(tagged))
    if group is not None:
        query = query.where(recipients.c.id.in_(_members_of(group, revision)))
    return list(connection.execute(query.order_by(recipients.c.id).limit(limit)))


def contacts_of(connection: Connection, ids: Sequence[int], revision: int) -> list[Row[Any]]:
    query = select(contacts).where(contacts.c.recipient_id.in_(ids), valid(contacts, revision))
    return list(connection.execute(query.order_by(contacts.c.id)))


def tags_of(connection: Connection, ids: Sequence[int], revision: int) -> list[Row[Any]]:
    query = select(recipient_tags).where(recipient_tags.c.recipient_id.in_(ids), valid(recipient_tags, revision))
    return list(connection.execute(query.order_by(recipient_tags.c.key, recipient_tags.c.value)))


def memberships_of(connection: Connection, ids: Sequence[int], revision: int) -> list[Row[Any]]:
    """Per membership: id, recipient_id, group_id, uid and name of the group."""
    query = (
        select(group_members.c.id, group_members.c.recipient_id, group_members.c.group_id, groups.c.uid, groups.c.name)
        .join(groups, groups.c.id == group_members.c.group_id)
        .where(group_members.c.recipient_id.in_(ids), valid(group_members, revision), valid(groups, revision))
        .order_by(groups.c.name)
    )
    return list(connection.execute(query))


def group(connection: Connection, name: str, revision: int) -> Row[Any] | None:
    """A group by id or name."""
    query = select(groups).where(or_(groups.c.uid == name, groups.c.name == name), valid(groups, revision))
    return connection.execute(query).first()


def groups_page(connection: Connection, revision: int, *, after: int, limit: int) -> list[Row[Any]]:
    query = select(groups).where(valid(groups, revision), groups.c.id > after)
    return list(connection.execute(query.order_by(groups.c.id).limit(limit)))


def member_counts(connection: Connection, ids: Sequence[int], revision: int) -> dict[int, int]:
    query = (
        select(group_members.c.group_id, func.count())
        .where(group_members.c.group_id.in_(ids), valid(group_members, revision))
        .group_by(group_members.c.group_id)
    )
    return {row[0]: int(row[1]) for row in connection.execute(query)}


def stats(connection: Connection, revision: int) -> tuple[int, dict[str, int]]:
    """(people, usable addresses per channel)."""
    people = connection.execute(select(func.count()).select_from(recipients).where(valid(recipients, revision)))
    query = (
        select(contacts.c.channel, func.count())
        .where(valid(contacts, revision), contacts.c.disabled_at.is_(None))
        .group_by(contacts.c.channel)
    )
    return int(people.scalar_one()), {row[0]: int(row[1]) for row in connection.execute(query)}


def _members_of(name: str, revision: int) -> Any:
    wanted: ColumnElement[bool] = or_(groups.c.uid == name, groups.c.name == name)
    return (
        select(group_members.c.recipient_id)
        .join(groups, groups.c.id == group_members.c.group_id)
        .where(wanted, valid(groups, revision), valid(group_members, revision))
    )
