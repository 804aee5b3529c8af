"""Critical alerts to one person each, at a steady pace, and how long each takes to its provider."""

import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import requests

from tests.bench import figures, words
from tests.bench.product import Live
from tests.bench.sink import Sink

PEOPLE: Final = 100  # those with the tags one:0 to one:99
_POSTERS: Final = 8  # a slow answer must not hold up the next alert, or the slow ones would not be seen
_LAST: Final = 10.0  # s for what is under way at the end
_MARK: Final = re.compile(r"\bK(\d+)K\b")


class Steady:
    """``with Steady(live, sink, per_second) as alerts: …``; then ``alerts.latencies()``: ms from just before the POST until
    the watching sink has read the request that carries the alert's text. The product's sandbox must be the watched one."""

    def __init__(
        self, live: Live, sink: Sink, per_second: float, most: int = 100_000, *, wait_for_word: bool = False
    ) -> None:
        self._live, self._sink, self._between, self._most = live, sink, 1 / per_second, most
        self._began: dict[int, float] = {}
        self._word = threading.Event()
        if not wait_for_word:
            self._word.set()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="critical", daemon=True)
        self._local = threading.local()
        self._refused = 0
        self._found: dict[int, float] = {}

    def __enter__(self) -> "Steady":
        self._sink.arrivals()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._word.set()
        self._thread.join()
        deadline = time.monotonic() + _LAST
        while len(self._found) < len(self._began) and time.monotonic() < deadline:
            self._collect()
            time.sleep(0.1)

    def begin(self) -> None:
        """The word that ``wait_for_word`` waits for."""
        self._word.set()

    def wait(self) -> None:
        """Until ``most`` alerts are out."""
        self._thread.join()

    def latencies(self) -> dict[str, Any]:
        """{n, p50, p95, p99, max, lost, refused}."""
        took = [(at - self._began[n]) * 1000 for n, at in self._found.items()]
        lost = len(self._began) - len(self._found) - self._refused
        return {**figures.quantiles(took), "lost": lost, "refused": self._refused}

    def _run(self) -> None:
        self._word.wait()
        next_at = time.monotonic()
        with ThreadPoolExecutor(_POSTERS) as pool:
            for n in range(self._most):
                if self._done.wait(max(0.0, next_at - time.monotonic())):
                    return
                next_at += self._between
                pool.submit(self._post, n)

    def _post(self, n: int) -> None:
        if not hasattr(self._local, "session"):
            self._local.session = self._live.session()
        body = words.alert({"tag": f"one:{n % PEOPLE}"}, ["sms"], "critical", f"{words.TITLE} K{n}K")
        self._began[n] = time.monotonic()
        try:
            answer = self._local.session.post(f"{self._live.api}/alerts", json=body, timeout=30)
            self._refused += answer.status_code != 202
        except requests.RequestException:
            self._refused += 1

    def _collect(self) -> None:
        for arrival in self._sink.arrivals():
            if (mark := _MARK.search(arrival["text"])) is not None:
                self._found.setdefault(int(mark[1]), arrival["at"])
