"""The Celery app. ``celery -A workers.app worker -Q bulk`` (or ``-Q critical``) runs one worker."""

import os
import threading
from typing import Any

from celery import Celery, bootsteps, signals

from broadcaster.log import configure as configure_log
from broadcaster.queue import celery_config
from broadcaster.settings import Settings
from workers import runtime

settings = Settings()
app = Celery("broadcaster", include=["workers.tasks"])
app.conf.update(celery_config(settings.resolved_redis_url))
app.conf.worker_pool_restarts = False

__all__ = ["app", "bootsteps"]


@signals.setup_logging.connect
def _logging(**_: Any) -> None:
    configure_log(settings)


@signals.worker_process_init.connect
def _start(**_: Any) -> None:
    # After the fork: nothing of the parent's connections, threads or loops is used here.
    runtime.start(lowest=runtime.lowest_priority(os.environ.get("BROADCASTER_WORKER_QUEUE", "bulk")))


@signals.worker_process_shutdown.connect
def _stop(**_: Any) -> None:
    runtime.stop()


@signals.worker_shutting_down.connect
def _quiet(**_: Any) -> None:
    threading.current_thread()  # the children stop by themselves, each through its own signal
