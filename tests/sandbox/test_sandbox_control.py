"""Faults, the ledger and the rest of `/_sandbox/`, and the sandbox as a process of its own."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import aiohttp
import pytest

from broadcaster.sandbox import credentials
from broadcaster.sandbox.faults import Faults
from broadcaster.sandbox.ledger import Ledger
from broadcaster.sandbox.replies import BadInput
from tests.sandbox.sandbox_world import World, play

GOOD = "+447700900123"
Reply = tuple[int, dict[str, Any], Mapping[str, str]]
"""Status, body, headers."""


async def text_them(world: World, to: str = GOOD, timeout: float = 5.0) -> Reply:
    url = f"{world.origin}/twilio/2010-04-01/Accounts/{credentials.ACCOUNT_SID}/Messages.json"
    headers = {
        "Authorization": aiohttp.encode_basic_auth(credentials.ACCOUNT_SID, credentials.AUTH_TOKEN),
        "Connection": "close",
    }
    form = {"To": to, "From": credentials.SENDER_NUMBER, "Body": "x"}
    limit = aiohttp.ClientTimeout(total=timeout)
    async with world.http.post(url, data=form, headers=headers, timeout=limit) as r:
        return r.status, await r.json(), r.headers


async def slack_them(world: World) -> tuple[int, str, Mapping[str, str]]:
    body = {"channel": "U0ABCDEFGH1", "text": "x"}
    headers = {"Authorization": f"Bearer {credentials.SLACK_TOKEN}"}
    async with world.http.post(f"{world.origin}/slack/api/chat.postMessage", json=body, headers=headers) as r:
        return r.status, await r.text(), r.headers


@pytest.mark.parametrize("taken", [True, False])
def test_a_status_can_hide_that_the_message_was_taken(taken: int) -> None:
    async def scene(world: World) -> None:
        await world.fault(provider="twilio", kind="status", status=503, retry_after=1.5, taken=taken, count=1)
        status, body, headers = await text_them(world)
        assert (status, body["code"], headers["Retry-After"]) == (503, 20503, "2")
        assert (await world.counts("sms"))["taken"] == int(taken)
        assert (await text_them(world))[0] == 201

    play(scene)


@pytest.mark.parametrize(("kind", "taken"), [("reset_before", 0), ("reset_after", 1)])
def test_a_connection_can_be_reset(kind: str, taken: int) -> None:
    async def scene(world: World) -> None:
        await world.fault(provider="twilio", kind=kind, count=1)
        with pytest.raises(aiohttp.ClientOSError) as caught:
            await text_them(world)
        assert caught.value.errno == errno.ECONNRESET, "a reset, not an orderly end"
        assert (await world.counts("sms"))["taken"] == taken

    play(scene)


@pytest.mark.parametrize(
    ("fault", "taken"),
    [
        ({"kind": "hang"}, 0),
        ({"kind": "hang", "taken": True}, 1),
        ({"kind": "late_reply", "seconds": 30}, 1),
        ({"kind": "delay", "seconds": 30}, 0),
    ],
)
def test_an_answer_can_stay_away(fault: dict[str, Any], taken: int) -> None:
    async def scene(world: World) -> None:
        await world.fault(provider="twilio", **fault)
        with pytest.raises(TimeoutError):
            await text_them(world, timeout=0.2)
        assert (await world.counts("sms"))["taken"] == taken

    play(scene)


def test_the_number_that_hangs_is_not_taken() -> None:
    async def scene(world: World) -> None:
        with pytest.raises(TimeoutError):
            await text_them(world, to="+447700900909", timeout=0.2)
        assert (await world.counts("sms"))["taken"] == 0

    play(scene)


def test_a_fault_can_be_for_one_address_and_one_operation() -> None:
    async def scene(world: World) -> None:
        made = await world.fault(provider="twilio", kind="status", status=500, match="0900124")
        assert (await text_them(world))[0] == 201
        assert (await text_them(world, to="+447700900124"))[0] == 500
        assert (await world.ask("faults"))["faults"][0]["hits"] == 1
        async with world.http.delete(f"{world.origin}/_sandbox/faults/{made['id']}") as r:
            assert (await r.json())["removed"] == 1
        async with world.http.delete(f"{world.origin}/_sandbox/faults/{made['id']}") as r:
            assert r.status == 404
        await world.fault(provider="twilio", kind="status", operation="lookup")
        assert (await text_them(world))[0] == 201
        with pytest.raises(Exception, match="500"):
            await world.twilio().messages.list_async(to=GOOD)

    play(scene)


def test_slack_faults_have_slacks_shape() -> None:
    async def scene(world: World) -> None:
        await world.fault(provider="slack", kind="status", status=429, retry_after=3, count=1)
        status, body, headers = await slack_them(world)
        assert (status, json.loads(body)["error"], headers["Retry-After"]) == (429, "ratelimited", "3")
        await world.fault(provider="slack", kind="status", status=502, count=1)
        assert (await slack_them(world))[1].startswith("<html>")
        assert (await slack_them(world))[0] == 200

    play(scene)


@pytest.mark.parametrize(
    ("path", "body", "word"),
    [
        ("faults", {"provider": "twilio"}, "kind"),
        ("faults", {"provider": "telegraph", "kind": "hang"}, "provider"),
        ("faults", {"provider": "twilio", "kind": "hang", "colour": 1}, "colour"),
        ("faults", {"provider": "twilio", "kind": "hang", "probability": 2}, "probability"),
        ("faults", {"provider": "twilio", "kind": "hang", "count": True}, "count"),
        ("faults", {"provider": "twilio", "kind": "delay"}, "seconds"),
        ("settings", {"sms_rate": 0}, "sms_rate"),
        ("settings", {"sms_callback_statuses": ["read"]}, "sms_callback_statuses"),
        ("browsers", {}, "count"),
        ("browsers", {"count": 0}, "count"),
        ("browsers", {"count": 1, "labels": ["a", "b"]}, "labels"),
        ("browsers", {"count": 1, "application_server_key": "AAAA"}, "application_server_key"),
        ("browsers/state", {"endpoints": ["http://nowhere/"]}, "endpoints"),
        ("people", {"people": [{"phone": GOOD}]}, "name"),
        ("people", {"people": [{"name": "A", "phone": "123"}]}, "phone"),
        ("slack/users", {"users": ["A"]}, "users"),
    ],
)
def test_what_is_not_understood_is_refused_by_name(path: str, body: dict[str, Any], word: str) -> None:
    async def scene(world: World) -> None:
        problem = await world.tell(path, body, 400)
        assert word in problem["detail"]
        assert problem["status"] == 400

    play(scene)


def test_a_foreign_page_cannot_post_here() -> None:
    async def scene(world: World) -> None:
        headers = {"Origin": "https://evil.example"}
        async with world.http.post(f"{world.origin}/_sandbox/reset", headers=headers) as r:
            assert r.status == 403
        async with world.http.post(f"{world.origin}/_sandbox/reset", headers={"Origin": world.origin}) as r:
            assert r.status == 200
        async with world.http.post(f"{world.origin}/_sandbox/settings", data="{}") as r:
            assert r.status == 400

    play(scene)


def test_the_ledger_can_be_followed() -> None:
    async def scene(world: World) -> None:
        for number in range(5):
            await text_them(world, to=f"+44770090010{number}")
        await slack_them(world)
        first = await world.ask("ledger?limit=2")
        assert [item["seq"] for item in first["items"]] == [1, 2]
        rest = await world.ask(f"ledger?after={first['next']}&channel=sms")
        assert [item["seq"] for item in rest["items"]] == [3, 4, 5]
        assert rest["next"] == 6
        assert (await world.ask("ledger?after=6")) == {"items": [], "next": 6}
        await world.ask("ledger?channel=fax", 400)
        await world.ask("ledger?after=x", 400)
        answers = (await world.ask("requests"))["items"]
        assert {"provider": "twilio", "operation": "send", "answer": "201", "count": 5} in answers

    play(scene)


def test_reset_forgets_messages_and_faults_but_no_browsers() -> None:
    async def scene(world: World) -> None:
        await world.tell("browsers", {"count": 1}, 201)
        await world.tell("people", {"people": [{"name": "Ana", "phone": GOOD}]}, 200)
        await text_them(world)
        await world.fault(provider="twilio", kind="hang")
        await world.tell("reset", {}, 200)
        summary = await world.ask("summary")
        assert (summary["channels"]["sms"]["taken"], summary["known"]) == (0, 2)
        assert (await text_them(world))[0] == 201
        found = await world.ask("messages?channel=sms&address=%2B447700900123")
        assert (found["name"], len(found["items"])) == ("Ana", 1)

    play(scene)


def test_the_same_seed_makes_the_same_choices() -> None:
    def run(seed: int) -> list[bool]:
        faults = Faults(seed)
        faults.add({"provider": "twilio", "kind": "callback_lost", "probability": 0.5})
        return [bool(faults.callbacks("twilio", "x")) for _ in range(50)]

    assert run(1) == run(1)
    assert run(1) != run(2)
    with pytest.raises(BadInput):
        Faults(0).add({"provider": "twilio", "kind": "hang", "status": 200})


def test_the_ledger_keeps_counting_beyond_what_it_keeps() -> None:
    ledger = Ledger(clock=lambda: 1.0, limit=100)
    for number in range(250):
        ledger.take("sms", f"+4477009{number:05}", "k", "SM", "x")
    found, reached = ledger.after(0, None, 1000)
    assert len(found) <= 100
    assert (found[-1].seq, reached) == (250, 250)
    assert ledger.totals["sms"].taken == 250


def test_a_failed_message_gives_its_key_back() -> None:
    ledger = Ledger(clock=lambda: 1.0)
    first = ledger.take("sms", GOOD, "k", "SM1", "x")
    ledger.failed(first, "undelivered")
    ledger.take("sms", GOOD, "k", "SM2", "x")
    assert ledger.totals["sms"].duplicates == 0
    third = ledger.take("sms", GOOD, "k", "SM3", "x")
    assert ledger.totals["sms"].duplicates == 1
    ledger.failed(third, "undelivered")
    assert ledger.totals["sms"].duplicates == 0


def test_the_page_works_without_javascript_and_escapes() -> None:
    async def scene(world: World) -> None:
        await world.tell("people", {"people": [{"name": "<b>Ana", "slack": "U0ABCDEFGH1"}]}, 200)
        await slack_them(world)
        async with world.http.get(world.origin + "/") as r:
            page = await r.text()
        assert "Nothing here reaches a real person" in page
        assert "&lt;b&gt;Ana" in page
        assert "<b>Ana" not in page
        assert not re.search(r'(src|href)="(https?:)?//', page), "no foreign assets"
        for name in re.findall(r'"(/wall/[^"]+)"', page):
            async with world.http.get(world.origin + name) as r:
                assert r.status == 200

    play(scene)


def test_the_stream_tells_what_is_known_and_then_what_changes() -> None:
    async def scene(world: World) -> None:
        await world.tell("people", {"people": [{"name": "Ana", "phone": GOOD}]}, 200)
        async with world.http.get(world.origin + "/_sandbox/stream") as r:

            async def event() -> tuple[str, Any]:
                lines = [(await asyncio.wait_for(r.content.readline(), 5)).decode() for _ in range(3)]
                return lines[0].strip(), json.loads(lines[1].removeprefix("data: "))

            kind, body = await event()
            assert kind == "event: all"
            assert body["tiles"] == [[0, "sms", GOOD, "Ana", 0, 0, 0, 0]]
            await text_them(world)
            kind, body = await event()
            assert kind == "event: some"
            assert body["tiles"][0][4] == 1
            assert body["latest"][0]["who"] == "Ana"

    play(scene)


def test_it_runs_as_a_process_and_stops_on_sigterm() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "broadcaster.sandbox", "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert re.fullmatch(r"sandbox listening on http://127\.0\.0\.1:\d+\n", line)
        asyncio.run(_reset_under_uvloop(line.split()[-1]))
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=5)
        assert (out, err, process.returncode) == ("", "", 0)


async def _reset_under_uvloop(origin: str) -> None:
    """uvloop's transports differ from asyncio's, so a reset is tried there, too."""
    async with aiohttp.ClientSession() as http:
        fault = {"provider": "slack", "kind": "reset_before", "operation": "any"}
        async with http.post(f"{origin}/_sandbox/faults", json=fault) as r:
            assert r.status == 201
        headers = {"Authorization": f"Bearer {credentials.SLACK_TOKEN}", "Connection": "close"}
        with pytest.raises(aiohttp.ClientOSError) as caught:
            await http.post(f"{origin}/slack/api/auth.test", headers=headers)
        assert caught.value.errno == errno.ECONNRESET
