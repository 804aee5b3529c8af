"""The stand-in for Twilio, through Twilio's own SDK."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st
from twilio.base.exceptions import TwilioRestException  # type: ignore[import-untyped]
from twilio.request_validator import RequestValidator  # type: ignore[import-untyped]
from twilio.rest.api.v2010.account.message import MessageInstance  # type: ignore[import-untyped]

from broadcaster.sandbox import credentials
from broadcaster.sandbox.segments import count_segments
from tests.sandbox.sandbox_world import World, play

SENDER = credentials.SENDER_NUMBER
GOOD = "+447700900123"


async def create(world: World, to: str = GOOD, body: str = "Mail is down. SBX-1", **more: Any) -> MessageInstance:
    if "messaging_service_sid" not in more:
        more.setdefault("from_", SENDER)
    return await world.twilio().messages.create_async(to=to, body=body, **more)


async def raw(world: World, form: Any, **headers: str) -> tuple[int, dict[str, Any], Mapping[str, str]]:
    """A create without the SDK, which would not send such things. (status, body)"""
    url = f"{world.origin}/twilio/2010-04-01/Accounts/{credentials.ACCOUNT_SID}/Messages.json"
    basic = aiohttp.encode_basic_auth(credentials.ACCOUNT_SID, credentials.AUTH_TOKEN)
    async with world.http.post(url, data=form, headers={"Authorization": basic, **headers}) as r:
        return r.status, await r.json(), r.headers


def test_it_takes_a_message_and_gives_it_back() -> None:
    async def scene(world: World) -> None:
        made = await create(world, body="£" * 161)
        assert made.sid.startswith("SM")
        assert (made.status, made.num_segments, made.price, made.error_code) == ("queued", "2", None, None)
        assert made.date_created is not None
        assert made.date_sent is None
        found = await world.twilio().messages(made.sid).fetch_async()
        assert (found.to, found.body) == (GOOD, "£" * 161)
        item = (await world.ask("ledger"))["items"][0]
        assert (item["channel"], item["address"], item["provider_id"]) == ("sms", GOOD, made.sid)

    play(scene)


def test_a_messaging_service_knows_no_segments_yet() -> None:
    async def scene(world: World) -> None:
        made = await create(world, messaging_service_sid=credentials.MESSAGING_SERVICE_SID)
        assert (made.status, made.num_segments, made.from_) == ("accepted", "0", None)
        assert (await world.twilio().messages(made.sid).fetch_async()).num_segments == "1"

    play(scene)


@pytest.mark.parametrize(
    ("form", "code"),
    [
        ({"From": SENDER, "Body": "x"}, 21604),
        ({"To": "07700900123", "From": SENDER, "Body": "x"}, 21211),
        ({"To": "+0447700900123", "From": SENDER, "Body": "x"}, 21211),
        ({"To": "+4477009001231234", "From": SENDER, "Body": "x"}, 21211),
        ({"To": GOOD, "Body": "x"}, 21603),
        ({"To": GOOD, "From": "+441632960999", "Body": "x"}, 21606),
        ({"To": GOOD, "MessagingServiceSid": "MG" + "0" * 32, "Body": "x"}, 21701),
        ({"To": GOOD, "From": SENDER}, 21602),
        ({"To": GOOD, "From": SENDER, "Body": "x" * 1601}, 21617),
        ({"To": GOOD, "From": SENDER, "Body": "x", "ValidityPeriod": "0"}, 21624),
        ({"To": GOOD, "From": SENDER, "Body": "x", "ValidityPeriod": "36001"}, 21624),
        ({"To": GOOD, "From": SENDER, "Body": "x", "ValidityPeriod": "1.5"}, 21624),
        ({"To": GOOD, "From": SENDER, "Body": "x", "StatusCallback": "/relative"}, 21609),
        ({"To": GOOD, "From": SENDER, "Body": "x", "StatusCallback": "ftp://h/"}, 21609),
        ({"To": GOOD, "From": SENDER, "Body": "x", "StatusCallback": "http://[bad/"}, 21609),
        ({"To": GOOD, "From": SENDER, "Body": "x", "Bodi": "x"}, 20001),
        ({"To": GOOD, "From": SENDER, "Body": "x", "MediaUrl": "https://h/x.png"}, 20001),
        ([("To", GOOD), ("To", GOOD), ("From", SENDER), ("Body", "x")], 20001),
    ],
)
def test_it_refuses_what_twilio_refuses(form: Any, code: int) -> None:
    async def scene(world: World) -> None:
        status, body, _ = await raw(world, form)
        assert (status, body["status"], body["code"]) == (400, 400, code)
        assert str(code) in body["more_info"]
        counts = await world.counts("sms")
        assert (counts["taken"], counts["rejected"]) == (0, 1)

    play(scene)


def test_it_refuses_a_wrong_token() -> None:
    async def scene(world: World) -> None:
        with pytest.raises(TwilioRestException) as caught:
            await world.twilio("wrong").messages.create_async(to=GOOD, from_=SENDER, body="x")
        assert (caught.value.status, caught.value.code) == (401, 20003)

    play(scene)


@pytest.mark.parametrize(
    ("to", "code"),
    [
        ("+15005550001", 21211),
        ("+15005550002", 21612),
        ("+15005550003", 21408),
        ("+15005550004", 21610),
        ("+15005550009", 21614),
        ("+447700900901", 21211),
        ("+447700900902", 21614),
        ("+447700900903", 21610),
        ("+447700900910", 39999),
    ],
)
def test_some_numbers_are_refused(to: str, code: int) -> None:
    async def scene(world: World) -> None:
        with pytest.raises(TwilioRestException) as caught:
            await create(world, to=to)
        assert caught.value.code == code

    play(scene)


@pytest.mark.parametrize(("to", "error"), [("904", "30003"), ("905", "30005"), ("906", "30007")])
def test_some_numbers_are_never_reached(to: str, error: str) -> None:
    async def scene(world: World) -> None:
        made = await create(world, to="+447700900" + to, status_callback=world.callback_origin + "/cb?d=1")
        assert (await world.callback())[1]["MessageStatus"] == "sent"
        final = (await world.callback())[1]
        assert (final["MessageStatus"], final["ErrorCode"]) == ("undelivered", error)
        found = await world.twilio().messages(made.sid).fetch_async()
        assert (found.status, str(found.error_code)) == ("undelivered", error)
        assert (await world.counts("sms"))["delivered"] == 0

    play(scene)


def test_one_number_throttles_once_and_one_takes_and_fails_once() -> None:
    form = {"From": SENDER, "Body": "x"}

    async def scene(world: World) -> None:
        status, body, headers = await raw(world, form | {"To": "+447700900907"})
        assert (status, body["code"], headers["Retry-After"]) == (429, 20429, "1")
        assert (await raw(world, form | {"To": "+447700900907"}))[0] == 201
        assert (await raw(world, form | {"To": "+447700900908"}))[0] == 500
        assert (await world.counts("sms"))["taken"] == 2
        assert len(await world.twilio().messages.list_async(to="+447700900908")) == 1
        assert (await raw(world, form | {"To": "+447700900908"}))[0] == 201
        assert (await world.counts("sms"))["duplicates"] == 1

    play(scene)


def test_callbacks_are_signed_and_in_order() -> None:
    async def scene(world: World) -> None:
        url = world.callback_origin + "/cb?delivery=7&sig=a%2Bb"
        made = await create(world, status_callback=url)
        seen = [await world.callback(), await world.callback()]
        assert [fields["MessageStatus"] for _, fields, _ in seen] == ["sent", "delivered"]
        for _, fields, headers in seen:
            assert fields["MessageSid"] == fields["SmsSid"] == made.sid
            assert (fields["To"], fields["From"]) == (GOOD, SENDER)
            validator = RequestValidator(credentials.AUTH_TOKEN)
            assert validator.validate(url, fields, headers["X-Twilio-Signature"])

    play(scene)


@pytest.mark.parametrize(
    ("kind", "statuses"),
    [
        ("callback_twice", ["sent", "sent", "delivered", "delivered"]),
        ("callback_out_of_order", ["delivered", "sent"]),
        ("callback_early", ["sent", "sent", "delivered"]),
        ("callback_lost", []),
    ],
)
def test_callbacks_go_wrong_when_told(kind: str, statuses: list[str]) -> None:
    async def scene(world: World) -> None:
        await world.fault(provider="twilio", kind=kind, count=1)
        await create(world, status_callback=world.callback_origin + "/odd")
        assert world.callbacks.qsize() == (1 if kind == "callback_early" else 0)
        await create(world, status_callback=world.callback_origin + "/good")
        seen: list[tuple[str, str]] = []
        while len(seen) < len(statuses) + 2:
            url, fields, _ = await world.callback()
            seen.append((url.rpartition("/")[2], fields["MessageStatus"]))
        assert [status for where, status in seen if where == "odd"] == statuses

    play(scene)


def test_a_forged_callback_does_not_validate() -> None:
    async def scene(world: World) -> None:
        await world.fault(provider="twilio", kind="callback_forged")
        url = world.callback_origin + "/cb"
        await create(world, status_callback=url)
        _, fields, headers = await world.callback()
        validator = RequestValidator(credentials.AUTH_TOKEN)
        assert not validator.validate(url, fields, headers["X-Twilio-Signature"])

    play(scene)


def test_it_calls_back_to_loopback_only() -> None:
    async def scene(world: World) -> None:
        await create(world, status_callback="http://example.org/cb")
        await create(world, status_callback=world.callback_origin + "/cb")
        await world.callback()
        assert (await world.ask("summary"))["callbacks"]["blocked"] >= 1

    play(scene)


def test_the_list_is_paged_filtered_and_newest_first() -> None:
    async def scene(world: World) -> None:
        sids = [(await create(world, body=f"text {n}")).sid for n in range(5)]
        await create(world, to="+447700900124", from_=credentials.SENDER_NAME)
        found = await world.twilio().messages.list_async(to=GOOD, page_size=2)
        assert [message.sid for message in found] == sids[::-1]
        page = await world.twilio().messages.page_async(page_size=4)
        assert len(list(page)) == 4
        assert "PageToken=PASM" in page.next_page_url
        assert len(await world.twilio().messages.list_async(from_=credentials.SENDER_NAME)) == 1
        url = f"{world.origin}/twilio/2010-04-01/Accounts/{credentials.ACCOUNT_SID}/Messages.json?Foo=1"
        basic = aiohttp.encode_basic_auth(credentials.ACCOUNT_SID, credentials.AUTH_TOKEN)
        async with world.http.get(url, headers={"Authorization": basic}) as r:
            assert r.status == 400

    play(scene)


def test_the_list_filters_by_day_and_skips_what_is_unsent() -> None:
    async def scene(world: World) -> None:
        sent = await create(world, status_callback=world.callback_origin)
        await world.callback()
        day = (await world.twilio().messages(sent.sid).fetch_async()).date_sent
        await world.tell("settings", {"sms_rate": 0.01}, 200)
        await create(world)
        assert [m.sid for m in await world.twilio().messages.list_async(date_sent=day)] == [sent.sid]
        assert [m.sid for m in await world.twilio().messages.list_async(date_sent_after=day)] == [sent.sid]
        long_ago = day.replace(year=2001)
        assert await world.twilio().messages.list_async(date_sent_before=long_ago) == []

    play(scene)


def test_the_list_can_lag_behind() -> None:
    async def scene(world: World) -> None:
        await world.tell("settings", {"list_lag": 60}, 200)
        made = await create(world)
        assert await world.twilio().messages.list_async(to=GOOD) == []
        assert (await world.twilio().messages(made.sid).fetch_async()).sid == made.sid
        await world.tell("settings", {"list_lag": 0}, 200)
        assert len(await world.twilio().messages.list_async(to=GOOD)) == 1

    play(scene)


def test_a_queue_drains_at_its_rate_and_a_short_validity_dies_in_it() -> None:
    async def scene(world: World) -> None:
        # 36 s a segment: the second message would have to wait longer than its second of validity
        first = await create(world, status_callback=world.callback_origin + "/first")
        second = await create(world, validity_period=1, status_callback=world.callback_origin + "/second")
        assert first.status == second.status == "queued"
        _, fields, _ = await world.callback()
        assert (fields["MessageSid"], fields["MessageStatus"]) == (second.sid, "failed")
        assert fields["ErrorCode"] == "30036"
        counts = await world.counts("sms")
        assert (counts["taken"], counts["delivered"], counts["failed"]) == (2, 0, 1)
        assert counts["duplicates"] == 0, "what died in the queue reached nobody"

    play(scene, sms_rate=1 / 36)


def test_a_full_queue_refuses_a_number_and_fails_a_service() -> None:
    async def scene(world: World) -> None:
        await world.tell("settings", {"sms_rate": 0.001}, 200)
        service = {"messaging_service_sid": credentials.MESSAGING_SERVICE_SID}
        for _ in range(4):
            await create(world, body="x" * 1500)
            await create(world, body="x" * 1500, **service)
        with pytest.raises(TwilioRestException) as caught:
            await create(world)
        assert (caught.value.status, caught.value.code) == (429, 21611)
        made = await create(world, **service)
        found = await world.twilio().messages(made.sid).fetch_async()
        assert (found.status, found.error_code) == ("failed", 30001)

    play(scene)


def test_a_phone_can_text_us() -> None:
    async def scene(world: World) -> None:
        url = world.callback_origin + "/inbound"
        body = {"from": GOOD, "to": SENDER, "body": "stop", "url": url}
        await world.tell("twilio/inbound", body, 202)
        _, fields, headers = await world.callback()
        assert (fields["Body"], fields["OptOutType"]) == ("stop", "STOP")
        validator = RequestValidator(credentials.AUTH_TOKEN)
        assert validator.validate(url, fields, headers["X-Twilio-Signature"])
        await world.tell("twilio/inbound", body | {"url": "http://example.org/"}, 400)

    play(scene)


BASIC = "ABCxyz 019@£$èéÇØΔ_Φ!\"#¤%&'()*+,-./:;<=>?¡ÄÖÑÜ§¿äöñüà\n"


@given(st.text(alphabet=BASIC, max_size=700))
def test_basic_text_takes_160_or_153_a_segment(text: str) -> None:
    assert count_segments(text) == (1 if len(text) <= 160 else math.ceil(len(text) / 153))


@pytest.mark.parametrize(
    ("text", "segments"),
    [
        ("", 1),
        ("€" * 80, 1),
        ("€" * 81, 2),
        ("x" * 151 + "€" + "x" * 153, 2),
        (
            "x" * 152 + "€" + "x" * 152,
            3,
        ),  # 306 septets, but the escape pair does not fit in the first part's last place
        ("ŵ" * 70, 1),
        ("ŵ" * 71, 2),
        ("😀" * 35, 1),
        ("😀" * 67, 3),  # 33 whole pairs a part: 67 code units hold no half
    ],
)
def test_segments_at_the_edges(text: str, segments: int) -> None:
    assert count_segments(text) == segments
