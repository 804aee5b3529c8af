"""Chunks in the air: one is being sent while the next is being marked, and outcomes come back in groups.

What lives here: the hand-over between the thread that keeps the books and the event loop that talks to providers. What
does not: either of them.
"""

import asyncio
import queue
import time
from collections.abc import Coroutine, Sequence
from concurrent.futures import Future
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Final, Protocol

from broadcaster.domain.channel import AttemptId, Channel, Lane
from broadcaster.domain.messages import Content, Envelope, Message
from broadcaster.domain.outcomes import Outcome, Rejected, Scope, Throttled

COMMIT_EVERY: Final = 0.25  # s, or COMMIT_ROWS outcomes
COMMIT_ROWS: Final = 500

Result = tuple[AttemptId, Outcome]


class Loop(Protocol):
    """The process's one event loop, in a thread of its own."""

    def submit(self, coroutine: Coroutine[Any, Any, Any]) -> "Future[Any]": ...


@dataclass(slots=True, eq=False)
class Flight:
    """One chunk under way on one route.

    ``lanes``: delivery -> the rate limits that it passes. ``paced``: it waits for its turn at one of them, the last of it at
    ``turns_end`` (CLOCK_BOOTTIME seconds). ``refused``: the last that was known of the route is that it refused us.
    ``seconds``: how long it was being sent, once it has landed.
    """

    channel: Channel
    chunk: Sequence[tuple[Envelope, Content]]
    lanes: dict[int, Sequence[Lane]]
    paced: bool = False
    turns_end: float = 0.0
    refused: bool = False
    seconds: float = 0.0

    @property
    def keys(self) -> frozenset[str]:
        """What a pause of concerns it: its route, and its lanes."""
        return frozenset({self.channel.route, *(lane.key for lanes in self.lanes.values() for lane in lanes)})

    def recall(self) -> None:
        """What is not yet written to a socket stays here."""
        for envelope, _ in self.chunk:
            envelope.recalled = True

    def extend(self, lease_end: float) -> None:
        """The lease was renewed: what waits may be written until then (CLOCK_BOOTTIME seconds)."""
        for envelope, _ in self.chunk:
            envelope.not_after = lease_end


class Air:
    """The flights of one batch, ``width`` of them at once, in the order in which they took off; those that are paced have
    their turns."""

    def __init__(self, loop: Loop, message: Message, width: int = 1) -> None:
        self._loop = loop
        self._message = message
        self._arrived: queue.SimpleQueue[tuple[Flight, list[Result] | None]] = queue.SimpleQueue()
        self._turn = asyncio.Semaphore(width)  # first come, first served
        self._flying: dict[Flight, Future[Any]] = {}
        self._landed: list[Future[Any]] = []
        self.broken = False  # a flight broke off

    @property
    def flights(self) -> Sequence[Flight]:
        """Those that have not landed."""
        return list(self._flying)

    def take_off(self, flight: Flight) -> None:
        self._flying[flight] = self._loop.submit(self._fly(flight))

    def recall(self) -> None:
        """Of all flights what is not yet written; from any thread."""
        for flight in self.flights:
            flight.recall()

    def outcomes(self, patience: float | None = None) -> tuple[Flight, list[Result]] | None:
        """The next outcomes of a flight, COMMIT_ROWS at most, none held back longer than COMMIT_EVERY; an empty list when
        it has landed. None: nothing came within ``patience`` seconds."""
        try:
            flight, group = self._arrived.get(timeout=patience)
        except queue.Empty:
            return None
        if group is None:
            future = self._flying.pop(flight)
            self._landed.append(future)
            self.broken = self.broken or future.exception() is not None
        return flight, group or []

    def check(self) -> None:
        """Raises what broke a flight off, once its outcomes are safe."""
        while self._landed:
            self._landed.pop(0).result()

    def _recall_beside(self, flight: Flight) -> None:
        for other in self.flights:
            if other is not flight and other.channel is flight.channel:
                other.recall()

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
                self._arrived.put((flight, group))
                group = []

        try:
            async with nullcontext() if flight.paced else self._turn:
                began = time.monotonic()
                async for result in flight.channel.send(self._message, flight.chunk):
                    if _stops(result[1]):  # before the next one begins, which knows nothing of it
                        self._recall_beside(flight)
                    group.append(result)
                    if len(group) >= COMMIT_ROWS:
                        hand_over()
                    elif timer is None:
                        timer = loop.call_later(COMMIT_EVERY, hand_over)
                flight.seconds = time.monotonic() - began
        finally:
            hand_over()
            self._arrived.put((flight, None))


def _stops(outcome: Outcome) -> bool:
    """Whether nothing more should be written on the route just now."""
    return isinstance(outcome, Throttled) or (isinstance(outcome, Rejected) and outcome.scope is Scope.CHANNEL)
