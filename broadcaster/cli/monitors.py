"""Commands for what is watched. All go through the REST API."""

import json
import re
import sys
from pathlib import Path
from typing import Any, Final

import click
from rich.table import Column, Table
from rich.text import Text

from broadcaster.cli import pictures, watching
from broadcaster.cli.client import Client, Refused
from broadcaster.cli.setting import config_from, put
from broadcaster.cli.shared import Wrong, as_json, client_of, out, say, with_ids
from broadcaster.domain.messages import Severity
from broadcaster.domain.policy import Release

_ID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
#: What a monitor's answer has and its body has not.
_ANSWERED: Final = (
    "id", "secrets", "created_at", "paused_at", "state", "state_since", "code", "reason", "heard_at", "in_maintenance",
    "looks", "recent", "links", "ping_url",
)  # fmt: skip


@click.group()
def monitors() -> None:
    """What is watched. MONITOR is an id or a name."""


# ---- looking at monitors -------------------------------------------------------------------------------------------


@monitors.command(name="list")
@as_json
@click.pass_context
def list_monitors(context: click.Context, as_json: bool) -> None:
    """Every monitor and its state."""
    found = list(client_of(context).items("monitors", limit="200"))
    if as_json:
        say({"items": found})
        return
    table, add = with_ids(Column("Name", overflow="fold"), "Kind", "State", Column("Since", no_wrap=True))
    for m in found:
        add(m["id"], Text(m["name"]), m["kind"], watching.state_of(m), watching.clock(m["state_since"]))
    out.print(table)


@monitors.command()
@click.argument("monitor")
@as_json
@click.pass_context
def show(context: click.Context, monitor: str, as_json: bool) -> None:
    """One monitor. Its JSON can be edited and given to `monitors change`."""
    view = find(client_of(context), monitor)
    say(view) if as_json else pictures.show_monitor(view)


@monitors.command()
@click.argument("monitors", nargs=-1)
@as_json
@click.pass_context
def watch(context: click.Context, monitors: tuple[str, ...], as_json: bool) -> None:
    """Live: a table on a terminal, a line per change in a pipe (with --json a document). Ctrl-C ends it."""
    client = client_of(context)
    watching.watch(client, [find(client, which)["id"] for which in monitors], as_json=as_json)


@monitors.command()
@click.argument("monitor")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True)
@click.option("--csv", "as_csv", is_flag=True, help="All of them, for a spreadsheet.")
@as_json
@click.pass_context
def readings(context: click.Context, monitor: str, limit: int, as_csv: bool, as_json: bool) -> None:
    """What it has seen, the newest first."""
    page = _history(context, monitor, "readings", limit, as_csv=as_csv, as_json=as_json)
    if page is None:
        return
    table = Table("At", "From", "Verdict", Column("Latency", justify="right"), "Code", Column("Reason", overflow="fold"))
    for r in page["items"]:
        latency = "" if r["latency_ms"] is None else f"{r['latency_ms']} ms"
        table.add_row(watching.clock(r["at"]), r["vantage"], r["verdict"], latency, r["code"], Text(r["reason"]))
    out.print(table)


@monitors.command()
@click.argument("monitor")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True)
@click.option("--csv", "as_csv", is_flag=True, help="All of them, for a spreadsheet.")
@as_json
@click.pass_context
def changes(context: click.Context, monitor: str, limit: int, as_csv: bool, as_json: bool) -> None:
    """When its state has changed, the newest first."""
    page = _history(context, monitor, "changes", limit, as_csv=as_csv, as_json=as_json)
    if page is None:
        return
    table = Table("At", "From", "To", "Code", Column("Reason", overflow="fold"))
    for c in page["items"]:
        table.add_row(watching.clock(c["at"]), c["old"], c["new"], c["code"] or "", Text(c["reason"] or ""))
    out.print(table)


@monitors.command()
@click.argument("kind", required=False)
@as_json
@click.pass_context
def kinds(context: click.Context, kind: str | None, as_json: bool) -> None:
    """What can be watched; with a KIND its settings and codes."""
    client = client_of(context)
    found = client.call("GET", "monitor-kinds")["items"]
    if kind is not None:
        found = [_kind(client, kind)]
    if as_json:
        say({"items": found})
    elif kind is not None:
        pictures.show_kind(found[0])
    else:
        table = Table("Kind", "What it looks at", box=None)
        for k in found:
            table.add_row(k["name"], k["label"])
        out.print(table)


# ---- making and changing -------------------------------------------------------------------------------------------

_SETTINGS: Final = (
    click.option("--set", "pairs", multiple=True, help="name=value of the kind's settings. Repeat for more."),
    click.option("--secret", "secrets", multiple=True, help="A setting that is asked for, unseen; or read from a pipe."),
    click.option("--timeout", type=float, help="Seconds that a look has."),
)


def _with_settings(command: Any) -> Any:
    for option in reversed(_SETTINGS):
        command = option(command)
    return command


@monitors.command()
@click.argument("what", metavar="NAME|FILE|-")
@click.argument("kind", required=False)
@_with_settings
@click.option("--every", type=float, help="Seconds between looks; 60 unless given.")
@click.option("--failures", type=int, help="Failed looks in a row until it is down; 3 unless given.")
@click.option("--successes", type=int, help="Good looks in a row until it is well again; 5 unless given.")
@click.option("--tell-everyone", is_flag=True, help="Tell everybody in the directory.")
@click.option("--tell-group", "groups", multiple=True, help="Tell a group. Repeat for more.")
@click.option("--tell-tag", "tags", multiple=True, help="Tell who has this tag, key:value. Repeat for more.")
@click.option("--channels", help="sms,slack,push; all three unless given.")
@click.option("--severity", type=click.Choice([s.value for s in Severity]))
@click.option("--release", type=click.Choice([r.value for r in Release]), help="now, hold, or approve.")
@click.option("--remind-every", type=int, help="Seconds between reminders while it lasts.")
@click.option("--drill", is_flag=True, default=None, help="An exercise: every message begins with DRILL.")
@as_json
@click.pass_context
def create(context: click.Context, /, what: str, kind: str | None, as_json: bool, **options: Any) -> None:
    """Watch something: from a JSON file (the API's body; - reads standard input), or in short as NAME KIND.

    broadcaster monitors create "Mail" smtp --set host=mail.example.org --every 30 --tell-everyone
    """
    client = client_of(context)
    if kind is None:
        if any(value not in (None, (), False) for value in options.values()):
            raise Wrong("These options go with NAME KIND; in a JSON file they have their own places.")
        body = _read(what)
    else:
        body = _body(client, what, kind, options)
    made = client.call("POST", "monitors", json=body)
    if as_json:
        say(made)
        return
    click.echo(f"Watching {made['name']}: {made['id']}")
    told = made["alert"]
    if told is None:
        click.echo("It tells nobody: --tell-everyone, --tell-group or --tell-tag says whom to tell.")
    else:
        click.echo(
            f"When it is down it tells people by {', '.join(told['channels'])}: {told['severity']}, {told['release']}."
        )
    if made["ping_url"]:
        click.echo(f"Call this address; it is shown only now: {made['ping_url']}")


@monitors.command()
@click.argument("monitor")
@click.argument("file", metavar="FILE|-")
@as_json
@click.pass_context
def change(context: click.Context, monitor: str, file: str, as_json: bool) -> None:
    """Replace a monitor by a JSON file (the API's body, or an edited `monitors show --json`)."""
    client = client_of(context)
    path = _path(client, monitor)
    body = _read(file)
    view = client.call("PUT", path, json=body)
    say(view) if as_json else click.echo(f"Changed {view['name']}.")


@monitors.command()
@click.argument("monitor")
@click.pass_context
def delete(context: click.Context, monitor: str) -> None:
    """Watch it no more. What it has raised ends with an all-clear."""
    client = client_of(context)
    view = find(client, monitor)
    client.call("DELETE", f"monitors/{view['id']}")
    click.echo(f"Deleted {view['name']}.")


@monitors.command()
@click.argument("monitor")
@as_json
@click.pass_context
def look(context: click.Context, monitor: str, as_json: bool) -> None:
    """Look at once; the readings follow."""
    _act(context, monitor, "look", "Looking at", as_json=as_json)


@monitors.command()
@click.argument("monitor")
@as_json
@click.pass_context
def pause(context: click.Context, monitor: str, as_json: bool) -> None:
    """Look no more until it is resumed."""
    _act(context, monitor, "pause", "Paused", as_json=as_json)


@monitors.command()
@click.argument("monitor")
@as_json
@click.pass_context
def resume(context: click.Context, monitor: str, as_json: bool) -> None:
    """Look again."""
    _act(context, monitor, "resume", "Watching again:", as_json=as_json)


@monitors.command(name="try")
@click.argument("what", metavar="KIND|FILE|-")
@_with_settings
@as_json
@click.pass_context
def try_out(context: click.Context, /, what: str, as_json: bool, **options: Any) -> None:
    """One look with settings that are not kept. Exit code 1 when it fails.

    broadcaster monitors try smtp --set host=mail.example.org
    """
    client = client_of(context)
    if what == "-" or Path(what).is_file():
        given = _read(what)
        body = {name: given[name] for name in ("kind", "config", "timeout_seconds") if given.get(name) is not None}
    else:
        body = {"kind": what, "config": _config(client, what, options)}
    if options["timeout"] is not None:
        body["timeout_seconds"] = options["timeout"]
    patience = float(body.get("timeout_seconds", 10)) + 15
    seen = client.call("POST", "monitors/try", json=body, timeout=patience)
    if as_json:
        say(seen)
    else:
        took = "" if seen["latency_ms"] is None else f" ({seen['latency_ms']} ms)"
        click.echo(f"{seen['verdict']}: {seen['reason']} [{seen['code']}]{took}")
        for name, value in seen["detail"].items():
            click.echo(f"  {name}: {value}")
    sys.exit(0 if seen["verdict"] in ("ok", "degraded") else 1)


# ---- parts ---------------------------------------------------------------------------------------------------------


def find(client: Client, which: str) -> dict[str, Any]:
    """The monitor of this id or name. Raises Wrong."""
    if _ID.fullmatch(which):
        try:
            view: dict[str, Any] = client.call("GET", f"monitors/{which}")
            return view
        except Refused as refused:
            if refused.status != 404:
                raise
    found: list[dict[str, Any]] = client.call("GET", "monitors", params={"name": which})["items"]
    if not found:
        raise Wrong(f"There is no monitor with the id or name {which}; see `broadcaster monitors list`.")
    return found[0]


def _path(client: Client, which: str) -> str:
    return f"monitors/{find(client, which)['id']}"


def _act(context: click.Context, which: str, action: str, said: str, *, as_json: bool) -> None:
    client = client_of(context)
    view = client.call("POST", f"{_path(client, which)}/{action}")
    say(view) if as_json else click.echo(f"{said} {view['name']}.")


def _history(
    context: click.Context, which: str, what: str, limit: int, *, as_csv: bool, as_json: bool
) -> dict[str, Any] | None:
    """A page to be shown as a table; None: it was said as it was asked for."""
    client = client_of(context)
    path = f"{_path(client, which)}/{what}"
    if as_csv:
        for part in client.parts(path, params={"format": "csv"}):
            sys.stdout.buffer.write(part)
        return None
    page: dict[str, Any] = client.call("GET", path, params={"limit": str(limit)})
    if as_json:
        say(page)
        return None
    return page


def _read(file: str) -> dict[str, Any]:
    """A JSON object from a file or, for "-", standard input, without what only answers have. Raises Wrong."""
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
        document = json.loads(text)
    except OSError as error:
        raise Wrong(f"{file} cannot be read ({error.strerror}); to watch in short, say NAME KIND.") from None
    except ValueError:
        raise Wrong(f"{'Standard input' if file == '-' else file} is not JSON.") from None
    if not isinstance(document, dict):
        raise Wrong(f"{'Standard input' if file == '-' else file} must hold one JSON object.")
    return {name: value for name, value in document.items() if name not in _ANSWERED}


def _body(client: Client, name: str, kind: str, options: dict[str, Any]) -> dict[str, Any]:
    body: dict[str, Any] = {"name": name, "kind": kind, "config": _config(client, kind, options)}
    short = {"every": "interval_seconds", "timeout": "timeout_seconds", "failures": "failures", "successes": "successes"}
    body |= {long: options[option] for option, long in short.items() if options[option] is not None}
    alert = _alert(options)
    return body if alert is None else {**body, "alert": alert}


def _alert(options: dict[str, Any]) -> dict[str, Any] | None:
    parts: list[dict[str, Any]] = [{"group": g} for g in options["groups"]] + [{"tag": t} for t in options["tags"]]
    if options["tell_everyone"]:
        parts = [{"everyone": True}]
    names = {"severity": "severity", "release": "release", "remind_every": "remind_every_seconds", "drill": "drill"}
    alert = {long: options[option] for option, long in names.items() if options[option] is not None}
    if options["channels"] is not None:
        alert["channels"] = [name.strip() for name in options["channels"].split(",") if name.strip()]
    if not parts and alert:
        raise Wrong("Say whom to tell: --tell-everyone, --tell-group or --tell-tag.")
    return {**alert, "audience": parts[0] if len(parts) == 1 else {"any": parts}} if parts else None


def _config(client: Client, kind: str, options: dict[str, Any]) -> dict[str, Any]:
    config = config_from(options["pairs"], _kind(client, kind)["config_schema"]) if options["pairs"] else {}
    for name in options["secrets"]:
        put(config, name, _ask(name))
    return config


def _ask(name: str) -> str:
    """Unseen on a terminal, so that it stands in no shell's history; elsewhere the next line of standard input."""
    if sys.stdin.isatty():
        return str(click.prompt(name, hide_input=True, err=True))
    line = sys.stdin.readline()
    if not line:
        raise Wrong(f"--secret {name}: there is nothing to read on standard input.")
    return line.rstrip("\r\n")


def _kind(client: Client, name: str) -> dict[str, Any]:
    """Raises Wrong."""
    found: list[dict[str, Any]] = client.call("GET", "monitor-kinds")["items"]
    for kind in found:
        if kind["name"] == name:
            return kind
    raise Wrong(f"There is no kind {name}; there is {', '.join(k['name'] for k in found) or 'none'}.")
