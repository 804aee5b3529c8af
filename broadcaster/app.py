"""The ASGI application: routes put together, nothing else. ``uvicorn broadcaster.app:create --factory``."""

import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from broadcaster import __version__
from broadcaster.api import (
    alerts,
    groups,
    heartbeats,
    incidents,
    maintenance,
    monitors,
    problems,
    readings,
    receipts,
    recipients,
    rules,
    signals,
    sources,
    subscriptions,
    system,
)
from broadcaster.api.limits import BodyLimit
from broadcaster.console import pages as console
from broadcaster.pwa import pages as pwa
from broadcaster.settings import Settings
from broadcaster.wiring import Wiring, configure_log

API_PATIENCE = 5.0  # s for SQLite's write lock; then 503, and the caller tries again

DESCRIPTION = """Raise an alert when email is down; it reaches people by SMS, Slack and web push.

Errors are problem documents (RFC 9457) with a stable `type`. Times are UTC (RFC 3339). Lists have cursors."""


def create(settings: Settings | None = None, wiring: Wiring | None = None) -> FastAPI:
    """The application, wired from ``settings`` (else from the environment), or on ``wiring``."""
    wiring = wiring or Wiring(settings or Settings(), patience=API_PATIENCE)
    configure_log(wiring.settings)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        gc.collect()
        gc.freeze()  # what is there now stays: no collection needs to look through it
        yield
        wiring.wake_ups.close()
        wiring.database.close()

    app = FastAPI(
        title="Alert broadcaster",
        version=__version__,
        description=DESCRIPTION,
        lifespan=lifespan,
        openapi_url="/api/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
        telemetry={"tracing": False, "metrics": False, "logs": False},  # else every request is asked whether it is wanted
    )
    app.state.wiring = wiring
    problems.install(app)
    app.add_middleware(BodyLimit)
    app.add_middleware(receipts.ReceiptLane, wiring=wiring)
    watching = (monitors, readings, maintenance, incidents, heartbeats, signals, sources, rules)
    for module in (alerts, recipients, groups, subscriptions, receipts, *watching):
        app.include_router(module.router, prefix="/api/v1")
    for pages in (console, pwa):
        app.include_router(pages.router)
        pages.mount_static(app)
    app.include_router(signals.pagerduty)
    app.include_router(system.router)
    return app
