import json
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlencode

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from twilio.request_validator import RequestValidator  # type: ignore[import-untyped]

from broadcaster.channels.sms import form
from broadcaster.channels.twilio_codes import DELIVERY_CODES, STATUSES, TWILIO_CODES
from broadcaster.domain import gsm, tokens
from broadcaster.domain.channel import Callback, CallbackRefused, Receipt
from broadcaster.domain.messages import Envelope, InvalidAddress
from broadcaster.domain.outcomes import Accepted, Ambiguous, Rejected, Scope, Throttled
from tests.channels.rig import (
    SECRET,
    SMS,
    TOKEN,
    answering,
    json_reply,
    message,
    provider,
    receipt_url,
    run,
    send_one,
    twilio,
)

CHANNEL = twilio("http://127.0.0.1:1")

# Answers


@pytest.mark.parametrize("code", TWILIO_CODES)
def test_every_known_code_has_its_outcome(code: int) -> None:
    async def main() -> None:
        error = answering(lambda seen: json_reply({"code": code, "message": "no", "status": 400}, status=400))
        async with provider(error) as there, SMS.open(there.origin) as channel:
            assert await send_one(channel, SMS.envelope(there.origin)) == TWILIO_CODES[code]

    run(main())


def test_the_table_says_what_the_facts_say() -> None:
    by_scope = {
        scope: {c for c, o in TWILIO_CODES.items() if isinstance(o, Rejected) and o.scope is scope} for scope in Scope
    }
    stop = {20003, 21212, 21603, 21606, 21659, 21701, 21702, 21703, 21704, 21705, 30002, 30034}
    assert stop <= by_scope[Scope.CHANNEL]
    assert by_scope[Scope.ADDRESS] == {21211, 21614, 21610, 30004, 30005, 30006}
    assert {21408, 21612, 21602, 21617, 30007} <= by_scope[Scope.MESSAGE]
    assert {c for c, o in TWILIO_CODES.items() if isinstance(o, Throttled)} == {20429, 21611, 63017, 63038}


@pytest.mark.parametrize("status", [400, 403, 409])
def test_an_unknown_code_is_ambiguous_and_logged(status: int, capsys: pytest.CaptureFixture[str]) -> None:
    async def main() -> None:
        error = answering(lambda seen: json_reply({"code": 39999, "message": "new"}, status=status))
        async with provider(error) as there, SMS.open(there.origin) as channel:
            outcome = await send_one(channel, SMS.envelope(there.origin))
            assert isinstance(outcome, Ambiguous)
            assert outcome.code == "39999"
            assert "sms.unknown_code" in capsys.readouterr().out

    run(main())


def test_an_rfc_9457_problem_is_read_like_the_older_error() -> None:
    async def main() -> None:
        problem = {"type": "https://t", "title": "no", "status": 400, "code": 21610}
        error = answering(lambda seen: json_reply(problem, status=400))
        async with provider(error) as there, SMS.open(there.origin) as channel:
            assert await send_one(channel, SMS.envelope(there.origin)) == TWILIO_CODES[21610]

    run(main())


def test_a_code_with_its_own_pause_keeps_retry_after() -> None:
    async def main() -> None:
        error = answering(lambda seen: json_reply({"code": 21611, "message": "full"}, 429, {"Retry-After": "9"}))
        async with provider(error) as there, SMS.open(there.origin) as channel:
            assert await send_one(channel, SMS.envelope(there.origin)) == Throttled(9.0, "21611")

    run(main())


# Requests


def _posted(now: float, what: Any, **config: Any) -> tuple[dict[str, str], dict[str, str], str]:
    async def main() -> tuple[dict[str, str], dict[str, str], str]:
        async with provider(answering(SMS.accept)) as there:
            channel = twilio(there.origin, **config)
            channel._clock = lambda: now
            await channel.open()
            assert isinstance(await send_one(channel, SMS.envelope(there.origin, 7), what), Accepted)
            await channel.close()
            seen = there.posts[0]
            return {k: v[0] for k, v in parse_qs(seen.body.decode()).items()}, seen.headers, seen.path

    return run(main())


def test_it_posts_what_twilio_wants() -> None:
    what = message()
    form, headers, path = _posted(what.sent_at / 1000, what)
    assert path == "/twilio/2010-04-01/Accounts/AC00000000000000000000000000000000/Messages.json"
    assert form["To"] == "+447700900007"
    assert form["From"] == "+441632960100"
    assert form["ValidityPeriod"] == "14400"
    assert form["StatusCallback"] == receipt_url("sms", 7)
    assert form["Body"].startswith("Northmoor IT: Email is down. Use the phone list. Next update 10:30. ")
    assert headers["Content-Type"] == "application/x-www-form-urlencoded"
    assert headers["Authorization"].startswith("Basic ")


@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), st.text(st.characters(exclude_categories=["Cs"]))))
def test_whatever_a_text_holds_arrives_as_it_is(fields: dict[str, str]) -> None:
    assert dict(parse_qsl(form(dict(fields)), keep_blank_values=True)) == fields


@pytest.mark.parametrize(("left", "validity"), [(-5, "1"), (0.4, "1"), (90, "90"), (10**6, "36000")])
def test_the_validity_period_is_the_messages_useful_life(left: float, validity: str) -> None:
    what = message(expires_at=1_800_000_000_000)
    form, _, _ = _posted(1_800_000_000 - left, what)
    assert form["ValidityPeriod"] == validity


def test_a_messaging_service_takes_the_senders_place() -> None:
    form, _, _ = _posted(0, message(), sender="", messaging_service_sid="MG" + "1" * 32)
    assert form["MessagingServiceSid"] == "MG" + "1" * 32
    assert "From" not in form


def test_a_sender_is_configured() -> None:
    with pytest.raises(ValueError, match="sender"):
        twilio("http://127.0.0.1:1", sender="")


# Numbers


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        ("07911 123456", "+447911123456"),
        ("+44 (0)7911 123456", "+447911123456"),
        ("+447781100000", "+447781100000"),  # Guernsey
        ("+447797700000", "+447797700000"),  # Jersey
        ("+447624200000", "+447624200000"),  # Isle of Man
        ("+1 201 555 0123", "+12015550123"),  # the United States do not tell mobile from fixed
        ("07700 900123", "+447700900123"),
        ("+447700912345", "+447700912345"),
    ],
)
def test_it_takes_mobile_numbers(raw: str, value: str) -> None:
    address = CHANNEL.parse_address(raw)
    assert (address.value, address.identity) == (value, value)
    assert address.masked == f"{value[:3]}…{value[-3:]}"


@pytest.mark.parametrize(
    "raw", ["", "abc", "020 7946 0000", "+4477009001234", "0770090012", "999", "+999123", "07911 123456 ext 5"]
)
def test_it_refuses_the_rest_without_repeating_it(raw: str) -> None:
    with pytest.raises(InvalidAddress) as refused:
        CHANNEL.parse_address(raw)
    assert not raw or raw not in str(refused.value)


def test_drama_numbers_are_for_the_sandbox_only() -> None:
    with pytest.raises(InvalidAddress):
        twilio("http://127.0.0.1:1", allow_drama_numbers=False).parse_address("+447700900123")


# Text

TO = Envelope(5, 1, "+447700900005", "7K2M9QX", "https://al.example/m/x1", "https://al.example/r")


def test_the_text_has_its_parts_in_order() -> None:
    what = message(drill=True, sent_at=1_700_000_000_000)  # 22:13:20 UTC, and in London
    assert CHANNEL.render(what, TO).text == (
        "DRILL: Northmoor IT: Email is down. Use the phone list. Next update 10:30. 22:13 Ref 7K2M9QX https://al.example/m/x1"
    )


def test_the_clock_is_the_readers() -> None:
    summer = message(sent_at=1_720_000_000_000)  # 09:46:40 UTC
    assert " 10:46 Ref " in CHANNEL.render(summer, TO).text


def test_word_processors_cost_nothing() -> None:
    content = CHANNEL.render(message(title="Email\u2019s down \u2013 don\u2019t retry", body="\u201cWait\u201d\u2026"), TO)
    assert CHANNEL.quote(content).encoding == gsm.GSM_7
    assert CHANNEL.quote(content).warnings == ()


def test_a_quote_counts_segments_money_and_says_why() -> None:
    cost = CHANNEL.quote(CHANNEL.render(message(body="Ŵ" + "a" * 300), TO))
    assert cost.encoding == gsm.UCS_2
    assert cost.money == cost.units * 24_000
    assert "Ŵ" in cost.warnings[0]
    assert len(cost.warnings) == 2


def test_a_long_body_is_shortened_and_never_the_reference_or_link() -> None:
    text = CHANNEL.render(message(body="word " * 500), TO).text
    assert gsm.segments(text) <= 4
    assert gsm.segments(text + "x" * 20) > 4, "shortened more than needed"
    assert "word... " in text
    assert text.endswith("Ref 7K2M9QX https://al.example/m/x1")


def test_its_lane_counts_segments() -> None:
    (lane,) = CHANNEL.lanes(TO, CHANNEL.quote(CHANNEL.render(message(body="a" * 200), TO)))
    assert (lane.key, lane.rate, lane.units) == (CHANNEL.route, 10.0, 2)


# Callbacks


def _callback(form: dict[str, str], url: str = "", signed: bool = True, token: str = TOKEN) -> Callback:
    url = url or receipt_url("sms", 7, 3)
    headers = {"x-twilio-signature": RequestValidator(token).compute_signature(url, form)} if signed else {}
    query = {"d": url.partition("?d=")[2]}
    return Callback(url, headers, query, urlencode(form).encode())


@pytest.mark.parametrize("status", STATUSES)
def test_every_status_proves_what_the_table_says(status: str) -> None:
    receipt = CHANNEL.read_receipt(_callback({"MessageSid": "SM1", "MessageStatus": status, "ErrorCode": ""}))
    if STATUSES[status] is None:
        assert receipt is None
    else:
        assert receipt is not None
        assert (receipt.delivery, receipt.attempt, receipt.state) == (7, 3, STATUSES[status])
        assert receipt.provider_id == "SM1"


@pytest.mark.parametrize("code", DELIVERY_CODES)
def test_every_delivery_code_says_whose_fault_it_is(code: int) -> None:
    form = {"MessageSid": "SM1", "MessageStatus": "undelivered", "ErrorCode": str(code)}
    failure = DELIVERY_CODES[code]
    expected = Receipt(7, 3, "failed", str(code), failure.reason, "SM1", failure.of_address, failure.of_route)
    assert CHANNEL.read_receipt(_callback(form)) == expected


def test_an_unknown_delivery_code_disables_nothing() -> None:
    receipt = CHANNEL.read_receipt(_callback({"MessageStatus": "failed", "ErrorCode": "12345"}))
    assert receipt is not None
    assert (receipt.code, receipt.disables_address, receipt.of_route) == ("12345", False, False)


def test_an_unknown_status_says_nothing() -> None:
    assert CHANNEL.read_receipt(_callback({"MessageStatus": "teleported"})) is None


SENT = {"MessageSid": "SM1", "MessageStatus": "delivered"}


GOOD = _callback(SENT)


@pytest.mark.parametrize(
    "callback",
    [
        _callback(SENT, signed=False),
        _callback(SENT, token="another"),
        replace(GOOD, body=b"MessageSid=SM1&MessageStatus=failed"),
        replace(GOOD, url=GOOD.url.replace("https", "http")),
        replace(GOOD, query={}),
        replace(GOOD, body=b"\xff\xfe"),
        replace(GOOD, query={"d": tokens.sign(SECRET, "message", 7, 3)}),
        replace(GOOD, query={"d": tokens.sign(SECRET, "receipt", 7)}),
        replace(GOOD, query={"d": "7.3.é"}),
    ],
    ids=[
        "unsigned",
        "other key",
        "other body",
        "other url",
        "no token",
        "rubbish",
        "other purpose",
        "no attempt",
        "not ascii",
    ],
)
def test_a_callback_that_does_not_hold_is_refused(callback: Callback) -> None:
    with pytest.raises(CallbackRefused):
        CHANNEL.read_receipt(callback)


def test_the_signature_covers_names_that_come_twice() -> None:
    url, body = receipt_url("sms", 7, 3), b"MessageStatus=sent&X=b&X=a"
    signature = RequestValidator(TOKEN).compute_signature(url + "MessageStatussentXaXb", {})
    receipt = CHANNEL.read_receipt(Callback(url, {"x-twilio-signature": signature}, {"d": url.partition("?d=")[2]}, body))
    assert receipt == Receipt(7, 3, "accepted")


def test_check_says_what_the_operator_can_do() -> None:
    async def main(status: int) -> str:
        page = answering(
            lambda seen: web.Response(status=status, text=json.dumps({"code": 20003, "message": "Authenticate"}))
        )
        async with provider(page) as there, SMS.open(there.origin) as channel:
            return str(await channel.check())

    assert "refuses" in run(main(401))
    assert "error" in run(main(500))
