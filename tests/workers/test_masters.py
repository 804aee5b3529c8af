"""A family of worker processes ends in time and outlives Redis: real Celery, a Redis of its own, nothing to deliver."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

import psutil
import pytest
import redis

from broadcaster.cli import embedded
from broadcaster.domain.audience import Everyone
from broadcaster.domain.messages import Severity
from broadcaster.queue import BULK
from broadcaster.services.alerts import Draft, Step
from broadcaster.settings import Settings
from broadcaster.store import migrate, processes
from broadcaster.wiring import Wiring
from tests.ports import free_port

STOP_SECONDS: Final = 15.0
CHILDREN: Final = 2


class Family:
    """One bulk worker with two children, and its Redis."""

    def __init__(self, folder: Path) -> None:
        self._port = free_port()
        self._folder = folder
        settings = Settings(data_dir=folder, redis_url=f"redis://127.0.0.1:{self._port}/0", database_url="")
        self.wiring = Wiring(settings)
        migrate.upgrade(self.wiring.database)
        self.environment = {
            **os.environ,
            "BROADCASTER_DATA_DIR": str(folder),
            "BROADCASTER_REDIS_URL": settings.redis_url.get_secret_value(),
            "BROADCASTER_DATABASE_URL": "",
            "BROADCASTER_WORKER_QUEUE": BULK,
        }
        self.start_redis()
        self.log = folder / "worker.log"
        with self.log.open("wb") as output:
            command = embedded.worker_command(BULK, CHILDREN)
            self._master = subprocess.Popen(command, env=self.environment, stdout=output, stderr=output)
        self.master = psutil.Process(self._master.pid)
        until(lambda: self._beating() == CHILDREN, 30)
        self.children = self.master.children()

    def start_redis(self) -> None:
        command = [embedded.redis_binary(), "--port", str(self._port), "--bind", "127.0.0.1", "--save", ""]
        self.redis_server = subprocess.Popen(command, cwd=self._folder, stdout=subprocess.DEVNULL)
        self.redis = redis.Redis(port=self._port)
        until(lambda: answers(self.redis))

    def hold_one_wake_up(self) -> psutil.Process:
        """A frozen child with a wake-up that nobody acknowledges; its sibling is free."""
        for child in self.children:
            child.suspend()
        self.wiring.wake_ups.deliver(1, times=CHILDREN)  # a busy child gets no second one
        until(lambda: self.redis.hlen("unacked") == CHILDREN)
        frozen, *others = self.children
        for child in others:
            child.resume()
        until(lambda: self.redis.hlen("unacked") == 1)
        assert stays(lambda: self.redis.hlen("unacked") == 1)
        return frozen

    def close(self) -> None:
        for process in [*gone_or_not(self.master), *self.children]:
            if alive(process):
                process.kill()
        self._master.wait(10)
        self.redis_server.kill()
        self.redis_server.wait(10)
        self.redis.close()
        self.wiring.wake_ups.close()
        self.wiring.database.close()

    def _beating(self) -> int:
        assert self._master.poll() is None, self.log.read_text()
        with self.wiring.database.read() as connection:
            return processes.alive(connection)[0]


@pytest.fixture
def family(tmp_path: Path) -> Iterator[Family]:
    made = Family(tmp_path)
    yield made
    made.close()


def test_all_are_gone_in_time_although_a_child_is_frozen(family: Family) -> None:
    family.children[0].suspend()
    family.master.terminate()
    until(lambda: not any(map(alive, [family.master, *family.children])), STOP_SECONDS)
    assert "worker.ended_by_force" in family.log.read_text()


def test_all_are_gone_in_time_although_redis_and_a_child_hang_over_a_wake_up(family: Family) -> None:
    family.hold_one_wake_up()
    os.kill(family.redis_server.pid, signal.SIGSTOP)
    family.master.terminate()
    until(lambda: not any(map(alive, [family.master, *family.children])), STOP_SECONDS)


def test_a_child_that_was_told_to_stop_makes_room_also_when_its_master_lives_on(family: Family) -> None:
    told = family.children[0]
    told.send_signal(signal.SIGUSR2)
    until(lambda: not alive(told), STOP_SECONDS)
    until(lambda: len([c for c in family.master.children() if alive(c)]) == CHILDREN)
    assert family.master.is_running()


def test_a_killed_child_is_replaced_at_once(family: Family) -> None:
    """Six times: that Celery misses a death, and sees it up to 5 s later, is a race."""
    for _ in range(6):
        until(lambda: len(family.master.children()) == CHILDREN)
        before = family.master.children()
        before[0].kill()
        until(partial(another, family, before), 1.5)


def test_children_do_not_outlive_their_master(family: Family) -> None:
    family.master.kill()
    until(lambda: not any(map(alive, family.children)))


def test_a_child_sees_by_itself_that_its_master_is_dead(tmp_path: Path) -> None:
    """Without Celery, and so without the kernel's help: as on macOS, or when the master dies just after the fork."""
    code = (
        "import os, signal\n"
        "from workers import runtime\n"
        "pid = os.fork()\n"
        "if pid == 0:\n"
        "    runtime.start(lowest=1)\n"
        "    print(os.getpid(), flush=True)\n"
        "signal.pause()\n"
    )
    wiring = Wiring(Settings(data_dir=tmp_path, database_url="", redis_url="redis://127.0.0.1:1/0"))
    migrate.upgrade(wiring.database)
    wiring.database.close()
    environment = {
        **os.environ,
        "BROADCASTER_DATA_DIR": str(tmp_path),
        "BROADCASTER_DATABASE_URL": "",
        "BROADCASTER_REDIS_URL": "redis://127.0.0.1:1/0",
    }
    with subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE) as master:
        assert master.stdout is not None
        child = psutil.Process(int(master.stdout.readline()))
        master.kill()
        until(lambda: not alive(child))


def test_redis_killed_while_a_task_is_under_way_does_not_end_the_master(family: Family) -> None:
    frozen = family.hold_one_wake_up()
    family.redis_server.kill()
    family.redis_server.wait(10)
    family.start_redis()  # empty
    until(lambda: family.redis.client_list(), 10)
    frozen.resume()

    def taken() -> bool:
        assert alive(family.master), "the master has died"
        family.wiring.wake_ups.deliver(1)
        return consuming(family.redis) and not family.redis.llen(BULK) and not family.redis.hlen("unacked")

    until(taken, 30)
    assert [c.pid for c in family.master.children()] == [c.pid for c in family.children]


def test_redis_hung_while_a_task_ends_leaves_the_worker_hearing(family: Family) -> None:
    frozen = family.hold_one_wake_up()
    server = psutil.Process(family.redis_server.pid)
    server.suspend()
    frozen.resume()
    until(lambda: "Couldn't ack" in family.log.read_text())
    server.resume()

    def all_places_are_free() -> bool:
        before = family.redis.hlen("unacked")
        for child in family.children:
            child.suspend()
        family.wiring.wake_ups.deliver(1, times=CHILDREN)
        taken = stays(lambda: family.redis.hlen("unacked") <= before + CHILDREN, 2.0)
        taken = taken and family.redis.hlen("unacked") == before + CHILDREN
        for child in family.children:
            child.resume()
        until(lambda: not family.redis.llen(BULK))
        return taken

    until(all_places_are_free, 30)


def test_children_of_a_master_that_hears_nothing_do_the_work_themselves(family: Family) -> None:
    """Redis is well and takes every wake-up, so nothing but the wait tells them."""
    family.master.suspend()
    caller = family.wiring.keys.authenticate(family.wiring.keys.create("test", ["alerts:send"])[1])
    steps = (Step(("sms",), 0),)
    draft = Draft("Email is down", "Use bleeps.", Severity.HIGH, Everyone(), steps, 600, "IT")
    family.wiring.alerts.accept(draft, caller)

    def planned() -> bool:
        with family.wiring.database.read() as connection:
            return not connection.exec_driver_sql("SELECT 1 FROM alert_steps WHERE next_at IS NOT NULL").all()

    until(planned)
    family.master.resume()


def another(family: Family, before: list[psutil.Process]) -> bool:
    """As many live children as there were, of which one is new."""
    now = {child for child in family.master.children() if alive(child)}
    return len(now) == len(before) and not now <= set(before)


def consuming(client: "redis.Redis") -> bool:
    return any(c["cmd"] == "brpop" for c in client.client_list())


def answers(client: "redis.Redis") -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False


def alive(process: psutil.Process) -> bool:
    """One that is dead and that nobody has buried yet is not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def gone_or_not(process: psutil.Process) -> list[psutil.Process]:
    """The process and those children of it that nobody asked for."""
    try:
        return [process, *process.children()]
    except psutil.NoSuchProcess:
        return []


def stays(what: Callable[[], Any], seconds: float = 1.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not what():
            return False
        time.sleep(0.02)
    return True


def until(what: Callable[[], Any], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, f"did not come true within {seconds} s"
        time.sleep(0.02)
