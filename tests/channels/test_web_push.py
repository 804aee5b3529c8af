import json
from base64 import urlsafe_b64decode
from typing import Any

import http_ece
import pytest
from aiohttp import web
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from py_vapid import Vapid02
from py_vapid.jwt import decode
from yarl import URL

from broadcaster.channels.endpoints import Allowed
from broadcaster.channels.push import KEY_MISMATCH, PUSH_STATUSES, WebPush, generate_vapid, public_key, topic
from broadcaster.domain import tokens
from broadcaster.domain.channel import Callback, CallbackRefused, Receipt
from broadcaster.domain.messages import Envelope, InvalidAddress, Severity
from broadcaster.domain.outcomes import Accepted, Rejected, Scope
from tests.channels.rig import (
    PUSH,
    SECRET,
    Seen,
    answering,
    b64,
    browser_keys,
    message,
    provider,
    push,
    receipt_url,
    run,
    send,
    send_one,
    subscription,
    vapid,
)

CHANNEL = push("http://127.0.0.1:1")
MOZILLA = "https://updates.push.services.mozilla.com/wpush/v2/abc"
TO = Envelope(5, 1, subscription(MOZILLA), "7K2M9QX", "https://al.example/m/x1", receipt_url("push", 5))


def _notification(channel: WebPush, what: Any, to: Envelope = TO) -> tuple[bytes, dict[str, Any]]:
    payload = channel.render(what, to).payload
    assert isinstance(payload, bytes)
    declared = json.loads(payload)
    assert declared["web_push"] == 8030
    return payload, declared["notification"]


# Answers


@pytest.mark.parametrize("status", PUSH_STATUSES)
def test_every_known_status_has_its_outcome(status: int) -> None:
    async def main() -> None:
        no = answering(lambda seen: web.Response(status=status, text="no"))
        async with provider(no) as there, PUSH.open(there.origin) as channel:
            assert await send_one(channel, PUSH.envelope(there.origin)) == PUSH_STATUSES[status]

    run(main())


@pytest.mark.parametrize("status", [200, 201, 202])
def test_a_success_is_accepted_with_its_location(status: int) -> None:
    async def main() -> None:
        yes = answering(lambda seen: web.Response(status=status, headers={"Location": "/m/1"}))
        async with provider(yes) as there, PUSH.open(there.origin) as channel:
            assert await send_one(channel, PUSH.envelope(there.origin)) == Accepted("/m/1")

    run(main())


def test_only_404_and_410_disable_a_subscription() -> None:
    assert {s for s, o in PUSH_STATUSES.items() if o.scope is Scope.ADDRESS} == {404, 410}


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (
            403,
            "the VAPID credentials in the authorization header do not correspond to the credentials used to …",
        ),
        (401, json.dumps({"code": 401, "errno": 109, "error": "Unauthorized", "message": "VAPID public key mismatch"})),
        (400, json.dumps({"reason": "VapidPkHashMismatch"})),
    ],
)
def test_another_vapid_key_concerns_one_subscription_only(status: int, text: str) -> None:
    assert len(KEY_MISMATCH) == 3

    async def main() -> None:
        no = answering(lambda seen: web.Response(status=status, text=text))
        async with provider(no) as there, PUSH.open(there.origin) as channel:
            outcome = await send_one(channel, PUSH.envelope(there.origin))
            assert isinstance(outcome, Rejected)
            assert (outcome.scope, outcome.code) == (Scope.MESSAGE, "key_mismatch")

    run(main())


@pytest.mark.parametrize(
    "keys",
    [
        {"p256dh": b64(b"\x04" + b"\x01" * 64), "auth": b64(b"a" * 16)},
        {"p256dh": b64(b"\x04" * 10), "auth": b64(b"a" * 16)},
        {"p256dh": "!!!!", "auth": b64(b"a" * 16)},
        {"p256dh": "", "auth": b64(b"a" * 16)},
        {"p256dh": browser_keys(1)["p256dh"], "auth": b64(b"abc")},
        {"p256dh": browser_keys(1)["p256dh"]},
        {},
    ],
)
def test_malformed_stored_keys_disable_the_subscription_and_post_nothing(keys: dict[str, str]) -> None:
    async def main() -> None:
        async with provider(answering(PUSH.accept)) as there, PUSH.open(there.origin) as channel:
            bad = PUSH.envelope(there.origin, 1, address=json.dumps({"endpoint": f"{there.origin}/x/1", "keys": keys}))
            found = await send(channel, [bad, PUSH.envelope(there.origin, 2)])
            outcome = found[(1, 1)]
            assert isinstance(outcome, Rejected)
            assert (outcome.scope, outcome.code) == (Scope.ADDRESS, "bad_keys")
            assert isinstance(found[(2, 1)], Accepted)
            assert len(there.posts) == 1

    run(main())


def test_a_stored_endpoint_that_is_no_longer_allowed_is_not_posted_to() -> None:
    async def main() -> None:
        async with provider(answering(PUSH.accept)) as there:
            channel = push(there.origin, allowed=Allowed())
            await channel.open()
            outcome = await send_one(channel, PUSH.envelope(there.origin))
            await channel.close()
            assert isinstance(outcome, Rejected)
            assert outcome.code == "endpoint_refused"
            assert there.posts == []

    run(main())


# Requests


def _post(what: Any, envelope: Any = None, **config: Any) -> tuple[Seen, str]:
    async def main() -> tuple[Seen, str]:
        async with provider(answering(PUSH.accept)) as there:
            if "simulate_origin" in config:
                config["simulate_origin"] = there.origin
            channel = push(there.origin, **config)
            await channel.open()
            to = envelope(there.origin) if envelope else PUSH.envelope(there.origin)
            assert isinstance(await send_one(channel, to, what), Accepted)
            await channel.close()
            return there.posts[0], there.origin

    return run(main())


def test_the_browser_can_decrypt_what_was_rendered() -> None:
    private = ec.generate_private_key(ec.SECP256R1())
    point = private.public_key().public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
    keys = {"p256dh": b64(point), "auth": b64(b"0123456789abcdef")}
    what = message()

    def to(origin: str) -> Envelope:
        return PUSH.envelope(origin, 9, address=json.dumps({"endpoint": f"{origin}/x/9", "keys": keys}))

    seen, origin = _post(what, to)
    plain = http_ece.decrypt(seen.body, private_key=private, auth_secret=b"0123456789abcdef", version="aes128gcm")
    assert plain == CHANNEL.render(what, to(origin)).payload


def test_the_headers_follow_the_rfcs() -> None:
    seen, origin = _post(message())
    assert seen.headers["Content-Encoding"] == "aes128gcm"
    assert 14_390 <= int(seen.headers["TTL"]) <= 14_400
    assert seen.headers["Urgency"] == "high"
    assert len(seen.headers["Topic"]) == 32
    assert len(urlsafe_b64decode(seen.headers["Topic"])) == 24
    scheme, _, rest = seen.headers["Authorization"].partition(" ")
    fields = dict(part.split("=", 1) for part in rest.split(","))
    assert scheme.lower() == "vapid"
    assert fields["k"] == vapid()[1]
    assert Vapid02.verify(seen.headers["Authorization"])
    claims = decode(fields["t"], fields["k"])
    assert claims["aud"] == origin
    assert claims["sub"] == "mailto:it@alerts.example"


@pytest.mark.parametrize(
    ("severity", "urgency"),
    [(Severity.CRITICAL, "high"), (Severity.HIGH, "high"), (Severity.NORMAL, "normal"), (Severity.LOW, "low")],
)
def test_urgency_comes_from_severity(severity: Severity, urgency: str) -> None:
    assert _post(message(severity=severity))[0].headers["Urgency"] == urgency


@pytest.mark.parametrize(("expires_at", "ttl"), [(0, "0"), (4_000_000_000_000, str(28 * 86_400))])
def test_the_ttl_stays_within_its_bounds(expires_at: int, ttl: str) -> None:
    assert _post(message(expires_at=expires_at))[0].headers["TTL"] == ttl


def test_under_a_test_key_no_endpoint_is_reached() -> None:
    seen, origin = _post(message(), lambda origin: PUSH.envelope(origin, address=TO.address), simulate_origin="")
    assert seen.path.startswith("/push/simulated/")
    assert len(seen.path) == len("/push/simulated/") + 32
    fields = dict(part.split("=", 1) for part in seen.headers["Authorization"].partition(" ")[2].split(","))
    assert decode(fields["t"], fields["k"])["aud"] == origin


def test_the_simulated_route_is_not_the_real_one() -> None:
    assert push("http://127.0.0.1:1", simulate_origin="http://127.0.0.1:1").route != CHANNEL.route


def test_the_topic_is_the_same_for_every_attempt_and_differs_between_alerts_and_people() -> None:
    assert topic("a", MOZILLA) == topic("a", MOZILLA)
    assert len({topic("a", MOZILLA), topic("b", MOZILLA), topic("a", MOZILLA + "x")}) == 3


def test_one_signature_serves_an_origin_until_well_before_its_end() -> None:
    now = [1_800_000_000.0]
    channel = push("http://127.0.0.1:1")
    channel._clock = lambda: now[0]
    first = channel._authorization(URL("https://a.example"), now[0])
    assert channel._authorization(URL("https://b.example"), now[0]) != first
    now[0] += 6 * 3600 - 1
    assert channel._authorization(URL("https://a.example"), now[0]) == first
    now[0] += 2
    renewed = channel._authorization(URL("https://a.example"), now[0])
    fields = dict(part.split("=", 1) for part in renewed.partition(" ")[2].split(","))
    assert decode(fields["t"], fields["k"])["exp"] == int(now[0]) + 12 * 3600


# Text


def test_the_payload_is_the_declarative_shape() -> None:
    _, notification = _notification(CHANNEL, message(drill=True))
    assert notification == {
        "title": "DRILL: Email is down",
        "body": "Use the phone list. Next update 10:30.",
        "navigate": "https://al.example/m/x1",
        "tag": "a-7K2M9QX",
        "lang": "en-GB",
        "silent": False,
        "requireInteraction": True,
        "renotify": False,
        "data": {"receipt": TO.receipt_url, "delivery": "7K2M9QX", "alert": message().alert},
    }


@pytest.mark.parametrize("char", ["x", "é", "😀", '"', "\nx", "word "])
def test_a_long_body_is_shortened_and_the_rest_is_not(char: str) -> None:
    what = message(title="T" * 300, body="a" + char * 5000 + "a")
    payload, notification = _notification(CHANNEL, what)
    assert 2690 < len(payload) <= 2700
    assert notification["title"] == "T" * 300
    assert notification["navigate"] == TO.link
    assert notification["body"].endswith("…")


def test_a_title_alone_may_fill_the_payload() -> None:
    payload, notification = _notification(CHANNEL, message(title="T" * 2600))
    assert notification["body"] == ""
    assert len(payload) < 3993


# Subscriptions


def test_it_takes_a_subscription_and_shows_little_of_it() -> None:
    keys = browser_keys(1)
    raw = json.dumps({"endpoint": MOZILLA, "expirationTime": None, "keys": {**keys, "auth": keys["auth"] + "=="}})
    address = CHANNEL.parse_address(raw)
    assert json.loads(address.value) == {"endpoint": MOZILLA, "keys": keys}
    assert address.identity == MOZILLA
    assert address.masked.startswith("updates.push.services.mozilla.com #")
    assert "abc" not in address.masked


@pytest.mark.parametrize(
    "change",
    [
        {"endpoint": "https://evil.example/x"},
        {"endpoint": "http://updates.push.services.mozilla.com/x"},
        {"endpoint": None},
        {"endpoint": 5},
        {"keys": None},
        {"keys": {"p256dh": browser_keys(1)["p256dh"]}},
        {"keys": {**browser_keys(1), "auth": b64(b"abc")}},
        {"keys": {**browser_keys(1), "auth": b64(b"a" * 17)}},
        {"keys": {**browser_keys(1), "auth": "!" * 22}},
        {"keys": {**browser_keys(1), "auth": "é" * 22}},
        {"keys": {**browser_keys(1), "auth": 5}},
        {"keys": {**browser_keys(1), "p256dh": b64(b"\x04" + b"\x01" * 64)}},
        {
            "keys": {
                **browser_keys(1),
                "p256dh": b64(b"\x02" + urlsafe_b64decode(browser_keys(1)["p256dh"] + "=")[1:33]),
            }
        },
    ],
)
def test_it_refuses_other_subscriptions(change: dict[str, Any]) -> None:
    with pytest.raises(InvalidAddress):
        CHANNEL.parse_address(json.dumps({"endpoint": MOZILLA, "keys": browser_keys(1), **change}))


@pytest.mark.parametrize("raw", ["", "null", "[]", '"x"', "{", "{}", "5", "[" * 100_000, "[" * 4000])
def test_it_refuses_rubbish(raw: str) -> None:
    with pytest.raises(InvalidAddress):
        CHANNEL.parse_address(raw)


# Receipts


def _receipt(body: bytes, token: str | None = None) -> Receipt | None:
    d = tokens.sign(SECRET, "receipt", 7, 3) if token is None else token
    return CHANNEL.read_receipt(Callback("https://al.example/r", {}, {"d": d}, body))


def test_shown_is_delivered_and_failed_says_nothing_yet() -> None:
    assert _receipt(b'{"event": "shown"}') == Receipt(7, 3, "delivered")
    assert _receipt(b'{"event": "failed", "reason": "no permission"}') is None


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"[]", b'"shown"', b'{"event": 1}', b'{"event": "eaten"}', b"\xff", b"[" * 100_000]
)
def test_other_receipts_are_refused(body: bytes) -> None:
    with pytest.raises(CallbackRefused):
        _receipt(body)


@pytest.mark.parametrize(
    "token", ["", "x", "7.3.AAAA", tokens.sign(SECRET, "message", 7, 3), tokens.sign(b"other", "receipt", 7, 3)]
)
def test_a_receipt_without_our_token_is_refused(token: str) -> None:
    with pytest.raises(CallbackRefused):
        _receipt(b'{"event": "shown"}', token)


# Keys


def test_keys_are_made_and_read_back() -> None:
    private, public = generate_vapid()
    assert public_key(private) == public
    assert len(urlsafe_b64decode(public + "=")) == 65
    pem = Vapid02.from_string(private).private_pem().decode()
    assert public_key(pem) == public


@pytest.mark.parametrize("private", ["", "x", "AAAA", "-----BEGIN PRIVATE KEY-----\nno\n-----END PRIVATE KEY-----"])
def test_what_is_no_key_is_refused(private: str) -> None:
    with pytest.raises(ValueError, match="cannot be read"):
        public_key(private)


@pytest.mark.parametrize(
    ("subject", "fine"),
    [
        ("mailto:it@trust.example", True),
        ("https://trust.example", True),
        ("mailto:it@localhost", False),
        ("it@trust.example", False),
        ("", False),
    ],
)
def test_check_wants_a_subject_that_push_services_take(subject: str, fine: bool) -> None:
    channel = push("http://127.0.0.1:1", subject=subject, allowed=Allowed())
    assert (run(channel.check()) is None) is fine
