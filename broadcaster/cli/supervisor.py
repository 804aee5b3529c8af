"""Runs and watches child processes on one machine: starts them in order, restarts what dies, stops cleanly."""

import ctypes
import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final

import structlog

log = structlog.get_logger(__name__)

STOP_SECONDS: Final = 15.0
_QUICK: Final = 10.0  # s; a part that dies sooner is restarted more slowly each time
_LONGEST_WAIT: Final = 10.0
_PR_SET_PDEATHSIG: Final = 1


class Busy(Exception):
    """Another ``broadcaster up`` works in this data directory."""


class FailedToStart(Exception):
    """A part did not become ready; the text says which, and where its log is."""


@dataclass
class Part:
    """One process. ``ready`` is asked until it says True, before the next part is started."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    ready: Callable[[], bool] | None = None
    process: "subprocess.Popen[bytes] | None" = None
    started_at: float = 0.0
    quick_deaths: int = 0
    restart_at: float = 0.0
    restarts: int = 0


class Supervisor:
    """Parts are stopped in the reverse order of their start."""

    def __init__(self, parts: Sequence[Part], data_dir: Path, *, quiet: bool = False) -> None:
        self.parts = list(parts)
        self._logs = data_dir / "logs" if quiet else None
        self._data_dir = data_dir
        self._stop = threading.Event()
        self._watched = threading.Event()  # the watcher starts nothing any more
        self._buried = threading.Event()
        self._lock: IO[str] | None = None
        self._watcher: threading.Thread | None = None

    def start(self) -> None:
        """Starts every part and waits until each is ready. Raises Busy, FailedToStart (nothing is left running)."""
        self._data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = open(self._data_dir / "up.lock", "w")  # noqa: SIM115 - held until the process ends
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise Busy(f"Another `broadcaster up` runs in {self._data_dir}. Stop it, or set BROADCASTER_DATA_DIR.") from None
        try:
            for part in self.parts:
                self._launch(part)
                self._await_ready(part)
        except BaseException:
            self.stop()
            raise
        self._watcher = threading.Thread(target=self._watch, name="supervisor", daemon=True)
        self._watcher.start()

    def wait(self) -> None:
        """Until SIGTERM or SIGINT."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._stop.set())
        self._stop.wait()

    def stop(self) -> None:
        """TERM to every part, in reverse order; KILL to what is left after 15 s."""
        self._stop.set()
        if self._watcher is not None:
            self._watched.wait(2)
        deadline = time.monotonic() + STOP_SECONDS
        # Redis and the sandbox stay until those who talk to them are gone.
        for group in (self.parts[2:], self.parts[:2]):
            for part in reversed(group):
                if part.process is not None and part.process.poll() is None:
                    part.process.terminate()
            for part in reversed(group):
                self._bury(part, deadline)
        self._buried.set()
        if self._lock is not None:
            self._lock.close()

    def _bury(self, part: Part, deadline: float) -> None:
        if part.process is None:
            return
        try:
            part.process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            log.error("supervisor.killed", part=part.name)
            part.process.kill()
            part.process.wait()

    def _launch(self, part: Part) -> None:
        output: IO[bytes] | None = None
        if self._logs is not None:
            self._logs.mkdir(parents=True, exist_ok=True)
            output = open(self._logs / f"{part.name}.log", "ab")  # noqa: SIM115 - the child's now
        try:
            part.process = subprocess.Popen(  # noqa: S603 - commands are our own
                list(part.command),
                env={**os.environ, **part.environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=_die_with_parent if sys.platform == "linux" else None,  # noqa: PLW1509
            )
        finally:
            if output is not None:
                output.close()
        part.started_at = time.monotonic()
        log.info("supervisor.started", part=part.name, pid=part.process.pid)

    def _await_ready(self, part: Part, seconds: float = 30.0) -> None:
        if part.ready is None:
            return
        deadline = time.monotonic() + seconds
        while not part.ready():
            assert part.process is not None
            if part.process.poll() is not None or time.monotonic() > deadline:
                where = f"; see {self._logs / (part.name + '.log')}" if self._logs else ""
                raise FailedToStart(f"{part.name} did not start{where}.")
            if self._stop.wait(0.03):
                raise FailedToStart("stopped")

    def _watch(self) -> None:
        while not self._stop.wait(0.2):
            for part in self.parts:
                try:
                    self._look_after(part)
                except Exception as error:  # noqa: BLE001 - no process to be had just now, a closed log: try again
                    with suppress(Exception):
                        log.error("supervisor.failed", part=part.name, error=type(error).__name__)
        self._watched.set()
        # To the kernel the thread that started a process is its parent: at this one's end, whatever it had restarted would
        # get TERM at once, out of order (_die_with_parent).
        self._buried.wait()

    def _look_after(self, part: Part) -> None:
        assert part.process is not None
        code = part.process.poll()
        if code is None:
            return
        if part.restart_at == 0.0:
            self._mourn(part, code)
        elif time.monotonic() >= part.restart_at:
            part.restart_at = 0.0
            part.restarts += 1
            self._launch(part)

    def _mourn(self, part: Part, code: int) -> None:
        lived = time.monotonic() - part.started_at
        part.quick_deaths = part.quick_deaths + 1 if lived < _QUICK else 0
        wait = 0.0 if part.quick_deaths <= 1 else min(_LONGEST_WAIT, 0.5 * 2**part.quick_deaths)
        part.restart_at = time.monotonic() + wait
        log.error("supervisor.died", part=part.name, code=code, restart_in=wait)


def _die_with_parent() -> None:
    """If this supervisor is killed, its parts get TERM: nothing is left running that nobody watches."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
