"""Receipts of pushes and texts, with real tokens and signatures, posted to one API process, 64 at once."""

import json
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import urlencode

from twilio.request_validator import RequestValidator  # type: ignore[import-untyped]

from broadcaster.domain import tokens
from broadcaster.wiring import SANDBOX_ACCOUNT_SID, SANDBOX_AUTH_TOKEN
from tests.bench import broadcast, load, words
from tests.bench.ground import Ground
from tests.bench.people import phone
from tests.bench.product import Live

RECEIPTS: Final = (20_000, 2_000)  # full, quick

Request = tuple[str, dict[str, str], str]
Delivery = tuple[int, int, str]  # id, attempt, provider's id


def run(ground: Ground) -> dict[str, Any]:
    """{push, sms: {n, per_second, ms, statuses, recorded}}: ``recorded`` is how many are delivered in the database."""
    count = ground.options.pick(*RECEIPTS)
    found: dict[str, Any] = {}
    with ground.crowded.up() as live:
        for kind, made in (("push", _push), ("sms", _sms)):
            body = words.alert({"tag": f"size:{count}"}, [kind])
            alert = broadcast.send(live, ground.sink, body, count, ground.options.limit).uid
            deliveries = live.books.deliveries(alert, count)
            secret = ground.crowded.secret
            found[kind] = load.post(ground, made(live, secret, deliveries))
            found[kind]["recorded"] = live.books.counts(alert)["delivered"]
            ground.say(f"{kind} receipts: {found[kind]['per_second']:,.0f}/s, {found[kind]['ms']}")
    return {**found, "includes": "a receipt counts when it is answered: 204 is said after the commit"}


def _push(live: Live, secret: bytes, deliveries: list[Delivery]) -> Iterator[Request]:
    body = json.dumps({"event": "shown"})
    for delivery, attempt, _ in deliveries:
        token = tokens.sign(secret, "receipt", delivery, attempt)
        yield f"{live.origin}/api/v1/receipts/push?d={token}", {"Content-Type": "application/json"}, body


def _sms(live: Live, secret: bytes, deliveries: list[Delivery]) -> Iterator[Request]:
    """As Twilio posts them (https://www.twilio.com/docs/messaging/guides/track-outbound-message-status)."""
    validator = RequestValidator(SANDBOX_AUTH_TOKEN)
    for n, (delivery, attempt, sid) in enumerate(deliveries):
        path = f"/api/v1/receipts/sms?d={tokens.sign(secret, 'receipt', delivery, attempt)}"
        form = {
            "AccountSid": SANDBOX_ACCOUNT_SID, "ApiVersion": "2010-04-01", "From": "Broadcast", "MessageSid": sid,
            "MessageStatus": "delivered", "SmsSid": sid, "SmsStatus": "delivered", "To": phone(n),
        }  # fmt: skip
        signature = validator.compute_signature(f"{live.public_url}{path}", form)
        headers = {"Content-Type": "application/x-www-form-urlencoded", "X-Twilio-Signature": signature}
        yield f"{live.origin}{path}", headers, urlencode(form)
