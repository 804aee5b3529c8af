"""What every group of commands needs: settings, the API's client, and how an answer is said."""

import json
from collections.abc import Callable
from typing import Any, Final

import click
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from broadcaster.cli import client as api
from broadcaster.settings import Settings

out = Console()
as_json = click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output.")


class Wrong(click.ClickException):
    """Something to correct in the call, in one sentence."""

    exit_code = 2


WIDE: Final = 110  # characters: from here on a table has room for what can be done without


def with_ids(*columns: Column | str) -> tuple[Table, Callable[..., None]]:
    """A table and how a row comes into it, its id first; which is shown where there is room: names do as well."""
    wide = out.width >= WIDE
    table = Table(*([Column("Id", no_wrap=True)] if wide else []), *columns)

    def add(uid: str, *cells: str | Text) -> None:
        table.add_row(*([uid] if wide else []), *cells)

    return table, add


def settings_of(context: click.Context) -> Settings:
    settings: Settings = context.obj["settings"]
    return settings


def client_of(context: click.Context) -> api.Client:
    return api.connect(settings_of(context), context.obj["url"], context.obj["key"])


def say(document: Any) -> None:
    click.echo(json.dumps(document, indent=2, ensure_ascii=False))
