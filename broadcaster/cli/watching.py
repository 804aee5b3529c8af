"""Monitors as they are now: a table that redraws itself on a terminal, a line per change elsewhere."""

import json
import os
import sys
import time
from collections.abc import Collection, Iterator, Sequence
from datetime import datetime
from typing import Any, Final

import click
from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Column, Table
from rich.text import Text

from broadcaster.cli.client import Broken, Client, NoAnswer
from broadcaster.cli.shared import WIDE, out

LOOK: Final = 1.0  # s
BLOCKS: Final = "▁▂▃▄▅▆▇█"
_STYLES: Final = {"ok": "green", "degraded": "yellow", "down": "bold red", "unknown": "dim"}
_MARKS: Final = {"failed": ("✗", "bold red"), "unknown": ("·", "dim")}


def watch(client: Client, wanted: Collection[str], *, as_json: bool) -> None:
    """Until Ctrl-C. ``wanted``: ids of monitors; none: all. Raises NoAnswer only where there never was one."""
    try:
        if sys.stdout.isatty() and not as_json:
            _draw(client, wanted)
        else:
            _tell(client, wanted, as_json=as_json)
    except KeyboardInterrupt:
        return
    except BrokenPipeError:  # whoever read this has enough; nothing more is to be flushed at the end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _draw(client: Client, wanted: Collection[str]) -> None:
    with Live(console=out, auto_refresh=False) as live:
        for monitors, fault in _looks(client, wanted):
            live.update(_picture(monitors, fault, out.width), refresh=True)


def _tell(client: Client, wanted: Collection[str], *, as_json: bool) -> None:
    """A line per monitor, and one whenever its state changes, it is paused, or its maintenance begins or ends."""
    last: dict[str, tuple[object, ...]] = {}
    said = ""
    for monitors, fault in _looks(client, wanted):
        if fault and fault != said:
            click.echo(f"Error: {fault}", err=True)
        said = fault
        for monitor in monitors:
            now = (monitor["state"], monitor["paused_at"], monitor["in_maintenance"])
            if last.get(monitor["id"]) != now:
                last[monitor["id"]] = now
                click.echo(_document(monitor) if as_json else _line(monitor))
                sys.stdout.flush()


def _looks(client: Client, wanted: Collection[str]) -> Iterator[tuple[list[dict[str, Any]], str]]:
    """(monitors, what is wrong with looking) again and again; what was seen last stays while there is no answer."""
    seen: list[dict[str, Any]] | None = None
    while True:
        fault = ""
        try:
            seen = [m for m in client.items("monitors", limit="200") if not wanted or m["id"] in wanted]
        except (NoAnswer, Broken) as error:
            if seen is None:
                raise
            fault = error.message
        yield seen, fault
        time.sleep(LOOK)


def _document(monitor: dict[str, Any]) -> str:
    names = ("id", "name", "state", "state_since", "code", "reason", "paused_at", "in_maintenance")
    return json.dumps({name: monitor[name] for name in names}, ensure_ascii=False)


def _line(monitor: dict[str, Any]) -> str:
    return f"{monitor['state_since']}  {monitor['name']}  {state_of(monitor).plain}  {monitor['reason'] or ''}".rstrip()


def _picture(monitors: Sequence[dict[str, Any]], fault: str, width: int) -> RenderableType:
    wide = width >= WIDE  # a narrow screen has what is wrong; the curve and the time it took can be done without
    figures = [Column("Last", justify="right", no_wrap=True), Column("Readings", no_wrap=True)] if wide else []
    table = Table(
        Column("Monitor", overflow="ellipsis", no_wrap=True, max_width=28 if wide else 20), Column("State", no_wrap=True),
        Column("Since", no_wrap=True), *figures, Column("Why", overflow="fold", ratio=1),
        box=None, expand=True,
    )  # fmt: skip
    for m in monitors:
        shown: list[str | Text] = [latency_of(m), sparkline(m["recent"])] if wide else []
        table.add_row(Text(m["name"]), state_of(m), clock(m["state_since"]), *shown, why(m))
    if not monitors:
        table.add_row("There is no monitor.")
    return Group(table, Text(fault, style="bold red")) if fault else table


def state_of(monitor: dict[str, Any]) -> Text:
    """ "down", "ok (maintenance)"."""
    text = Text(monitor["state"], style=_STYLES[monitor["state"]])
    more = "paused" if monitor["paused_at"] else "maintenance" if monitor["in_maintenance"] else ""
    return text.append(f" ({more})", style="dim") if more else text


def latency_of(monitor: dict[str, Any]) -> str:
    """How long the last look took: "12 ms"."""
    last = monitor["recent"][-1]["latency_ms"] if monitor["recent"] else None
    return "" if last is None else f"{last} ms"


def why(monitor: dict[str, Any]) -> Text:
    return Text((monitor["reason"] or "") if monitor["state"] != "ok" else "")


def sparkline(readings: Sequence[dict[str, Any]]) -> Text:
    """A block for each reading, the higher the slower; a failed one is a cross, one that says nothing a dot."""
    slowest = max((r["latency_ms"] or 0 for r in readings if r["verdict"] not in _MARKS), default=0)
    line = Text()
    for reading in readings:
        if reading["verdict"] in _MARKS:
            line.append(*_MARKS[reading["verdict"]])
        else:
            height = (reading["latency_ms"] or 0) / slowest if slowest else 0.0
            line.append(BLOCKS[round(height * (len(BLOCKS) - 1))], style=_STYLES[reading["verdict"]])
    return line


def clock(moment: str | None) -> str:
    """This machine's time of day; with the date when that is not today's."""
    if moment is None:
        return ""
    there = datetime.fromisoformat(moment).astimezone()
    return f"{there:%H:%M:%S}" if there.date() == datetime.now().astimezone().date() else f"{there:%Y-%m-%d %H:%M}"
