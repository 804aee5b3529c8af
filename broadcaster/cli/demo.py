"""The demonstration: a hospital's mail silently gets lost, and a minute later everybody knows; then it works again.

It is a user of the product like any other: it starts `broadcaster up`'s parts, imports people and makes a monitor through
the REST API, breaks the mail system that is watched, presses nothing more, and counts at the providers (the sandbox), not in
our own books.
"""

import socket
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click

from broadcaster.cli import clinicians, embedded, outage, tally
from broadcaster.cli.client import KEY_FILE, Client, keep_key
from broadcaster.cli.links import enter_link
from broadcaster.cli.progress import FINAL, follow, last_line
from broadcaster.services.keys import Scope
from broadcaster.settings import Settings
from broadcaster.wiring import Wiring, configure_log

_WAIT: Final = 120.0  # s; far more than it takes


def run_demo(settings: Settings, *, people: int, once: bool, mail: str = "auto") -> int:
    """The exit code: 0 only if everybody was reached, once, and had the all-clear, once. ``mail``: see `mail_system`."""
    if settings.providers:
        raise click.UsageError("Providers are configured; the demo only ever runs against the sandbox. Unset them first.")
    folder = Path(tempfile.mkdtemp(prefix="broadcaster-demo-")) if once else settings.data_dir
    changes: dict[str, Any] = {"data_dir": folder, "log_format": "text"}
    if once:
        changes |= {"port": _free_port(), "sandbox_port": _free_port(), "public_url": ""}
    settings = settings.model_copy(update=changes)
    configure_log(settings.model_copy(update={"log_level": "ERROR"}))
    supervisor = embedded.supervisor(settings, quiet=True, environment=embedded.environment(settings))
    _say(embedded.BANNER)
    _say("Starting Redis, sandbox, workers and API …")
    supervisor.start()
    try:
        return _show(settings, people, mail, wait=None if once else supervisor.wait)
    finally:
        supervisor.stop()


def _show(settings: Settings, people: int, mail: str, wait: Callable[[], None] | None) -> int:
    """``wait`` keeps everything up for whoever wants to look; None: end by itself."""
    wiring = Wiring(settings)
    uid, key = wiring.keys.create("demo", [s.value for s in Scope])
    keep_key(settings.data_dir / KEY_FILE, key)
    client, sandbox = Client(f"http://127.0.0.1:{settings.port}", key), settings.resolved_sandbox_url
    outage.forget(client)
    clinicians.fill(client, sandbox, wiring.vapid_public_key, clinicians.invent(people))
    _settle(client)
    book = tally.Book(sandbox)
    system = outage.mail_system(mail, sandbox)
    try:
        lookout = outage.Lookout(client, system)
        try:
            story = _Story(client, system, lookout, book, lambda page: enter_link(wiring, uid, page))
            books = story.play(sandbox)
            if wait is not None:
                _say(_HINTS.format(url=settings.resolved_public_url, key=key))
                _say(system.break_it)
                _say("Ctrl-C ends the demo.")
                wait()
        finally:
            lookout.end()
    finally:
        system.stop()
    last_line(books)
    return exit_code(books)


@dataclass(frozen=True, slots=True)
class _Story:
    """What is played with. ``link`` signs in to a page of the console. Each part is told on standard error as it happens."""

    client: Client
    system: outage.MailSystem
    lookout: outage.Lookout
    book: tally.Book
    link: Callable[[str], str]

    def play(self, sandbox: str) -> dict[str, Any]:
        """The books of the alert, and in them those of the all-clear."""
        _say(f"\nThe wall of phones:  {sandbox}/\nThe monitor:         {self.link(f'/console/monitors/{self.lookout.id}')}")
        _say(f"\nA monitor sends a message to itself every {outage.EVERY:g} s and sees whether it arrives.")
        self.lookout.until_well()
        incident, books, told = self._outage()
        return {**books, "all_clear": self._recovery(incident, told), "mail": self.system.name}

    def _outage(self) -> tuple[str, dict[str, Any], tally.Page]:
        """The incident, and the books of its alert."""
        broken = time.time()
        self.system.fault("lost")
        self.lookout.catch_up()
        _say("\nFrom now on mail is lost. Its servers go on saying that they have taken every message.")
        incident, alert = self.lookout.until_told(broken)
        raised = self._raised(alert)
        _say(
            f"{self.lookout.failed} looks in a row: mail is accepted but does not arrive.\nNobody has pressed anything: "
            f"the alert was raised by itself, {raised - broken:.1f} s after mail began to be lost.\n"
            f"\nThe live alert:      {self.link(f'/console/alerts/{alert}')}\n"
        )
        view = follow(self.client, alert, timeout=_WAIT)
        told = self.book.next_page()
        return incident, {**tally.count(view, told, raised), "seconds_to_notice": round(raised - broken, 3)}, told

    def _recovery(self, incident: str, told: tally.Page) -> dict[str, Any]:
        """The books of the all-clear. ``told``: who got the alert."""
        failed = self.lookout.pass_over()
        mended = time.time()
        self.system.fault(None)
        _say(f"\n{failed} more looks have failed meanwhile. Now mail works again.")
        all_clear = self.lookout.until_all_clear(incident)
        raised = self._raised(all_clear)
        _say(
            f"{outage.SUCCESSES} good looks in a row, and none that failed for {outage.HOLD_DOWN:g} s.\n"
            f"Whoever may have got the alert gets the all-clear.\n"
            f"\nThe all-clear:       {self.link(f'/console/alerts/{all_clear}')}\n"
        )
        view = follow(self.client, all_clear, timeout=_WAIT)
        also_told = self.book.next_page()
        return {
            **tally.count(view, also_told, raised),
            "strangers": len(also_told.everybody - told.everybody),
            "missed": len(told.everybody - also_told.everybody),
            "seconds_to_notice": round(raised - mended, 3),
        }

    def _raised(self, alert: str) -> float:
        return outage.seconds(self.client.call("GET", f"alerts/{alert}")["created_at"])


def _say(text: str) -> None:
    click.echo(text, err=True)


def exit_code(books: dict[str, Any]) -> int:
    """0 only if everybody was reached, once, and everybody of these, and nobody else, had the all-clear, once."""
    clear = books["all_clear"]
    good = all(b["targeted"] > 0 and b["lost"] == 0 and b["duplicates"] == 0 for b in (books, clear))
    return 0 if good and clear["strangers"] == 0 and clear["missed"] == 0 else 1


_HINTS: Final = """
Now raise one yourself, in another terminal:

  .venv/bin/broadcaster send "Phones are down too" "Use runners between wards." --tag site:Northmoor --severity high

or as a program would:

  curl -s {url}/api/v1/alerts -H "Authorization: Bearer {key}" -H "Content-Type: application/json" \\
    -d '{{"title":"Phones are down too","body":"Use runners between wards.","audience":{{"tag":"site:Northmoor"}}}}'
"""


def _settle(client: Client) -> None:
    """What an earlier demo in this directory left unfinished ends first: it would be counted with ours."""
    deadline = time.monotonic() + _WAIT
    while any(view["state"] not in FINAL for view in client.call("GET", "alerts", params={"limit": "20"})["items"]):
        if time.monotonic() > deadline:
            raise outage.WentWrong("Alerts of an earlier demo do not end; remove the data directory.")
        time.sleep(1)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
