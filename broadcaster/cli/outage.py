"""The demonstration's outage: a mail system that can be told to lose mail, and the monitor that finds out."""

import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from typing import Any, Final, Protocol, TypeVar

import click
import requests

from broadcaster.cli.client import Client, NoAnswer, Refused
from broadcaster.sandbox import postfix

T = TypeVar("T")

NAME: Final = "Email across the trust"
TITLE: Final = "Email is down across the trust"
BODY: Final = (
    "Do not retry your password: accounts lock. Use the ward phone list and bleeps for handover. "
    "Mail sent since {{since}} has not arrived. Next update in 30 minutes."
)
CLEAR_TITLE: Final = "Email works again"
CLEAR_BODY: Final = "Mail sent from {{since}} until now may be lost: send it again."
SOURCE: Final = "Northmoor IT"

EVERY: Final = 2.0  # s between two looks
WITHIN: Final = 1.5  # s that a message may take
FAILURES: Final = 3
SUCCESSES: Final = 2
HOLD_DOWN: Final = 3.0  # s without a failed look
_LOOK: Final = 0.25  # s between our own looks at what the monitor has seen


class WentWrong(click.ClickException):
    """The story did not go on; the text says at which point."""


# ---- mail systems


class MailSystem(Protocol):
    """What is watched. ``fault``: one of the sandbox's mail faults, None for none; true when it returns. ``break_it``: how
    whoever plays with it does so, for people."""

    @property
    def name(self) -> str: ...

    @property
    def break_it(self) -> str: ...

    def told(self) -> dict[str, Any]: ...

    def fault(self, kind: str | None) -> None: ...

    def stop(self) -> None: ...


class RealOne(postfix.PostfixMail):
    """Postfix and Dovecot."""

    name: Final = "postfix"

    @property
    def break_it(self) -> str:
        settings = f"postconf -c {self.folder}/postfix -e virtual_transport"
        reload = f"postfix -c {self.folder}/postfix reload"
        return (
            "Or break mail again, and mend it:\n\n"
            f"  {settings}=discard: && {reload}\n  {settings}={self.transport} && {reload}\n"
        )


class OurOwn:
    """The sandbox's stand-in."""

    name: Final = "sandbox"

    def __init__(self, sandbox: str) -> None:
        self._sandbox = sandbox

    @property
    def break_it(self) -> str:
        url = f"{self._sandbox}/_sandbox/faults"
        return (
            "Or break mail again (lost, stuck, auth or down), and mend it:\n\n"
            f'  curl -s {url} -H "Content-Type: application/json" -d \'{{"provider":"mail","kind":"stuck"}}\'\n'
            f"  curl -s -X DELETE {url}\n"
        )

    def told(self) -> dict[str, Any]:
        found: dict[str, Any] = requests.get(f"{self._sandbox}/_sandbox/mail", timeout=10).json()
        return found

    def fault(self, kind: str | None) -> None:
        url = f"{self._sandbox}/_sandbox/faults"
        requests.delete(url, timeout=10).raise_for_status()
        if kind is not None:
            requests.post(url, json={"provider": "mail", "kind": kind}, timeout=10).raise_for_status()

    def stop(self) -> None:
        """It ends with the sandbox."""


def mail_system(wanted: str, sandbox: str) -> MailSystem:
    """Running. ``wanted``: postfix, sandbox, or auto: Postfix where it can run. Raises UsageError where it cannot."""
    why = "that is what was asked for" if wanted == "sandbox" else postfix.missing()
    if why is None:
        real = RealOne()
        try:
            real.start()
        except (postfix.NoStart, OSError, LookupError, subprocess.SubprocessError) as error:
            why = f"they did not start: {error}"
        else:
            click.echo("The mail system: Postfix and Dovecot, on ports of their own.", err=True)
            return real
    if wanted == "postfix":
        raise click.UsageError(f"Postfix and Dovecot cannot be had: {why}.")
    click.echo(f"The mail system: the sandbox's own, in place of Postfix and Dovecot ({why}).", err=True)
    return OurOwn(sandbox)


# ---- the monitor


def forget(client: Client) -> None:
    """Removes the monitor, also one that a demonstration which was killed has left. Harmless where there is none."""
    for monitor in client.call("GET", "monitors", params={"name": NAME})["items"]:
        with suppress(Refused):
            client.call("DELETE", f"monitors/{monitor['id']}")


class Lookout:
    """The monitor, and what it has seen so far, told line by line on standard error."""

    def __init__(self, client: Client, mail: MailSystem) -> None:
        """Makes the monitor, through the public API. It looks at once."""
        self._client = client
        self.id: str = client.call("POST", "monitors", json=_monitor(mail.told()))["id"]
        self._last = ""
        self.failed = 0  # looks in a row

    def until_well(self) -> None:
        """Raises WentWrong."""
        self._until(lambda: self._client.call("GET", f"monitors/{self.id}")["state"] == "ok", "the monitor saw no good look")

    def until_told(self, since: float) -> tuple[str, str]:
        """(incident, alert) that it has raised by itself. ``since``: seconds since the epoch. Raises WentWrong."""

        def told() -> tuple[str, str] | None:
            for incident in self._client.call("GET", "incidents", params={"open": "true"})["items"]:
                ours = incident["causes"][0]["name"] == NAME and seconds(incident["opened_at"]) >= since
                if ours and (alert := _alert_of(incident, "alert")):
                    return incident["id"], alert
            return None

        return self._until(told, "the monitor raised no alert")

    def until_all_clear(self, incident: str) -> str:
        """The all-clear's alert. Raises WentWrong."""
        return self._until(
            lambda: _alert_of(self._client.call("GET", f"incidents/{incident}"), "all_clear"), "no all-clear came"
        )

    def catch_up(self) -> None:
        """Tells what it has seen until now."""
        for reading in self._new():
            _say(reading)

    def pass_over(self) -> int:
        """What it has seen since is not told; how many looks that were."""
        return len(self._new())

    def _until(self, what: Callable[[], T | None], fault: str, patience: float = 60.0) -> T:
        deadline = time.monotonic() + patience
        while True:
            self.catch_up()
            if found := what():
                return found
            if time.monotonic() > deadline:
                raise WentWrong(f"In {patience:g} s {fault}.")
            time.sleep(_LOOK)

    def _new(self) -> list[dict[str, Any]]:
        """Looks that were not seen before, the oldest first."""
        page = self._client.call("GET", f"monitors/{self.id}/readings", params={"limit": "200"})["items"]
        new = [reading for reading in reversed(page) if reading["due_at"] > self._last]
        for reading in new:
            self._last = reading["due_at"]
            self.failed = self.failed + 1 if reading["verdict"] == "failed" else 0
        return new

    def end(self) -> None:
        """The monitor is gone, if anybody is still there to take that."""
        with suppress(Refused, NoAnswer):
            forget(self._client)


def _monitor(mail: dict[str, Any]) -> dict[str, Any]:
    """The body of POST /monitors."""
    smtp, imap = mail["smtp"], mail["imap"]
    config = {
        "smtp_host": smtp["host"], "smtp_port": smtp["port"], "imap_host": imap["host"], "imap_port": imap["port"],
        "imap_security": "starttls", "ca_certificates": mail["certificate"], "username": mail["user"],
        "password": mail["password"], "sender": mail["address"], "recipient": mail["address"],
        "deliver_within": WITHIN, "degraded_after": WITHIN,
    }  # fmt: skip
    alert = {
        "title": TITLE, "body": BODY, "all_clear_title": CLEAR_TITLE, "all_clear_body": CLEAR_BODY, "source": SOURCE,
        "severity": "critical", "audience": {"everyone": True}, "channels": ["sms", "slack", "push"],
    }  # fmt: skip
    return {
        "name": NAME, "kind": "mail_round_trip", "config": config, "interval_seconds": EVERY, "timeout_seconds": EVERY,
        "failures": FAILURES, "successes": SUCCESSES, "hold_down_seconds": HOLD_DOWN, "alert": alert,
    }  # fmt: skip


def _alert_of(incident: dict[str, Any], what: str) -> str | None:
    return next((told["alert"] for told in incident["alerts"] if told["what"] == what), None)


_COLOURS: Final = {"ok": "green", "degraded": "yellow", "failed": "red", "unknown": "yellow"}


def _say(reading: dict[str, Any]) -> None:
    at = datetime.fromtimestamp(seconds(reading["at"])).astimezone()
    verdict = click.style(f"{reading['verdict']:<7}", fg=_COLOURS[reading["verdict"]])
    click.echo(f"  {at:%H:%M:%S}  {verdict} {reading['reason']}", err=True)


def seconds(time: str) -> float:
    """RFC 3339 as seconds since the epoch."""
    return datetime.fromisoformat(time).timestamp()
