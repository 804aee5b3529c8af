"""GOV.UK Notify: what its errors mean, and what the stand-in refuses as Notify does."""

import time
from typing import Any

import aiohttp
import jwt
import pytest

from broadcaster.channels.notify import NotifyConfig, NotifySms, classify
from broadcaster.domain.channel import Callback, CallbackRefused
from broadcaster.domain.messages import Envelope
from broadcaster.domain.outcomes import Ambiguous, Deferred, Outcome, Rejected, Scope, Throttled
from broadcaster.sandbox import credentials
from broadcaster.sandbox.server import SandboxConfig, start
from tests.channels.rig import SECRET, answering, json_reply, message, notify, provider, run


def error(name: str, text: str = "") -> dict[str, Any]:
    return {"errors": [{"error": name, "message": text}]}


@pytest.mark.parametrize(
    ("status", "answer", "expected"),
    [
        (400, error("ValidationError", "phone_number Not enough digits"), Rejected(Scope.ADDRESS, "", "")),
        (400, error("ValidationError", "phone_number Not a valid country prefix"), Rejected(Scope.MESSAGE, "", "")),
        (400, error("InvalidPhoneError", "Not a UK mobile number"), Rejected(Scope.MESSAGE, "", "")),
        (400, error("ValidationError", "template_id is not a valid UUID"), Rejected(Scope.CHANNEL, "", "")),
        (400, error("BadRequestError", "Cannot send to international mobile numbers"), Rejected(Scope.MESSAGE, "", "")),
        (400, error("BadRequestError", "Your message is too long. Text messages cannot be longer than 918 characters."),
         Rejected(Scope.MESSAGE, "", "")),
        (400, error("BadRequestError", "Can’t send to this recipient using a team-only API key"),
         Rejected(Scope.CHANNEL, "", "")),
        (400, error("BadRequestError", "Template not found"), Rejected(Scope.CHANNEL, "", "")),
        (400, error("BadRequestError", "New words"), Deferred("", "")),
        (401, error("AuthError", "Unauthorized: authentication token must be provided"), Rejected(Scope.CHANNEL, "", "")),
        (429, error("TooManyRequestsError", "Exceeded send limits (international_sms: 100) for today"),
         Rejected(Scope.MESSAGE, "", "")),
        (403, error("AuthError", "Error: Your system clock must be accurate to within 30 seconds"),
         Rejected(Scope.CHANNEL, "", "")),
        (429, error("RateLimitError"), Throttled(1.0, "")),
        (429, error("TooManyRequestsError"), Throttled(3600.0, "")),
        (500, error("Exception"), Ambiguous("", "")),
        (503, {}, Ambiguous("", "")),
        (418, error("Teapot"), Ambiguous("", "")),
        (400, {"errors": "?"}, Ambiguous("", "")),
    ],
)  # fmt: skip
def test_could_notify_have_taken_it(status: int, answer: dict[str, Any], expected: Outcome) -> None:
    found = classify(status, answer, None)
    assert type(found) is type(expected)
    if isinstance(found, Rejected) and isinstance(expected, Rejected):
        assert found.scope is expected.scope
    if isinstance(found, Throttled) and isinstance(expected, Throttled):
        assert found.retry_after == expected.retry_after


def test_the_api_key_is_taken_apart_as_notify_writes_it() -> None:
    config = NotifyConfig(api_key=credentials.NOTIFY_API_KEY, template_id="t", callback_token="c", token_secret=SECRET)
    assert (config.service_id, config.secret) == (credentials.NOTIFY_SERVICE_ID, credentials.NOTIFY_SECRET)
    assert NotifySms(config).route == f"sms:notify:{credentials.NOTIFY_SERVICE_ID}"
    with pytest.raises(ValueError, match="API key"):
        NotifySms(NotifyConfig(api_key="short", template_id="t", callback_token="c", token_secret=SECRET))


@pytest.mark.parametrize(
    ("bearer", "body"),
    [
        ("", b"{}"),
        ("Bearer wrong", b"{}"),
        (f"Bearer {credentials.NOTIFY_CALLBACK_TOKEN}", b"no json"),
        (f"Bearer {credentials.NOTIFY_CALLBACK_TOKEN}", b"[]"),
        (f"Bearer {credentials.NOTIFY_CALLBACK_TOKEN}", b'{"reference": null, "status": "delivered"}'),
        (f"Bearer {credentials.NOTIFY_CALLBACK_TOKEN}", b'{"reference": "1.1.forged", "status": "delivered"}'),
    ],
)
def test_a_receipt_without_the_token_or_with_a_made_up_reference_is_refused(bearer: str, body: bytes) -> None:
    with pytest.raises(CallbackRefused):
        notify("http://127.0.0.1:1").read_receipt(Callback("", {"authorization": bearer}, {}, body))


GOOD = {
    "phone_number": "+447700910001", "template_id": credentials.NOTIFY_TEMPLATE_ID, "personalisation": {"message": "x"},
}  # fmt: skip


@pytest.mark.parametrize(
    ("claims", "body", "status", "name"),
    [
        ({}, GOOD, 201, None),
        ({"iat": 1}, GOOD, 403, "AuthError"),
        ({"iss": "another"}, GOOD, 403, "AuthError"),
        ({}, GOOD | {"colour": "red"}, 400, "ValidationError"),
        ({}, GOOD | {"phone_number": "abc"}, 400, "ValidationError"),
        ({}, GOOD | {"template_id": "another"}, 400, "ValidationError"),
        ({}, GOOD | {"template_id": "5a5a5a5a-0000-4000-8000-000000000002"}, 400, "BadRequestError"),
        ({}, GOOD | {"personalisation": {}}, 400, "BadRequestError"),
        ({}, GOOD | {"personalisation": {"message": "x" * 919}}, 400, "BadRequestError"),
    ],
)
def test_the_stand_in_is_as_strict_as_notify(
    claims: dict[str, Any], body: dict[str, Any], status: int, name: str | None
) -> None:
    async def main() -> None:
        sandbox = await start(SandboxConfig())
        try:
            whole = {"iss": credentials.NOTIFY_SERVICE_ID, "iat": int(time.time())} | claims
            headers = {"Authorization": f"Bearer {jwt.encode(whole, credentials.NOTIFY_SECRET, 'HS256')}"}
            async with (
                aiohttp.ClientSession() as http,
                http.post(f"{sandbox.origin}/notify/v2/notifications/sms", json=body, headers=headers) as answer,
            ):
                found = await answer.json()
                assert answer.status == status, found
                assert name is None or found["errors"][0]["error"] == name
        finally:
            await sandbox.stop()

    run(main())


TO = Envelope(5, 1, "+447700900005", "7K2M9QX", "https://al.example/m/x1", "https://al.example/r")


def test_the_text_is_what_notify_makes_of_it() -> None:
    channel = notify("http://127.0.0.1:1")
    content = channel.render(message(title="Łódź: façade 🚨"), TO)
    assert "Lódz: facade ?" in content.text  # ó is a Welsh letter too
    assert "Łódź: façade 🚨" in str(content.payload)
    assert "🚨" in channel.quote(content).warnings[0]
    assert channel.quote(channel.render(message(), TO)).warnings == ()


@pytest.mark.parametrize(
    ("status", "body", "says"),
    [
        (200, {"type": "sms", "personalisation": {"message": {"required": True}}}, None),
        (200, {"type": "sms", "personalisation": {}}, "one field"),
        (200, {"type": "sms", "personalisation": {"message": {}, "name": {}}}, "one field"),
        (200, {"type": "email", "personalisation": {"message": {}}}, "one field"),
        (403, error("AuthError"), "API key"),
        (404, error("NoResultFound"), "template"),
        (500, error("Exception"), "500"),
    ],
)
def test_check_finds_a_template_that_would_lose_the_text(status: int, body: dict[str, Any], says: str | None) -> None:
    async def main() -> None:
        async with provider(answering(lambda seen: json_reply(body, status))) as there:
            channel = notify(there.origin)
            await channel.open()
            found = await channel.check()
            await channel.close()
            assert found is None if says is None else says in str(found)

    run(main())


def test_without_a_callback_token_no_receipt_holds() -> None:
    with pytest.raises(CallbackRefused):
        notify("http://127.0.0.1:1", callback_token="").read_receipt(Callback("", {"authorization": "Bearer "}, {}, b"{}"))
