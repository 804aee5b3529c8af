"""Mozilla's push protocol for browsers, so that a real Firefox subscribes here.

https://mozilla-push-service.readthedocs.io/en/latest/design/ (autoconnect): JSON messages over a websocket
with the subprotocol `push-notification`: hello, register, unregister, notification, ack, and `{}` as ping.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
import uuid
from typing import Any

from aiohttp import WSMsgType, web

from broadcaster.sandbox.ledger import Ledger
from broadcaster.sandbox.push import Push, Stored, Subscription, Wire
from broadcaster.sandbox.vapid import b64decode, b64encode


class Sockets(Wire):
    """The real browsers that are connected, by user agent id."""

    def __init__(self, push: Push, ledger: Ledger) -> None:
        self._push = push
        self._ledger = ledger
        self._sockets: dict[str, web.WebSocketResponse] = {}

    def routes(self) -> list[web.RouteDef]:
        """The websocket, at `/push/`."""
        return [web.get("/push/", self.connect, allow_head=False)]

    def connected(self, user_agent: str, /) -> bool:
        """Whether that browser is connected now."""
        socket = self._sockets.get(user_agent)
        return socket is not None and not socket.closed

    async def deliver(self, subscription: Subscription, stored: Stored, /) -> None:
        """Sends a notification; it stays stored until the browser acknowledges it."""
        message = {
            "messageType": "notification",
            "channelID": subscription.channel,
            "version": stored.version,
            "data": b64encode(stored.body),
            "headers": {"encoding": "aes128gcm"},
        }
        await _send(self._sockets[subscription.user_agent], message)

    async def connect(self, request: web.Request) -> web.StreamResponse:
        """One browser's connection, until it ends."""
        socket = web.WebSocketResponse(protocols=("push-notification",))
        if not socket.can_prepare(request).ok:
            return web.Response(status=426, text="a websocket for browsers", headers={"Upgrade": "websocket"})
        await socket.prepare(request)
        user_agent = ""
        async for frame in socket:
            if frame.type != WSMsgType.TEXT:
                continue
            try:
                message = json.loads(frame.data)
            except ValueError:
                break
            if message.get("messageType") == "hello":
                user_agent = await self._hello(socket, message)
            elif user_agent or not message:
                await self._handle(socket, user_agent, message)
            else:
                break  # nothing but hello and ping before hello
        if self._sockets.get(user_agent) is socket:
            del self._sockets[user_agent]
        await socket.close()
        return socket

    async def close(self) -> None:
        """Ends all connections."""
        for socket in list(self._sockets.values()):
            await socket.close(code=1001)

    def _of(self, user_agent: str) -> list[Subscription]:
        return [s for s in self._push.subscriptions.values() if s.browser is None and s.user_agent == user_agent]

    async def _hello(self, socket: web.WebSocketResponse, message: dict[str, Any]) -> str:
        given = str(message.get("uaid") or "")
        user_agent = given if given and self._of(given) else uuid.uuid4().hex
        self._sockets[user_agent] = socket
        hello = {
            "messageType": "hello",
            "status": 200,
            "uaid": user_agent,
            "use_webpush": True,
            "broadcasts": {},
        }
        await _send(socket, hello)
        for subscription in self._of(user_agent):
            for stored in list(subscription.stored):
                if stored.expires <= time.time():
                    subscription.stored.remove(stored)
                    self._ledger.failed(stored.entry, "expired", reached=False)
                else:
                    await self.deliver(subscription, stored)
        return user_agent

    async def _handle(self, socket: web.WebSocketResponse, user_agent: str, message: dict[str, Any]) -> None:
        kind = message.get("messageType")
        if kind == "register":
            await self._register(socket, user_agent, message)
        elif kind == "unregister":
            for subscription in self._of(user_agent):
                if subscription.channel == message.get("channelID"):
                    subscription.gone = True
                    subscription.stored.clear()
            await _send(socket, {"messageType": "unregister", "status": 200, "channelID": message.get("channelID")})
        elif kind == "ack":
            for update in message.get("updates", []):
                for subscription in self._of(user_agent):
                    if subscription.channel == update.get("channelID"):
                        self._push.acknowledged(subscription, str(update.get("version")), int(update.get("code", 0)))
        elif not message or kind == "ping":
            await socket.send_str("{}")

    async def _register(self, socket: web.WebSocketResponse, user_agent: str, message: dict[str, Any]) -> None:
        try:
            raw = str(message.get("key") or "").rstrip("=")
            key = b64decode(raw) if raw else None
        except ValueError:
            await _send(socket, {"messageType": "register", "status": 400, "channelID": message.get("channelID")})
            return
        subscription = Subscription(os.urandom(24).hex(), key)
        subscription.user_agent, subscription.channel = user_agent, str(message.get("channelID"))
        self._push.subscriptions[subscription.token] = subscription
        endpoint = self._push.endpoint(subscription.token)
        self._ledger.name("push", endpoint, "Real browser")
        answer = {"messageType": "register", "status": 200, "channelID": subscription.channel}
        await _send(socket, {**answer, "pushEndpoint": endpoint})


async def _send(socket: web.WebSocketResponse, message: dict[str, Any]) -> None:
    with contextlib.suppress(ConnectionError):  # the browser is gone; what it did not acknowledge stays stored
        await socket.send_str(json.dumps(message))
