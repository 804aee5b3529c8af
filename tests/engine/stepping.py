"""A worker that can be stopped between any two of its steps, left hanging there, and killed."""

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any

from tests.engine.rig import Engine, NoLimit


class Died(BaseException):
    """The process is gone: nothing below it may catch this."""


class Worker:
    """Runs one batch at a time, in a thread that only ever runs while ``go`` is called.

    It stops before a chunk is marked, before what was marked is handed to the provider, and before the answers are read;
    around a look-up likewise. At each of these it holds no transaction.
    """

    def __init__(self, engine: Engine, owner: str) -> None:
        self.owner = owner
        self.busy = False
        self.fault: BaseException | None = None
        self._orders: SimpleQueue[bool] = SimpleQueue()
        self._reports: SimpleQueue[bool] = SimpleQueue()
        self._deliverer = engine.deliverer(self, owner, NoLimit(self._stop_here))

    def go(self) -> None:
        """To the next stop; from idle: begins what is due, if anything is."""
        if not self.busy:
            self.busy = True
            threading.Thread(target=self._run, daemon=True).start()
        else:
            self._orders.put(True)
        self._wait()

    def die(self) -> None:
        """Where it stands: whatever it had in memory is forgotten."""
        if self.busy:
            self._orders.put(False)
            self._wait()

    def renew(self) -> None:
        self._deliverer.keep_lease()

    def submit(self, coroutine: Coroutine[Any, Any, Any]) -> "Future[Any]":
        """The engine's event loop: here the coroutine runs at once, between two stops."""
        future: Future[Any] = Future()
        try:
            self._stop_here()
            with asyncio.Runner() as runner:
                future.set_result(runner.run(coroutine))
            self._stop_here()
        except Died as died:
            coroutine.close()
            if died.args:  # in the middle of the chunk: the engine reads the answers that it has, and then it is gone
                future.set_exception(died)
            else:
                raise
        return future

    def _run(self) -> None:
        try:
            self._deliverer.run_one(lowest=3, by_task=False)
        except Died:
            pass
        except BaseException as error:  # noqa: BLE001 - shown by whoever drives this worker
            self.fault = error
        self.busy = False
        self._reports.put(True)

    def _wait(self) -> None:
        self._reports.get(timeout=30)
        if self.fault is not None:
            raise self.fault

    def _stop_here(self) -> None:
        self._reports.put(True)
        if not self._orders.get():
            raise Died
