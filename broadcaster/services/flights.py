"""Chunks in the air: one is being sent while the next is being marked, and outcomes come back in groups.

What lives here: the hand-over between the thread that keeps the books and the event loop that talks to providers. What
does not: either of them.
"""

import asyncio
import queue
import time
from collections import deque
from collections.abc import Coroutine, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Final, Protocol

from broadcaster.domain.channel import AttemptId, Channel, Lane
from broadcaster.domain.messages import Content, Envelope, Message
from broadcaster.domain.outcomes import Outcome

COMMIT_EVERY: Final = 0.1  # s, or COMMIT_ROWS outcomes
COMMIT_ROWS: Final = 200

Result = tuple[AttemptId, Outcome]


class Loop(Protocol):
    """The process's one event loop, in a thread of its own."""

    def submit(self, coroutine: Coroutine[Any, Any, Any]) -> "Future[Any]": ...


@dataclass(frozen=True, slots=True, eq=False)
class Flight:
    """One chunk under way on one route. ``lanes``: delivery -> the rate limits that it passed."""

    channel: Channel
    chunk: Sequence[tuple[Envelope, Content]]
    lanes: dict[int, Sequence[Lane]]


class Air:
    """The flights of one batch, sent one after the other in the order in which they took off."""

    def __init__(self, loop: Loop, message: Message) -> None:
        self._loop = loop
        self._message = message
        self._arrived: queue.SimpleQueue[Result | None] = queue.SimpleQueue()
        self._turn = asyncio.Lock()  # first come, first served: outcomes arrive flight by flight
        self._flying: deque[tuple[Flight, Future[Any]]] = deque()
        self._landed: list[Future[Any]] = []

    @property
    def flights(self) -> int:
        """How many have not landed."""
        return len(self._flying)

    def take_off(self, flight: Flight) -> None:
        self._flying.append((flight, self._loop.submit(self._fly(flight))))

    def outcomes(self) -> tuple[Flight, list[Result]]:
        """The next outcomes of the flight that left first, COMMIT_ROWS at most, none held back longer than COMMIT_EVERY;
        fewer, or none, when it lands."""
        flight = self._flying[0][0]
        group: list[Result] = []
        deadline = 0.0
        while len(group) < COMMIT_ROWS:
            try:
                result = self._arrived.get(timeout=max(0.0, deadline - time.monotonic()) if group else None)
            except queue.Empty:
                break
            if result is None:
                self._landed.append(self._flying.popleft()[1])
                break
            if not group:
                deadline = time.monotonic() + COMMIT_EVERY
            group.append(result)
        return flight, group

    def check(self) -> None:
        """Raises what broke a flight off, once its outcomes are safe."""
        while self._landed:
            self._landed.pop(0).result()

    async def _fly(self, flight: Flight) -> None:
        try:
            async with self._turn:
                async for result in flight.channel.send(self._message, flight.chunk):
                    self._arrived.put(result)
        finally:
            self._arrived.put(None)
