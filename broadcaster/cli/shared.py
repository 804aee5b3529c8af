"""What every group of commands needs: settings, the API's client, and how an answer is said."""

import json
from typing import Any

import click
from rich.console import Console

from broadcaster.cli import client as api
from broadcaster.settings import Settings

out = Console()
as_json = click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output.")


class Wrong(click.ClickException):
    """Something to correct in the call, in one sentence."""

    exit_code = 2


def settings_of(context: click.Context) -> Settings:
    settings: Settings = context.obj["settings"]
    return settings


def client_of(context: click.Context) -> api.Client:
    return api.connect(settings_of(context), context.obj["url"], context.obj["key"])


def say(document: Any) -> None:
    click.echo(json.dumps(document, indent=2, ensure_ascii=False))
