"""What comes together is written together: one transaction for many callers, each with an answer of its own.

A commit costs about the same for one as for a hundred, and a thread a caller costs more than its work. While one group is
being written, the next one gathers; a caller who is alone waits for nobody.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from broadcaster.domain.errors import Unavailable
from broadcaster.store.database import UNAVAILABLE

MOST_WAITING: Final = 10_000
PATIENCE: Final = 2.0  # s that somebody waits in vain before another's trouble with the database is his too

Item = TypeVar("Item")
Answer = TypeVar("Answer")


@dataclass(eq=False, slots=True)
class _Entry(Generic[Item, Answer]):
    """Somebody who waits. ``since``: ``time.monotonic`` when it came."""

    item: Item
    future: "Future[Answer]"
    since: float

    def goes_on(self) -> bool:
        """False: who asked has gone meanwhile, and was promised nothing."""
        return self.future.set_running_or_notify_cancel()


class Together(Generic[Item, Answer]):
    """``write`` takes a group in the order of its coming and returns, in that order, an answer or an exception for each.

    It writes all of the group or nothing, unless doing it again is harmless. When it raises, the database's trouble is the
    whole group's, and everybody's who has waited for PATIENCE; anything else is looked for by writing each alone, so that
    one bad item costs no other its place. ``apart`` names what no two items of a group may have in common.
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
        self._waiting: deque[_Entry[Item, Answer]] = deque()
        self._writing = False
        self._lock = threading.Lock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)

    def hand_in(self, item: Item) -> "Future[Answer]":
        """Its answer, once it is written. From any thread. Raises Unavailable when too many wait already."""
        future: Future[Answer] = Future()
        with self._lock:
            if len(self._waiting) >= MOST_WAITING:
                raise Unavailable("Too many requests are waiting to be written; try again in a moment.")
            self._waiting.append(_Entry(item, future, time.monotonic()))
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
            group = [entry for entry in group if entry.goes_on()]
            if group:
                self._answer(group)

    def _next_group(self) -> "list[_Entry[Item, Answer]]":
        """Takes it from those that wait; who must not be with another in it stays, before all that came later."""
        group: list[_Entry[Item, Answer]] = []
        stay: list[_Entry[Item, Answer]] = []
        seen = set[object]()
        # Not the whole queue is looked through for some who may go: whoever hands in waits for this lock.
        while self._waiting and len(group) < self._most and len(stay) < self._most:
            entry = self._waiting.popleft()
            marks = self._apart(entry.item)
            (group if seen.isdisjoint(marks) else stay).append(entry)
            seen.update(marks)
        self._waiting.extendleft(reversed(stay))
        return group

    def _answer(self, group: "Sequence[_Entry[Item, Answer]]") -> None:
        try:
            answers = self._write([entry.item for entry in group])
        except UNAVAILABLE as error:  # one after the other would only wait as long again
            _fail([*group, *self._out_of_patience()], error)
            return
        except Exception as error:  # noqa: BLE001 - every caller must hear of it, or believes that it was kept
            if len(group) == 1:
                _fail(group, error)
                return
            for n, entry in enumerate(group):
                self._answer([entry])
                if isinstance(trouble := entry.future.exception(), UNAVAILABLE):
                    _fail(group[n + 1 :], trouble)
                    return
            return
        if len(answers) != len(group):  # written, but nobody knows whose answer is whose: nothing is written again
            _fail(group, RuntimeError(f"{len(answers)} answers for {len(group)} items"))
            return
        for entry, answer in zip(group, answers, strict=True):
            if isinstance(answer, Exception):
                entry.future.set_exception(answer)
            else:
                entry.future.set_result(answer)

    def _out_of_patience(self) -> "list[_Entry[Item, Answer]]":
        """Takes out whoever has waited for long; the others will have a try of their own."""
        with self._lock:
            since = time.monotonic() - PATIENCE
            gone = [entry for entry in self._waiting if entry.since <= since]
            self._waiting = deque(entry for entry in self._waiting if entry.since > since)
        return [entry for entry in gone if entry.goes_on()]


def _fail(group: "Sequence[_Entry[Any, Any]]", error: Exception) -> None:
    for entry in group:
        entry.future.set_exception(error)
