"""A worker family that was told to end is gone within ``MASTER_SECONDS``, whatever hangs.

Celery's warm shutdown waits without limit: for a child that is frozen, for one that waits until its parent has counted all
of its results, for a broker that does not answer. Meanwhile the family neither delivers nor makes room for its successor.
So the master and each child have a deadline. What a killed child was sending is looked up by neighbours, as after any death.
"""

import _thread
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import psutil

CHILD_SECONDS: Final = 12.0  # a provider is waited for 8 s at most, and then its answer is committed
MASTER_SECONDS: Final = 12.5
LAST_RESORT: Final = 14  # whole seconds: all that alarm(2) knows
_STOP: Final = signal.SIGUSR2
_told = False


def forget() -> None:
    """In a master that starts: HUP starts it anew in the same process, and the alarm outlives that."""
    if not _told:
        signal.alarm(0)


def tell_family() -> None:
    """In the master: the children stop claiming, and the deadline runs. May be called again, and by a signal handler."""
    global _told
    if not _told:
        _told = True
        signal.alarm(LAST_RESORT)  # the kernel's, and SIGALRM's default action: no lock of ours can hold it up
        # No threading.Thread: its start takes locks that the code which the signal interrupted may hold.
        _thread.start_new_thread(_end_family, ())
    for child in psutil.Process().children():
        _send(child, _STOP)


def when_told(stop_claiming: Callable[[], None]) -> None:
    """In a child: what it does when its master tells it to stop, besides being gone in time."""

    def told(*_: object) -> None:
        signal.signal(_STOP, signal.SIG_IGN)
        signal.setitimer(signal.ITIMER_REAL, CHILD_SECONDS)  # a master that lives on must not keep an idle child
        stop_claiming()

    signal.signal(_STOP, told)


def _end_family() -> None:
    time.sleep(MASTER_SECONDS)
    for child in psutil.Process().children():
        _send(child, signal.SIGKILL)  # the only one that a frozen process takes
    os.write(2, b'{"event": "worker.ended_by_force", "level": "error"}\n')  # no logger: somebody may hold its lock
    os._exit(1)


def _send(child: psutil.Process, number: signal.Signals) -> None:
    with suppress(psutil.Error):  # gone meanwhile; its siblings must hear it all the same
        child.send_signal(number)
