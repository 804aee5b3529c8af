"""Child processes of the bench: started so that they cannot outlive it, ended by their own id."""

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

_PR_SET_PDEATHSIG: Final = 1
STOP_SECONDS: Final = 15.0


class NotReady(Exception):
    """A child did not come up in time; the text says which."""


def start(command: Sequence[str], *, log: Path | None = None, **options: Any) -> "subprocess.Popen[bytes]":
    """Starts it in a session of its own; its output goes to ``log``, or nowhere."""
    output = subprocess.DEVNULL if log is None else open(log, "ab")  # noqa: SIM115 - the child's
    options = {"stdin": subprocess.DEVNULL, "stdout": output, "stderr": output, **options}
    try:
        return subprocess.Popen(
            list(command), start_new_session=True, preexec_fn=die_with_parent if sys.platform == "linux" else None, **options
        )
    finally:
        if not isinstance(output, int):
            output.close()


def stop(process: "subprocess.Popen[Any]", number: int = signal.SIGTERM, seconds: float = STOP_SECONDS) -> None:
    """Asks it to end, and ends it when it does not."""
    if process.poll() is None:
        process.send_signal(number)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def until(what: Callable[[], Any], seconds: float, name: str, step: float = 0.02) -> Any:
    """The first true answer of ``what``. Raises NotReady."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := what():
            return value
        time.sleep(step)
    raise NotReady(f"{name}: not within {seconds:.0f} s")


@contextmanager
def runners(
    module: str, argument_lists: Sequence[Sequence[str]], log: Path, environment: Mapping[str, str] | None = None
) -> Iterator["list[Runner]"]:
    """Processes that prepare themselves, say so, and wait for the word."""
    made: list[Runner] = []
    try:
        made.extend(Runner(module, arguments, log, environment or {}) for arguments in argument_lists)
        for runner in made:
            runner.wait_ready()
        yield made
    finally:
        for runner in made:
            runner.close()


class Runner:
    """``python -m <module>``: it prints one line when ready, begins at a line on stdin, and ends with a line of JSON."""

    def __init__(self, module: str, arguments: Sequence[str], log: Path, environment: Mapping[str, str]) -> None:
        self._errors = open(log, "ab")  # noqa: SIM115 - closed in close()
        self._log = log
        self._process: subprocess.Popen[Any] = start(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True,
            env={**os.environ, **environment},
        )  # fmt: skip

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait_ready(self) -> None:
        self._line()

    def go(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()

    def result(self) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self._line())
        return answer

    def close(self) -> None:
        stop(self._process)
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            if stream is not None:
                stream.close()

    def _line(self) -> str:
        assert self._process.stdout is not None
        line: str = self._process.stdout.readline()
        if not line:
            raise NotReady(f"a runner ended early: {self._log.read_text()[-2000:]}")
        return line


def ready_then_go() -> None:
    """The child's half of ``Runner``."""
    print("ready", flush=True)
    sys.stdin.readline()


def die_with_parent() -> None:
    """Nothing is left running when the bench is killed."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
