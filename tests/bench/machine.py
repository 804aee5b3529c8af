"""The machine and what processes take of it: cores, versions, CPU seconds, memory."""

import os
import platform
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from typing import Any, Final

import psutil

_LIBRARIES: Final = ("aiohttp", "celery", "cryptography", "psycopg", "pywebpush", "redis", "sqlalchemy", "twilio", "uvloop")
_LOOK: Final = 1.0
_CLOSE_LOOK: Final = 10  # every so many looks: the kernel walks the page tables for it

Processes = Callable[[], Mapping[str, Sequence[psutil.Process]]]


def cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def versions() -> dict[str, str]:
    return {"python": platform.python_version(), **{name: version(name) for name in _LIBRARIES}}


def load() -> float:
    """Processes that wanted to run in the last minute: what else was going on."""
    return round(os.getloadavg()[0], 2)


def tree(pid: int) -> list[psutil.Process]:
    """The process and all below it; none when it is gone."""
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def cpu_seconds(processes: Sequence[psutil.Process]) -> float:
    """CPU that these have used so far, with that of their children that are gone."""
    total = 0.0
    for process in processes:
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system + getattr(times, "children_user", 0) + getattr(times, "children_system", 0)
    return total


def busy_seconds() -> float:
    """CPU that all of the machine has used so far, whoever it was."""
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "guest", 0.0))


class Others:
    """Cores that others used meanwhile: a figure taken beside much of that is worth little. ``ours`` gives CPU seconds of
    all processes of the measurement so far; the bench's own are added."""

    def __init__(self, ours: Callable[[], float]) -> None:
        self._ours = ours
        self._before = self._read()

    def cores(self) -> float:
        at, busy, ours = self._read()
        used = busy - self._before[1] - (ours - self._before[2])
        return round(max(0.0, used / (at - self._before[0])), 2)

    def _read(self) -> tuple[float, float, float]:
        return time.monotonic(), busy_seconds(), self._ours() + cpu_seconds([psutil.Process()])


class Watch:
    """Looks at processes once a second, from its start to its end. ``with Watch(...) as watch: …; watch.memory()``."""

    def __init__(self, processes: Processes) -> None:
        self._processes = processes
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._rss: dict[str, int] = defaultdict(int)
        self._pss: dict[str, int] = defaultdict(int)
        self._uss: dict[str, int] = defaultdict(int)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def memory(self) -> dict[str, Any]:
        """MB at most, by process: rss counts shared pages in full, pss its share of them, uss none."""
        mb = 1e6
        each = {
            name: {
                "rss_mb": round(rss / mb, 1),
                "pss_mb": round(self._pss[name] / mb, 1),
                "uss_mb": round(self._uss[name] / mb, 1),
            }
            for name, rss in sorted(self._rss.items())
        }  # fmt: skip
        return {"largest_rss_mb": max((m["rss_mb"] for m in each.values()), default=None), "processes": each}

    def _run(self) -> None:
        looks = 0
        found: Mapping[str, Sequence[psutil.Process]] = {}
        while not self._done.wait(_LOOK):
            closely = looks % _CLOSE_LOOK == 0
            if closely:
                found = self._processes()  # finding children reads all of /proc
            for part, processes in found.items():
                for number, process in enumerate(processes):
                    self._look(f"{part} {number}" if number else part, process, closely=closely)
            looks += 1

    def _look(self, name: str, process: psutil.Process, *, closely: bool) -> None:
        try:
            if closely:
                full = process.memory_full_info()
                self._pss[name] = max(self._pss[name], getattr(full, "pss", 0))
                self._uss[name] = max(self._uss[name], full.uss)
            self._rss[name] = max(self._rss[name], process.memory_info().rss)
        except psutil.Error:
            return
