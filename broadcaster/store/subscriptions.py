"""Push subscriptions: which browser is which contact."""

from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from broadcaster.store.tables import contacts, push_subscriptions


def by_endpoint(connection: Connection, endpoint_hash: str) -> Row[Any] | None:
    """The subscription with its contact: (contact_id, uid, recipient_id, address, disabled_at, to_rev)."""
    c = contacts.c
    query = (
        select(push_subscriptions.c.contact_id, c.uid, c.recipient_id, c.address, c.disabled_at, c.to_rev)
        .join(contacts, c.id == push_subscriptions.c.contact_id)
        .where(push_subscriptions.c.endpoint_hash == endpoint_hash)
    )
    return connection.execute(query).one_or_none()


def insert_contact(connection: Connection, **values: Any) -> int:
    return int(connection.execute(insert(contacts).values(**values).returning(contacts.c.id)).scalar_one())


def insert_subscription(connection: Connection, **values: Any) -> None:
    connection.execute(insert(push_subscriptions).values(**values))


def update_subscription(connection: Connection, contact_id: int, **values: Any) -> None:
    connection.execute(
        update(push_subscriptions).where(push_subscriptions.c.contact_id == contact_id).values(**values)
    )


def refresh_contact(connection: Connection, contact_id: int, address: str, masked: str) -> None:
    """The browser asks again: its newest keys, and no longer disabled."""
    values = {"address": address, "masked": masked, "disabled_at": None, "disabled_reason": None}
    connection.execute(update(contacts).where(contacts.c.id == contact_id).values(**values))


def end_contact(connection: Connection, contact_id: int, revision: int, at: int, reason: str) -> None:
    """Ended and disabled: what is planned for it already is not sent any more either."""
    disable(connection, contact_id, at, reason)
    mine = (contacts.c.id == contact_id) & contacts.c.to_rev.is_(None)
    connection.execute(update(contacts).where(mine).values(to_rev=revision))


def disable(connection: Connection, contact_id: int, at: int, reason: str) -> None:
    mine = (contacts.c.id == contact_id) & contacts.c.disabled_at.is_(None)
    connection.execute(update(contacts).where(mine).values(disabled_at=at, disabled_reason=reason))
