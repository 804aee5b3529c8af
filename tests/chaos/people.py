"""Who is asked for: invented people, and the messages each of them must get once."""

import csv
import hashlib
import io
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import requests
import sqlalchemy as sa
from uuid_utils import uuid7

from broadcaster.settings import Settings
from broadcaster.store.database import read_clock
from broadcaster.store.tables import contacts, push_subscriptions, recipients
from broadcaster.wiring import Wiring

SHARE_SMS: Final = 14 / 30
CELLS: Final = 10
MOST_SLACK: Final = 2_000
WITH_RECEIPTS: Final = 0.3  # of the browsers
#: Numbers of the crowd begin with one of these, those of single people with none: faults are told by them.
CROWD_PREFIXES: Final = tuple(f"+4477009{n}" for n in range(1, 9))
SOLO_PREFIX: Final = "+44770099"

Address = tuple[str, str]  # (channel, address as the provider knows it)


@dataclass
class People:
    """Addresses by tag: all of the ``crowd`` has ``who:crowd``, part n of it ``cell:n``; person n in ``solo`` has
    ``who:solo-n`` and one phone."""

    cells: list[set[Address]] = field(default_factory=lambda: [set() for _ in range(CELLS)])
    solo: list[Address] = field(default_factory=list)
    prefixes: tuple[str, ...] = ()

    @property
    def crowd(self) -> set[Address]:
        return set().union(*self.cells)

    def add(self, channel: str, addresses: list[str]) -> None:
        """Address n belongs to person n of the crowd."""
        for n, address in enumerate(addresses):
            self.cells[n % CELLS].add((channel, address))


@dataclass
class Api:
    """The product's public interface, as a program that must get through uses it."""

    url: str
    key: str = field(repr=False)

    def session(self) -> requests.Session:
        session = requests.Session()
        session.trust_env = False
        session.headers["Authorization"] = f"Bearer {self.key}"
        return session


def make(api: Api, settings: Settings, deliveries: int, solo: int, say: Callable[[str], None]) -> People:
    """``deliveries`` addresses in the crowd, and ``solo`` single people. Nothing is broken yet."""
    slack = min(MOST_SLACK, deliveries // 8)
    sms = min(int(deliveries * SHARE_SMS), 10_000 * len(CROWD_PREFIXES))
    push = deliveries - slack - sms
    people = People(prefixes=CROWD_PREFIXES[: (sms + 9_999) // 10_000])
    phones = [f"{CROWD_PREFIXES[n // 10_000]}{n % 10_000:04d}" for n in range(sms)]
    ids = [f"U0C{n:06d}" for n in range(slack)]
    people.add("sms", phones)
    people.add("slack", ids)
    people.solo = [("sms", f"{SOLO_PREFIX}{n:04d}") for n in range(solo)]
    _import(api, _rows(max(sms, slack, push), phones, ids, people.solo))
    say(f"imported {max(sms, slack, push) + solo} people")
    people.add("push", _enrol(settings, push))
    say(f"enrolled {push} browsers")
    return people


def _rows(count: int, phones: list[str], ids: list[str], solo: list[Address]) -> list[list[Any]]:
    def at(addresses: list[str], n: int) -> str:
        return addresses[n] if n < len(addresses) else ""

    crowd = [[f"Clinician {n}", f"C{n}", at(phones, n), at(ids, n), "crowd", n % CELLS] for n in range(count)]
    return crowd + [[f"Single {n}", f"S{n}", phone, "", f"solo-{n}", ""] for n, (_, phone) in enumerate(solo)]


def _import(api: Api, rows: list[list[Any]]) -> None:
    text = io.StringIO()
    csv.writer(text).writerows([["name", "external_id", "phone", "slack", "who", "cell"], *rows])
    headers = {"Content-Type": "text/csv"}
    data = text.getvalue().encode()
    with api.session() as session:
        answer = session.post(f"{api.url}/api/v1/recipients/import", data=data, headers=headers, timeout=300)
    assert answer.status_code == 200, answer.text


def _enrol(settings: Settings, count: int) -> list[str]:
    """A simulated browser each; some of them tell when a message is shown.

    Written in one go: 14,000 enrolments over HTTP take a minute and a half, and are not what is tried here.
    """
    wiring = Wiring(settings)
    channel = wiring.channels.get("push", sandbox=False)
    telling = round(count * WITH_RECEIPTS)
    addresses = [
        channel.parse_address(json.dumps({"endpoint": s["endpoint"], "keys": s["keys"]}))
        for number, receipts in ((telling, True), (count - telling, False))
        for s in _browsers(settings, wiring.vapid_public_key, number, receipts)
    ]
    people = sa.select(recipients.c.id, recipients.c.from_rev).where(recipients.c.external_id.like("C%"))
    with wiring.database.write() as connection:
        owners = connection.execute(people.order_by(recipients.c.id).limit(count)).all()
        now = read_clock(connection)
        rows = [
            {
                "uid": str(uuid7()), "recipient_id": o.id, "channel": "push", "address": a.value, "identity": a.identity,
                "masked": a.masked, "created_at": now, "from_rev": o.from_rev,
            }
            for o, a in zip(owners, addresses, strict=True)
        ]  # fmt: skip
        made = connection.execute(sa.insert(contacts).returning(contacts.c.id, sort_by_parameter_order=True), rows)
        details = [
            {
                "contact_id": contact.id, "endpoint_hash": hashlib.sha256(a.identity.encode()).hexdigest(),
                "vapid_public_key": wiring.vapid_public_key, "created_at": now,
            }
            for contact, a in zip(made.all(), addresses, strict=True)
        ]  # fmt: skip
        connection.execute(sa.insert(push_subscriptions), details)
    wiring.database.close()
    return [a.identity for a in addresses]


def _browsers(settings: Settings, key: str, count: int, receipts: bool) -> list[dict[str, Any]]:
    if not count:
        return []
    body = {"count": count, "application_server_key": key, "receipts": receipts}
    made = requests.post(f"{settings.resolved_sandbox_url}/_sandbox/browsers", json=body, timeout=300)
    made.raise_for_status()
    subscriptions: list[dict[str, Any]] = made.json()["subscriptions"]
    return subscriptions
