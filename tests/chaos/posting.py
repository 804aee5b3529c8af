"""Raising alerts through the API while it is being killed: with one Idempotency-Key, until it says 202."""

import itertools
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final

import requests

from tests.chaos.people import Address, Api, People

TRY_SECONDS: Final = 5.0  # a try that has no answer by then is made again
BETWEEN: Final = 0.1
GIVE_UP: Final = 120.0
POSTERS: Final = 32


@dataclass(frozen=True, slots=True)
class Posted:
    """One alert that was accepted. ``token`` is in its title. Times in unix seconds: ``tried_at`` is when the first try
    began, ``began_at`` when the try began that was answered with 202."""

    token: str
    uid: str
    critical: bool
    to_all: bool
    asked: frozenset[Address]
    tried_at: float
    began_at: float


@dataclass
class Poster:
    """Posts in threads of its own; what was accepted is in ``posted``, other answers are counted in ``answers``."""

    api: Api
    posted: list[Posted] = field(default_factory=list)
    answers: Counter[str] = field(default_factory=Counter)
    broadcasts: int = 0
    _numbers: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))
    _pending: list["Future[None]"] = field(default_factory=list)
    _pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(POSTERS))
    _local: threading.local = field(default_factory=threading.local)
    _sessions: list[requests.Session] = field(default_factory=list)
    _stopped: threading.Event = field(default_factory=threading.Event)

    def cell(self, people: People, n: int, severity: str) -> None:
        """To one part of the crowd."""
        self._submit(f"cell:{n}", severity, frozenset(people.cells[n]))

    def broadcast(self, people: People, severity: str) -> None:
        self.broadcasts += 1
        self._submit("who:crowd", severity, frozenset(people.crowd))

    def solo(self, people: People, n: int) -> None:
        self._submit(f"who:solo-{n}", "critical", frozenset([people.solo[n]]))

    def waits(self) -> bool:
        """Whether an alert is not yet accepted. Raises what a posting thread raised."""
        for future in [f for f in self._pending if f.done()]:
            future.result()
            self._pending.remove(future)
        return bool(self._pending)

    def close(self) -> None:
        """No further tries; those under way are waited for."""
        self._stopped.set()
        self._pool.shutdown(cancel_futures=True)
        for session in self._sessions:
            session.close()

    def _submit(self, tag: str, severity: str, asked: frozenset[Address]) -> None:
        token = f"CHX{next(self._numbers):05d}"
        body = {
            "title": f"Chaos {token}",
            "body": "Use the phone list.",
            "severity": severity,
            "audience": {"tag": tag},
            "channels": sorted({channel for channel, _ in asked}),
        }
        self._pending.append(self._pool.submit(self._post, token, body, asked))

    def _post(self, token: str, body: dict[str, Any], asked: frozenset[Address]) -> None:
        tried_at = time.time()
        while time.time() - tried_at < GIVE_UP and not self._stopped.is_set():
            began_at = time.time()
            answer = self._try(token, body)
            if answer is not None:
                to_all = body["audience"] == {"tag": "who:crowd"}
                critical = body["severity"] == "critical"
                self.posted.append(Posted(token, answer["id"], critical, to_all, asked, tried_at, began_at))
                return
            self._stopped.wait(BETWEEN)  # a client's own back-off
        raise TimeoutError(f"{token} was not accepted within {GIVE_UP} s")

    def _try(self, token: str, body: dict[str, Any]) -> dict[str, Any] | None:
        if not hasattr(self._local, "session"):
            self._local.session = self.api.session()
            self._sessions.append(self._local.session)
        headers = {"Idempotency-Key": f"chaos-{token}"}
        try:
            answer: requests.Response = self._local.session.post(
                f"{self.api.url}/api/v1/alerts", json=body, headers=headers, timeout=TRY_SECONDS
            )
        except requests.RequestException as error:
            self.answers[type(error).__name__] += 1
            return None
        self.answers[str(answer.status_code)] += 1
        if answer.status_code != 202:
            return None
        accepted: dict[str, Any] = answer.json()
        return accepted


def percentile(values: Sequence[float], share: float) -> float | None:
    """The nearest rank's value."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None
