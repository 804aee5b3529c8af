"""The real monitor against both mail systems, ours and the real one: every fault has its code, and nothing is left."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import uvloop

from broadcaster.domain.monitor import Circumstances, Reading, Verdict
from broadcaster.monitors.fields import Security
from broadcaster.monitors.mail_round_trip import Config, MailRoundTrip
from broadcaster.sandbox import postfix
from broadcaster.sandbox.server import SandboxConfig
from tests.conftest import skip_loudly
from tests.sandbox.sandbox_world import World, a_world


async def look(told: dict[str, Any]) -> Reading:
    """As `GET /_sandbox/mail` tells how."""
    config = Config(
        smtp_host=told["smtp"]["host"], smtp_port=told["smtp"]["port"], sender=told["address"], recipient=told["address"],
        imap_host=told["imap"]["host"], imap_port=told["imap"]["port"], imap_security=Security.STARTTLS,
        username=told["user"], password=told["password"], ca_certificates=told["certificate"],
        deliver_within=1, degraded_after=1,
    )  # fmt: skip
    now = time.time()
    return await MailRoundTrip().look(config, Circumstances(due=now, now=now, timeout=5.0, since=now))


async def mend(world: World) -> None:
    async with world.http.delete(f"{world.origin}/_sandbox/faults") as answer:
        assert answer.status == 200


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize(
    ("fault", "code", "side", "left"),
    [
        ({"kind": "lost"}, "accepted_not_delivered", None, 0),
        ({"kind": "stuck"}, "accepted_not_delivered", None, 1),  # it came late: another vantage may wait for it
        ({"kind": "auth"}, "auth_refused", "submission", 0),
        ({"kind": "auth", "operation": "lookup"}, "auth_refused", "mailbox", 1),
        ({"kind": "down"}, "submission_unreachable", "submission", 0),
        ({"kind": "down", "operation": "lookup"}, "mailbox_unreachable", "mailbox", 1),
    ],
)
def test_each_fault_is_noticed_as_what_it_is_and_so_is_its_end(
    fault: dict[str, Any], code: str, side: str | None, left: int, loop: str
) -> None:
    async def main() -> None:
        async with a_world(SandboxConfig()) as world:
            assert (await look(await world.ask("mail"))).verdict is Verdict.OK
            await world.fault(provider="mail", **fault)
            reading = await look(await world.ask("mail"))
            assert (reading.verdict, reading.code, reading.detail.get("side")) == (Verdict.FAILED, code, side)
            await mend(world)
            assert (await look(await world.ask("mail"))).verdict is Verdict.OK
            assert (await world.ask("mail"))["mailboxes"]["probe"] == left

    with asyncio.Runner(loop_factory=uvloop.new_event_loop if loop == "uvloop" else None) as runner:
        runner.run(main())


@pytest.fixture(scope="module")
def real() -> Iterator[postfix.PostfixMail]:
    made = installed()
    made.start()
    yield made
    made.stop()
    assert leftovers(made.folder) == []
    assert not made.folder.exists()


def installed() -> postfix.PostfixMail:
    why = postfix.missing()
    if why is not None:
        skip_loudly("a real mail system (Postfix and Dovecot)", why)
    return postfix.PostfixMail()


def leftovers(folder: Path) -> list[str]:
    """Processes that work in this directory or were started for it."""
    found = []
    for process in psutil.process_iter():
        try:
            words = [*process.cmdline(), process.cwd()]
        except psutil.Error:  # gone, or none of ours
            continue
        if any(word.startswith(str(folder)) for word in words):
            found.append(" ".join(words))
    return found


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("lost", "accepted_not_delivered"),
        ("stuck", "accepted_not_delivered"),
        ("auth", "auth_refused"),
        ("down", "submission_unreachable"),
    ],
)
def test_the_real_one_has_the_same_faults(real: postfix.PostfixMail, kind: str, code: str) -> None:
    real.fault(kind)
    reading = asyncio.run(look(real.told()))
    assert (reading.verdict, reading.code) == (Verdict.FAILED, code)
    real.fault(None)
    assert asyncio.run(look(real.told())).verdict is Verdict.OK


def test_the_real_one_goes_with_who_started_it_even_when_that_is_killed() -> None:
    installed().stop()
    program = (
        "from broadcaster.sandbox.postfix import PostfixMail; import time; mail = PostfixMail(); mail.start();"
        " print(mail.folder, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        folder = Path(process.stdout.readline().strip())
        assert len(leftovers(folder)) > 5
        process.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 15
    while leftovers(folder):
        assert time.monotonic() < deadline, leftovers(folder)
        time.sleep(0.1)
    subprocess.run(["rm", "-r", str(folder)], check=True)


def test_what_does_not_start_is_told_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    made = installed()
    monkeypatch.setattr(made, "_dovecot", lambda: "nonsense = yes\n")
    with pytest.raises(postfix.NoStart, match="nonsense"):
        made.start()
    assert leftovers(made.folder) == []
    assert not made.folder.exists()
