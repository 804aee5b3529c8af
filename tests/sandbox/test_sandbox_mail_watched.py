"""The real monitor against the mail system: every fault has its code, on both event loops, and nothing is left behind."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
import uvloop

from broadcaster.domain.monitor import Circumstances, Reading, Verdict
from broadcaster.monitors.fields import Security
from broadcaster.monitors.mail_round_trip import Config, MailRoundTrip
from broadcaster.sandbox.server import SandboxConfig
from tests.sandbox.sandbox_world import World, a_world


def config(told: dict[str, Any]) -> Config:
    """As `GET /_sandbox/mail` tells it."""
    return Config(
        smtp_host=told["smtp"]["host"], smtp_port=told["smtp"]["port"], sender=told["address"], recipient=told["address"],
        imap_host=told["imap"]["host"], imap_port=told["imap"]["port"], imap_security=Security.STARTTLS,
        username=told["user"], password=told["password"], ca_certificates=told["certificate"],
        deliver_within=1, degraded_after=1,
    )  # fmt: skip


async def look(world: World) -> Reading:
    now = time.time()
    found = config(await world.ask("mail"))
    return await MailRoundTrip().look(found, Circumstances(due=now, now=now, timeout=5.0, since=now))


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize(
    ("fault", "code", "side", "left"),
    [
        ({"kind": "lost"}, "accepted_not_delivered", "mailbox", 0),
        ({"kind": "stuck"}, "accepted_not_delivered", "mailbox", 1),  # it came late: another vantage may wait for it
        ({"kind": "auth"}, "auth_refused", "submission", 0),
        ({"kind": "auth", "operation": "lookup"}, "auth_refused", "mailbox", 1),
        ({"kind": "down"}, "submission_unreachable", "submission", 0),
        ({"kind": "down", "operation": "lookup"}, "mailbox_unreachable", "mailbox", 1),
    ],
)
def test_each_fault_is_noticed_as_what_it_is_and_so_is_its_end(
    fault: dict[str, Any], code: str, side: str, left: int, loop: str
) -> None:
    async def main() -> None:
        async with a_world(SandboxConfig()) as world:
            assert (await look(world)).verdict is Verdict.OK
            await world.fault(provider="mail", **fault)
            reading = await look(world)
            assert (reading.verdict, reading.code, reading.detail["side"]) == (Verdict.FAILED, code, side)
            async with world.http.delete(f"{world.origin}/_sandbox/faults") as answer:
                assert answer.status == 200
            assert (await look(world)).verdict is Verdict.OK
            assert (await world.ask("mail"))["mailboxes"]["probe"] == left

    with asyncio.Runner(loop_factory=uvloop.new_event_loop if loop == "uvloop" else None) as runner:
        runner.run(main())
