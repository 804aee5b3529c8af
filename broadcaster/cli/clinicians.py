"""The demonstration's people: an invented hospital, always the same, put into the product through its public API."""

import csv
import io
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import click
import requests

from broadcaster.cli.client import Client

_SITES: Final = ("Northmoor", "Eastbrook", "St Aldhelm", "Riverside", "Castle Hill")
_WARDS: Final = ("A&E", "ICU", "Maternity", "Theatres", "Paediatrics", "Oncology", "Stroke", "Pharmacy", "Switchboard")
_ROLES: Final = ("nurse", "doctor", "midwife", "pharmacist", "porter", "manager", "radiographer")
_FIRST: Final = ("Amina", "Ben", "Chidi", "Dilys", "Eoin", "Farah", "Grace", "Hari", "Isla", "Jomo", "Kasia", "Leila")
_LAST: Final = ("Adeyemi", "Brown", "Chowdhury", "Davies", "Evans", "Fraser", "Green", "Hughes", "Iqbal", "Jones", "Khan")


@dataclass(frozen=True, slots=True)
class Clinician:
    """An invented person. Numbers are Ofcom's for drama: nobody has them."""

    number: int
    name: str
    phone: str | None
    slack: str | None
    tags: dict[str, str]
    browser: bool


def invent(people: int) -> list[Clinician]:
    chance = random.Random(1812)  # noqa: S311 - the same hospital every time
    out = []
    for n in range(people):
        name = f"{chance.choice(_FIRST)} {chance.choice(_LAST)}"
        tags = {"site": chance.choice(_SITES), "ward": chance.choice(_WARDS), "role": chance.choice(_ROLES)}
        # Whole parts of hospitals have no mobile signal, others no Wi-Fi: most have two ways, some one.
        has_phone = chance.random() < 0.95
        phone = f"+447700{910000 + n}" if has_phone else None
        slack = f"U{n:08X}" if chance.random() < 0.5 else None
        out.append(Clinician(n, name, phone, slack, tags, browser=not has_phone or chance.random() < 0.6))
    return out


def fill(client: Client, sandbox: str, vapid_public_key: str, clinicians: Sequence[Clinician]) -> None:
    """People by CSV import, their browsers by enrolment, each through the public API."""
    click.echo(f"Filling the directory with {len(clinicians)} invented clinicians …", err=True)
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["name", "external_id", "phone", "slack", "groups", "site", "ward", "role"])
    for c in clinicians:
        group = "On call" if c.number % 10 == 0 else ""
        row = [c.name, f"S{c.number:06d}", c.phone or "", c.slack or "", group]
        writer.writerow([*row, c.tags["site"], c.tags["ward"], c.tags["role"]])
    headers = {"Content-Type": "text/csv"}
    client.call("POST", "recipients/import", data=text.getvalue().encode(), headers=headers, timeout=120)
    ids = _ids(client)
    with_browser = [c for c in clinicians if c.browser]
    made = requests.post(
        f"{sandbox}/_sandbox/browsers",
        json={"count": len(with_browser), "application_server_key": vapid_public_key, "receipts": True},
        timeout=60,
    )
    made.raise_for_status()
    endpoints: dict[int, str] = {}
    for c, subscription in zip(with_browser, made.json()["subscriptions"], strict=True):
        body = {"endpoint": subscription["endpoint"], "keys": subscription["keys"], "recipient": ids[f"S{c.number:06d}"]}
        client.call("POST", "push/subscriptions", json=body)
        endpoints[c.number] = subscription["endpoint"]
    known = []
    for c in clinicians:
        ways = {"phone": c.phone, "slack": c.slack, "endpoint": endpoints.get(c.number)}
        known.append({"name": c.name, **{way: address for way, address in ways.items() if address}})
    requests.post(f"{sandbox}/_sandbox/people", json={"people": known}, timeout=60).raise_for_status()


def _ids(client: Client) -> dict[str, str]:
    """Staff number -> recipient id, page by page."""
    found: dict[str, str] = {}
    cursor: str | None = None
    while True:
        page = client.call("GET", "recipients", params={"limit": "500", **({"cursor": cursor} if cursor else {})})
        found.update({r["external_id"]: r["id"] for r in page["items"] if r["external_id"]})
        cursor = page["next_cursor"]
        if cursor is None:
            return found
