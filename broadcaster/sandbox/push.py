"""A stand-in push service: RFC 8030's push resource, its checks, and storing for browsers that are away.

Simulated browsers are in `browsers`, real ones connect through `push_websocket`. Errors have Mozilla's shape
(https://mozilla-services.github.io/autopush-rs/errors.html): {code, errno, error, message}.
"""

from __future__ import annotations

import asyncio
import os
import re
import time
from typing import Any

from aiohttp import web

from broadcaster.sandbox.browsers import Browser, Screens, Shelf, key_of, text_of
from broadcaster.sandbox.ece import BadEncryption, check_header
from broadcaster.sandbox.faults import Faults
from broadcaster.sandbox.ledger import Entry, Ledger
from broadcaster.sandbox.outbox import Outbox
from broadcaster.sandbox.replies import json_reply
from broadcaster.sandbox.vapid import BadVapid, Verifier

MAX_BODY = 4096
"""RFC 8030 §7.2: a push service must take 4096 octets; this one takes no more."""
MAX_TTL = 30 * 24 * 3600
"""Longest retention; the TTL answered says what is really kept (RFC 8030 §5.2)."""
_TOPIC = re.compile(r"[A-Za-z0-9_-]{1,32}")  # RFC 8030 §5.4
_URGENCIES = frozenset({"very-low", "low", "normal", "high"})  # RFC 8030 §5.3


class Stored:
    """A message that is with the push service and not yet at the browser."""

    __slots__ = ("body", "entry", "expires", "notification", "topic", "version")

    def __init__(self, version: str, body: bytes, topic: str | None, expires: float, entry: Entry) -> None:
        self.version = version
        self.body = body
        self.topic = topic
        self.expires = expires
        self.entry = entry
        self.notification: dict[str, Any] | None = None


class Subscription:
    """A push resource, and the browser behind it: a simulated one, or a real one on the websocket."""

    __slots__ = ("browser", "channel", "gone", "key", "stored", "token", "user_agent")

    def __init__(self, token: str, key: bytes | None) -> None:
        self.token = token
        self.key = key
        self.gone = False
        self.browser: Browser | None = None
        self.user_agent = ""
        self.channel = ""
        self.stored: list[Stored] = []


class Wire:
    """How a message gets to a real browser; `push_websocket` replaces this one, which knows none."""

    def connected(self, _user_agent: str, /) -> bool:
        """Whether that browser is connected now."""
        return False

    async def deliver(self, _subscription: Subscription, _stored: Stored, /) -> None:
        """Sends it; it stays stored until it is acknowledged."""


class PushError(Exception):
    """A refusal: HTTP status, autopush's errno, and why."""

    def __init__(self, status: int, errno: int, why: str) -> None:
        super().__init__(why)
        self.status, self.errno, self.why = status, errno, why


class Push:
    """All subscriptions of the stand-in push service."""

    def __init__(self, ledger: Ledger, faults: Faults, outbox: Outbox, shelf: Shelf) -> None:
        self.origin = ""
        self._ledger = ledger
        self._faults = faults
        self._screens = Screens(ledger, faults, outbox)
        self._verifier = Verifier()
        self._shelf = shelf
        self.subscriptions: dict[str, Subscription] = {}
        self.wire = Wire()

    def start(self, origin: str) -> None:
        """Called once the port is known: endpoints and the VAPID audience are made from `origin`."""
        self.origin = origin
        for token, key, browser in self._shelf.load():
            self._add(token, key, browser)

    def clear(self) -> None:
        """Clears screens and what is stored; subscriptions stay."""
        for subscription in self.subscriptions.values():
            subscription.stored.clear()
            if subscription.browser is not None:
                subscription.browser.on_screen.clear()

    def routes(self) -> list[web.RouteDef]:
        """The push resource, and the one for real endpoints under test keys."""
        return [
            web.post("/push/wpush/v2/{token}", self.push),
            web.post("/push/simulated/{anything:.+}", self.push_simulated),
        ]

    def endpoint(self, token: str) -> str:
        """The push resource's URL."""
        return f"{self.origin}/push/wpush/v2/{token}"

    # -- subscriptions

    async def add_browsers(self, count: int, key: bytes | None, receipts: bool, labels: list[str]) -> list[dict[str, Any]]:
        """Makes `count` simulated browsers; gives their subscriptions as a browser's `toJSON()` does, with a
        label."""
        rows: list[tuple[str, bytes | None, Browser]] = []
        for number in range(count):
            label = labels[number] if number < len(labels) else f"Browser {len(self.subscriptions) + 1}"
            row = (os.urandom(24).hex(), key, Browser.new(label, receipts))
            rows.append(row)
            self._add(*row)
            if number % 200 == 199:
                await asyncio.sleep(0)  # other requests must not wait for 100,000 keys
        self._shelf.save(rows)
        return [
            {"endpoint": self.endpoint(token), "keys": browser.keys(), "label": browser.label} for token, _, browser in rows
        ]

    def _add(self, token: str, key: bytes | None, browser: Browser) -> None:
        subscription = Subscription(token, key)
        subscription.browser = browser
        self.subscriptions[token] = subscription
        self._ledger.name("push", self.endpoint(token), browser.label)

    def find(self, endpoint: str) -> Subscription | None:
        """The subscription of an endpoint URL."""
        return self.subscriptions.get(endpoint.rpartition("/")[2])

    def set_online(self, subscription: Subscription, online: bool) -> None:
        """Takes a simulated browser off the net or back; back, it gets what was stored and has not
        expired."""
        if subscription.browser is None:
            return
        subscription.browser.online = online
        waiting, subscription.stored = (subscription.stored, []) if online else ([], subscription.stored)
        for stored in waiting:
            if stored.expires <= time.time():
                self._ledger.failed(stored.entry, "expired", reached=False)
            else:
                self._show(subscription.browser, stored)

    # -- the push resource

    async def push(self, request: web.Request) -> web.Response:
        """POST of an encrypted message: 201 with Location and TTL."""
        subscription = self.subscriptions.get(request.match_info["token"])
        address = self.endpoint(request.match_info["token"])
        return await self._answer(request, address, subscription)

    async def push_simulated(self, request: web.Request) -> web.Response:
        """POST for an endpoint of the real world, under test keys: everything is checked, nothing can be
        read."""
        return await self._answer(request, f"simulated:{request.match_info['anything']}", None, simulated=True)

    async def _answer(
        self, request: web.Request, address: str, subscription: Subscription | None, simulated: bool = False
    ) -> web.Response:
        try:
            if not simulated:
                _check_subscription(subscription)
            key = None if subscription is None else subscription.key
            self._check_vapid(request, key, simulated)
            body = await request.read()
            ttl, topic = check_request(request, body)
        except PushError as error:
            self._ledger.answered("push", "send", f"{error.status}/{error.errno}")
            self._ledger.rejected("push")
            return refuse(error.status, error.errno, error.why)

        async def take() -> web.Response:
            return await self._take(address, subscription, body, ttl, topic)

        response = await self._faults.answer(request, "push", "send", address, take, refuse)
        self._ledger.answered("push", "send", str(response.status))
        return response

    def _check_vapid(self, request: web.Request, key: bytes | None, simulated: bool) -> None:
        def ours(audience: str) -> bool:
            return audience == self.origin or (simulated and audience.startswith("https://"))

        try:
            self._verifier.check(request.headers.get("Authorization"), ours, key)
        except BadVapid as error:
            raise PushError(error.status, 109, str(error)) from None

    async def _take(
        self, address: str, subscription: Subscription | None, body: bytes, ttl: int, topic: str | None
    ) -> web.Response:
        version = os.urandom(16).hex()
        notification = None
        browser = None if subscription is None else subscription.browser
        if browser is not None:
            notification = browser.open(body)
        key = version if notification is None else key_of(notification)
        text = None if notification is None else text_of(notification)
        entry = self._ledger.take("push", address, key, version, text, reaches=False)
        if subscription is not None:
            stored = Stored(version, body, topic, time.time() + ttl, entry)
            stored.notification = notification
            await self._pass_on(subscription, stored, ttl)
        headers = {"Location": f"{self.origin}/push/m/{version}", "TTL": str(ttl)}
        return web.Response(status=201, headers=headers)

    async def _pass_on(self, subscription: Subscription, stored: Stored, ttl: int) -> None:
        if stored.topic is not None:
            self._supersede(subscription, stored.topic)
        browser = subscription.browser
        if browser is not None and browser.online:
            self._show(browser, stored)
            return
        connected = browser is None and self.wire.connected(subscription.user_agent)
        if ttl == 0 and not connected:
            # RFC 8030 §5.2: TTL 0 is delivered now or never
            self._ledger.failed(stored.entry, "expired", reached=False)
            return
        subscription.stored.append(stored)
        if connected:
            await self.wire.deliver(subscription, stored)

    def _supersede(self, subscription: Subscription, topic: str) -> None:
        """RFC 8030 §5.4: a message replaces the undelivered one with its topic."""
        for old in [stored for stored in subscription.stored if stored.topic == topic]:
            subscription.stored.remove(old)
            old.entry.status = "superseded"

    def _show(self, browser: Browser, stored: Stored) -> None:
        if stored.notification is None:
            self._ledger.failed(stored.entry, "undecryptable", reached=False)
        else:
            self._screens.show(browser, stored.entry, stored.notification)

    def acknowledged(self, subscription: Subscription, version: str, code: int) -> None:
        """A real browser has got a message; 100 and none mean shown to the page, 101 that it could not
        decrypt."""
        for stored in subscription.stored:
            if stored.version == version:
                subscription.stored.remove(stored)
                if code in (0, 100):
                    self._ledger.delivered(stored.entry, "shown", reaches=True)
                else:
                    self._ledger.failed(stored.entry, "undecryptable", reached=False)
                return


def _check_subscription(subscription: Subscription | None) -> None:
    if subscription is None:
        raise PushError(404, 102, "no such subscription")
    if subscription.gone:
        raise PushError(410, 106, "the subscription has ended")


def check_request(request: web.Request, body: bytes) -> tuple[int, str | None]:
    """Checks headers and the visible part of the body; gives (ttl in seconds, topic)."""
    headers = request.headers
    raw_ttl = headers.get("TTL")
    if raw_ttl is None:
        raise PushError(400, 111, "TTL is required")
    if not raw_ttl.isascii() or not raw_ttl.isdigit() or len(raw_ttl) > 10:
        raise PushError(400, 112, "TTL must be a whole number of seconds")
    if headers.get("Urgency", "normal") not in _URGENCIES:
        raise PushError(400, 110, "Urgency must be very-low, low, normal or high")
    topic = headers.get("Topic")
    if topic is not None and not _TOPIC.fullmatch(topic):
        raise PushError(400, 113, "Topic must be 1 to 32 URL-safe base64 characters")
    if len(body) > MAX_BODY:
        raise PushError(413, 104, "at most 4096 octets")
    if headers.get("Content-Encoding") != "aes128gcm":
        raise PushError(415, 110, "Content-Encoding must be aes128gcm")
    try:
        check_header(body)
    except BadEncryption as error:
        raise PushError(400, 110, str(error)) from None
    return min(int(raw_ttl), MAX_TTL), topic


_WORDS = {400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found", 410: "Gone"}


def refuse(status: int, errno: int = 999, why: str = "fault") -> web.Response:
    """An error in Mozilla's shape."""
    headers = {"WWW-Authenticate": "vapid"} if status == 401 else None
    word = _WORDS.get(status, "Error")
    return json_reply({"code": status, "errno": errno, "error": word, "message": why}, status=status, headers=headers)
