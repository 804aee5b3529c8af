"""Starts and stops the sandbox: one process, one port for all providers, and two of the mail system's own.

| path | what |
|---|---|
| `/` | the wall |
| `/twilio/2010-04-01/…` | Twilio |
| `/notify/v2/notifications…` | GOV.UK Notify |
| `/slack/api/{method}` | Slack |
| `/push/` | push service: websocket for browsers, `/push/wpush/v2/{token}` for senders |
| `/_sandbox/…` | control and ledger |

The mail system's ports (SMTP submission, IMAP) are told by `/_sandbox/mail`.
"""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
from dataclasses import dataclass

from aiohttp import web

from broadcaster.sandbox.browsers import Shelf
from broadcaster.sandbox.control import Control, bad_input
from broadcaster.sandbox.faults import Faults
from broadcaster.sandbox.ledger import Ledger
from broadcaster.sandbox.mail import Mail
from broadcaster.sandbox.notify import Notify
from broadcaster.sandbox.outbox import Outbox
from broadcaster.sandbox.push import Push
from broadcaster.sandbox.push_websocket import Sockets
from broadcaster.sandbox.settings import SandboxConfig, Settings
from broadcaster.sandbox.slack import Slack
from broadcaster.sandbox.twilio import Twilio
from broadcaster.sandbox.wall import Wall

__all__ = ["Sandbox", "SandboxConfig", "run", "start"]

MAX_REQUEST = 64 * 1024 * 1024
"""Octets. Announcing a million people is one request; providers' own limits are checked by each of them."""


@dataclass(slots=True)
class Sandbox:
    """A running sandbox. `origin` is where clients find it, without a slash at the end."""

    origin: str
    _runner: web.AppRunner
    _outbox: Outbox
    _sockets: Sockets
    _wall: Wall
    _mail: Mail

    async def stop(self) -> None:
        """Stops listening and drops what was under way."""
        await self._mail.stop()
        await self._wall.close()
        await self._sockets.close()
        await self._runner.cleanup()
        await self._outbox.stop()


async def start(config: SandboxConfig) -> Sandbox:
    """Starts a sandbox on the running loop; OSError when a port is taken."""
    settings = Settings(sms_rate=config.sms_rate, notify_callback_url=config.notify_callback_url)
    ledger = Ledger()
    faults = Faults(config.seed)
    outbox = Outbox(config.callback_hosts)
    twilio = Twilio(config, settings, ledger, faults, outbox)
    notify = Notify(settings, ledger, faults, outbox, config.seed)
    slack = Slack(config, settings, ledger, faults)
    push = Push(ledger, faults, outbox, Shelf(config.state_path))
    sockets = Sockets(push, ledger)
    push.wire = sockets
    wall = Wall(ledger)
    mail = Mail(config.host, config.smtp_port, config.imap_port, faults)
    control = Control(settings, ledger, faults, outbox, twilio, notify, slack, push, mail)
    app = web.Application(client_max_size=MAX_REQUEST)
    for part in (twilio, notify, slack, push, sockets, wall):
        app.add_routes(part.routes())
    inner = web.Application(client_max_size=MAX_REQUEST, middlewares=[bad_input])
    inner.add_routes([*control.routes(), *wall.stream_routes()])
    app.add_subapp("/_sandbox", inner)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    try:
        site = web.TCPSite(runner, config.host, config.port)
        await site.start()
        await mail.start()
    except OSError:
        await runner.cleanup()
        raise
    origin = config.public_origin or f"http://{_for_url(config.host)}:{runner.addresses[0][1]}"
    push.start(origin)
    await outbox.start()
    return Sandbox(origin, runner, outbox, sockets, wall, mail)


def _for_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def run(config: SandboxConfig) -> None:
    """Runs a sandbox in this process until SIGTERM or SIGINT. Prints one line once it listens."""
    # The ledger holds millions of objects without cycles: a full collection would look at all of them, stop
    # every provider for seconds, and free nothing. Young garbage is still collected.
    gc.set_threshold(50_000, 20, 1_000_000)
    if sys.platform == "win32":
        asyncio.run(_serve(config))
    else:
        import uvloop

        uvloop.run(_serve(config))


async def _serve(config: SandboxConfig) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    if sys.platform != "win32":
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
    sandbox = await start(config)
    sys.stdout.write(f"sandbox listening on {sandbox.origin}\n")
    sys.stdout.flush()
    await stop.wait()
    await sandbox.stop()
