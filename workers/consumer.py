"""Celery's consumer, kept alive where it would end the whole worker: when Redis dies while a task is under way."""

from typing import Final

from celery.worker import state
from celery.worker.consumer import Consumer

LOST_LOOKS: Final = 3  # in a row: a task that has just ended is about to be acknowledged


class LastingConsumer(Consumer):  # type: ignore[misc]
    """Named in Celery's setting ``worker_consumer``.

    When the connection is lost, kombu 5.7 wants to put back over it what is not acknowledged, and a task that ends later
    wants to be acknowledged over it. By then it has forgotten the server's address: an AttributeError, and to Celery 5.7 the
    end of the worker. Neither is needed: a wake-up says nothing that the database does not know.

    And where a server that hangs for a while cannot be told of the end of a task, kombu keeps the task's place occupied for
    good, on a connection that works: one after the other, until the worker hears nothing any more.
    """

    _lost_looks = 0

    def look_for_lost_places(self) -> None:
        """Called every second by the event loop. Raises ConnectionResetError, which connects anew, with all places free."""
        if self.task_consumer is None:
            return
        qos = self.task_consumer.channel.qos
        occupied = len(qos._delivered) - len(qos._dirty)
        self._lost_looks = self._lost_looks + 1 if occupied > len(state.reserved_requests) else 0
        if self._lost_looks >= LOST_LOOKS:
            self._lost_looks = 0
            raise ConnectionResetError("tasks have ended whose end could not be told")

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        if self.task_consumer is not None:
            self.task_consumer.channel.do_restore = False
        for request in {*state.reserved_requests, *state.active_requests}:
            request.acknowledged = True
        super().on_connection_error_after_connected(exc)
