"""Watching: an alert's live bars, and an import's progress."""

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.progress_bar import ProgressBar
from rich.table import Table

from broadcaster.cli.client import Client, Refused

LOOK: Final = 0.4  # s
FINAL: Final = ("completed", "cancelled")
_WORDS: Final = {
    "queued": "waiting", "sending": "sending", "retrying": "trying again", "uncertain": "not certain",
    "accepted": "taken by the provider", "delivered": "delivered", "failed": "failed", "skipped": "opted out",
    "cancelled": "cancelled", "expired": "expired", "unconfirmed": "unconfirmed",
}  # fmt: skip

console = Console()


def show_status(view: dict[str, Any]) -> None:
    """One alert, once."""
    console.print(_picture(view))


def watch(client: Client, alert: str, timeout: float | None = None) -> Iterator[dict[str, Any]]:
    """The alert again and again until nothing is left to do, or ``timeout`` seconds have passed."""
    until = None if timeout is None else time.monotonic() + timeout
    while True:
        view = client.call("GET", f"alerts/{alert}")
        yield view
        if view["state"] in FINAL or (until is not None and time.monotonic() >= until):
            return
        time.sleep(LOOK)


def follow(client: Client, alert: str, timeout: float | None = None) -> dict[str, Any]:
    """Live bars on a terminal, a line per change elsewhere, until all is done. The last view."""
    view: dict[str, Any] = {}
    if not sys.stdout.isatty():
        last = ""
        for view in watch(client, alert, timeout):
            line = "  ".join(f"{c['label']} {c['reached']}/{c['targeted']}" for c in view["channels"])
            if line != last:
                click.echo(f"{view['state']:<10} {line}")
                last = line
        return view
    with Live(console=console, refresh_per_second=8) as live:
        for view in watch(client, alert, timeout):
            live.update(_picture(view))
    return view


def import_file(client: Client, file: Path, *, dry_run: bool, skip_bad: bool, quiet: bool) -> tuple[dict[str, Any], bool]:
    """Sends a CSV, shows how far it is. (the result, whether it was refused)."""
    query = {"dry_run": str(dry_run).lower(), "mode": "skip_bad" if skip_bad else "all_or_nothing"}
    headers = {"Content-Type": "text/csv", "Accept": "application/x-ndjson"}
    bars = Progress(
        SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        console=Console(stderr=True), disable=quiet or not sys.stderr.isatty(),
    )  # fmt: skip
    result: dict[str, Any] = {}
    try:
        with file.open("rb") as body, bars:
            task = bars.add_task("Importing", total=None)
            options = {"data": body, "headers": headers, "params": query, "timeout": (10, 3600)}
            for line in client.lines("POST", "recipients/import", **options):
                if "phase" in line:
                    bars.update(
                        task, description=line["phase"].capitalize(), completed=line["rows"], total=line.get("total")
                    )
                else:
                    result = line
    except Refused as refused:
        if "errors_total" not in refused.document:
            raise
        return refused.document, True
    return result, int(result.get("status", 200)) >= 400


def _picture(view: dict[str, Any]) -> RenderableType:
    head = Table.grid(padding=(0, 2))
    marker = "DRILL: " if view["drill"] else ""
    head.add_row(f"[bold]{marker}{_plain(view['title'])}[/]", f"{view['severity']}, {view['state']}")
    people = "" if view["people"] is None else f"{view['people']} people, {view['unreachable']} of them out of reach"
    head.add_row(people, "SANDBOX" if view["sandbox"] else "")
    bars = Table.grid(padding=(0, 2))
    for c in view["channels"]:
        counts = ", ".join(f"{n} {_WORDS[s]}" for s, n in c["counts"].items() if n)
        bar = ProgressBar(total=max(1, c["targeted"]), completed=c["reached"], width=36)
        bars.add_row(c["label"], bar, f"{c['reached']}/{c['targeted']}", counts)
    notes = [f"[bold red]Paused: {_plain(r['name'])} ({_plain(r['reason'])})[/]" for r in view["paused_routes"]]
    return Group(head, bars, *notes)


def _plain(text: str) -> str:
    return text.replace("[", "\\[")


def last_line(document: dict[str, Any]) -> None:
    """A program's line: compact JSON, alone on standard output."""
    click.echo(json.dumps(document, separators=(",", ":")))
