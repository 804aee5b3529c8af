"""The Celery app. ``celery -A workers.app worker -Q bulk`` (or ``-Q critical``) runs one worker."""

import os
from typing import Any, Final

from celery import Celery, bootsteps, signals

from broadcaster.queue import BULK, celery_config
from broadcaster.settings import Settings
from broadcaster.wiring import configure_log
from workers import ending, runtime

LOOK_AFTER_CHILDREN: Final = 0.5  # s
LOOK_FOR_LOST_PLACES: Final = 1.0  # s

settings = Settings()
app = Celery("broadcaster", include=["workers.tasks"])
app.conf.update(celery_config(settings.resolved_redis_url), worker_consumer="workers.consumer:LastingConsumer")


@signals.setup_logging.connect  # type: ignore[untyped-decorator]
def _logging(**_: Any) -> None:
    configure_log(settings)


@signals.worker_process_init.connect  # type: ignore[untyped-decorator]
def _start(**_: Any) -> None:
    # After the fork: nothing of the parent's connections, threads or loops is used here.
    runtime.start(lowest=runtime.lowest_priority(os.environ.get("BROADCASTER_WORKER_QUEUE", BULK)))
    ending.when_told(runtime.stop_claiming)  # told before, it dies of the signal, which is right: it has begun nothing


@signals.worker_shutting_down.connect  # type: ignore[untyped-decorator]
def _quiet(**_: Any) -> None:
    # Celery lets a task run to its end; ours would go on with the next batch, so the children are told to stop claiming.
    ending.tell_family()


class _Family(bootsteps.StartStopStep):  # type: ignore[misc]
    """What the master does for its children beside Celery."""

    requires = {"celery.worker.components:Pool"}

    def start(self, _worker: Any) -> None:
        ending.forget()

    def register_with_event_loop(self, worker: Any, hub: Any) -> None:
        # Celery looks for dead children every 5 s. It also hears of each death, but often before the kernel has the exit
        # status, and then does nothing. The same timer wakes the loop, which hears of TERM only when it is awake.
        hub.call_repeatedly(LOOK_AFTER_CHILDREN, worker.pool.maintain_pool)
        hub.call_repeatedly(LOOK_FOR_LOST_PLACES, worker.consumer.look_for_lost_places)

    def close(self, _worker: Any) -> None:
        # An end that no signal began (a fault of the master's own), and children forked since the signal.
        ending.tell_family()


app.steps["worker"].add(_Family)


@signals.worker_process_shutdown.connect  # type: ignore[untyped-decorator]
def _stop(**_: Any) -> None:
    runtime.stop()
