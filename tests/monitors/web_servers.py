"""HTTP stand-ins of tests: an aiohttp server on a free port of loopback."""

import ssl
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from aiohttp import web


@asynccontextmanager
async def web_server(routes: Iterable[web.RouteDef], context: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """The server's origin: "http://127.0.0.1:1234", or https on localhost."""
    app = web.Application()
    app.add_routes(routes)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
        await site.start()
        port = runner.addresses[0][1]
        yield f"https://localhost:{port}" if context else f"http://127.0.0.1:{port}"
    finally:
        await runner.cleanup()
