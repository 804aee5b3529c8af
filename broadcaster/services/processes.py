"""Who am I, who lives, and whose leases may be ended at once.

An owner is ``host/boot/pid namespace/pid/start time``: only a neighbour on the same boot and in the same pid namespace can
tell that the process is dead, or kill it, and the start time keeps it from killing another one that got the same number.
"""

import os
import socket
from functools import lru_cache
from pathlib import Path
from typing import Final

import psutil
import structlog

from broadcaster.store import alerts as alert_store
from broadcaster.store import batches, incidents, monitors, processes
from broadcaster.store.database import Database

log = structlog.get_logger(__name__)

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


@lru_cache(maxsize=1)
def _place() -> str:
    boot = _BOOT_ID.read_text().strip() if _BOOT_ID.exists() else str(int(psutil.boot_time()))
    try:
        namespace = os.readlink("/proc/self/ns/pid").strip("pid:[]")
    except OSError:
        namespace = "0"
    return f"{socket.gethostname().replace('/', '_')}/{boot}/{namespace}"


def owner() -> str:
    """This process's name as an owner of leases. Ask after any fork."""
    pid = os.getpid()
    return f"{_place()}/{pid}/{_start_time(pid)}"


def release_dead_owners(database: Database) -> int:
    """Ends the leases of dead neighbours at once, and kills neighbours that slept past their lease. How many it freed."""
    with database.read() as connection:
        # A planner writes to no socket: its lease's end is enough. A sender must be gone before its messages are touched;
        # but one that still says that it lives is slow, not frozen, and holds what providers have told it.
        silent = processes.silent(connection)
        idle = [*alert_store.step_owners(connection), *monitors.owners(connection), *incidents.owners(connection)]
        owners = dict.fromkeys(idle, False)
        owners |= {name: expired and name in silent for name, expired in batches.owners(connection)}
    freed = 0
    for name, expired in owners.items():
        if not _is_neighbour(name) or name == owner():
            continue
        if _lives(name):
            if not expired:
                continue
            _kill(name)
        with database.write() as connection:
            freed += batches.release_owner(connection, name)
            alert_store.release_steps(connection, name)
            monitors.release(connection, name)
            incidents.release(connection, name)
        log.warning("processes.leases_released", owner=name)
    return freed


def _is_neighbour(name: str) -> bool:
    return name.rsplit("/", 2)[0] == _place()


def _lives(name: str) -> bool:
    _, pid, started = name.rsplit("/", 2)
    return _start_time(int(pid)) == int(started)


def _kill(name: str) -> None:
    """A frozen process may wake at any time and write to a socket: before its chunks are touched it must be gone."""
    _, pid, started = name.rsplit("/", 2)
    try:
        process = psutil.Process(int(pid))
        if _start_time(process.pid) == int(started):
            log.error("processes.frozen_owner_killed", owner=name)
            process.kill()
            process.wait(2)
    except psutil.Error as error:
        log.warning("processes.kill_failed", owner=name, error=type(error).__name__)


def _start_time(pid: int) -> int:
    """Clock ticks since boot when the process started; -1 for none, and for one that is dead and not yet buried."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return -1 if fields[0] in "ZX" else int(fields[19])
    except (OSError, IndexError):
        pass
    try:
        return int(psutil.Process(pid).create_time() * 100) if not Path("/proc").exists() else -1
    except psutil.Error:
        return -1
