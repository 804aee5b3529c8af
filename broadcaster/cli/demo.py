"""The demonstration: a hospital's email goes dark, and a minute later everybody knows.

It is a user of the product like any other: it starts `broadcaster up`'s parts, imports people through the REST API,
raises an alert through it, and counts at the providers (the sandbox), not in our own books.
"""

import csv
import io
import random
import socket
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click
import requests

from broadcaster.cli import embedded
from broadcaster.cli.client import KEY_FILE, Client, keep_key
from broadcaster.cli.links import enter_link
from broadcaster.cli.progress import follow, last_line
from broadcaster.services.keys import Scope
from broadcaster.settings import Settings
from broadcaster.wiring import Wiring, configure_log

TITLE: Final = "Email is down across the trust"
BODY: Final = (
    "Do not retry your password: accounts lock. Use the ward phone list and bleeps for handover. "
    "Mail sent since 08:40 is held, not lost. Next update 10:30."
)
_SITES: Final = ("Northmoor", "Eastbrook", "St Aldhelm", "Riverside", "Castle Hill")
_WARDS: Final = ("A&E", "ICU", "Maternity", "Theatres", "Paediatrics", "Oncology", "Stroke", "Pharmacy", "Switchboard")
_ROLES: Final = ("nurse", "doctor", "midwife", "pharmacist", "porter", "manager", "radiographer")
_FIRST: Final = ("Amina", "Ben", "Chidi", "Dilys", "Eoin", "Farah", "Grace", "Hari", "Isla", "Jomo", "Kasia", "Leila")
_LAST: Final = ("Adeyemi", "Brown", "Chowdhury", "Davies", "Evans", "Fraser", "Green", "Hughes", "Iqbal", "Jones", "Khan")
_WAIT: Final = 120.0  # s; far more than it takes


@dataclass(frozen=True, slots=True)
class Clinician:
    """An invented person. Numbers are Ofcom's for drama: nobody has them."""

    number: int
    name: str
    phone: str | None
    slack: str | None
    tags: dict[str, str]
    browser: bool


def run_demo(settings: Settings, *, people: int, once: bool) -> int:
    """The exit code: 0 only if everybody was reached, once."""
    if settings.providers:
        raise click.UsageError("Providers are configured; the demo only ever runs against the sandbox. Unset them first.")
    folder = Path(tempfile.mkdtemp(prefix="broadcaster-demo-")) if once else settings.data_dir
    changes: dict[str, Any] = {"data_dir": folder, "log_format": "text"}
    if once:
        changes |= {"port": _free_port(), "sandbox_port": _free_port(), "public_url": ""}
    settings = settings.model_copy(update=changes)
    configure_log(settings.model_copy(update={"log_level": "ERROR"}))
    supervisor = embedded.supervisor(settings, quiet=True, environment=embedded.environment(settings))
    click.echo(embedded.BANNER, err=True)
    click.echo("Starting Redis, sandbox, workers and API …", err=True)
    supervisor.start()
    try:
        return _tell_everybody(settings, people, once=once, wait=supervisor.wait)
    finally:
        supervisor.stop()


def _tell_everybody(settings: Settings, people: int, *, once: bool, wait: Any) -> int:
    wiring = Wiring(settings)
    uid, key = wiring.keys.create("demo", [s.value for s in Scope])
    keep_key(settings.data_dir / KEY_FILE, key)
    client, sandbox = Client(f"http://127.0.0.1:{settings.port}", key), settings.resolved_sandbox_url
    _fill(client, sandbox, wiring.vapid_public_key, _invent(people))
    requests.post(f"{sandbox}/_sandbox/reset", json={}, timeout=10).raise_for_status()
    body = {"title": TITLE, "body": BODY, "severity": "critical", "audience": {"everyone": True}, "source": "Northmoor IT"}
    began = time.time()
    alert = client.call("POST", "alerts", json=body)["id"]
    page = enter_link(wiring, uid, f"/console/alerts/{alert}")
    click.echo(f"\nThe live alert:      {page}\nThe wall of phones:  {sandbox}/\n", err=True)
    view = follow(client, alert, timeout=_WAIT)
    result = _count(view, sandbox, began)
    if not once:
        click.echo(_HINTS.format(url=settings.resolved_public_url, key=key), err=True)
        wait()
    last_line(result)
    return 0 if result["lost"] == 0 and result["duplicates"] == 0 and result["targeted"] > 0 else 1


_HINTS: Final = """
Now raise one yourself, in another terminal:

  .venv/bin/broadcaster send "Phones are down too" "Use runners between wards." --tag site:Northmoor --severity high

or as a program would:

  curl -s {url}/api/v1/alerts -H "Authorization: Bearer {key}" -H "Content-Type: application/json" \\
    -d '{{"title":"Phones are down too","body":"Use runners between wards.","audience":{{"tag":"site:Northmoor"}}}}'

Ctrl-C ends the demo.
"""


def _invent(people: int) -> list[Clinician]:
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


def _fill(client: Client, sandbox: str, vapid_public_key: str, clinicians: Sequence[Clinician]) -> None:
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


def _count(view: dict[str, Any], sandbox: str, began: float) -> dict[str, Any]:
    """What was asked against what the providers' phones and browsers got."""
    summary = requests.get(f"{sandbox}/_sandbox/summary", timeout=30).json()
    channels = summary["channels"]
    targeted = {c["channel"]: c["targeted"] for c in view["channels"]}
    reached = {name: int(channels[name]["people"]) for name in targeted}
    first, last = summary.get("first_at"), summary.get("last_at")
    return {
        "targeted": view["targeted"],
        "delivered": {name: int(channels[name]["delivered"]) for name in targeted},
        "lost": sum(max(0, targeted[name] - reached[name]) for name in targeted),
        "duplicates": sum(int(channels[name]["duplicates"]) for name in targeted),
        "seconds_to_first": None if first is None else round(first - began, 3),
        "seconds_to_all": None if last is None else round(last - began, 3),
        "state": view["state"],
    }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
