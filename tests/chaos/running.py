"""One run: the stack up, people made, alerts out, the plan carried out, everything healed and settled, books compared."""

import heapq
import itertools
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import requests

from broadcaster.cli import embedded
from broadcaster.cli.commands import cli
from broadcaster.cli.supervisor import Supervisor
from broadcaster.services.keys import Scope
from broadcaster.settings import Settings
from broadcaster.wiring import Wiring
from tests.chaos import ledgers, people, plan
from tests.chaos.faults import Faults
from tests.chaos.killer import Killer, adopting
from tests.chaos.posting import Posted, Poster, percentile
from tests.ports import free_port

RATE: Final = 2000  # segments a second
SOLO_EVERY: Final = 2.0  # s between single critical alerts
SETTLE: Final = 240.0  # s after the plan's end at most; on an idle machine a third of it
RECEIPTS: Final = 15.0  # s for the last of them
LOOK: Final = 3.0  # s between progress lines
SHOWN: Final = 20
SMS_SECONDS: Final = 4.0  # until an SMS arrives: a quicker receipt would clear up a doubt before anybody could be wrong
AGAIN: Final = 0.5  # s until an act is tried again whose victim was not there
TRIES: Final = 8


@dataclass(frozen=True, slots=True)
class Options:
    """``deliveries`` are spread over ``broadcasts``; the first of them goes out in parts, so that all channels are busy
    from the beginning, the others at once. ``database_url`` empty: SQLite. ``seconds`` 0: by the number of deliveries;
    else further broadcasts while it lasts."""

    seed: int
    deliveries: int = 30_000
    broadcasts: int = 3
    seconds: float = 0.0
    database_url: str = ""
    providers_well: bool = False
    settle: float = SETTLE
    keep: bool = False  # the data directory and logs of a good run too

    @property
    def planned_seconds(self) -> float:
        return self.seconds or min(60.0, max(20.0, self.deliveries / 500))


@dataclass
class Report:
    """``numbers`` is the run's last line; ``stories`` are the findings with their events; ``kept`` is where logs are."""

    numbers: dict[str, Any]
    stories: list[str] = field(default_factory=list)
    kept: Path | None = None

    @property
    def good(self) -> bool:
        n = self.numbers
        well = not n["providers_well"] or n["declared_resends"] == 0
        books = n["lost"] == 0 and not any(n["duplicates"].values()) and n["unexplained"] == 0
        return bool(books and well and (n["audit"] is None or n["audit"]["exit"] == 0))


@dataclass(frozen=True, slots=True)
class Stack:
    """The running system. ``environment`` is what its parts were told."""

    settings: Settings
    supervisor: Supervisor
    api: people.Api
    sandbox: str
    environment: dict[str, str]


def run(options: Options, say: Callable[[str], None] = lambda _: None) -> Report:
    """Carries out one run. Leaves nothing running; keeps the data directory when something was found."""
    began = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="chaos-", dir="/tmp"))  # short: a unix socket's path has 108 bytes
    acts = plan.make(options.seed, options.planned_seconds, _dialect(options), providers_well=options.providers_well)
    for act in acts:
        say(str(act))
    with adopting(), _running(folder, options) as system:
        books = ledgers.Books(system.settings.resolved_database_url)
        killer = Killer(system.supervisor, folder, books.senders)
        try:
            numbers, stories = _Chaos(options, acts, system, killer, books, _Clock(say, began)).run()
        finally:
            books.close()
            system.supervisor.stop()
            left = killer.bury()
    numbers |= {"left_behind": left, "seconds": round(time.monotonic() - began, 1), "cores": _cores()}
    report = Report(numbers, stories, folder)
    if report.good and not options.keep:
        shutil.rmtree(folder, ignore_errors=True)
        report.kept = None
    return report


class _Clock:
    """Says things with the time since the start of the run."""

    def __init__(self, say: Callable[[str], None], began: float) -> None:
        self._say, self._began = say, began

    def __call__(self, text: str) -> None:
        self._say(f"[{time.monotonic() - self._began:6.1f} s] {text}")


class _Chaos:
    """The run itself, from the first person to the last comparison."""

    def __init__(
        self, options: Options, acts: tuple[plan.Act, ...], system: Stack, killer: Killer, books: ledgers.Books, say: _Clock
    ) -> None:
        self._options, self._acts, self._system, self._say = options, acts, system, say
        self._killer, self._books = killer, books
        self._poster = Poster(system.api)
        self._severity = random.Random(options.seed).choice(["high", "normal"])
        self._cuts = 0
        self._wait = threading.Event().wait  # the plan's own clock
        self._looked = 0.0

    def run(self) -> tuple[dict[str, Any], list[str]]:
        solo = int(self._options.planned_seconds / SOLO_EVERY) + 1
        crowd = self._options.deliveries // self._options.broadcasts
        self._people = people.make(self._system.api, self._system.settings, crowd, solo, self._say)
        self._faults = Faults(self._system.sandbox, {"twilio": self._people.prefixes})
        self._faults.set(sms_delivery_seconds=SMS_SECONDS)
        self._start = time.time()
        try:
            self._carry_out()
            self._heal()
            settled = self._settle()
        finally:
            self._killer.wake_all()
            self._poster.close()
            self._faults.close()
        return self._sum_up(settled)

    # ---- the plan ----------------------------------------------------------------------------------------------

    def _carry_out(self) -> None:
        order = itertools.count()
        lasts = self._options.planned_seconds
        todo: list[tuple[float, int, int, Callable[[], bool | None]]] = []

        def at(seconds: float, do: Callable[[], bool | None], tries: int = 1) -> None:
            heapq.heappush(todo, (seconds, next(order), tries, do))

        for n in range(people.CELLS):
            at(0.5 * lasts * n / people.CELLS, partial(self._poster.cell, self._people, n, self._severity))
        for n in range(1, self._options.broadcasts):
            at(0.5 * lasts * (0.6 + n / self._options.broadcasts), self._broadcast)
        for n in range(len(self._people.solo)):
            at(min(0.5 + n * SOLO_EVERY, lasts), partial(self._poster.solo, self._people, n))
        for act in self._acts:
            for seconds, do in self._doing(act):
                at(seconds, do)
        clock = time.monotonic()
        while todo:
            seconds, _, tries, do = heapq.heappop(todo)
            self._until(clock + seconds)
            if do() is False and tries < TRIES:
                at(seconds + AGAIN, do, tries + 1)
        self._until(clock + lasts)

    def _until(self, moment: float) -> None:
        while (left := moment - time.monotonic()) > 0:
            self._look()
            self._wait(min(left, 1.0))

    def _doing(self, act: plan.Act) -> Iterator[tuple[float, Callable[[], bool | None]]]:
        end = act.at + act.duration
        match act.what:
            case "kill":
                yield act.at, lambda: self._killer.kill(act)
            case "freeze":
                yield act.at, lambda: self._killer.freeze(act)
                yield end, lambda: self._killer.wake(act)
            case "cut":
                yield act.at, self._cut
            case "fault":
                yield act.at, lambda: self._faults.begin(act)
                yield end, lambda: self._faults.end(act)
            case "lag":
                yield act.at, lambda: self._faults.lag(act.fields["list_lag"])
                yield end, lambda: self._faults.lag(0)

    def _cut(self) -> bool:
        cut = self._books.cut() > 0
        self._cuts += cut
        return cut

    def _broadcast(self) -> None:
        self._poster.broadcast(self._people, self._severity)

    def _look(self) -> None:
        """A progress line; and the next broadcast once the last has left, where the run was told to last."""
        if time.monotonic() - self._looked < LOOK:
            return
        self._looked = time.monotonic()
        states = self._books.states()
        self._say(" ".join(f"{state} {n}" for state, n in sorted(states.items())) or "nothing planned yet")
        crowd = [p for p in list(self._poster.posted) if p.to_all]
        left = self._start + self._options.planned_seconds - time.time()
        all_posted = bool(crowd) and len(crowd) == self._poster.broadcasts
        if self._options.seconds and left > 20 and all_posted and self._books.open_of(crowd[-1].uid) == 0:
            self._broadcast()

    # ---- afterwards --------------------------------------------------------------------------------------------

    def _heal(self) -> None:
        self._say("the plan is over; healing")
        self._killer.wake_all()
        self._faults.end_all()
        # Receipts are what takes longest, and intermediate ones say nothing once nothing is bent any more.
        self._faults.set(sms_callback_statuses=["delivered", "undelivered", "failed"], sms_delivery_seconds=0.05)

    def _settle(self) -> bool:
        """Until nothing can leave any more; receipts may still come then, but are not waited for without end, since
        those that were lost with the API never come. False: it took too long."""
        deadline = time.monotonic() + self._options.settle
        while time.monotonic() < deadline:
            self._look()
            if not (self._poster.waits() or self._books.unplanned() or self._open()):
                break
            self._wait(0.5)
        else:
            return False
        patience = time.monotonic() + RECEIPTS
        while time.monotonic() < patience and self._callbacks():
            self._look()
            self._wait(0.5)
        return True

    def _open(self) -> int:
        return sum(n for state, n in self._books.states().items() if state in ledgers.OPEN)

    def _callbacks(self) -> int:
        summary = requests.get(f"{self._system.sandbox}/_sandbox/summary", timeout=30).json()
        return int(summary["callbacks"]["pending"])

    def _sum_up(self, settled: bool) -> tuple[dict[str, Any], list[str]]:
        posted = self._poster.posted
        rows = self._books.rows()
        taken = ledgers.providers(self._system.sandbox)  # later than ours: what we know, they know
        found = ledgers.compare(posted, rows, taken, self._say)
        uncounted = self._books.uncounted()
        numbers = {
            "seed": self._options.seed,
            "db": _dialect(self._options),
            "providers_well": self._options.providers_well,
            "deliveries": sum(len(p.asked) for p in posted),
            "alerts": len(posted),
            "lost": found.count("lost"),
            "duplicates": {channel: found.duplicates[channel] for channel in ledgers.CHANNELS},
            "push_repeats": found.push_repeats,
            "declared_resends": found.declared_resends,
            "unexplained": found.count("unexplained") + len(uncounted) + (not settled and not found.findings),
            "uncounted": uncounted,
            "settled": settled,
            "states": dict(sorted(self._books.states().items())),
            "kills": {**dict(sorted(self._killer.done.items())), "cut_database": self._cuts},
            "restarts": {part.name: part.restarts for part in self._system.supervisor.parts if part.restarts},
            "faults": dict(sorted(self._faults.hits.items())),
            "answers": dict(sorted(self._poster.answers.items())),
            "critical": self._latencies(posted, taken),
            "audit": self._audit(),
        }
        return numbers, self._stories(found)

    def _latencies(self, posted: list[Posted], taken: dict[ledgers.Key, list[ledgers.Entry]]) -> dict[str, Any]:
        """ms from POST to the provider: from the try that got the 202; ``first_try`` from the client's first. Apart from
        these are ``resting`` (Twilio told all of us to wait: that holds for critical alerts too). ``calm`` are those that
        came while the providers misbehaved but all of our processes were well."""
        free: list[float] = []
        resting: list[float] = []
        calm: list[float] = []
        tried: list[float] = []
        lost = 0
        for p in posted:
            if not p.critical:
                continue
            entries = [entry for address in p.asked for entry in taken.get((p.token, *address), [])]
            if not entries:
                lost += 1
                continue
            arrived = min(entry.at for entry in entries)
            # A try that got no answer may have raised the alert: then it is there before the 202 was asked for.
            took = max(0.0, arrived - p.began_at) * 1000
            if self._within(p.began_at, plan.resting(self._acts)):
                resting.append(took)
                continue
            free.append(took)
            tried.append((arrived - p.tried_at) * 1000)
            if not self._within(p.began_at, plan.struck(self._acts)):
                calm.append(took)
        return {
            **_spread(free), "lost": lost, "first_try": _spread(tried), "calm": _spread(calm), "resting": _spread(resting),
        }  # fmt: skip

    def _within(self, moment: float, spans: list[tuple[float, float]]) -> bool:
        return any(low <= moment - self._start <= high for low, high in spans)

    def _audit(self) -> dict[str, Any] | None:
        """What `broadcaster audit` says of it, where there is that command."""
        if "audit" not in cli.commands:
            return None
        command = [sys.executable, "-m", "broadcaster.cli", "audit", "--json"]
        environment = {**os.environ, **self._system.environment}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
        with suppress(ValueError):
            output = json.loads(done.stdout)
            output["checks"] = [check for check in output.get("checks", []) if check.get("wrong")]
            return {"exit": done.returncode, "output": output}
        return {"exit": done.returncode, "output": (done.stdout + done.stderr)[-2000:]}

    def _stories(self, found: ledgers.Comparison) -> list[str]:
        stories = []
        for finding in found.findings[:SHOWN]:
            token, channel, address = finding.key
            shown = f"{finding.kind}: {finding.what} ({token}, {channel} …{address[-3:]})"
            chain = [] if finding.delivery is None else self._books.story(finding.delivery)
            stories.append("\n".join([shown, *chain]))
        return stories


@contextmanager
def _running(folder: Path, options: Options) -> Iterator[Stack]:
    """Everything `broadcaster up` runs, on free ports, in a directory of its own."""
    settings = Settings(
        data_dir=folder, port=free_port(), sandbox_port=free_port(), sandbox_rate=RATE, workers=2, critical_workers=2,
        database_url=options.database_url, rate_limit_per_minute=1_000_000, metrics_open=True,
    )  # fmt: skip
    environment = embedded.environment(settings) | {
        "BROADCASTER_DATABASE_URL": settings.database_url,
        "BROADCASTER_REDIS_URL": "",
        "BROADCASTER_SANDBOX_RATE": str(RATE),
        "BROADCASTER_RATE_LIMIT_PER_MINUTE": "1000000",
        "BROADCASTER_METRICS_OPEN": "true",
        "BROADCASTER_LOG_LEVEL": "INFO",
    }
    supervisor = embedded.supervisor(settings, quiet=True, environment=environment)
    supervisor.start()
    try:
        wiring = Wiring(settings)
        _, key = wiring.keys.create("chaos", [s.value for s in Scope])
        wiring.database.close()
        sandbox = settings.resolved_sandbox_url
        limits = {"slack_channel_rate": None, "slack_dm_rate": None, "slack_workspace_rate": None}
        requests.post(f"{sandbox}/_sandbox/settings", json=limits, timeout=10).raise_for_status()
        api = people.Api(f"http://127.0.0.1:{settings.port}", key)
        yield Stack(settings, supervisor, api, sandbox, environment)
    finally:
        supervisor.stop()


def _spread(values: list[float]) -> dict[str, Any]:
    shown = {"p50": percentile(values, 0.5), "p95": percentile(values, 0.95), "max": max(values, default=None)}
    # All of them too: the percentile of many runs is not to be had from each one's.
    return {
        "n": len(values),
        **{k: None if v is None else round(v) for k, v in shown.items()},
        "all": [round(v) for v in values],
    }


def _dialect(options: Options) -> str:
    return "postgres" if options.database_url else "sqlite"


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
