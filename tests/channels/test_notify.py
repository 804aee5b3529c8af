"""GOV.UK Notify: what its errors mean, and what the stand-in refuses as Notify does."""

import time
from typing import Any

import aiohttp
import jwt
import pytest

from broadcaster.channels.notify import NotifyConfig, NotifySms, classify
from broadcaster.domain.channel import Callback, CallbackRefused
from broadcaster.domain.outcomes import Ambiguous, Outcome, Rejected, Scope, Throttled
from broadcaster.sandbox import credentials
from broadcaster.sandbox.server import SandboxConfig, start
from tests.channels.rig import SECRET, notify, run


def error(name: str, text: str = "") -> dict[str, Any]:
    return {"errors": [{"error": name, "message": text}]}


@pytest.mark.parametrize(
    ("status", "answer", "expected"),
    [
        (400, error("ValidationError", "phone_number Not enough digits"), Rejected(Scope.ADDRESS, "", "")),
        (400, error("ValidationError", "reference is not of type string"), Rejected(Scope.MESSAGE, "", "")),
        (400, error("BadRequestError", "Content for template has a character count greater than the limit of 918"),
         Rejected(Scope.MESSAGE, "", "")),
        (400, error("BadRequestError", "Can't send to this recipient using a team-only API key"),
         Rejected(Scope.CHANNEL, "", "")),
        (400, error("BadRequestError", "Template not found"), Rejected(Scope.CHANNEL, "", "")),
        (403, error("AuthError", "Error: Your system clock must be accurate to within 30 seconds"),
         Rejected(Scope.CHANNEL, "", "")),
        (429, error("RateLimitError"), Throttled(5.0, "")),
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
        ({}, GOOD | {"template_id": "another"}, 400, "BadRequestError"),
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
