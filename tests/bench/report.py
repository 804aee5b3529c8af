"""What was found, for people (a table) and for programs (JSON)."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

#: Cores that others may use beside a measurement.
QUIET: Final = 0.15
FOLDER: Final = Path(__file__).parent / "results"


def write(results: dict[str, Any]) -> Path:
    """Keeps it as ``latest.json``."""
    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / "latest.json"
    path.write_text(json.dumps(results, indent=1) + "\n")
    return path


def table(results: dict[str, Any], console: Console) -> None:
    """The rounds, the scale curve, then the bars."""
    for kind, found in results.get("rounds", {}).items():
        console.print(_rounds(kind, found))
    if "scale" in results:
        console.print(_scale(results["scale"]))
    rows = [
        (name, f"{bar['value']:,g}", f"{bar['bar']:,g}", "yes" if bar["holds"] else "[bold red]no[/]")
        for name, bar in results["bars"].items()
    ]
    console.print(_table("Bars", ("", "value", "bar", "holds"), rows))
    if results["others_cores"] > QUIET:
        console.print(f"Others used up to {results['others_cores']} cores of this machine meanwhile: compare with care.")


def _rounds(kind: str, found: dict[str, Any]) -> Table:
    rows = []
    for name in ("blast", "naive", "product"):
        s = found[name]
        rows.append((name, f"{s['median']:,.0f}", f"{s['min']:,.0f}", f"{s['max']:,.0f}"))
    for name in ("of_blast", "of_naive"):
        s = found[name]
        rows.append((f"product {name.replace('_', ' ')}", f"{s['median']:.2f}", f"{s['min']:.2f}", f"{s['max']:.2f}"))
    return _table(f"{kind}: deliveries a second", ("", "median", "min", "max"), rows)


def _scale(found: dict[str, Any]) -> Table:
    rows = [
        (database, workers, f"{int(people):,}", f"{run['per_second']:,.0f}", f"{run['cost_us']:,.0f}")
        for database in ("postgresql", "sqlite")
        for workers, runs in found[database].items()
        for people, run in runs.items()
    ]
    return _table("push, by size", ("", "workers", "people", "a second", "µs of CPU each"), rows)


def _table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    made = Table(title=title, title_justify="left")
    for column in columns:
        made.add_column(column, justify="right" if column else "left")
    for row in rows:
        made.add_row(*row)
    return made
