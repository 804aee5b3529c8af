"""People, their contacts, tags and groups. Who may write is decided by ``bump``; imports are in ``store.imports``.

Reads take the revision they want (``store.revisions.valid``). Writers run under the directory row's lock, one at a time, so
what they read as current (``to_rev IS NULL``) stays true until their commit.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Row, Table, func, insert, or_, select, true, update

from broadcaster.store.revisions import valid
from broadcaster.store.tables import contacts, directory, group_members, groups, recipient_tags, recipients

_PARTS: Final[tuple[Table, ...]] = (contacts, recipient_tags, group_members)


def bump(connection: Connection) -> int | None:
    """The new revision, with the directory's row locked until commit; None while somebody's import is unfinished."""
    free = directory.c.import_owner.is_(None)
    statement = update(directory).where(free).values(revision=directory.c.revision + 1).returning(directory.c.revision)
    return connection.execute(statement).scalar_one_or_none()


# ---- people --------------------------------------------------------------------------------------------------------


def recipient(connection: Connection, uid: str, revision: int) -> Row[Any] | None:
    return connection.execute(
        select(recipients).where(recipients.c.uid == uid, valid(recipients, revision))
    ).one_or_none()


def recipient_by_number(connection: Connection, number: int, revision: int) -> Row[Any] | None:
    return connection.execute(
        select(recipients).where(recipients.c.id == number, valid(recipients, revision))
    ).one_or_none()


def is_taken(connection: Connection, external_id: str, *, by_other_than: int | None = None) -> bool:
    """Whether another current person has this external id."""
    query = select(recipients.c.id).where(recipients.c.external_id == external_id, recipients.c.to_rev.is_(None))
    if by_other_than is not None:
        query = query.where(recipients.c.id != by_other_than)
    return connection.execute(query).first() is not None


def page(
    connection: Connection,
    revision: int,
    *,
    after: int,
    limit: int,
    search: str | None = None,
    tag: tuple[str, str] | None = None,
    group: int | None = None,
) -> Sequence[Row[Any]]:
    """People by ascending number above ``after``. ``search``: part of a name, or the beginning of an external id."""
    query = select(recipients).where(valid(recipients, revision), recipients.c.id > after)
    if search:
        query = query.where(_matches(search))
    if tag:
        tagged = select(recipient_tags.c.recipient_id).where(
            recipient_tags.c.key == tag[0], recipient_tags.c.value == tag[1], valid(recipient_tags, revision)
        )
        query = query.where(recipients.c.id.in_(tagged))
    if group is not None:
        inside = select(group_members.c.recipient_id).where(
            group_members.c.group_id == group, valid(group_members, revision)
        )
        query = query.where(recipients.c.id.in_(inside))
    return connection.execute(query.order_by(recipients.c.id).limit(limit)).all()


def insert_recipient(connection: Connection, **values: Any) -> int:
    return int(connection.execute(insert(recipients).values(**values).returning(recipients.c.id)).scalar_one())


def update_recipient(connection: Connection, number: int, **values: Any) -> None:
    connection.execute(update(recipients).where(recipients.c.id == number).values(**values))


def end_recipient(connection: Connection, number: int, revision: int) -> None:
    """Ends the person and everything that hangs on them."""
    _end(connection, recipients, recipients.c.id == number, revision)
    for table in _PARTS:
        _end(connection, table, table.c.recipient_id == number, revision)


# ---- what hangs on people ------------------------------------------------------------------------------------------


def contacts_of(connection: Connection, people: Sequence[int], revision: int) -> Sequence[Row[Any]]:
    return _parts_of(connection, contacts, people, valid(contacts, revision))


def tags_of(connection: Connection, people: Sequence[int], revision: int) -> Sequence[Row[Any]]:
    return _parts_of(connection, recipient_tags, people, valid(recipient_tags, revision))


def groups_of(connection: Connection, people: Sequence[int], revision: int) -> Sequence[Row[Any]]:
    """Rows of (recipient_id, uid, name), by name."""
    query = (
        select(group_members.c.recipient_id, groups.c.uid, groups.c.name)
        .join(groups, groups.c.id == group_members.c.group_id)
        .where(group_members.c.recipient_id.in_(people), valid(group_members, revision), valid(groups, revision))
        .order_by(groups.c.name)
    )
    return connection.execute(query).all()


def current_contacts(connection: Connection, people: Sequence[int]) -> Sequence[Row[Any]]:
    """For a writer: rows that nobody has ended."""
    return _parts_of(connection, contacts, people, contacts.c.to_rev.is_(None))


def current_tags(connection: Connection, people: Sequence[int]) -> Sequence[Row[Any]]:
    return _parts_of(connection, recipient_tags, people, recipient_tags.c.to_rev.is_(None))


def current_members(connection: Connection, people: Sequence[int]) -> Sequence[Row[Any]]:
    return _parts_of(connection, group_members, people, group_members.c.to_rev.is_(None))


def insert_rows(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    if rows:
        connection.execute(insert(table), list(rows))


def end_rows(connection: Connection, table: Table, ids: Iterable[int], revision: int) -> None:
    numbers = list(ids)
    if numbers:
        _end(connection, table, table.c.id.in_(numbers), revision)


# ---- groups --------------------------------------------------------------------------------------------------------


def find_group(connection: Connection, name: str, revision: int) -> Row[Any] | None:
    """The group with this id, else the one with this name."""
    query = select(groups).where(or_(groups.c.uid == name, groups.c.name == name), valid(groups, revision))
    found = connection.execute(query).all()
    return next((row for row in found if row.uid == name), found[0] if found else None)


def group(connection: Connection, uid: str, revision: int) -> Row[Any] | None:
    return connection.execute(select(groups).where(groups.c.uid == uid, valid(groups, revision))).one_or_none()


def current_groups(connection: Connection) -> Sequence[Row[Any]]:
    """Rows of (id, uid, name)."""
    return connection.execute(select(groups.c.id, groups.c.uid, groups.c.name).where(groups.c.to_rev.is_(None))).all()


def groups_page(
    connection: Connection, revision: int, *, after: int, limit: int, search: str | None
) -> Sequence[Row[Any]]:
    query = select(groups).where(valid(groups, revision), groups.c.id > after)
    if search:
        query = query.where(_contains(groups.c.name, search))
    return connection.execute(query.order_by(groups.c.id).limit(limit)).all()


def count_members(connection: Connection, numbers: Sequence[int], revision: int) -> dict[int, int]:
    query = (
        select(group_members.c.group_id, func.count())
        .where(group_members.c.group_id.in_(numbers), valid(group_members, revision))
        .group_by(group_members.c.group_id)
    )
    return {number: int(n) for number, n in connection.execute(query)}


def is_group_name_taken(connection: Connection, name: str, *, by_other_than: int | None = None) -> bool:
    query = select(groups.c.id).where(groups.c.name == name, groups.c.to_rev.is_(None))
    if by_other_than is not None:
        query = query.where(groups.c.id != by_other_than)
    return connection.execute(query).first() is not None


def insert_group(connection: Connection, **values: Any) -> int:
    return int(connection.execute(insert(groups).values(**values).returning(groups.c.id)).scalar_one())


def update_group(connection: Connection, number: int, **values: Any) -> None:
    connection.execute(update(groups).where(groups.c.id == number).values(**values))


def end_group(connection: Connection, number: int, revision: int) -> None:
    _end(connection, groups, groups.c.id == number, revision)
    _end(connection, group_members, group_members.c.group_id == number, revision)


def end_member(connection: Connection, group_number: int, number: int, revision: int) -> None:
    mine = (group_members.c.group_id == group_number) & (group_members.c.recipient_id == number)
    _end(connection, group_members, mine, revision)


# ---- numbers -------------------------------------------------------------------------------------------------------


def count_people(connection: Connection, revision: int) -> int:
    query = select(func.count()).select_from(recipients).where(valid(recipients, revision))
    return int(connection.execute(query).scalar_one())


def count_groups(connection: Connection, revision: int) -> int:
    return int(connection.execute(select(func.count()).select_from(groups).where(valid(groups, revision))).scalar_one())


def count_contacts(connection: Connection, revision: int) -> dict[str, int]:
    """Usable contacts per channel."""
    query = (
        select(contacts.c.channel, func.count())
        .where(valid(contacts, revision), contacts.c.disabled_at.is_(None))
        .group_by(contacts.c.channel)
    )
    return {channel: int(n) for channel, n in connection.execute(query)}


def _parts_of(
    connection: Connection, table: Table, people: Sequence[int], condition: ColumnElement[bool]
) -> Sequence[Row[Any]]:
    if not people:
        return []
    return connection.execute(select(table).where(table.c.recipient_id.in_(people), condition).order_by(table.c.id)).all()


def _end(connection: Connection, table: Table, condition: ColumnElement[bool], revision: int) -> None:
    connection.execute(update(table).where(condition, table.c.to_rev.is_(None)).values(to_rev=revision))


def _matches(search: str) -> ColumnElement[bool]:
    by_number = recipients.c.external_id.startswith(search, autoescape=True)
    return or_(_contains(recipients.c.name, search), by_number) if search else true()


def _contains(column: ColumnElement[str], search: str) -> ColumnElement[bool]:
    # SQLite's lower() knows ASCII only: the search as typed finds other letters there.
    folded = func.lower(column).contains(search.lower(), autoescape=True)
    return or_(folded, column.contains(search, autoescape=True))
