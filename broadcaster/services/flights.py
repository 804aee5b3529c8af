"""Chunks in the air: one is being sent while the next is being marked, and outcomes come back in groups.

What lives here: the hand-over between the thread that keeps the books and the event loop that talks to providers. What
does not: either of them.
"""

import asyncio
import queue
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
        self._arrived: queue.SimpleQueue[list[Result] | None] = queue.SimpleQueue()
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
        none when it lands."""
        flight = self._flying[0][0]
        group = self._arrived.get()
        if group is None:
            self._landed.append(self._flying.popleft()[1])
        return flight, group or []

    def check(self) -> None:
        """Raises what broke a flight off, once its outcomes are safe."""
        while self._landed:
            self._landed.pop(0).result()

    async def _fly(self, flight: Flight) -> None:
        # Handed over in groups: a thread that is woken for each answer costs more than the answer.
        group: list[Result] = []
        timer: asyncio.TimerHandle | None = None
        loop = asyncio.get_running_loop()

        def hand_over() -> None:
            nonlocal group, timer
            if timer is not None:
                timer.cancel()
                timer = None
            if group:
                self._arrived.put(group)
                group = []

        try:
            async with self._turn:
                async for result in flight.channel.send(self._message, flight.chunk):
                    group.append(result)
                    if len(group) >= COMMIT_ROWS:
                        hand_over()
                    elif timer is None:
                        timer = loop.call_later(COMMIT_EVERY, hand_over)
        finally:
            hand_over()
            self._arrived.put(None)
