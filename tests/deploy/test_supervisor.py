"""What `broadcaster up` does with its parts when they, or the starting of one, fail."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from broadcaster.cli.supervisor import Part, Supervisor

# Says that it is there, then waits for TERM. With a second file it then looks, for a second, whether that part dies.
PART = """
import os, select, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
with open(sys.argv[1] + ".new", "w") as file:
    file.write(str(os.getpid()))
os.rename(sys.argv[1] + ".new", sys.argv[1])
signal.sigwait({signal.SIGTERM})
if len(sys.argv) > 2:
    watched = os.pidfd_open(int(open(sys.argv[2]).read()))
    died = select.select([watched], [], [], 1.0)[0]
    open(sys.argv[1], "w").write("it died first" if died else "it outlived me")
"""


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Supervisor]:
    def part(name: str, *others: str) -> Part:
        files = [str(tmp_path / n) for n in (name, *others)]
        return Part(name, [sys.executable, "-c", PART, *files], ready=lambda: Path(files[0]).exists())

    supervisor = Supervisor([part("redis"), part("sandbox"), part("worker", "redis")], tmp_path, quiet=True)
    supervisor.start()
    yield supervisor
    supervisor.stop()


def kill(part: Part) -> None:
    assert part.process is not None
    os.kill(part.process.pid, signal.SIGKILL)


def back(part: Part, old: "subprocess.Popen[bytes] | None", file: Path) -> bool:
    return part.process is not old and part.process is not None and file.read_text() == str(part.process.pid)


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="Linux")
def test_what_was_restarted_is_still_stopped_in_order(made: Supervisor, tmp_path: Path) -> None:
    redis = made.parts[0]
    old = redis.process
    kill(redis)
    until(lambda: back(redis, old, tmp_path / "redis"))
    made.stop()
    assert (tmp_path / "worker").read_text() == "it outlived me"


def test_a_part_that_cannot_be_started_just_now_is_started_later_and_the_others_live_on(
    made: Supervisor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    redis, sandbox, _ = made.parts
    old = redis.process
    kill(redis)
    until(lambda: back(redis, old, tmp_path / "redis"))
    failures = iter([BlockingIOError("no process to be had")])
    start = subprocess.Popen

    def popen(*arguments: Any, **options: Any) -> Any:
        if failure := next(failures, None):
            raise failure
        return start(*arguments, **options)

    monkeypatch.setattr("broadcaster.cli.supervisor.subprocess.Popen", popen)
    kept, old = redis.process, sandbox.process
    kill(sandbox)
    until(lambda: back(sandbox, old, tmp_path / "sandbox"))
    assert kept is not None
    assert redis.process is kept
    assert kept.poll() is None


def until(what: Callable[[], Any], seconds: float = 15.0) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, f"did not come true within {seconds} s"
        time.sleep(0.02)
