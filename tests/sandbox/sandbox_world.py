"""A running sandbox, a receiver for what it calls back, and the official SDKs pointed at it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

import aiohttp
from aiohttp import web
from slack_sdk.web.async_client import AsyncWebClient
from twilio.http import AsyncHttpClient  # type: ignore[import-untyped]
from twilio.http.response import Response  # type: ignore[import-untyped]
from twilio.rest import Client  # type: ignore[import-untyped]

from broadcaster.sandbox import credentials
from broadcaster.sandbox.server import Sandbox, SandboxConfig, start

PATIENCE = 5.0
"""Seconds until a wait counts as a failure."""


class SandboxHttp(AsyncHttpClient):  # type: ignore[misc]
    """The SDK's transport seam: the same request, to the sandbox's host."""

    def __init__(self, session: aiohttp.ClientSession, base: str) -> None:
        super().__init__(logging.getLogger("twilio"), True, PATIENCE)
        self._http, self._base = session, base

    async def request(
        self,
        method: str,
        url: str,
        params: Any = None,
        data: Any = None,
        headers: Any = None,
        auth: Any = None,
        timeout: float | None = None,
        allow_redirects: bool = False,
    ) -> Response:
        path = url.split("/", 3)[3]
        headers = dict(headers or {})
        if auth:
            headers["Authorization"] = aiohttp.encode_basic_auth(*auth)
        async with self._http.request(method, f"{self._base}/{path}", params=params, data=data, headers=headers) as r:
            return Response(r.status, await r.text(), r.headers)

    async def close(self) -> None: ...


@dataclass
class World:
    """What one test plays with."""

    sandbox: Sandbox
    http: aiohttp.ClientSession
    callbacks: asyncio.Queue[tuple[str, dict[str, str], dict[str, str]]]
    callback_origin: str

    @property
    def origin(self) -> str:
        return self.sandbox.origin

    def twilio(self, token: str = credentials.AUTH_TOKEN) -> Client:
        http = SandboxHttp(self.http, self.origin + "/twilio")
        return Client(credentials.ACCOUNT_SID, token, http_client=http)

    def slack(self, token: str | None = credentials.SLACK_TOKEN) -> AsyncWebClient:
        return AsyncWebClient(token, base_url=self.origin + "/slack/api/", session=self.http, retry_handlers=[])

    async def tell(self, path: str, body: dict[str, Any], status: int | None = None) -> Any:
        async with self.http.post(f"{self.origin}/_sandbox/{path}", json=body) as r:
            assert status is None or r.status == status, await r.text()
            return await r.json(content_type=None)

    async def ask(self, path: str, status: int = 200) -> Any:
        async with self.http.get(f"{self.origin}/_sandbox/{path}") as r:
            assert r.status == status
            return await r.json(content_type=None)

    async def fault(self, **fields: Any) -> Any:
        return await self.tell("faults", fields, 201)

    async def counts(self, channel: str) -> dict[str, int]:
        found: dict[str, int] = (await self.ask("summary"))["channels"][channel]
        return found

    async def callback(self) -> tuple[str, dict[str, str], dict[str, str]]:
        """The next callback: (URL, fields, headers)."""
        return await asyncio.wait_for(self.callbacks.get(), PATIENCE)


@contextlib.asynccontextmanager
async def a_world(config: SandboxConfig) -> AsyncIterator[World]:
    received: asyncio.Queue[tuple[str, dict[str, str], dict[str, str]]] = asyncio.Queue()

    async def receive(request: web.Request) -> web.Response:
        raw = await request.read()
        is_json = request.content_type == "application/json"
        fields = json.loads(raw) if is_json else dict(parse_qsl(raw.decode(), keep_blank_values=True))
        received.put_nowait((str(request.url), fields, dict(request.headers)))
        return web.Response(status=204)

    app = web.Application()
    app.router.add_post("/{tail:.*}", receive)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    sandbox = await start(config)
    try:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=PATIENCE)) as http:
            yield World(sandbox, http, received, f"http://127.0.0.1:{runner.addresses[0][1]}")
    finally:
        await sandbox.stop()
        await runner.cleanup()


def play(scene: Callable[[World], Awaitable[None]], **config: Any) -> None:
    """Runs a scene, an async function of a `World`, against a fresh sandbox."""

    async def main() -> None:
        async with a_world(SandboxConfig(**config)) as world:
            await scene(world)

    asyncio.run(main())
