"""One thing at a time, for people: a monitor, a kind, an incident."""

import json
from typing import Any

from rich.table import Column, Table
from rich.text import Text

from broadcaster.cli import watching
from broadcaster.cli.setting import types_of
from broadcaster.cli.shared import out


def show_monitor(view: dict[str, Any]) -> None:
    rows = {
        "Id": view["id"], "Kind": view["kind"], "State": watching.state_of(view),
        "Since": watching.clock(view["state_since"]),
        "Why": watching.why(view), "Readings": watching.sparkline(view["recent"]), "Last": watching.latency_of(view),
        "Settings": Text(_settings_of(view)), "Looks": _pace(view), "Tells": Text(_tells(view["alert"])),
    }  # fmt: skip
    if view["heard_at"]:
        rows["Heard"] = watching.clock(view["heard_at"])
    _show_rows(view["name"], rows)


def _settings_of(view: dict[str, Any]) -> str:
    shown = [f"{name}={value}" for name, value in view["config"].items() if value is not None]
    return ", ".join([*shown, *(f"{pointer[1:].replace('/', '.')}=(kept)" for pointer in view["secrets"])])


def _pace(view: dict[str, Any]) -> str:
    agree = f", {view['quorum']} must agree" if len(view["vantages"]) > 1 else ""
    down = f"down after {view['failures']} failed, well after {view['successes']} good"
    return f"every {view['interval_seconds']:g} s from {', '.join(view['vantages'])}{agree}; {down}"


def _tells(alert: dict[str, Any] | None) -> str:
    if alert is None:
        return "nobody"
    release = {"now": "at once", "hold": f"after {alert['hold_seconds']} s", "approve": "once approved"}[alert["release"]]
    return f"{alert['severity']}, {release}, by {', '.join(alert['channels'])}: {json.dumps(alert['audience'])}"


def show_kind(kind: dict[str, Any]) -> None:
    schema = kind["config_schema"]
    out.print(Text(kind["label"], style="bold"))
    table = Table("Setting", "Takes", "Unless given", Column("What it is", overflow="fold"), box=None)
    for name, part in schema.get("properties", {}).items():
        takes = " or ".join(sorted(types_of(part, schema) - {"null"}))
        needed = "(needed)" if name in schema.get("required", ()) else ""
        default = needed or ("" if part.get("default") is None else json.dumps(part["default"]))
        secret = "Secret. " if _is_secret(part) else ""
        table.add_row(name, takes, Text(default), Text(secret + part.get("description", "")))
    out.print(table)
    codes = Table("Code", Column("What it means", overflow="fold"), box=None)
    for code, meaning in kind["codes"].items():
        codes.add_row(code, Text(meaning))
    out.print(codes)


def _is_secret(part: dict[str, Any]) -> bool:
    return bool(part.get("writeOnly")) or any(p.get("writeOnly") for p in part.get("anyOf", ()))


def standing(incident: dict[str, Any]) -> str:
    if wrong := incident["fault"] or incident["lacks"]:
        return f"{incident['state']}: {wrong}"
    due = f", to be told at {watching.clock(incident['due_at'])}" if incident["due_at"] else ""
    return f"{incident['state']}{due}"


def show_incident(view: dict[str, Any]) -> None:
    rows: dict[str, Any] = {"Id": view["id"], "State": Text(standing(view)), "Severity": view["severity"]}
    names = {"Since": "opened_at", "Told": "told_at", "Over": "cleared_at", "Closed": "closed_at"}
    rows |= {label: watching.clock(view[name]) for label, name in names.items() if view[name]}
    if view["decided_by"]:
        rows["Decided by"] = Text(view["decided_by"])
    for cause in view["causes"]:
        over = f" (until {watching.clock(cause['cleared_at'])})" if cause["cleared_at"] else ""
        rows[cause["name"]] = Text(f"{cause['kind']}: {cause['reason']}{over}")
    for told in view["alerts"]:
        rows[told["what"].replace("_", "-").capitalize()] = told["alert"]
    _show_rows(view["title"], rows)


def _show_rows(title: str, rows: dict[str, Any]) -> None:
    grid = Table.grid(Column(no_wrap=True), Column(overflow="fold"), padding=(0, 2))
    for label, value in rows.items():
        grid.add_row(Text(label, style="dim"), value)
    out.print(Text(title, style="bold"))
    out.print(grid)
