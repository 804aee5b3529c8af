"""Publishes wake-ups by name. A wake-up says "look in the database"; losing one costs a moment, never a message.

``WakeUps.plan`` and ``deliver`` never block and never fail: a bounded hand-off to one publisher thread, which drops
wake-ups while Redis is away (pollers see to the work then) and keeps trying whether it is back.
"""

import queue
import threading
import time
from collections import Counter
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import structlog
from celery import Celery
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

log = structlog.get_logger(__name__)

CRITICAL: Final = "critical"
BULK: Final = "bulk"
PLAN_TASK: Final = "broadcaster.plan"
DELIVER_TASK: Final = "broadcaster.deliver"

_BACKLOG: Final = 10_000
_SILENCE: Final = 1.0  # seconds between tries while Redis is away


def queue_of(priority: int) -> str:
    """Critical work (priority 0) has a queue of its own."""
    return CRITICAL if priority == 0 else BULK


def celery_config(redis_url: str) -> dict[str, Any]:
    """Celery's settings, the same for publishers and workers. FACTS behind them: the README's design section."""
    config: dict[str, Any] = {
        "broker_url": redis_url,
        "task_ignore_result": True,
        "task_acks_late": True,  # with the next line: a killed child's wake-up comes back at once
        "task_reject_on_worker_lost": True,
        "worker_prefetch_multiplier": 1,
        "task_default_queue": BULK,
        "task_create_missing_queues": True,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "worker_hijack_root_logger": False,
        "worker_proc_alive_timeout": 20,
        "worker_send_task_events": False,
        "task_serializer": "json",
        "accept_content": ["json"],
        "broker_transport_options": {
            "socket_timeout": 2,
            "socket_connect_timeout": 1,
            "socket_keepalive": True,
            "health_check_interval": 10,
            "visibility_timeout": 600,
            "max_retries": 0,
        },
    }
    if redis_url.startswith("sentinel://"):
        config["broker_transport_options"]["master_name"] = parse_qs(urlsplit(redis_url).query).get("master", ["mymaster"])[
            0
        ]
    return config


class WakeUps:
    """The publisher of one process. Made after any fork."""

    def __init__(self, redis_url: str) -> None:
        self._celery = Celery("broadcaster", set_as_current=False)
        self._celery.conf.update(celery_config(redis_url))
        self._waiting: queue.Queue[tuple[str, str] | None] = queue.Queue(_BACKLOG)
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._down_since: float | None = None
        self.published: Counter[str] = Counter()

    @property
    def down(self) -> bool:
        """Whether the last publish failed."""
        return self._down_since is not None

    def plan(self, priority: int, times: int = 1) -> None:
        for _ in range(times):
            self._hint(PLAN_TASK, queue_of(priority))

    def deliver(self, priority: int, times: int = 1) -> None:
        for _ in range(times):
            self._hint(DELIVER_TASK, queue_of(priority))

    def close(self) -> None:
        """Gives what is handed over up to 2 s to leave."""
        if self._thread is not None:
            try:
                self._waiting.put_nowait(None)
            except queue.Full:
                return
            self._thread.join(2)

    def probe(self) -> bool:
        """Whether the broker answers within a second. Blocks; for health checks and pollers."""
        try:
            with self._celery.connection_for_write() as connection:
                connection.ensure_connection(max_retries=1, timeout=1)
                connection.default_channel.client.ping()
        except (OperationalError, RedisError, OSError):
            self._down_since = self._down_since or time.monotonic()
            return False
        self._down_since = None
        return True

    def depth(self) -> dict[str, int]:
        """Wake-ups waiting in each queue. Raises what the broker raises when it is away."""
        with self._celery.connection_for_read() as connection:
            client = connection.default_channel.client
            return {name: int(client.llen(name)) for name in (CRITICAL, BULK)}

    def _hint(self, task: str, queue_name: str) -> None:
        if self._thread is None or not self._thread.is_alive():
            with self._lock:
                if self._thread is None or not self._thread.is_alive():
                    thread = threading.Thread(target=self._publish_all, name="wake-ups", daemon=True)
                    try:
                        thread.start()
                    except RuntimeError:  # no thread to be had
                        self.published["dropped"] += 1
                        return
                    self._thread = thread
        try:
            self._waiting.put_nowait((task, queue_name))
        except queue.Full:
            self.published["dropped"] += 1

    def _publish_all(self) -> None:
        while (item := self._waiting.get()) is not None:
            if self._down_since is not None and time.monotonic() - self._down_since < _SILENCE:
                self.published["dropped"] += 1
                continue
            self._publish(*item)

    def _publish(self, task: str, queue_name: str) -> None:
        try:
            self._celery.send_task(task, queue=queue_name, retry=False, ignore_result=True, expires=600)
        except (OperationalError, RedisError, OSError) as error:
            if self._down_since is None:
                log.warning("queue.lost", error=type(error).__name__)
            self._down_since = time.monotonic()
            self.published["failed"] += 1
        else:
            if self._down_since is not None:
                log.info("queue.back")
            self._down_since = None
            self.published["sent"] += 1
