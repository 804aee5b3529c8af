"""The stand-in push service: pywebpush sends, simulated browsers really decrypt, a websocket browser too."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import http_ece
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st
from py_vapid import Vapid02
from pywebpush import WebPusher, webpush

from broadcaster.sandbox import ece
from broadcaster.sandbox.browsers import Browser
from broadcaster.sandbox.vapid import b64decode, b64encode
from tests.sandbox.sandbox_world import World, play

VAPID = Vapid02()
VAPID.generate_keys()
RAW = serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
Subscription = dict[str, Any]
PUBLIC = b64encode(VAPID.public_key.public_bytes(*RAW))


def notice(tag: str = "a1", delivery: str = "d1", receipt: str | None = None) -> bytes:
    data = {"delivery": delivery, **({"receipt": receipt} if receipt else {})}
    body = {"title": "Mail is down", "body": "Use Slack", "navigate": "https://h/", "tag": tag, "data": data}
    return json.dumps({"web_push": 8030, "notification": body}).encode()


async def browser(world: World, **more: Any) -> Subscription:
    body = {"count": 1, "application_server_key": PUBLIC, **more}
    made: list[Subscription] = (await world.tell("browsers", body, 201))["subscriptions"]
    return made[0]


def vapid(origin: str, vapid_key: Any = VAPID, **changed: Any) -> str:
    claims = {"aud": origin, "exp": int(time.time()) + 3600, "sub": "mailto:it@ward.example", **changed}
    return str(vapid_key.sign(claims)["Authorization"])


async def push(
    world: World,
    sub: Subscription,
    data: bytes | None = None,
    *,
    drop: Collection[str] = (),
    body: bytes | None = None,
    **headers: str,
) -> tuple[int, Mapping[str, str], str]:
    """(status, headers, body): a good push but for what is said."""
    if body is None:
        body = WebPusher(sub).encode(data or notice())["body"]
    parts = urlsplit(sub["endpoint"])
    good = {
        "TTL": "60",
        "Content-Encoding": "aes128gcm",
        "Authorization": vapid(f"{parts.scheme}://{parts.netloc}"),
        **headers,
    }
    sent = {name: value for name, value in good.items() if name not in drop}
    async with world.http.post(sub["endpoint"], data=body, headers=sent) as r:
        return r.status, r.headers, await r.text()


def test_pywebpush_reaches_a_browser_which_decrypts_and_sends_its_receipt() -> None:
    async def scene(world: World) -> None:
        sub = await browser(world, labels=["Ward 7"])
        assert sub["label"] == "Ward 7"
        receipt = world.callback_origin + "/receipt/1"
        answer = await asyncio.to_thread(
            webpush,
            {"endpoint": sub["endpoint"], "keys": sub["keys"]},
            notice(receipt=receipt),
            vapid_private_key=VAPID,
            vapid_claims={"sub": "mailto:it@ward.example"},
            ttl=60,
            headers={"Urgency": "high", "Topic": "a1"},
        )
        assert answer.status_code == 201
        assert answer.headers["TTL"] == "60"
        assert answer.headers["Location"].startswith(world.origin)
        url, fields, _ = await world.callback()
        assert (url, fields) == (receipt, {"event": "shown"})
        item = (await world.ask("ledger?channel=push"))["items"][0]
        assert (item["key"], item["text"]) == ("d1", "Mail is down\nUse Slack")
        assert (item["shown"], item["replaced"]) == (True, False)

    play(scene)


def test_the_same_tag_replaces_and_another_tag_is_a_duplicate() -> None:
    async def scene(world: World) -> None:
        sub = await browser(world)
        await push(world, sub)
        await push(world, sub)
        counts = await world.counts("push")
        assert (counts["taken"], counts["delivered"], counts["replaced"], counts["duplicates"]) == (
            2,
            2,
            1,
            0,
        )
        await push(world, sub, notice(tag="other"))
        assert (await world.counts("push"))["duplicates"] == 1
        await world.tell("browsers/state", {"endpoints": [sub["endpoint"]], "dismiss": True}, 200)
        await push(world, sub)
        assert (await world.counts("push"))["duplicates"] == 2

    play(scene)


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"drop": ["TTL"]}, 400),
        ({"TTL": "soon"}, 400),
        ({"TTL": "-1"}, 400),
        ({"Urgency": "now"}, 400),
        ({"Topic": "x" * 33}, 400),
        ({"Topic": "a.b"}, 400),
        ({"body": os.urandom(4097)}, 413),
        ({"Content-Encoding": "aesgcm"}, 415),
        ({"drop": ["Content-Encoding"]}, 415),
        ({"body": b""}, 400),
        ({"body": os.urandom(20) + b"\x41\x02" + os.urandom(200)}, 400),
        ({"body": os.urandom(16) + (18).to_bytes(4, "big") + b"\x41\x04" + os.urandom(200)}, 400),
        ({"drop": ["Authorization"]}, 401),
        ({"Authorization": "Bearer x"}, 401),
        ({"Authorization": "vapid t=a.b.c,k=" + PUBLIC}, 403),
        ({"Authorization": "vapid t=a.b.c"}, 403),
    ],
)
def test_it_refuses_a_malformed_push(change: dict[str, Any], status: int) -> None:
    async def scene(world: World) -> None:
        sub = await browser(world)
        assert (await push(world, sub, **change))[0] == status
        counts = await world.counts("push")
        assert (counts["taken"], counts["rejected"]) == (0, 1)

    play(scene)


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": "https://elsewhere.example"},
        {"exp": 1},
        {"exp": int(time.time()) + 25 * 3600},
        {"exp": "tomorrow"},
        {"sub": "it@ward.example"},
        {"sub": "http://ward.example"},
    ],
)
def test_it_refuses_vapid_claims_that_do_not_hold(claims: dict[str, Any]) -> None:
    async def scene(world: World) -> None:
        sub = await browser(world)
        headers = {"alg": "ES256", "typ": "JWT"}
        good = {"aud": world.origin, "exp": int(time.time()) + 60, "sub": "mailto:it@ward.example", **claims}
        signed = b".".join(b64encode(json.dumps(part).encode()).encode() for part in (headers, good))
        authorization = f"vapid t={signed.decode()}.{_es256(signed)},k={PUBLIC}"
        assert (await push(world, sub, Authorization=authorization))[0] == 403

    play(scene)


def _es256(signed: bytes) -> str:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

    r, s = decode_dss_signature(VAPID.private_key.sign(signed, ec.ECDSA(hashes.SHA256())))
    return b64encode(r.to_bytes(32, "big") + s.to_bytes(32, "big"))


def test_it_refuses_a_forged_signature_and_another_key() -> None:
    async def scene(world: World) -> None:
        sub = await browser(world)
        good = vapid(world.origin)
        assert (await push(world, sub, Authorization=good))[0] == 201
        token, _, key = good.removeprefix("vapid t=").partition(",")
        flipped = token[:-2] + ("AA" if token[-2:] != "AA" else "BB")
        assert (await push(world, sub, Authorization=f"vapid t={flipped},{key}"))[0] == 403
        other = Vapid02()
        other.generate_keys()
        assert (await push(world, sub, Authorization=vapid(world.origin, other)))[0] == 403
        unbound = await browser(world, application_server_key=None)
        assert (await push(world, unbound, Authorization=vapid(world.origin, other)))[0] == 201

    play(scene)


def test_an_unknown_subscription_is_404_and_an_ended_one_410() -> None:
    async def scene(world: World) -> None:
        sub = await browser(world)
        assert (await push(world, sub | {"endpoint": sub["endpoint"] + "0"}))[0] == 404
        await world.tell("browsers/state", {"endpoints": [sub["endpoint"]], "unsubscribed": True}, 200)
        assert (await push(world, sub))[0] == 410

    play(scene)


def test_a_push_for_another_browser_is_taken_but_not_shown() -> None:
    async def scene(world: World) -> None:
        sub, other = await browser(world), await browser(world)
        assert (await push(world, sub | {"keys": other["keys"]}))[0] == 201
        counts = await world.counts("push")
        assert (counts["taken"], counts["delivered"], counts["failed"]) == (1, 0, 1)
        assert (await world.ask("ledger"))["items"][0]["status"] == "undecryptable"

    play(scene)


def test_a_browser_that_is_away_gets_the_last_of_each_topic() -> None:
    async def scene(world: World) -> None:
        sub = await browser(world)
        state = {"endpoints": [sub["endpoint"]]}
        await world.tell("browsers/state", state | {"online": False}, 200)
        for number in range(3):
            await push(world, sub, notice(tag=str(number), delivery=str(number)), Topic="mail")
        await push(world, sub, notice(tag="x", delivery="x"), TTL="0")
        await world.tell("browsers/state", state | {"online": True}, 200)
        statuses = [item["status"] for item in (await world.ask("ledger"))["items"]]
        assert statuses == ["superseded", "superseded", "shown", "expired"]

    play(scene)


def test_an_endpoint_of_the_real_world_is_checked_but_not_read() -> None:
    async def scene(world: World) -> None:
        sub = await browser(world)
        real = sub | {"endpoint": world.origin + "/push/simulated/updates.push.example/abc"}
        assert (await push(world, real))[0] == 201
        assert (await push(world, real, Authorization=vapid("https://updates.push.example")))[0] == 201
        assert (await push(world, real, drop=["TTL"]))[0] == 400
        item = (await world.ask("ledger"))["items"][0]
        assert (item["address"], item["text"]) == ("simulated:updates.push.example/abc", None)

    play(scene)


def test_browsers_outlive_a_restart(tmp_path: Path) -> None:
    made: list[Subscription] = []

    async def first(world: World) -> None:
        made.append(await browser(world))

    async def second(world: World) -> None:
        path = urlsplit(made[0]["endpoint"]).path
        assert (await push(world, made[0] | {"endpoint": world.origin + path}))[0] == 201
        assert (await world.counts("push"))["delivered"] == 1

    play(first, state_path=tmp_path / "browsers")
    play(second, state_path=tmp_path / "browsers")
    assert (tmp_path / "browsers").stat().st_mode & 0o077 == 0


def test_a_browser_on_the_websocket_subscribes_receives_and_leaves() -> None:
    async def scene(world: World) -> None:
        keys = Browser.new("real", receipts=False)
        async with world.http.ws_connect(
            world.origin.replace("http", "ws") + "/push/", protocols=["push-notification"]
        ) as ws:

            async def say(**message: Any) -> Any:
                await ws.send_json(message)
                return await ws.receive_json(timeout=5)

            hello = await say(messageType="hello", use_webpush=True, broadcasts={})
            assert (hello["status"], len(hello["uaid"])) == (200, 32)
            made = await say(messageType="register", channelID="c1", key=PUBLIC)
            sub = {"endpoint": made["pushEndpoint"], "keys": keys.keys()}
            assert (await push(world, sub))[0] == 201
            got = await ws.receive_json(timeout=5)
            shown = keys.open(b64decode(got["data"]))
            assert shown is not None
            assert shown["title"] == "Mail is down"
            ack = {"channelID": "c1", "version": got["version"], "code": 100}
            await ws.send_json({"messageType": "ack", "updates": [ack]})
            await ws.send_str("{}")
            assert await ws.receive_json(timeout=5) == {}
            assert (await world.counts("push"))["delivered"] == 1
        assert (await push(world, sub, notice(delivery="stored")))[0] == 201
        async with world.http.ws_connect(world.origin.replace("http", "ws") + "/push/") as ws:
            assert (await say_to(ws, messageType="hello", uaid=hello["uaid"]))["uaid"] == hello["uaid"]
            assert (await ws.receive_json(timeout=5))["messageType"] == "notification"
            await say_to(ws, messageType="unregister", channelID="c1")
            assert (await push(world, sub))[0] == 410

    async def say_to(ws: aiohttp.ClientWebSocketResponse, **message: Any) -> Any:
        await ws.send_json(message)
        return await ws.receive_json(timeout=5)

    play(scene)


def test_a_thousand_browsers_are_quick() -> None:
    async def scene(world: World) -> None:
        made = (await world.tell("browsers", {"count": 1000}, 201))["subscriptions"]
        assert len({sub["endpoint"] for sub in made}) == len({sub["keys"]["p256dh"] for sub in made}) == 1000

    play(scene)


KEYS = Browser.new("property", receipts=False)


@settings(max_examples=50, deadline=None)
@given(st.binary(min_size=1, max_size=3900), st.integers(min_value=0, max_value=3999), st.integers(1, 255))
def test_decryption_agrees_with_http_ece_and_notices_any_change(data: bytes, position: int, flip: int) -> None:
    sender = ec.generate_private_key(ec.SECP256R1())
    body = http_ece.encrypt(
        data,
        private_key=sender,
        dh=KEYS.public_key,
        auth_secret=KEYS.auth,
        version="aes128gcm",
    )
    assert ece.decrypt(body, KEYS.private_key, KEYS.public_key, KEYS.auth) == data
    position %= len(body)
    if 16 <= position < 20:
        return  # the record size is not authenticated
    broken = body[:position] + bytes([body[position] ^ flip]) + body[position + 1 :]
    with pytest.raises(ece.BadEncryption):
        ece.decrypt(broken, KEYS.private_key, KEYS.public_key, KEYS.auth)
