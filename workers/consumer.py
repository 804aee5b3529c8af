"""Celery's consumer, kept alive where it would end the whole worker: when Redis dies while a task is under way."""

from celery.worker import state
from celery.worker.consumer import Consumer


class LastingConsumer(Consumer):  # type: ignore[misc]
    """Named in Celery's setting ``worker_consumer``.

    When the connection is lost, kombu 5.7 wants to put back over it what is not acknowledged, and a task that ends later
    wants to be acknowledged over it. By then it has forgotten the server's address: an AttributeError, and to Celery 5.7 the
    end of the worker. Neither is needed: a wake-up says nothing that the database does not know.
    """

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        if self.task_consumer is not None:
            self.task_consumer.channel.do_restore = False
        for request in {*state.reserved_requests, *state.active_requests}:
            request.acknowledged = True
        super().on_connection_error_after_connected(exc)
