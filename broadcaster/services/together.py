"""What comes together is written together: one transaction for many callers, each with an answer of its own.

A commit costs about the same for one as for a hundred, and a thread a caller costs more than its work. While one group is
being written, the next one gathers; a caller who is alone waits for nobody.
"""

import threading
from collections import deque
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, Generic, TypeVar

from broadcaster.domain.errors import Unavailable
from broadcaster.store.database import UNAVAILABLE

MOST_WAITING: Final = 10_000

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class Together(Generic[Item, Answer]):
    """``write`` takes a group in the order of its coming and returns, in that order, an answer or an exception for each.

    It writes all of the group or nothing, unless doing it again is harmless. When it raises, the database's trouble is
    everybody's who waits; anything else is looked for by writing each alone, so that one bad item costs no other its place.
    ``apart`` names what no two items of a group may have in common.
    """

    def __init__(
        self,
        write: Callable[[Sequence[Item]], Sequence[Answer | Exception]],
        *,
        most: int,
        name: str,
        apart: Callable[[Item], Collection[object]] = lambda _: (),
    ) -> None:
        """``most``: items in one group."""
        self._write = write
        self._most = most
        self._apart = apart
        self._waiting: deque[tuple[Item, Future[Answer]]] = deque()
        self._writing = False
        self._lock = threading.Lock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)

    def hand_in(self, item: Item) -> "Future[Answer]":
        """Its answer, once it is written. From any thread. Raises Unavailable when too many wait already."""
        future: Future[Answer] = Future()
        with self._lock:
            if len(self._waiting) >= MOST_WAITING:
                raise Unavailable("Too many requests are waiting to be written; try again in a moment.")
            self._waiting.append((item, future))
            if not self._writing:
                try:
                    self._thread.submit(self._write_all)
                except RuntimeError:  # no thread to be had: who is told of it must not be written after all
                    self._waiting.pop()
                    raise
                self._writing = True
        return future

    def _write_all(self) -> None:
        while True:
            with self._lock:
                group = self._next_group()
                if not group:
                    self._writing = False
                    return
            # Who has gone meanwhile was promised nothing.
            group = [(item, future) for item, future in group if future.set_running_or_notify_cancel()]
            if group:
                self._answer(group)

    def _next_group(self) -> "list[tuple[Item, Future[Answer]]]":
        """Takes it from those that wait; who must not be with another in it stays, before all that came later."""
        group: list[tuple[Item, Future[Answer]]] = []
        stay: list[tuple[Item, Future[Answer]]] = []
        seen = set[object]()
        while self._waiting and len(group) < self._most:
            entry = self._waiting.popleft()
            marks = self._apart(entry[0])
            if seen.isdisjoint(marks):
                group.append(entry)
                seen.update(marks)
            else:
                stay.append(entry)
        self._waiting.extendleft(reversed(stay))
        return group

    def _answer(self, group: "Sequence[tuple[Item, Future[Answer]]]") -> None:
        try:
            answers = self._write([item for item, _ in group])
        except Exception as error:  # noqa: BLE001 - every caller must hear of it, or believes that it was kept
            if isinstance(error, UNAVAILABLE):  # one after the other would only wait as long again
                with self._lock:
                    later = [entry for entry in self._waiting if entry[1].set_running_or_notify_cancel()]
                    self._waiting.clear()
                group = [*group, *later]
            elif len(group) > 1:
                for one in group:
                    self._answer([one])
                return
            for _, future in group:
                future.set_exception(error)
            return
        for (_, future), answer in zip(group, answers, strict=True):
            if isinstance(answer, Exception):
                future.set_exception(answer)
            else:
                future.set_result(answer)
