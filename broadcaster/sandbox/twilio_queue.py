"""A sender's queue: messages leave it at so many segments a second, or die in it.

https://www.twilio.com/docs/api/errors/21611: a queue holds 10 hours of segments; beyond that a create by
number is refused (21611), a create by messaging service is taken and then fails (30001). A message whose
validity period ends before its turn fails with 30036 (https://www.twilio.com/docs/api/errors/30036).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

MAX_QUEUE_SECONDS = 36_000.0

M = TypeVar("M")


class SenderQueue(Generic[M]):
    """First in, first out; the time of departure is known on arrival, so one timer serves the whole queue."""

    def __init__(self, leave: Callable[[M], None]) -> None:
        self._leave = leave
        self._free_at = 0.0
        self._waiting: deque[tuple[float, M]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def backlog(self, now: float) -> float:
        """Seconds of sending that are queued."""
        return max(0.0, self._free_at - now)

    def join(self, message: M, segments: int, rate: float, now: float) -> None:
        """Queues a message of so many segments at `rate` segments/s; `now` is the loop's clock."""
        self._free_at = max(now, self._free_at) + segments / rate
        self._waiting.append((self._free_at, message))
        if self._timer is None:
            self._arm()

    def clear(self) -> None:
        """Empties the queue."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._free_at = None, 0.0
        self._waiting.clear()

    def _arm(self) -> None:
        self._timer = asyncio.get_running_loop().call_at(self._waiting[0][0], self._due)

    def _due(self) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time()
        while self._waiting and self._waiting[0][0] <= now:
            self._leave(self._waiting.popleft()[1])
        if self._waiting:
            self._arm()
