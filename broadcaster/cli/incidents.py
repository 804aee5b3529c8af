"""Commands for what is down, and for when nobody is to be told. All go through the REST API."""

import re
from typing import Any, Final
from urllib.parse import quote

import click
from rich.table import Column
from rich.text import Text

from broadcaster.cli import pictures, watching
from broadcaster.cli.client import Client
from broadcaster.cli.monitors import find
from broadcaster.cli.shared import Wrong, as_json, client_of, out, say, with_ids

_DURATION: Final = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")


@click.group()
def incidents() -> None:
    """What is down, and whether it is told."""


@click.group()
def maintenance() -> None:
    """Times in which nobody is told."""


# ---- incidents -----------------------------------------------------------------------------------------------------


@incidents.command(name="list")
@click.option("--open", "only_open", is_flag=True, help="Only those that are not closed.")
@click.option("--limit", type=click.IntRange(1, 200), default=20, show_default=True)
@as_json
@click.pass_context
def list_incidents(context: click.Context, only_open: bool, limit: int, as_json: bool) -> None:
    """Incidents, the newest first."""
    query = {"limit": str(limit), "open": str(only_open).lower()}
    page = client_of(context).call("GET", "incidents", params=query)
    if as_json:
        say(page)
        return
    table, add = with_ids(Column("What", overflow="fold"), "State", Column("Since", no_wrap=True))
    for i in page["items"]:
        add(i["id"], Text(i["title"]), pictures.standing(i), watching.clock(i["opened_at"]))
    out.print(table)


@incidents.command(name="show")
@click.argument("incident")
@as_json
@click.pass_context
def show_incident(context: click.Context, incident: str, as_json: bool) -> None:
    """What is down for one cause, and what was told of it."""
    view = (client := client_of(context)).call("GET", f"incidents/{_find(client, incident)}")
    say(view) if as_json else pictures.show_incident(view)


@incidents.command()
@click.argument("incident")
@as_json
@click.pass_context
def release(context: click.Context, incident: str, as_json: bool) -> None:
    """Tell it now."""
    view = (client := client_of(context)).call("POST", f"incidents/{_find_whole(client, incident)}/release")
    say(view) if as_json else click.echo(f"It is told now: {view['title']}")


@incidents.command()
@click.argument("incident")
@as_json
@click.pass_context
def dismiss(context: click.Context, incident: str, as_json: bool) -> None:
    """Tell nobody, for as long as it lasts."""
    view = (client := client_of(context)).call("POST", f"incidents/{_find_whole(client, incident)}/dismiss")
    say(view) if as_json else click.echo(f"Nobody is told: {view['title']}")


@incidents.command()
@click.argument("incident")
@as_json
@click.pass_context
def close(context: click.Context, incident: str, as_json: bool) -> None:
    """It is over, whatever its causes say: the all-clear is due. What still fails is a new incident."""
    view = (client := client_of(context)).call("POST", f"incidents/{_find_whole(client, incident)}/close")
    say(view) if as_json else click.echo(f"It is over: {view['title']}")


def _find(client: Client, wanted: str) -> str:
    """The id of the open incident with this title, or with a lasting cause of this name; else what was given, as an id."""
    return _id(_named(client, wanted)) or quote(wanted, safe="")


def _find_whole(client: Client, wanted: str) -> str:
    """Likewise, for what is done to all of it: one name of several does not stand for the others."""
    incident = _named(client, wanted)
    lasting = [] if incident is None else _lasting(incident)
    if incident is not None and wanted in lasting and len(lasting) > 1:
        raise Wrong(
            f"{wanted!r} is one of {len(lasting)} things in one incident ({', '.join(dict.fromkeys(lasting))}); "
            f"to mean all of it, give its id: {incident['id']}"
        )
    return _id(incident) or quote(wanted, safe="")


def _named(client: Client, wanted: str) -> dict[str, Any] | None:
    found = client.call("GET", "incidents", params={"open": "true", "limit": "200"})["items"]
    mine: list[dict[str, Any]] = [i for i in found if wanted == i["title"] or wanted in _lasting(i)]
    if len(mine) > 1:
        raise Wrong(f"Several incidents are about {wanted!r}; `broadcaster incidents list --json` shows their ids.")
    return mine[0] if mine else None


def _lasting(incident: dict[str, Any]) -> list[str]:
    """Names of what has not recovered."""
    return [c["name"] for c in incident["causes"] if c["cleared_at"] is None]


def _id(incident: dict[str, Any] | None) -> str:
    return "" if incident is None else quote(incident["id"], safe="")


# ---- maintenance ---------------------------------------------------------------------------------------------------


def _duration(text: str) -> int:
    """ "2h", "1h30m", "45m", "90s", "1d", as seconds. Raises Wrong."""
    found = _DURATION.fullmatch(text)
    seconds = found and sum(int(n or 0) * unit for n, unit in zip(found.groups(), (86_400, 3_600, 60, 1), strict=True))
    if not seconds:
        raise Wrong(f"{text!r} is no time; write 2h, 1h30m, 45m, 90s or 1d.")
    return seconds


@maintenance.command()
@click.argument("monitor", required=False)
@click.option("--all", "everything", is_flag=True, help="Every monitor.")
@click.option("--for", "seconds", type=_duration, required=True, help="2h, 1h30m, 45m, 90s, 1d; 31 days at most.")
@click.option("--from", "begins", help="When it begins (2026-03-01T22:00:00Z); now unless given.")
@click.option("--note", help="Why.")
@as_json
@click.pass_context
def start(
    context: click.Context,
    monitor: str | None,
    everything: bool,
    seconds: int,
    begins: str | None,
    note: str | None,
    as_json: bool,
) -> None:
    """Tell nobody for a time; looking goes on. MONITOR is an id or a name."""
    client = client_of(context)
    body = {"monitor": _one_or_all(client, monitor, everything=everything), "for_seconds": seconds}
    body |= {name: value for name, value in (("from", begins), ("note", note)) if value is not None}
    window = client.call("POST", "maintenance", json=body)
    if as_json:
        say(window)
    else:
        name, until = window["monitor_name"] or "every monitor", watching.clock(window["until"])
        click.echo(f"Nobody is told of {name} until {until}: {window['id']}")


@maintenance.command()
@click.argument("what", metavar="MONITOR|ID", required=False)
@click.option("--all", "everything", is_flag=True, help="What was started for every monitor.")
@click.pass_context
def end(context: click.Context, what: str | None, everything: bool) -> None:
    """End a maintenance by its id, or what is in force (or to come) of a monitor."""
    client = client_of(context)
    windows = [w for w in client.call("GET", "maintenance")["items"] if w["phase"] != "over"]
    mine = [w for w in windows if w["id"] == what and not everything]
    if not mine:
        monitor = _one_or_all(client, what, everything=everything)
        mine = [w for w in windows if w["monitor"] == monitor]
    if not mine:
        raise Wrong("There is no such maintenance that is not over; see `broadcaster maintenance list`.")
    for window in mine:
        client.call("DELETE", f"maintenance/{window['id']}")
        click.echo(f"Ended: {window['note']} ({window['monitor_name'] or 'every monitor'})")


@maintenance.command(name="list")
@as_json
@click.pass_context
def list_maintenance(context: click.Context, as_json: bool) -> None:
    """What is or will be, and the last that was."""
    found = client_of(context).call("GET", "maintenance")
    if as_json:
        say(found)
        return
    table, add = with_ids(Column("Of", overflow="fold"), "", "From", "Until", Column("Note", overflow="fold"))
    for w in found["items"]:
        name, times = Text(w["monitor_name"] or "every monitor"), (watching.clock(w["from"]), watching.clock(w["until"]))
        add(w["id"], name, w["phase"], *times, Text(w["note"]))
    out.print(table)


def _one_or_all(client: Client, which: str | None, *, everything: bool) -> str | None:
    if (which is None) != everything:
        raise Wrong("Say of what: a monitor, or --all.")
    return None if which is None else str(find(client, which)["id"])
