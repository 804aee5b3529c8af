"""Tells the sandbox's providers to misbehave, and to stop; counts how often each fault hit."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

import requests

from tests.chaos.plan import Act

TIMEOUT: Final = 15.0


class Faults:
    """``matches``: per provider, parts of the addresses that may be hit; without one, all of them."""

    def __init__(self, sandbox: str, matches: dict[str, Sequence[str]]) -> None:
        self._url = f"{sandbox}/_sandbox"
        self._matches = matches
        self._ids: dict[Act, list[int]] = {}
        self._session = requests.Session()
        self.hits: Counter[str] = Counter()

    def begin(self, act: Act) -> None:
        provider = act.which.partition(":")[0]
        wanted: Sequence[str | None] = self._matches.get(provider) or (None,)
        self._ids[act] = []
        for match in wanted:
            fields = {**act.fields, **({} if match is None else {"match": match})}
            self._ids[act].append(self._call("POST", "/faults", json=fields)["id"])

    def end(self, act: Act) -> None:
        hits = {fault["id"]: fault["hits"] for fault in self._call("GET", "/faults")["faults"]}
        for number in self._ids.pop(act, []):
            self.hits[act.which] += hits.get(number, 0)
            self._call("DELETE", f"/faults/{number}")

    def lag(self, seconds: float) -> None:
        """How far Twilio's list of messages is behind."""
        self.set(list_lag=seconds)

    def set(self, **settings: Any) -> None:
        self._call("POST", "/settings", json=settings)

    def end_all(self) -> None:
        for act in list(self._ids):
            self.end(act)
        self.lag(0)

    def close(self) -> None:
        self._session.close()

    def _call(self, method: str, path: str, **options: Any) -> Any:
        answer = self._session.request(method, self._url + path, timeout=TIMEOUT, **options)
        answer.raise_for_status()
        return answer.json()
