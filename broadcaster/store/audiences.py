"""An audience as SQL over ``recipients``, at one directory revision."""

from collections.abc import Sequence
from typing import assert_never

from sqlalchemy import (
    ColumnElement,
    Connection,
    and_,
    exists,
    false,
    func,
    not_,
    or_,
    select,
    true,
)

from broadcaster.domain.audience import AllOf, AnyOf, Audience, Everyone, Had, HasTag, InGroup, Named, Not, walk
from broadcaster.domain.lifecycle import MAY_HAVE_IT, State
from broadcaster.store.revisions import valid
from broadcaster.store.tables import alerts, contacts, deliveries, group_members, groups, recipient_tags, recipients


def members(audience: Audience, revision: int) -> ColumnElement[bool]:
    """The condition on ``recipients`` that holds for exactly the audience's people."""
    return and_(valid(recipients, revision), _condition(audience, revision))


def people_slice(
    connection: Connection,
    condition: ColumnElement[bool],
    *,
    after: int,
    limit: int,
    not_reached_by: tuple[int, int] | None,
) -> list[int]:
    """Up to ``limit`` recipient ids above ``after``, ascending.

    ``not_reached_by`` = (alert, step): leaves out people whom an earlier step of the alert has reached.
    """
    query = select(recipients.c.id).where(condition, recipients.c.id > after).order_by(recipients.c.id).limit(limit)
    if not_reached_by is not None:
        query = query.where(not_(_reached(*not_reached_by)))
    return list(connection.execute(query).scalars())


def count_people(connection: Connection, condition: ColumnElement[bool]) -> int:
    return int(connection.execute(select(func.count()).select_from(recipients).where(condition)).scalar_one())


def count_deliveries(
    connection: Connection, condition: ColumnElement[bool], channels: Sequence[str], revision: int
) -> dict[str, int]:
    """Usable addresses per channel."""
    query = (
        select(contacts.c.channel, func.count())
        .join(recipients, recipients.c.id == contacts.c.recipient_id)
        .where(condition, valid(contacts, revision), contacts.c.disabled_at.is_(None), contacts.c.channel.in_(channels))
        .group_by(contacts.c.channel)
    )
    return {channel: int(n) for channel, n in connection.execute(query)}


def count_unreachable(connection: Connection, condition: ColumnElement[bool], channels: Sequence[str], revision: int) -> int:
    """People in the audience without any usable address on these channels."""
    has_address = exists().where(
        contacts.c.recipient_id == recipients.c.id,
        contacts.c.channel.in_(channels),
        contacts.c.disabled_at.is_(None),
        valid(contacts, revision),
    )
    query = select(func.count()).select_from(recipients).where(condition, not_(has_address))
    return int(connection.execute(query).scalar_one())


def unknown_names(connection: Connection, audience: Audience, revision: int) -> list[str]:
    """Groups, people and tags that the audience names and the directory does not have, as places to correct."""
    missing = []
    for node in walk(audience):
        if isinstance(node, InGroup):
            query = select(groups.c.id).where(_is_group(node.group), valid(groups, revision))
            if connection.execute(query).first() is None:
                missing.append(f"group {node.group!r}")
        elif isinstance(node, Named):
            query_people = select(recipients.c.uid).where(recipients.c.uid.in_(node.recipients), valid(recipients, revision))
            known = set(connection.execute(query_people).scalars())
            missing += [f"recipient {uid!r}" for uid in node.recipients if uid not in known]
        elif isinstance(node, HasTag):
            tagged = select(recipient_tags.c.id).where(
                recipient_tags.c.key == node.key, recipient_tags.c.value == node.value, valid(recipient_tags, revision)
            )
            if connection.execute(tagged.limit(1)).first() is None:  # a slip of the pen would tell nobody
                missing.append(f"tag {node.key}:{node.value} (nobody carries it; capitals count)")
        elif isinstance(node, Had):
            there = set(connection.execute(select(alerts.c.uid).where(alerts.c.uid.in_(node.alerts))).scalars())
            missing += [f"alert {uid!r}" for uid in node.alerts if uid not in there]
    return missing


def _condition(audience: Audience, revision: int) -> ColumnElement[bool]:
    match audience:
        case Everyone():
            return true()
        case InGroup(group):
            found = (
                select(group_members.c.recipient_id)
                .join(groups, groups.c.id == group_members.c.group_id)
                .where(_is_group(group), valid(groups, revision), valid(group_members, revision))
            )
            return recipients.c.id.in_(found)
        case HasTag(key, value):
            tagged = select(recipient_tags.c.recipient_id).where(
                recipient_tags.c.key == key, recipient_tags.c.value == value, valid(recipient_tags, revision)
            )
            return recipients.c.id.in_(tagged)
        case Named(names):
            return recipients.c.uid.in_(names) if names else false()
        case Had(uids):
            had = (
                select(deliveries.c.recipient_id)
                .join(alerts, alerts.c.id == deliveries.c.alert_id)
                .where(alerts.c.uid.in_(uids), deliveries.c.state.in_([state.value for state in MAY_HAVE_IT]))
            )
            return recipients.c.id.in_(had)
        case AllOf(parts):
            return and_(*(_condition(part, revision) for part in parts))
        case AnyOf(parts):
            return or_(*(_condition(part, revision) for part in parts))
        case Not(part):
            return not_(_condition(part, revision))
        case _:
            assert_never(audience)


def _is_group(name: str) -> ColumnElement[bool]:
    return or_(groups.c.uid == name, groups.c.name == name)


def _reached(alert: int, step: int) -> ColumnElement[bool]:
    return exists().where(
        deliveries.c.alert_id == alert,
        deliveries.c.recipient_id == recipients.c.id,
        deliveries.c.step < step,
        or_(
            deliveries.c.state == State.DELIVERED.value,
            # accepted is as good as it gets where a channel gives no receipts: such rows have nothing due.
            and_(deliveries.c.state == State.ACCEPTED.value, deliveries.c.next_at.is_(None)),
        ),
    )
