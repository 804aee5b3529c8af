"""What the providers took, who it reached, and what was refused: the sandbox's one book.

The book answers the product's first two promises from the outside: nothing lost, nothing twice. It knows no
provider. A *key* says what makes two takes "the same message" at one address; a message that finally fails
gives its key back, because sending it again by another route is then right.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

CHANNELS = ("sms", "slack", "push")
TILE_ENTRIES = 20
"""Messages kept per address for the wall."""


class Tile:
    """One address, known or seen: a phone, a Slack id, a browser."""

    __slots__ = (
        "address",
        "channel",
        "delivered",
        "duplicates",
        "entries",
        "failed",
        "index",
        "name",
        "taken",
    )

    def __init__(self, index: int, channel: str, address: str) -> None:
        self.index = index
        self.channel = channel
        self.address = address
        self.name = ""
        self.taken = 0
        self.delivered = 0
        self.duplicates = 0
        self.failed = 0
        self.entries: tuple[Entry, ...] = ()  # mostly one: a tuple is half a list


class Entry:
    """One message that a provider took. `status` is the provider's own word."""

    __slots__ = ("key", "provider_id", "seq", "status", "text", "tile", "time")

    def __init__(self, seq: int, at: float, tile: Tile, key: str, provider_id: str, text: str | None) -> None:
        self.seq = seq
        self.time = at
        self.tile = tile
        self.key = key
        self.provider_id = provider_id
        self.text = text
        self.status = "taken"

    def as_json(self) -> dict[str, Any]:
        """The item of `GET /_sandbox/ledger`; time in unix seconds."""
        item: dict[str, Any] = {
            "seq": self.seq,
            "time": self.time,
            "channel": self.tile.channel,
            "address": self.tile.address,
            "key": self.key,
            "provider_id": self.provider_id,
            "text": self.text,
            "status": self.status,
        }
        if self.tile.channel == "push":
            item["shown"] = self.status in ("shown", "replaced")
            item["replaced"] = self.status == "replaced"
        return item


class Totals:
    """Counts of one channel."""

    __slots__ = ("delivered", "duplicates", "failed", "people", "rejected", "replaced", "taken")

    def __init__(self) -> None:
        self.taken = self.people = self.duplicates = self.delivered = 0
        self.failed = self.rejected = self.replaced = 0

    def as_json(self) -> dict[str, int]:
        """The channel's part of `GET /_sandbox/summary`."""
        return {name: getattr(self, name) for name in self.__slots__}


class Ledger:
    """The book. Not thread-safe: it lives on the sandbox's one event loop."""

    def __init__(self, clock: Callable[[], float] = time.time, limit: int = 2_000_000) -> None:
        self._clock = clock
        self._limit = limit
        self.listeners: set[Callable[[Tile], None]] = set()
        self.requests: Counter[tuple[str, str, str]] = Counter()
        self._tiles: dict[str, dict[str, Tile]] = {}
        self.tiles: list[Tile] = []
        self.generation = 0
        self.clear()

    def clear(self) -> None:
        """Forgets every message and count, and the addresses nobody announced."""
        self.generation += 1
        self._entries: list[Entry] = []
        self._first_seq = 1
        self._reached: dict[int, int] = {}
        self.totals = {channel: Totals() for channel in CHANNELS}
        self.first_at: float | None = None
        self.last_at: float | None = None
        self.requests.clear()
        kept = [tile for tile in self.tiles if tile.name]
        self.tiles, self._tiles = [], {channel: {} for channel in CHANNELS}
        for old in kept:
            self.tile(old.channel, old.address).name = old.name

    def tile(self, channel: str, address: str) -> Tile:
        """The address's tile, made when it is new."""
        found = self._tiles[channel].get(address)
        if found is None:
            found = Tile(len(self.tiles), channel, address)
            self._tiles[channel][address] = found
            self.tiles.append(found)
            self._tell(found)
        return found

    def find_tile(self, channel: str, address: str) -> Tile | None:
        """The address's tile, if it has one."""
        return self._tiles.get(channel, {}).get(address)

    def name(self, channel: str, address: str, name: str) -> None:
        """Announces an address, so that the wall shows it before anything arrives."""
        tile = self.tile(channel, address)
        tile.name = name
        self._tell(tile)

    def take(self, channel: str, address: str, key: str, provider_id: str, text: str | None, reaches: bool = True) -> Entry:
        """Books a message taken by a provider. `reaches` is False while it is open whether anybody sees
        it."""
        now = self._clock()
        tile = self.tile(channel, address)
        entry = Entry(self._first_seq + len(self._entries), now, tile, key, provider_id, text)
        self._entries.append(entry)
        if len(self._entries) > self._limit:
            self._drop(self._limit // 10)
        totals = self.totals[channel]
        totals.taken += 1
        if not tile.taken:
            totals.people += 1
        tile.taken += 1
        tile.entries = (*tile.entries[1 - TILE_ENTRIES :], entry)
        if self.first_at is None:
            self.first_at = now
        self.last_at = now
        if reaches:
            self._reach(entry)
        self._tell(tile)
        return entry

    def _drop(self, count: int) -> None:
        del self._entries[:count]
        self._first_seq += count

    def _reach(self, entry: Entry) -> None:
        # A 64-bit hash in place of (address, key) keeps two million of them in some 200 MB; a false match
        # among that many has odds of about one in ten million.
        mark = hash((entry.tile.address, entry.key))
        before = self._reached.get(mark, 0)
        self._reached[mark] = before + 1
        if before:
            self.totals[entry.tile.channel].duplicates += 1
            entry.tile.duplicates += 1

    def delivered(self, entry: Entry, status: str, reaches: bool = False) -> None:
        """The message is on the phone or screen. `reaches` books it as seen now, when `take` left that
        open."""
        entry.status = status
        entry.tile.delivered += 1
        self.totals[entry.tile.channel].delivered += 1
        if reaches:
            self._reach(entry)
        self._tell(entry.tile)

    def replaced(self, entry: Entry) -> None:
        """The message silently took the place of one on the same screen."""
        self.totals[entry.tile.channel].replaced += 1
        self.delivered(entry, "replaced")

    def failed(self, entry: Entry, status: str, reached: bool = True) -> None:
        """The message will reach nobody. `reached`: it was booked as reaching somebody, which is taken
        back."""
        entry.status = status
        entry.tile.failed += 1
        self.totals[entry.tile.channel].failed += 1
        if reached:
            mark = hash((entry.tile.address, entry.key))
            count = self._reached.get(mark, 1)
            self._reached[mark] = count - 1
            if count > 1:
                self.totals[entry.tile.channel].duplicates -= 1
                entry.tile.duplicates -= 1
        self._tell(entry.tile)

    def rejected(self, channel: str) -> None:
        """A send was refused: nobody gets it."""
        self.totals[channel].rejected += 1

    def answered(self, provider: str, operation: str, answer: str) -> None:
        """Counts an answer of a provider, for `GET /_sandbox/requests`."""
        self.requests[provider, operation, answer] += 1

    def _tell(self, tile: Tile) -> None:
        for listener in self.listeners:
            listener(tile)

    def after(self, seq: int, channel: str | None, limit: int) -> tuple[list[Entry], int]:
        """Up to `limit` entries later than `seq`, oldest first, and the sequence number to go on from."""
        start = max(0, seq + 1 - self._first_seq)
        found: list[Entry] = []
        reached = seq
        for position in range(start, len(self._entries)):
            entry = self._entries[position]
            reached = entry.seq
            if channel is None or entry.tile.channel == channel:
                found.append(entry)
                if len(found) == limit:
                    break
        return found, reached

    def latest(self, count: int) -> Iterator[Entry]:
        """The newest `count` entries, newest first."""
        return reversed(self._entries[-count:])

    def summary(self) -> dict[str, Any]:
        """The body of `GET /_sandbox/summary`."""
        return {
            "channels": {channel: totals.as_json() for channel, totals in self.totals.items()},
            "first_at": self.first_at,
            "last_at": self.last_at,
            "known": len(self.tiles),
        }
