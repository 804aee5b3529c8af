"""Every command. Those that read or change alerts and people go through the REST API; the rest work on this machine."""

import json
import os
import sys
import traceback
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

import click
from pydantic import ValidationError
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Column, Table
from sqlalchemy.exc import DBAPIError

from broadcaster import __version__
from broadcaster.channels.push import generate_vapid
from broadcaster.cli import embedded, incidents, monitors, signals
from broadcaster.cli.demo import run_demo
from broadcaster.cli.doctor import examine
from broadcaster.cli.links import enter_link
from broadcaster.cli.progress import follow, import_file, show_status
from broadcaster.cli.shared import as_json, out
from broadcaster.cli.shared import client_of as _client
from broadcaster.cli.shared import say as _say
from broadcaster.cli.shared import settings_of as _settings
from broadcaster.cli.supervisor import Busy, FailedToStart
from broadcaster.domain.errors import Problem
from broadcaster.domain.messages import Severity
from broadcaster.sandbox import server as sandbox_server
from broadcaster.services import auditing
from broadcaster.services.keys import Scope
from broadcaster.settings import Settings
from broadcaster.store import migrate as migrations
from broadcaster.store.database import UNAVAILABLE
from broadcaster.wiring import (
    SANDBOX_ACCOUNT_SID,
    SANDBOX_AUTH_TOKEN,
    SANDBOX_SLACK_TOKEN,
    Wiring,
    configure_log,
)


def main() -> NoReturn:
    """The entry point: typed errors become one sentence and an exit code."""
    try:
        cli.main(standalone_mode=False, prog_name="broadcaster")
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    except ValidationError as error:
        for fault in error.errors():
            name = "BROADCASTER_" + "_".join(str(part) for part in fault["loc"]).upper() if fault["loc"] else "Settings"
            click.echo(f"Error: {name}: {fault['msg']}", err=True)
        sys.exit(2)
    except (Busy, embedded.NoRedis) as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(2)
    except FailedToStart as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(1)
    except Problem as problem:
        click.echo(f"Error: {problem.detail}", err=True)
        sys.exit(2 if problem.status < 500 else 1)
    except DBAPIError as error:
        missing = "no such table" in str(error.orig) or getattr(error.orig, "sqlstate", None) == "42P01"
        if not missing and not isinstance(error, UNAVAILABLE):
            # A fault of our own. Where it was, but not what the database says of it, which may quote a row.
            name, state = type(error.orig).__name__, getattr(error.orig, "sqlstate", None) or ""
            click.echo("".join(traceback.format_tb(error.__traceback__)), err=True)
            click.echo(
                f"Error: The database refused a statement ({name} {state}). This is a fault in the program.", err=True
            )
            sys.exit(1)
        if not missing:
            click.echo("Error: The database does not answer; `broadcaster doctor` says more.", err=True)
            sys.exit(1)
        click.echo(
            "Error: This database has no tables yet. Is BROADCASTER_DATA_DIR (or BROADCASTER_DATABASE_URL) the one that the "
            "running broadcaster uses?",
            err=True,
        )
        sys.exit(2)
    sys.exit(0)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__)
@click.option("--url", envvar="BROADCASTER_URL", help="The API, when it is not this machine's.")
@click.option(
    "--api-key", envvar="BROADCASTER_API_KEY", help="API key; better in the environment than in a shell's history."
)
@click.pass_context
def cli(context: click.Context, url: str | None, api_key: str | None) -> None:
    """The second way to be told, when email is down.

    Exit codes: 0 done; 1 it did not work out; 2 something to correct in the call or the settings; 3 no answer.
    """
    context.obj = {"settings": Settings(), "url": url, "key": api_key}


for group in (monitors.monitors, incidents.incidents, incidents.maintenance, signals.sources, signals.rules):
    cli.add_command(group)


# ---- running -------------------------------------------------------------------------------------------------------


@cli.command()
@click.option("--quiet", is_flag=True, help="Parts log to files in the data directory.")
@click.pass_context
def up(context: click.Context, quiet: bool) -> None:
    """Run everything on this machine: API, workers and, where none is configured, Redis and the sandbox."""
    settings = _settings(context)
    configure_log(settings)
    supervisor = embedded.supervisor(settings, quiet=quiet)
    if embedded.shape(settings).sandbox:
        click.echo(embedded.BANNER, err=True)
    supervisor.start()
    click.echo(f"Ready: {settings.resolved_public_url}   (Ctrl-C stops it)", err=True)
    try:
        supervisor.wait()
    finally:
        supervisor.stop()


@cli.command(name="api")
@click.option("--host")
@click.option("--port", type=int)
@click.pass_context
def run_api(context: click.Context, host: str | None, port: int | None) -> None:
    """Run one API process."""
    command = embedded.api_command(_settings(context), host, port)
    os.execv(command[0], command)  # noqa: S606 - our own command


@cli.command()
@click.option("--queue", type=click.Choice(["bulk", "critical"]), default="bulk", show_default=True)
@click.option("--processes", type=click.IntRange(1, 64), help="Worker processes; BROADCASTER_WORKERS unless given.")
@click.option("--vantage", help="Where it looks at monitors from; BROADCASTER_VANTAGE unless given.")
def worker(queue: str, processes: int | None, vantage: str | None) -> None:
    """Run one worker: `bulk` takes everything, the most urgent first; `critical` keeps itself free for critical alerts."""
    if vantage is not None:
        os.environ["BROADCASTER_VANTAGE"] = vantage
    settings = Settings()  # with it: a name that cannot be is refused here
    default = settings.critical_workers if queue == "critical" else settings.workers
    command = embedded.worker_command(queue, processes or default)
    os.environ["BROADCASTER_WORKER_QUEUE"] = queue
    os.execv(command[0], command)  # noqa: S606 - our own command


@cli.command()
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", type=int, help="BROADCASTER_SANDBOX_PORT unless given.")
@click.pass_context
def sandbox(context: click.Context, host: str, port: int | None) -> None:
    """Run the stand-in providers, with their wall of phones."""
    settings = _settings(context)
    sandbox_server.run(
        sandbox_server.SandboxConfig(
            host=host,
            port=settings.sandbox_port if port is None else port,
            sms_rate=settings.sandbox_rate,
            state_path=settings.data_dir / "sandbox-browsers.json",
            twilio_account_sid=SANDBOX_ACCOUNT_SID,
            twilio_auth_token=SANDBOX_AUTH_TOKEN,
            slack_token=SANDBOX_SLACK_TOKEN,
            notify_callback_url=f"{settings.resolved_public_url}/api/v1/receipts/sms",
        )
    )


@cli.command()
@click.option("--people", type=click.IntRange(1, 100_000), default=1000, show_default=True)
@click.option("--once", is_flag=True, help="End by itself; the last line is JSON.")
@click.option(
    "--mail",
    type=click.Choice(["auto", "postfix", "sandbox"]),
    default="auto",
    show_default=True,
    help="What is watched: Postfix and Dovecot, or the sandbox's stand-in; auto: the former where they can run.",
)
@click.pass_context
def demo(context: click.Context, people: int, once: bool, mail: str) -> None:
    """A hospital's mail is lost in silence: a monitor notices, invented clinicians are told, and get the all-clear."""
    sys.exit(run_demo(_settings(context), people=people, once=once, mail=mail))


@cli.command()
@as_json
@click.pass_context
def migrate(context: click.Context, as_json: bool) -> None:
    """Bring the database to this version's tables."""
    changed = migrations.upgrade(Wiring(_settings(context)).database)
    _say({"changed": changed}) if as_json else click.echo("Done." if changed else "Nothing to do.")


@cli.command()
@as_json
@click.pass_context
def doctor(context: click.Context, as_json: bool) -> None:
    """Check every part and every credential, and say what to do."""
    findings = examine(_settings(context))
    if as_json:
        _say([{"part": f.part, "ok": f.ok, "detail": f.detail, "do": f.do} for f in findings])
    else:
        for finding in findings:
            mark = "[green]ok[/]  " if finding.ok else "[bold red]bad[/] "
            out.print(f"{mark} {finding.part}: {finding.detail}", highlight=False)
            if finding.do:
                out.print(f"      → {finding.do}", highlight=False)
    sys.exit(0 if all(f.ok for f in findings) else 1)


@cli.command()
@click.argument("alert", required=False)
@as_json
@click.pass_context
def audit(context: click.Context, alert: str | None, as_json: bool) -> None:
    """Prove the books: every count, transition and attempt agrees (of all alerts unless an id is given)."""
    quiet = as_json or not sys.stderr.isatty()
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), disable=quiet, transient=True) as bars:
        task = bars.add_task("Auditing", total=None)
        database = Wiring(_settings(context)).database
        books = auditing.audit(database, alert, progress=lambda done, n: bars.update(task, completed=done, total=n))
    if as_json:
        checks = [asdict(finding) for finding in books.findings]
        numbers = {"alerts": books.alerts, "deliveries": books.deliveries, "events": books.events}
        _say({"right": books.right, **numbers, "checks": checks})
    elif books.right:
        click.echo(f"The books are right: {books.alerts} alerts, {books.deliveries} deliveries, {books.events} events.")
    else:
        for finding in (f for f in books.findings if f.wrong):
            click.echo(f"{finding.check}: {finding.wrong} wrong. The rule: {finding.rule}")
            for fault in finding.shown:
                delivery = "" if fault.delivery is None else f" delivery {fault.delivery}:"
                click.echo(f"  alert {fault.alert or 'unknown'}:{delivery} {fault.what}")
            if finding.wrong > len(finding.shown):
                click.echo(f"  and {finding.wrong - len(finding.shown)} more")
    sys.exit(0 if books.right else 1)


# ---- alerts --------------------------------------------------------------------------------------------------------


def _alert_options(command: Any) -> Any:
    for option in reversed(
        [
            click.argument("title"),
            click.argument("body"),
            click.option("--severity", type=click.Choice([s.value for s in Severity]), default="high", show_default=True),
            click.option("--everyone", is_flag=True, help="Everybody in the directory."),
            click.option("--group", "groups", multiple=True, help="A group's name or id. Repeat for more."),
            click.option("--tag", "tags", multiple=True, help="key:value, for example site:Northmoor. Repeat for more."),
            click.option("--to", "named", multiple=True, help="A recipient's id. Repeat for more."),
            click.option("--channel", "channels", multiple=True, help="sms, slack, push; all three unless given."),
            click.option("--expires-in", type=int, help="Seconds after which nothing more is sent."),
            click.option("--source", help="Who says it."),
            click.option("--dedup-key", help="While an alert with this key is open, it is the answer."),
            click.option("--drill", is_flag=True, help="An exercise: every message begins with DRILL."),
        ]
    ):
        command = option(command)
    return command


def _body(options: dict[str, Any]) -> dict[str, Any]:
    parts: list[dict[str, Any]] = [{"group": g} for g in options["groups"]] + [{"tag": t} for t in options["tags"]]
    if options["named"]:
        parts.append({"recipients": list(options["named"])})
    if options["everyone"]:
        parts = [{"everyone": True}]
    if not parts:
        raise click.UsageError("Say whom to tell: --everyone, --group, --tag or --to.")
    body = {"title": options["title"], "body": options["body"], "severity": options["severity"], "drill": options["drill"]}
    body["audience"] = parts[0] if len(parts) == 1 else {"any": parts}
    for name in ("expires_in", "source", "dedup_key"):
        if options[name] is not None:
            body[name] = options[name]
    if options["channels"]:
        body["channels"] = list(options["channels"])
    return body


@cli.command()
@_alert_options
@click.option("--idempotency-key", help="Repeating the command with the same key raises no second alert.")
@click.option(
    "--follow/--no-follow", "following", default=None, help="Show progress until all is done (on a terminal, unless --json)."
)
@as_json
@click.pass_context
def send(context: click.Context, /, idempotency_key: str | None, following: bool | None, **options: Any) -> None:
    """Raise an alert: broadcaster send "Email is down" "Use the phone list." --everyone"""
    client = _client(context)
    use_json = options.pop("as_json")
    headers = {"Idempotency-Key": idempotency_key} if idempotency_key else {}
    accepted = client.call("POST", "alerts", json=_body(options), headers=headers)
    if use_json:
        _say(accepted)
    else:
        click.echo(
            f"{'Accepted' if accepted['created'] else 'Already there'}: {accepted['id']}\n{accepted['links']['page']}"
        )
    if following or (following is None and not use_json and sys.stdout.isatty()):
        follow(client, accepted["id"])


@cli.command()
@_alert_options
@as_json
@click.pass_context
def preview(context: click.Context, /, **options: Any) -> None:
    """What an alert would do, without doing it."""
    use_json = options.pop("as_json")
    plan = _client(context).call("POST", "alerts/preview", json=_body(options))
    if use_json:
        _say(plan)
        return
    click.echo(f"{plan['people']} people, {plan['unreachable']} of them out of reach")
    table = Table("Channel", "Messages", "Segments each", "Cost", "Duration")
    for c in plan["channels"]:
        cost = "" if c["money"] is None else f"{c['money']:.2f} {c['currency']}"
        seconds = "" if c["seconds"] is None else f"{c['seconds']:.0f} s"
        kind = f"{c['segments']} ({c['encoding']})" if c["encoding"] else str(c["segments"])
        table.add_row(c["label"], str(c["deliveries"]), kind, cost, seconds)
    out.print(table)
    for c in plan["channels"]:
        out.print(f"{c['label']}: {c['text']}", markup=False, highlight=False)
    for warning in plan["warnings"]:
        out.print(f"! {warning}", style="yellow", markup=False, highlight=False)


@cli.command()
@click.argument("alert", required=False)
@click.option("--follow", "following", is_flag=True, help="Live, until all is done.")
@as_json
@click.pass_context
def status(context: click.Context, alert: str | None, following: bool, as_json: bool) -> None:
    """How an alert stands (the latest one unless an id is given)."""
    client = _client(context)
    if alert is None:
        items = client.call("GET", "alerts", params={"limit": 1})["items"]
        if not items:
            raise click.ClickException("There is no alert yet.")
        alert = items[0]["id"]
    if following and not as_json:
        follow(client, alert)
        return
    view = client.call("GET", f"alerts/{alert}")
    _say(view) if as_json else show_status(view)


@cli.command()
@click.argument("alert")
@as_json
@click.pass_context
def cancel(context: click.Context, alert: str, as_json: bool) -> None:
    """Stop what has not left."""
    answer = _client(context).call("POST", f"alerts/{alert}/cancel")
    if as_json:
        _say(answer)
    else:
        click.echo(f"Stopped {answer['stopped']}; {answer['left']} had left and may have reached somebody.")


@cli.command()
@as_json
@click.pass_context
def routes(context: click.Context, as_json: bool) -> None:
    """Which route each channel uses now, and why."""
    found = _client(context).call("GET", "routes")
    if as_json:
        _say(found)
        return
    table = Table("channel", "route", "used", "why", box=None)
    for route in found["items"]:
        until = f" (until {route['until']})" if route["until"] else ""
        why = route["trouble"] or ("the first that works" if route["used"] else "in reserve: one before it works")
        table.add_row(route["channel"], route["name"], "yes" if route["used"] else "", f"{why}{until}")
    Console().print(table, markup=False)


# ---- people --------------------------------------------------------------------------------------------------------


@cli.group()
def recipients() -> None:
    """People: import and list."""


@recipients.command(name="import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--dry-run", is_flag=True, help="Check everything, change nothing.")
@click.option("--skip-bad", is_flag=True, help="Import the good rows; without it one bad row stops all.")
@as_json
@click.pass_context
def import_recipients(context: click.Context, file: Path, dry_run: bool, skip_bad: bool, as_json: bool) -> None:
    """Import a CSV: name, external_id, phone, slack, groups (;-separated); any other column becomes a tag."""
    result, refused = import_file(_client(context), file, dry_run=dry_run, skip_bad=skip_bad, quiet=as_json)
    if as_json:
        _say(result)
    else:
        if refused:
            click.echo(f"Error: {result['detail']}", err=True)
        for error in result.get("errors", []):
            click.echo(f"line {error['line']}: {error['column'] or 'row'}: {error['reason']}", err=True)
        counts = ", ".join(f"{result[k]} {k}" for k in ("rows", "created", "updated", "unchanged", "skipped") if k in result)
        if counts:
            done = "Nothing was changed" if refused or dry_run else "Imported"
            click.echo(f"{done}: {counts}, bad rows: {result['errors_total']}")
        if refused and result["errors_total"]:
            click.echo("Correct these rows, or import the good ones with --skip-bad.", err=True)
    sys.exit(2 if refused else 0)


@recipients.command(name="list")
@click.option("--search", help="Part of a name, or a staff number.")
@click.option("--limit", type=click.IntRange(1, 500), default=50, show_default=True)
@as_json
@click.pass_context
def list_recipients(context: click.Context, search: str | None, limit: int, as_json: bool) -> None:
    """People in the directory."""
    query = {"limit": str(limit), **({"q": search} if search else {})}
    page = _client(context).call("GET", "recipients", params=query)
    if as_json:
        _say(page)
        return
    table = Table(Column("Id", no_wrap=True), Column("Name", overflow="fold"), "Reached by", "Tags")
    for person in page["items"]:
        reached = ", ".join(sorted({c["channel"] for c in person["contacts"] if not c["disabled_at"]}))
        tags = " ".join(f"{k}:{v}" for k, values in person["tags"].items() for v in values)
        table.add_row(person["id"], person["name"], reached, tags)
    out.print(table)


# ---- keys ----------------------------------------------------------------------------------------------------------


@cli.group()
def keys() -> None:
    """API keys: made here, on the server, and shown once."""


@keys.command(name="create")
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    type=click.Choice([s.value for s in Scope]),
    required=True,
    help="What it may do; repeat for more. To run monitors: monitors:read, monitors:write, and alerts:send to decide about "
    "incidents. For another system's alerts: signals:send.",
)
@click.option("--test", is_flag=True, help="A key whose alerts reach the sandbox only.")
@as_json
@click.pass_context
def create_key(context: click.Context, name: str, scopes: tuple[str, ...], test: bool, as_json: bool) -> None:
    """Make a key."""
    uid, key = Wiring(_settings(context)).keys.create(name, list(scopes), test=test)
    if as_json:
        _say({"id": uid, "name": name, "key": key, "scopes": sorted(scopes), "test": test})
    else:
        click.echo(f"{key}\nThis is the only time it is shown. Its id, for revoking it: {uid}")


@keys.command(name="list")
@as_json
@click.pass_context
def list_keys(context: click.Context, as_json: bool) -> None:
    """All keys, without their secrets."""
    rows = Wiring(_settings(context)).keys.list()
    if as_json:
        _say([{**row, "scopes": json.loads(str(row["scopes"]))} for row in rows])
        return
    table = Table(Column("Id", no_wrap=True), Column("Name", overflow="fold"), "Scopes", "Kind", "State")
    for row in rows:
        kind = "test" if row["test"] else "live"
        table.add_row(str(row["uid"]), str(row["name"]), " ".join(json.loads(str(row["scopes"]))), kind,
                      "revoked" if row["revoked_at"] else "works")  # fmt: skip
    out.print(table)


@keys.command(name="revoke")
@click.argument("key_id")
@click.pass_context
def revoke_key(context: click.Context, key_id: str) -> None:
    """End a key, within seconds, everywhere."""
    Wiring(_settings(context)).keys.revoke(key_id)
    click.echo("Revoked.")


@cli.group()
def push() -> None:
    """Web push."""


@push.command()
@as_json
def keygen(as_json: bool) -> None:
    """A new VAPID key pair. Changing the key ends every subscription: do it once."""
    private, public = generate_vapid()
    if as_json:
        _say({"private_key": private, "public_key": public})
    else:
        click.echo(f"BROADCASTER_VAPID_PRIVATE_KEY={private}\n# public key, as browsers get it: {public}")


@cli.command(name="sign-in-link")
@click.option("--key-id", help="The API key to sign in as; the newest working one unless given.")
@click.pass_context
def sign_in_link(context: click.Context, key_id: str | None) -> None:
    """A link that opens the console, good for ten minutes."""
    wiring = Wiring(_settings(context))
    if key_id is None:
        working = [row for row in wiring.keys.list() if not row["revoked_at"]]
        if not working:
            raise click.UsageError("There is no key yet; make one with `broadcaster keys create`.")
        key_id = str(working[0]["uid"])
    click.echo(enter_link(wiring, key_id))
