"""Push subscriptions: a browser behind a contact."""

from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select, update

from broadcaster.store.tables import contacts, push_subscriptions


def by_hash(connection: Connection, endpoint_hash: str) -> Row[Any] | None:
    """The subscription of this endpoint with its contact: contact_id, uid, recipient_id, address, disabled_at, to_rev."""
    query = (
        select(
            push_subscriptions.c.contact_id, contacts.c.uid, contacts.c.recipient_id, contacts.c.address,
            contacts.c.disabled_at, contacts.c.to_rev,
        )
        .join(contacts, contacts.c.id == push_subscriptions.c.contact_id)
        .where(push_subscriptions.c.endpoint_hash == endpoint_hash)
    )  # fmt: skip
    return connection.execute(query).one_or_none()  # type: ignore[return-value]  # a row of columns is a row


def add(connection: Connection, **values: Any) -> None:
    connection.execute(insert(push_subscriptions).values(**values))


def forget(connection: Connection, contact: int) -> None:
    connection.execute(delete(push_subscriptions).where(push_subscriptions.c.contact_id == contact))


def refresh(connection: Connection, contact: int, address: str) -> None:
    """The same browser subscribed again, perhaps with new keys: it wants to be told."""
    values = {"address": address, "disabled_at": None, "disabled_reason": None}
    connection.execute(update(contacts).where(contacts.c.id == contact).values(**values))


def disable(connection: Connection, contact: int, at: int, reason: str) -> None:
    values = {"disabled_at": at, "disabled_reason": reason}
    connection.execute(update(contacts).where(contacts.c.id == contact, contacts.c.disabled_at.is_(None)).values(**values))
