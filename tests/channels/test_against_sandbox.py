"""The channels against the sandbox: a real server that keeps books, signs its callbacks and misbehaves when told to."""

import asyncio
import json
import time
from collections.abc import Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from broadcaster.channels import wire
from broadcaster.channels.endpoints import Allowed
from broadcaster.domain import tokens
from broadcaster.domain.channel import Callback, CallbackRefused, Channel, LooksUp, SendsReceipts
from broadcaster.domain.messages import Envelope
from broadcaster.domain.outcomes import Absent, Accepted, Ambiguous, Found, Rejected, Throttled, Unknown
from broadcaster.domain.references import reference
from broadcaster.sandbox import credentials
from broadcaster.sandbox.server import SandboxConfig, start
from tests.channels.rig import SECRET, message, notify, push, run, send, send_one, slack, twilio

MAKE: dict[str, Callable[[str], Any]] = {
    "sms": lambda origin: twilio(
        origin, account_sid=credentials.ACCOUNT_SID, auth_token=credentials.AUTH_TOKEN, sender=credentials.SENDER_NUMBER
    ),
    "notify": lambda origin: notify(origin),
    "slack": lambda origin: slack(origin, token=credentials.SLACK_TOKEN),
    "push": lambda origin: push(origin, allowed=Allowed(origins=(origin,))),
}
PROVIDER = {"sms": "twilio", "notify": "notify", "slack": "slack", "push": "push"}
channels = pytest.mark.parametrize("name", MAKE)


class Bench:
    """A sandbox, one open channel, and a place for callbacks."""

    def __init__(self, origin: str, name: str, channel: Any, http: aiohttp.ClientSession, receipts: str) -> None:
        self.origin, self.name, self.channel, self.http, self._receipts = origin, name, channel, http, receipts
        self.callbacks: asyncio.Queue[Callback] = asyncio.Queue()

    async def control(self, path: str, body: object) -> Any:
        async with self.http.post(f"{self.origin}/_sandbox/{path}", json=body) as response:
            assert response.status < 300, await response.text()
            return await response.json()

    async def fault(self, kind: str, **fields: Any) -> None:
        await self.control("faults", {"provider": PROVIDER[self.name], "kind": kind, **fields})

    async def taken(self) -> int:
        async with self.http.get(f"{self.origin}/_sandbox/ledger", params={"channel": self.channel.traits.name}) as response:
            return len((await response.json())["items"])

    async def envelopes(self, count: int) -> list[Envelope]:
        addresses = await getattr(self, f"_{self.name}")(count)
        return [
            Envelope(
                n, 1, address, reference(n), f"https://a.example/m/{n}",
                f"{self._receipts}?d={tokens.sign(SECRET, 'receipt', n, 1)}",
            )
            for n, address in enumerate(addresses, 1)
        ]  # fmt: skip

    async def _sms(self, count: int) -> list[str]:
        return [f"+44770091{n:04d}" for n in range(count)]

    async def _notify(self, count: int) -> list[str]:
        await self.control("settings", {"notify_callback_url": self._receipts})  # one for all messages, as with Notify
        return await self._sms(count)

    async def _slack(self, count: int) -> list[str]:
        return [f"U{n:010d}" for n in range(count)]

    async def _push(self, count: int) -> list[str]:
        made = (await self.control("browsers", {"count": count}))["subscriptions"]
        return [self.channel.parse_address(json.dumps(subscription)).value for subscription in made]


@asynccontextmanager
async def bench(name: str) -> Any:
    sandbox = await start(SandboxConfig())
    channel = MAKE[name](sandbox.origin)
    await channel.open()
    app = web.Application()
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)

    async def receive(request: web.Request) -> web.Response:
        headers = {key.lower(): value for key, value in request.headers.items()}
        there.callbacks.put_nowait(Callback(str(request.url), headers, dict(request.query), await request.read()))
        return web.Response(status=204)

    app.router.add_post("/receipts", receive)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    receipts = f"http://127.0.0.1:{runner.addresses[0][1]}/receipts"
    async with aiohttp.ClientSession() as http:
        there = Bench(sandbox.origin, name, channel, http, receipts)
        try:
            yield there
        finally:
            await channel.close()
            await runner.cleanup()
            await sandbox.stop()


@channels
def test_every_message_is_taken_once_and_credentials_hold(name: str) -> None:
    async def main() -> None:
        async with bench(name) as there:
            assert await there.channel.check() is None
            found = await send(there.channel, await there.envelopes(100), message(drill=True))
            accepted = [outcome for outcome in found.values() if isinstance(outcome, Accepted)]
            assert len({outcome.provider_id for outcome in accepted}) == 100, set(found.values())
            assert await there.taken() == 100

    run(main())


@channels
@pytest.mark.parametrize(
    ("kind", "fields", "outcome", "taken"),
    [
        ("status", {"status": 503}, Ambiguous, 0),
        ("status", {"status": 503, "taken": True}, Ambiguous, 1),
        ("status", {"status": 429, "retry_after": 6}, Throttled, 0),
        ("reset_before", {}, Ambiguous, 0),
        ("reset_after", {}, Ambiguous, 1),
        ("late_reply", {"seconds": 30}, Ambiguous, 1),
        ("hang", {"seconds": 30}, Ambiguous, 0),
    ],
)
def test_faults_are_told_apart(
    name: str, kind: str, fields: dict[str, Any], outcome: type, taken: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "TOTAL", 0.4)

    async def main() -> None:
        async with bench(name) as there:
            await there.fault(kind, **fields)
            (to,) = await there.envelopes(1)
            assert isinstance(await send_one(there.channel, to), outcome)
            assert await there.taken() == taken

    run(main())


@pytest.mark.parametrize(
    ("name", "receipts", "looks_up"),
    [("sms", True, True), ("notify", True, True), ("slack", False, True), ("push", True, False)],
)
def test_abilities_are_found_by_protocol(name: str, receipts: bool, looks_up: bool) -> None:
    channel = MAKE[name]("http://127.0.0.1:1")
    assert isinstance(channel, Channel)
    assert isinstance(channel, SendsReceipts) is receipts is channel.traits.gives_receipts
    assert isinstance(channel, LooksUp) is looks_up


@pytest.mark.parametrize("name", ["sms", "notify", "push"])
def test_a_receipt_comes_back_to_its_attempt(name: str) -> None:
    async def main() -> None:
        async with bench(name) as there:
            (to,) = await there.envelopes(1)
            await send(there.channel, [to])
            states = []
            while "delivered" not in states:
                receipt = there.channel.read_receipt(await there.callbacks.get())
                assert receipt is not None
                assert (receipt.delivery, receipt.attempt) == (1, 1)
                states.append(receipt.state)

    run(main())


@pytest.mark.parametrize("name", ["sms", "notify"])
def test_a_forged_callback_is_refused(name: str) -> None:
    async def main() -> None:
        async with bench(name) as there:
            await there.fault("callback_forged")
            await send(there.channel, await there.envelopes(1))
            with pytest.raises(CallbackRefused):
                there.channel.read_receipt(await there.callbacks.get())

    run(main())


def test_an_undelivered_message_says_why() -> None:
    async def main() -> None:
        async with bench("sms") as there:
            (to,) = await there.envelopes(1)
            dead = Envelope(1, 1, "+447700900905", to.reference, to.link, to.receipt_url)
            await send(there.channel, [dead])
            receipt = there.channel.read_receipt(await there.callbacks.get())
            while receipt is None or receipt.state != "failed":
                receipt = there.channel.read_receipt(await there.callbacks.get())
            assert (receipt.code, receipt.disables_address) == ("30005", True)

    run(main())


@pytest.mark.parametrize("name", ["sms", "notify", "slack"])
def test_a_look_up_finds_what_was_taken_and_misses_what_was_not(name: str) -> None:
    async def main() -> None:
        async with bench(name) as there:
            await there.control("settings", {"slack_dm_rate": None})
            (to,) = await there.envelopes(1)
            marked = int(time.time() * 1000)
            # The same person already has hundreds of other messages: the list has more than one page.
            others = [Envelope(n, 1, to.address, reference(n), to.link, to.receipt_url) for n in range(1000, 1250)]
            await there.fault("reset_after", count=1)
            assert isinstance(await send_one(there.channel, to), Ambiguous)
            assert all(isinstance(o, Accepted) for o in (await send(there.channel, others)).values())
            content = there.channel.render(message(), to)
            found = await there.channel.look_up(to, content, marked)
            assert isinstance(found, Found)
            assert found.state in ("accepted", "delivered")
            never = Envelope(7, 1, to.address, reference(7), to.link, to.receipt_url)
            assert await there.channel.look_up(never, content, marked) == Absent()

    run(main())


@pytest.mark.parametrize("name", ["sms", "notify", "slack"])
@pytest.mark.parametrize(
    "kind", [{"kind": "status", "status": 500}, {"kind": "reset_before"}, {"kind": "status", "status": 429}]
)
def test_a_look_up_that_fails_is_unknown(name: str, kind: dict[str, Any]) -> None:
    async def main() -> None:
        async with bench(name) as there:
            (to,) = await there.envelopes(1)
            await there.fault(operation="any", **kind)
            found = await there.channel.look_up(to, there.channel.render(message(), to), int(time.time() * 1000))
            assert isinstance(found, Unknown)

    run(main())


@pytest.mark.parametrize(
    ("name", "address", "code"),
    [
        ("sms", "+447700900901", "21211"),
        ("sms", "+447700900903", "21610"),
        ("notify", "+447700900901", "ValidationError"),
        ("slack", "U0DISABLED1", "user_disabled"),
        ("slack", "C0NOTMEMBER", "not_in_channel"),
    ],
)
def test_addresses_that_are_refused_for_good(name: str, address: str, code: str) -> None:
    async def main() -> None:
        async with bench(name) as there:
            (to,) = await there.envelopes(1)
            refused = Envelope(1, 1, there.channel.parse_address(address).value, to.reference, to.link, to.receipt_url)
            outcome = await send_one(there.channel, refused)
            assert isinstance(outcome, Rejected)
            assert outcome.code == code
            assert outcome.scope == "address"

    run(main())


def test_a_repeat_replaces_the_first_on_the_screen() -> None:
    async def main() -> None:
        async with bench("push") as there:
            (to,) = await there.envelopes(1)
            again = Envelope(1, 2, to.address, to.reference, to.link, to.receipt_url)
            for attempt in (to, again):
                assert isinstance(await send_one(there.channel, attempt), Accepted)
            async with there.http.get(f"{there.origin}/_sandbox/summary") as response:
                assert (await response.json())["channels"]["push"]["duplicates"] == 0

    run(main())


def test_a_throttled_number_is_fine_on_the_second_try() -> None:
    async def main() -> None:
        async with bench("sms") as there:
            (to,) = await there.envelopes(1)
            busy = Envelope(1, 1, "+447700900907", to.reference, to.link, to.receipt_url)
            assert await send_one(there.channel, busy) == Throttled(1.0, "20429")
            assert isinstance(await send_one(there.channel, busy), Accepted)

    run(main())
