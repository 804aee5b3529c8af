"""The wall: a page of phones, Slack users and browsers that light up as messages arrive.

The page works without JavaScript as a plain table that reloads itself; with it, tiles are fed by server-sent
events (https://html.spec.whatwg.org/multipage/server-sent-events.html), in batches so that a broadcast at
thousands a second costs five small messages a second.
"""

from __future__ import annotations

import asyncio
import json
import os
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any

from aiohttp import web

from broadcaster.sandbox.ledger import Entry, Ledger, Tile

MOST_TILES = 3000
"""Tiles shown; beyond that addresses are only counted. A browser stays smooth at this number."""
LATEST = 20
_BEAT = 0.2
"""Seconds between two batches."""
_CHANNEL_NAMES = {"sms": "SMS", "slack": "Slack", "push": "Browser"}
_STATIC = Path(__file__).parent / "static"
_FILES = {"wall.css": "text/css", "wall.js": "text/javascript"}
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src data:"
    ),
    "X-Content-Type-Options": "nosniff",
}


class Wall:
    """The page and its stream."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._boot = os.urandom(4).hex()
        self._streams: set[asyncio.Task[Any]] = set()

    def routes(self) -> list[web.RouteDef]:
        """`/` and its files."""
        return [web.get("/", self.page), web.get("/wall/{name}", self.file)]

    def stream_routes(self) -> list[web.RouteDef]:
        """Relative to `/_sandbox`."""
        return [web.get("/stream", self.stream, allow_head=False)]

    async def page(self, _request: web.Request) -> web.Response:
        """The page, with the latest messages already in its table."""
        summary = self._ledger.summary()["channels"]
        html = (_STATIC / "wall.html").read_text()
        rows = "".join(_row_html(entry) for entry in self._ledger.latest(LATEST))
        html = html.replace("<!--rows-->", rows or '<tr><td colspan="5">No message yet.</td></tr>')
        for channel, counts in summary.items():
            for name in ("taken", "delivered", "duplicates"):
                html = html.replace(f"{{{channel}.{name}}}", f"{counts[name]:,}")
        # A data block, not a script (the policy forbids those): "<" is escaped so that no text can end it.
        html = html.replace("<!--state-->", self._state(self._ledger.tiles[:MOST_TILES]).replace("<", "\\u003c"))
        return web.Response(text=html, content_type="text/html", headers=_HEADERS)

    async def file(self, request: web.Request) -> web.Response:
        """The page's style and script."""
        name = request.match_info["name"]
        if name not in _FILES:
            return web.Response(status=404)
        return web.Response(text=(_STATIC / name).read_text(), content_type=_FILES[name], headers=_HEADERS)

    async def stream(self, request: web.Request) -> web.StreamResponse:
        """Server-sent events: first `all` (every tile), then `some` (what changed), five times a second at
        most."""
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
        await response.prepare(request)
        task = asyncio.current_task()
        assert task is not None  # a handler always runs in a task
        self._streams.add(task)
        changed: set[int] = set()

        def listener(tile: Tile) -> None:
            changed.add(tile.index)

        self._ledger.listeners.add(listener)
        try:
            await self._feed(response, changed)
        except (ConnectionError, asyncio.CancelledError):
            pass  # the page was closed, or the sandbox stops
        finally:
            self._ledger.listeners.discard(listener)
            self._streams.discard(task)
        return response

    async def close(self) -> None:
        """Ends every stream, so that the server can stop at once."""
        for task in list(self._streams):
            task.cancel()

    async def _feed(self, response: web.StreamResponse, changed: set[int]) -> None:
        generation, idle = -1, 0
        while True:
            if generation != self._ledger.generation:
                generation = self._ledger.generation
                changed.clear()
                await self._send(response, "all", self._ledger.tiles[:MOST_TILES])
            elif changed:
                tiles = [self._ledger.tiles[index] for index in sorted(changed) if index < MOST_TILES]
                changed.clear()
                await self._send(response, "some", tiles)
                idle = 0
            elif (idle := idle + 1) % 50 == 0:
                await response.write(b": still here\n\n")  # finds out that the page was closed
            await asyncio.sleep(_BEAT)

    async def _send(self, response: web.StreamResponse, event: str, tiles: list[Tile]) -> None:
        await response.write(f"event: {event}\ndata: {self._state(tiles)}\n\n".encode())

    def _state(self, tiles: list[Tile]) -> str:
        """JSON: the counts, some tiles, the latest messages. Another `book` means: forget what you show."""
        body = {
            "book": f"{self._boot}.{self._ledger.generation}",
            "summary": self._ledger.summary(),
            "tiles": [_tile_json(tile) for tile in tiles],
            "latest": [_entry_json(entry) for entry in self._ledger.latest(LATEST)],
        }
        return json.dumps(body, separators=(",", ":"))


def _tile_json(tile: Tile) -> list[Any]:
    """[index, channel, address, name, taken, delivered, duplicates, failed]."""
    counts = [tile.taken, tile.delivered, tile.duplicates, tile.failed]
    return [tile.index, tile.channel, tile.address, tile.name, *counts]


def _entry_json(entry: Entry) -> dict[str, Any]:
    return {
        "time": entry.time,
        "channel": entry.tile.channel,
        "who": who(entry.tile),
        "text": entry.text,
        "status": entry.status,
        "seq": entry.seq,
        "tile": entry.tile.index,
    }


def who(tile: Tile) -> str:
    """What to call an address: its name, else the address, shortened when it is a URL."""
    return tile.name or ("…" + tile.address[-12:] if len(tile.address) > 24 else tile.address)


def _row_html(entry: Entry) -> str:
    at = datetime.fromtimestamp(entry.time, UTC).strftime("%H:%M:%S")
    channel = entry.tile.channel
    text = escape(entry.text or "(encrypted)").replace("\n", "<br>")
    return (
        f"<tr><td>{at}</td><td>{_CHANNEL_NAMES[channel]}</td><td>{escape(who(entry.tile))}</td>"
        f'<td><span class="bubble {channel}">{text}</span></td><td>{escape(entry.status)}</td></tr>'
    )
