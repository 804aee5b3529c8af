"""The demonstration's books: what was asked of the product against what arrived at the providers' phones and browsers."""

from dataclasses import dataclass, field
from typing import Any, Final

import requests

_PAGE: Final = 10_000


@dataclass(slots=True)
class Page:
    """What the providers took from one moment to the next. ``reached``: channel -> addresses. Times: seconds, epoch."""

    reached: dict[str, set[str]] = field(default_factory=dict)
    delivered: dict[str, int] = field(default_factory=dict)
    duplicates: int = 0
    first_at: float | None = None
    last_at: float | None = None

    @property
    def everybody(self) -> set[tuple[str, str]]:
        return {(channel, address) for channel, addresses in self.reached.items() for address in addresses}


class Book:
    """Read page by page: each begins where the one before ended."""

    def __init__(self, sandbox: str) -> None:
        """Empties the sandbox's own."""
        self._sandbox = sandbox
        self._seq = 0
        self._before = self._channels(requests.post(f"{sandbox}/_sandbox/reset", json={}, timeout=10))

    def next_page(self) -> Page:
        """What came since the last one."""
        page = Page()
        while items := self._items():
            for item in items:
                page.reached.setdefault(item["channel"], set()).add(item["address"])
                page.first_at = item["time"] if page.first_at is None else min(page.first_at, item["time"])
                page.last_at = item["time"] if page.last_at is None else max(page.last_at, item["time"])
        now = self._channels()
        for channel, counts in now.items():
            before = self._before[channel]
            page.delivered[channel] = counts["delivered"] - before["delivered"]
            page.duplicates += counts["duplicates"] - before["duplicates"]
        self._before = now
        return page

    def _items(self) -> list[dict[str, Any]]:
        query = {"after": str(self._seq), "limit": str(_PAGE)}
        answer = requests.get(f"{self._sandbox}/_sandbox/ledger", params=query, timeout=30)
        answer.raise_for_status()
        found = answer.json()
        self._seq = found["next"]
        items: list[dict[str, Any]] = found["items"]
        return items

    def _channels(self, asked: requests.Response | None = None) -> dict[str, dict[str, int]]:
        if asked is not None:
            asked.raise_for_status()
        answer = requests.get(f"{self._sandbox}/_sandbox/summary", timeout=30)
        answer.raise_for_status()
        channels: dict[str, dict[str, int]] = answer.json()["channels"]
        return channels


def count(view: dict[str, Any], page: Page, began: float) -> dict[str, Any]:
    """One alert (as the API shows it) against its page. ``began``: when it was raised, seconds since the epoch."""
    targeted = {c["channel"]: c["targeted"] for c in view["channels"]}
    return {
        "targeted": view["targeted"],
        "delivered": {name: page.delivered[name] for name in targeted},
        "lost": sum(max(0, n - len(page.reached.get(name, ()))) for name, n in targeted.items()),
        "duplicates": page.duplicates,
        "seconds_to_first": None if page.first_at is None else round(page.first_at - began, 3),
        "seconds_to_all": None if page.last_at is None else round(page.last_at - began, 3),
        "state": view["state"],
    }
