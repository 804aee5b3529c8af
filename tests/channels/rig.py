"""What the tests of all channels share: a provider that answers as told, and one rig per channel with the real SDK."""

import asyncio
import base64
import json
import os
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any, TypeVar
from urllib.parse import parse_qs

from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from broadcaster.channels.endpoints import Allowed
from broadcaster.channels.notify import NotifyConfig, NotifySms
from broadcaster.channels.push import WebPush, WebPushConfig, generate_vapid
from broadcaster.channels.slack import SlackConfig, SlackMessages
from broadcaster.channels.sms import TwilioConfig, TwilioSms
from broadcaster.domain import tokens
from broadcaster.domain.channel import AttemptId, Channel
from broadcaster.domain.messages import Envelope, Message, Severity
from broadcaster.domain.outcomes import Outcome
from broadcaster.domain.references import reference
from broadcaster.sandbox import credentials

SECRET = b"a secret of the tests, long enough"
ACCOUNT = "AC" + "0" * 32
TOKEN = "twilio-auth-token"

Answer = Callable[["Seen"], Awaitable[web.StreamResponse]]


def message(**changes: Any) -> Message:
    now = int(time.time() * 1000)
    fields: dict[str, Any] = {
        "alert": "0190a1b2-c3d4-7000-8000-000000000001",
        "title": "Email is down",
        "body": "Use the phone list. Next update 10:30.",
        "severity": Severity.CRITICAL,
        "drill": False,
        "source": "Northmoor IT",
        "sent_at": now,
        "expires_at": now + 4 * 3_600_000,
    }
    return Message(**{**fields, **changes})


@dataclass
class Seen:
    """One POST as the provider saw it."""

    number: int  # 0, 1, 2 … in order of arrival
    path: str
    headers: dict[str, str]
    body: bytes
    request: web.Request


@dataclass
class Provider:
    """A real HTTP server; ``answer`` decides what each request gets."""

    answer: Answer
    origin: str = ""
    posts: list[Seen] = field(default_factory=list)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        seen = Seen(len(self.posts), request.path_qs, dict(request.headers), await request.read(), request)
        self.posts.append(seen)
        return await self.answer(seen)


@asynccontextmanager
async def provider(answer: Answer) -> Any:
    stand_in = Provider(answer)
    app = web.Application(client_max_size=2**24)
    app.router.add_route("*", "/{path:.*}", stand_in.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    stand_in.origin = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield stand_in
    finally:
        await runner.cleanup()


@dataclass(frozen=True)
class Rig:
    """One channel against a provider at an origin."""

    name: str
    make: Callable[[str], Channel]
    address: Callable[[str, int], str]  # (origin, n) → Address.value
    accept: Callable[[Seen], web.Response]  # the provider's plain yes
    recipient: Callable[[Seen], str]  # what identifies the recipient in a request
    identity: Callable[[str], str]  # the same for an address

    def envelope(self, origin: str, n: int = 1, **changes: Any) -> Envelope:
        fields: dict[str, Any] = {
            "delivery": n,
            "attempt": 1,
            "address": self.address(origin, n),
            "reference": reference(n),
            "link": f"https://alerts.example/m/{n}",
            "receipt_url": receipt_url(self.name, n),
        }
        return Envelope(**{**fields, **changes})

    @asynccontextmanager
    async def open(self, origin: str) -> Any:
        channel = self.make(origin)
        await channel.open()
        try:
            yield channel
        finally:
            await channel.close()


def receipt_url(channel: str, delivery: int, attempt: int = 1) -> str:
    token = tokens.sign(SECRET, "receipt", delivery, attempt)
    return f"https://alerts.example/api/v1/receipts/{channel}?d={token}"


async def send(channel: Channel, envelopes: Sequence[Envelope], what: Message | None = None) -> dict[AttemptId, Outcome]:
    """Renders and sends; holds every channel to one outcome per envelope."""
    said = what or message()
    found: dict[AttemptId, Outcome] = {}
    async for attempt, outcome in channel.send(said, [(to, channel.render(said, to)) for to in envelopes]):
        assert attempt not in found
        found[attempt] = outcome
    assert set(found) == {(to.delivery, to.attempt) for to in envelopes}
    return found


async def send_one(channel: Channel, to: Envelope, what: Message | None = None) -> Outcome:
    return (await send(channel, [to], what))[(to.delivery, to.attempt)]


T = TypeVar("T")


def run(work: Coroutine[Any, Any, T]) -> T:
    async def bounded() -> T:
        async with asyncio.timeout(60):
            return await work

    return asyncio.run(bounded())


def answering(response: Callable[[Seen], web.StreamResponse]) -> Answer:
    async def answer(seen: Seen) -> web.StreamResponse:
        return response(seen)

    return answer


def json_reply(body: object, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    return web.json_response(body, status=status, headers=headers)


# SMS


def twilio(origin: str, **changes: Any) -> TwilioSms:
    fields: dict[str, Any] = {
        "account_sid": ACCOUNT,
        "auth_token": TOKEN,
        "token_secret": SECRET,
        "sender": "+441632960100",
        "base_url": f"{origin}/twilio",
        "allow_drama_numbers": True,
    }
    return TwilioSms(TwilioConfig(**{**fields, **changes}))


def _sms_form(seen: Seen) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(seen.body.decode()).items()}


def _sms_accept(seen: Seen) -> web.Response:
    to = _sms_form(seen)["To"]
    return json_reply({"sid": "SM" + to[1:].rjust(32, "0"), "to": to, "status": "queued"}, status=201)


SMS = Rig(
    "sms",
    twilio,
    lambda origin, n: f"+4477009{n:05d}",
    _sms_accept,
    lambda seen: _sms_form(seen)["To"],
    lambda address: address,
)

# Slack


def notify(origin: str, **changes: Any) -> NotifySms:
    """GOV.UK Notify with the sandbox's credentials."""
    config: dict[str, Any] = {
        "api_key": credentials.NOTIFY_API_KEY,
        "template_id": credentials.NOTIFY_TEMPLATE_ID,
        "callback_token": credentials.NOTIFY_CALLBACK_TOKEN,
        "token_secret": SECRET,
        "base_url": f"{origin}/notify",
        "rate": 1000.0,
        "allow_drama_numbers": True,
    }
    return NotifySms(NotifyConfig(**config | changes))


def slack(origin: str, **changes: Any) -> SlackMessages:
    return SlackMessages(SlackConfig(**{"token": "xoxb-test", "base_url": f"{origin}/slack/api/", **changes}))


def _slack_accept(seen: Seen) -> web.Response:
    channel = json.loads(seen.body)["channel"]
    return json_reply({"ok": True, "channel": "D" + channel[1:], "ts": f"{1_700_000_000 + int(channel[1:])}.000100"})


SLACK = Rig(
    "slack",
    slack,
    lambda origin, n: f"U{n:09d}",
    _slack_accept,
    lambda seen: json.loads(seen.body)["channel"],
    lambda address: address,
)

# Web push


@cache
def vapid() -> tuple[str, str]:
    return generate_vapid()


@cache
def browser_keys(n: int) -> dict[str, str]:
    point = ec.generate_private_key(ec.SECP256R1()).public_key()
    p256dh = point.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    return {"p256dh": b64(p256dh), "auth": b64(os.urandom(16))}


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def subscription(endpoint: str, n: int = 1) -> str:
    return json.dumps({"endpoint": endpoint, "keys": browser_keys(n % 8)}, separators=(",", ":"))


def push(origin: str, **changes: Any) -> WebPush:
    fields: dict[str, Any] = {
        "private_key": vapid()[0],
        "subject": "mailto:it@alerts.example",
        "token_secret": SECRET,
        "allowed": Allowed(origins=(origin,)),
    }
    return WebPush(WebPushConfig(**{**fields, **changes}))


PUSH = Rig(
    "push",
    push,
    lambda origin, n: subscription(f"{origin}/push/wpush/v2/{n}", n),
    lambda seen: web.Response(status=201, headers={"Location": f"/m/{seen.path.rpartition('/')[2]}"}),
    lambda seen: seen.path,
    lambda address: "/" + json.loads(address)["endpoint"].split("/", 3)[3],
)

RIGS = (SMS, SLACK, PUSH)
