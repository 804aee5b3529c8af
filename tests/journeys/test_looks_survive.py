"""Worker processes are killed all the time: every look that was due is made and recorded once, and soon."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from typing import Any, Final

import psutil
import pytest

from tests.conftest import Stack

MONITORS: Final = 10
INTERVAL: Final = 5.0
KILLS: Final = 5
SLOW: Final = 0.7  # s that a look takes


class Slow:
    """A port that takes its time until it says something; ``asked`` is set by whoever connects."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._server.getsockname()[1])
        threading.Thread(target=self._take, daemon=True).start()

    def _take(self) -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=self._answer, args=(self._server.accept()[0],), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        self.asked.set()
        with connection, suppress(OSError):
            time.sleep(SLOW)
            connection.sendall(b"220 well\r\n")

    def close(self) -> None:
        self._server.close()


@pytest.fixture
def slow() -> Iterator[Slow]:
    server = Slow()
    yield server
    server.close()


def test_every_due_look_is_made_once_whoever_is_killed(stack: Stack, slow: Slow) -> None:
    config = {"host": "127.0.0.1", "port": slow.port, "banner": "220"}
    body = {"kind": "tcp", "config": config, "interval_seconds": INTERVAL, "timeout_seconds": 3}
    made = [
        stack.json("POST", "monitors", 201, json={"name": f"Look {time.monotonic_ns()}", **body})["id"]
        for _ in range(MONITORS)
    ]

    def looks_made() -> list[int]:
        return [len(readings(stack, uid)) for uid in made]

    for n in range(KILLS):
        slow.asked.clear()
        assert slow.asked.wait(30)  # a look is under way
        seen = looks_made()
        kill_all_of(stack, "worker-bulk" if n % 4 == 3 else "worker-critical")
        stack.until(lambda seen=seen: all(now > before for now, before in zip(looks_made(), seen, strict=True)))  # type: ignore[misc]
    for uid in made:
        looks = readings(stack, uid)
        due = [moment(look["due_at"]) for look in looks]
        assert len(due) == len(set(due)) >= KILLS
        gaps = {round(later - earlier, 3) for earlier, later in zip(due, due[1:], strict=False)}
        assert gaps == {INTERVAL}, gaps  # none was left out
        assert max(moment(look["at"]) - moment(look["due_at"]) for look in looks) <= 2 * INTERVAL
        assert {look["verdict"] for look in looks} == {"ok"}
        stack.call("DELETE", f"monitors/{uid}", 204)


def readings(stack: Stack, uid: str) -> list[dict[str, Any]]:
    """The oldest first."""
    items: list[dict[str, Any]] = stack.json("GET", f"monitors/{uid}/readings", 200, params={"limit": "500"})["items"]
    return items[::-1]


def kill_all_of(stack: Stack, name: str) -> None:
    """The children of these workers, of which one looks just now."""
    part = next(p for p in stack.supervisor.parts if p.name == name)
    assert part.process is not None
    for child in psutil.Process(part.process.pid).children():
        with suppress(psutil.NoSuchProcess):
            child.kill()


def moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
