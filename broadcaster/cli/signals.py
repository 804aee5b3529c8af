"""Commands for what other systems tell us: sources, and the rule table. All go through the REST API."""

import json
from typing import IO, Any
from urllib.parse import quote

import click
from rich.table import Column, Table
from rich.text import Text

from broadcaster.cli.client import Client
from broadcaster.cli.shared import Wrong, as_json, client_of, out, say
from broadcaster.cli.watching import clock


@click.group()
def sources() -> None:
    """Systems that tell us what they see."""


@click.group()
def rules() -> None:
    """Which signals become which alert."""


# ---- sources -------------------------------------------------------------------------------------------------------


@sources.command(name="list")
@as_json
@click.pass_context
def list_sources(context: click.Context, as_json: bool) -> None:
    """Every source."""
    found = client_of(context).call("GET", "signal-sources")
    if as_json:
        say(found)
        return
    table = Table(Column("Name", overflow="fold"), "Format", Column("Last heard", no_wrap=True), "Requests", "Refused")
    for s in found["items"]:
        heard = clock(s["heard_at"]) if s["heard_at"] else "never"
        table.add_row(Text(s["name"]), s["format"], heard, str(s["requests"]), str(s["refused"]))
    out.print(table)


@sources.command(name="formats")
@as_json
@click.pass_context
def list_formats(context: click.Context, as_json: bool) -> None:
    """Formats that are read."""
    found = client_of(context).call("GET", "signal-formats")
    if as_json:
        say(found)
        return
    for f in found["items"]:
        click.echo(f"{f['name']:16} {f['label']}")


@sources.command()
@click.argument("name")
@click.argument("format_name", metavar="FORMAT")
@click.option("--option", "options", multiple=True, metavar="NAME=VALUE", help="The generic format's mapping: key=/id …")
@click.option("--signed", is_flag=True, help="Its requests are signed (Standard Webhooks); asks for the secret, unseen.")
@click.option("--test", is_flag=True, help="What it raises reaches the sandbox only.")
@as_json
@click.pass_context
def create(
    context: click.Context, name: str, format_name: str, options: tuple[str, ...], signed: bool, test: bool, as_json: bool
) -> None:
    """Take signals of a system; says where it has to post them to."""
    body: dict[str, Any] = {"name": name, "format": format_name, "options": dict(map(_option, options)), "test": test}
    if signed:
        body["signing_secret"] = click.prompt("Signing secret (whsec_…)", hide_input=True)
    made = client_of(context).call("POST", "signal-sources", json=body)
    if as_json:
        say(made)
        return
    click.echo(f"It posts to: {made['url']}")
    if made["routing_key"]:
        enqueue = made["url"].partition("/api/v1/")[0] + "/v2/enqueue"
        click.echo(f"Or as to PagerDuty: {enqueue} with the routing key {made['routing_key']}")
    click.echo("Whoever knows this can raise alerts here. It is not shown again.")


@sources.command()
@click.argument("source")
@click.pass_context
def delete(context: click.Context, source: str) -> None:
    """Take nothing from it any more; what it had raised is over."""
    client = client_of(context)
    client.call("DELETE", f"signal-sources/{_find(client, 'signal-sources', source)}")
    click.echo("Deleted.")


@sources.command(name="try")
@click.argument("source")
@click.argument("body", type=click.File("rb"))
@as_json
@click.pass_context
def try_body(context: click.Context, source: str, body: IO[bytes], as_json: bool) -> None:
    """What this body (a file, or - for standard input) would do. Nothing is done."""
    client = client_of(context)
    where = f"signal-sources/{_find(client, 'signal-sources', source)}/try"
    found = client.call("POST", where, data=body.read())
    if as_json:
        say(found)
        return
    for s in found["signals"]:
        rule = f", by the rule {s['rule']!r}" if s["rule"] else ""
        click.echo(f"{s['status']}: {s['title']} ({s['key']}) -> {s['what'].replace('_', ' ')}{rule}")
    if not found["signals"]:
        click.echo("It says nothing.")


# ---- rules ---------------------------------------------------------------------------------------------------------


@rules.command(name="list")
@as_json
@click.pass_context
def list_rules(context: click.Context, as_json: bool) -> None:
    """The rule table, in the order in which it is asked."""
    found = client_of(context).call("GET", "signal-rules")
    if as_json:
        say(found)
        return
    table = Table("", Column("Name", overflow="fold"), Column("Means", overflow="fold"), Column("Tells", overflow="fold"))
    for r in found["items"]:
        tells = f"{r['alert']['severity']}: {', '.join(r['alert']['channels'])}" if r["alert"] else "nobody"
        table.add_row(str(r["position"]), Text(r["name"]), Text(_means(r["match"])), tells)
    out.print(table)


@rules.command()
@click.argument("rule", type=click.File("rb"))
@click.option("--position", type=click.IntRange(0), help="0 is asked first; after all others unless given.")
@as_json
@click.pass_context
def add(context: click.Context, rule: IO[bytes], position: int | None, as_json: bool) -> None:
    """Add a rule from a JSON file (or - for standard input): the API's body, see POST /api/v1/signal-rules."""
    try:
        body = json.load(rule)
    except ValueError as error:
        raise Wrong(f"The file is no JSON: {error}") from None
    if position is not None and isinstance(body, dict):
        body["position"] = position
    made = client_of(context).call("POST", "signal-rules", json=body)
    say(made) if as_json else click.echo(f"Added at {made['position']}: {made['name']}")


@rules.command(name="delete")
@click.argument("rule")
@click.pass_context
def delete_rule(context: click.Context, rule: str) -> None:
    """Remove a rule; what it has raised goes on."""
    client = client_of(context)
    client.call("DELETE", f"signal-rules/{_find(client, 'signal-rules', rule)}")
    click.echo("Deleted.")


def _option(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise Wrong(f"--option {text}: write NAME=VALUE.")
    return name, value


def _means(match: dict[str, Any]) -> str:
    parts = [f"from {', '.join(match['sources'])}"] if match["sources"] else []
    parts += [", ".join(s or "no severity" for s in match["severities"])] if match["severities"] else []
    parts += [f"{name}={value}" for name, value in match["labels"].items()]
    parts += [f"says {match['text']!r}"] if match["text"] else []
    return "; ".join(parts) or "everything"


def _find(client: Client, what: str, wanted: str) -> str:
    """The id of the one with this id or name."""
    found = [i["id"] for i in client.call("GET", what)["items"] if wanted in (i["id"], i["name"])]
    if len(found) != 1:
        raise Wrong(f"{'Several are' if found else 'None is'} called {wanted!r}; `list` shows them, --json with their ids.")
    return quote(str(found[0]), safe="")
