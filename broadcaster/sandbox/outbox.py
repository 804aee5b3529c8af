"""What the sandbox posts back: status callbacks and push receipts, over one kept-alive session.

It posts to loopback and to hosts it was told of, nothing else: a stand-in must not become a way to reach
strangers.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Mapping
from ipaddress import ip_address
from urllib.parse import urlsplit

import aiohttp

_log = logging.getLogger(__name__)
_WORKERS = 16
_TIMEOUT = aiohttp.ClientTimeout(total=15, sock_connect=5)  # Twilio's own read time-out for callbacks is 15 s

Job = Callable[[], Awaitable[None]]


class Outbox:
    """A queue of jobs, done by a few workers, so that a national broadcast's callbacks queue up and do not
    pile up."""

    def __init__(self, allowed_hosts: frozenset[str]) -> None:
        self._allowed = allowed_hosts
        self._jobs: deque[Job] = deque()
        self._wake = asyncio.Semaphore(0)
        self._session: aiohttp.ClientSession | None = None
        self._workers: list[asyncio.Task[None]] = []
        self._timers: set[asyncio.TimerHandle] = set()
        self.counts: Counter[str] = Counter()
        self._hosts: dict[str, bool] = {}

    async def start(self) -> None:
        """Opens the session and starts the workers; needs a running loop."""
        connector = aiohttp.TCPConnector(limit=_WORKERS * 2)
        self._session = aiohttp.ClientSession(connector=connector, timeout=_TIMEOUT, trust_env=False)
        self._workers = [asyncio.create_task(self._work()) for _ in range(_WORKERS)]

    async def stop(self) -> None:
        """Drops what is still queued."""
        self.clear()
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    def clear(self) -> None:
        """Forgets every job that is queued or waits for its time."""
        self._jobs.clear()
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        self.counts.clear()

    def put(self, job: Job, delay: float = 0.0) -> None:
        """Queues a job, `delay` seconds from now."""
        if delay <= 0:
            self._jobs.append(job)
            self._wake.release()
            return
        timer: asyncio.TimerHandle

        def due() -> None:
            self._timers.discard(timer)
            self.put(job)

        timer = asyncio.get_running_loop().call_later(delay, due)
        self._timers.add(timer)

    @property
    def pending(self) -> int:
        """Jobs that are queued or wait for their time."""
        return len(self._jobs) + len(self._timers)

    async def _work(self) -> None:
        while True:
            await self._wake.acquire()
            if self._jobs:
                job = self._jobs.popleft()
                try:
                    await job()
                except Exception:  # noqa: BLE001 (a bug in one job must not end the worker)
                    _log.exception("sandbox callback job failed")

    def allows(self, url: str) -> bool:
        """Whether the sandbox may post to `url`: http(s), and loopback or an allowed host."""
        try:
            parts = urlsplit(url)
        except ValueError:
            return False
        if parts.scheme not in ("http", "https") or not parts.hostname:
            return False
        host = parts.hostname
        known = self._hosts.get(host)
        if known is None:
            known = self._hosts[host] = host == "localhost" or host in self._allowed or _is_loopback(host)
        return known

    async def post(self, url: str, body: bytes, headers: Mapping[str, str], retries: int = 0) -> int | None:
        """Posts once; again only when no connection came about, `retries` times. The status, None without
        one."""
        if self._session is None or not self.allows(url):
            self.counts["blocked"] += 1
            return None
        for left in range(retries, -1, -1):
            try:
                async with self._session.post(url, data=body, headers=headers, allow_redirects=False) as answer:
                    await answer.read()
                    self.counts[f"{answer.status // 100}xx"] += 1
                    return answer.status
            except aiohttp.ClientConnectorError:
                if left:
                    continue
            except (aiohttp.ClientError, TimeoutError):
                pass
            break
        self.counts["failed"] += 1
        return None


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
