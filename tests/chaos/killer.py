"""Kills, freezes and wakes the parts of the stack: descendants of this process only, each by pid and start time."""

import contextlib
import ctypes
import os
import shutil
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import psutil

from broadcaster.cli.supervisor import Supervisor
from tests.chaos.plan import Act

WORKERS: Final = ("worker-critical", "worker-bulk")
_PR_SET_CHILD_SUBREAPER: Final = 36


@contextlib.contextmanager
def adopting() -> Iterator[None]:
    """Children whose parent was killed become ours and not init's: so they can be seen, and are never left behind."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)
    try:
        yield
    finally:
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 0)


class Killer:
    """Carries out ``kill`` and ``freeze`` acts; ``done`` counts what really happened.

    ``senders``: pids of processes that are sending just now. A child is chosen among these where there is any: the death
    of an idle one proves little.
    """

    def __init__(self, supervisor: Supervisor, data_dir: Path, senders: Callable[[], set[int]]) -> None:
        self._senders = senders
        self._parts = {part.name: part for part in supervisor.parts}
        self._data_dir = data_dir
        self._frozen: dict[Act, list[psutil.Process]] = {}
        self.done: Counter[str] = Counter()

    def kill(self, act: Act) -> bool:
        """False: it is not there just now."""
        victims = self._victims(act)
        if victims and act.which == "redis":
            # It comes back empty: files that it holds open vanish with it, and the supervisor cannot be faster.
            shutil.rmtree(self._data_dir / "appendonlydir", ignore_errors=True)
        self._signal(victims, signal.SIGKILL)
        self.done[f"kill_{act.which}"] += bool(victims)
        return bool(victims)

    def freeze(self, act: Act) -> None:
        self._frozen[act] = victims = self._victims(act)
        self._signal(victims, signal.SIGSTOP)
        self.done[f"freeze_{act.which}"] += bool(victims)

    def wake(self, act: Act) -> None:
        """A neighbour may have killed the sleeper meanwhile, and rightly so."""
        self._signal(self._frozen.pop(act, []), signal.SIGCONT)

    def wake_all(self) -> None:
        for act in list(self._frozen):
            self.wake(act)

    def bury(self) -> int:
        """Ends what a killed parent left behind and nobody stopped. How many there were."""
        left = [p for p in psutil.Process().children(recursive=True) if self._is_of_stack(p)]
        self._signal(left, signal.SIGKILL)
        psutil.wait_procs(left, timeout=5)
        return len(left)

    def _victims(self, act: Act) -> list[psutil.Process]:
        """The processes an act is about, the parent first; none when they are not there just now."""
        if act.which == "child":
            children = [c for name in WORKERS for p in self._of(name)[:1] for c in _children(p)]
            senders = self._senders()
            children = [c for c in children if c.pid in senders] or children
            return [children[act.pick % len(children)]] if children else []
        if act.which == "master":
            return self._of(WORKERS[act.pick % 2])[:1]
        return self._of(WORKERS[act.pick % 2] if act.which == "worker" else act.which)

    def _of(self, name: str) -> list[psutil.Process]:
        process = self._parts[name].process
        if process is None or process.poll() is not None:
            return []
        with contextlib.suppress(psutil.Error):
            parent = psutil.Process(process.pid)
            return [parent, *_children(parent)]
        return []

    def _is_of_stack(self, process: psutil.Process) -> bool:
        with contextlib.suppress(psutil.Error):
            return process.environ().get("BROADCASTER_DATA_DIR") == str(self._data_dir)
        return False

    def _signal(self, victims: list[psutil.Process], number: signal.Signals) -> None:
        for victim in victims:
            with contextlib.suppress(psutil.Error):
                ours = os.getpid() in (p.pid for p in victim.parents())
                if ours and victim.is_running():  # pid and start time still agree
                    victim.send_signal(number)


def _children(process: psutil.Process) -> list[psutil.Process]:
    with contextlib.suppress(psutil.Error):
        return sorted(process.children(recursive=True), key=lambda p: p.pid)
    return []
