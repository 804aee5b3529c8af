"""What was found, for people (a table) and for programs (JSON)."""

import json
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

FOLDER: Final = Path(__file__).parent / "results"


def write(results: dict[str, Any]) -> Path:
    """Keeps it as ``latest.json``."""
    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / "latest.json"
    path.write_text(json.dumps(results, indent=1) + "\n")
    return path


def table(results: dict[str, Any], console: Console) -> None:
    """The rounds, then the bars."""
    for kind, found in results.get("rounds", {}).items():
        shown = Table(title=f"{kind}: deliveries a second", title_justify="left")
        for column in ("", "median", "min", "max", "what it includes"):
            shown.add_column(column, justify="left" if column in ("", "what it includes") else "right")
        for name in ("blast", "naive", "product"):
            s = found[name]
            shown.add_row(name, f"{s['median']:,.0f}", f"{s['min']:,.0f}", f"{s['max']:,.0f}", found["includes"][name])
        for name in ("of_blast", "of_naive"):
            s = found[name]
            shown.add_row(
                name.replace("_", " "), f"{s['median']:.2f}", f"{s['min']:.2f}", f"{s['max']:.2f}", "product, by round"
            )
        console.print(shown)
    judged = Table(title="Bars", title_justify="left")
    for column in ("", "value", "bar", "holds"):
        judged.add_column(column, justify="left" if column == "" else "right")
    for name, bar in results["bars"].items():
        judged.add_row(name, f"{bar['value']:,g}", f"{bar['bar']:,g}", "yes" if bar["holds"] else "[bold red]no[/]")
    console.print(judged)
