"""The Celery app. ``celery -A workers.app worker -Q bulk`` (or ``-Q critical``) runs one worker."""

import os
import signal
from typing import Any

import psutil
from celery import Celery, signals

from broadcaster.queue import BULK, celery_config
from broadcaster.settings import Settings
from broadcaster.wiring import configure_log
from workers import runtime

settings = Settings()
app = Celery("broadcaster", include=["workers.tasks"])
app.conf.update(celery_config(settings.resolved_redis_url))


@signals.setup_logging.connect  # type: ignore[untyped-decorator]
def _logging(**_: Any) -> None:
    configure_log(settings)


@signals.worker_process_init.connect  # type: ignore[untyped-decorator]
def _start(**_: Any) -> None:
    # After the fork: nothing of the parent's connections, threads or loops is used here.
    runtime.start(lowest=runtime.lowest_priority(os.environ.get("BROADCASTER_WORKER_QUEUE", BULK)))
    signal.signal(signal.SIGUSR2, lambda *_: runtime.stop_claiming())


@signals.worker_shutting_down.connect  # type: ignore[untyped-decorator]
def _quiet(**_: Any) -> None:
    # Celery lets a task run to its end; ours would go on with the next batch, so the children are told to stop claiming.
    for child in psutil.Process().children():
        child.send_signal(signal.SIGUSR2)


@signals.worker_process_shutdown.connect  # type: ignore[untyped-decorator]
def _stop(**_: Any) -> None:
    runtime.stop()
