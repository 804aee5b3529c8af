"""Who may do what, and how the API says no: always a problem document, never with what was sent."""

from collections.abc import Iterator
from typing import Any

import pytest
import requests

from broadcaster.domain import references, tokens
from broadcaster.wiring import Wiring
from tests.conftest import Stack

PROBLEM = "application/problem+json"


@pytest.fixture
def wiring(stack: Stack) -> Iterator[Wiring]:
    made = Wiring(stack.settings)
    yield made
    made.database.close()


def call(stack: Stack, method: str, path: str, key: str | None = None, **options: Any) -> requests.Response:
    headers = {**({"Authorization": f"Bearer {key}"} if key else {}), **options.pop("headers", {})}
    return requests.request(method, f"{stack.api}/api/v1/{path}", headers=headers, timeout=10, **options)


def problem(answer: requests.Response, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == PROBLEM
    body: dict[str, Any] = answer.json()
    assert body["status"] == status
    assert body["type"]
    assert body["title"]
    assert body["detail"]
    return body


# ---- keys ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [None, "ab_live_000000000000_" + "A" * 43, "rubbish", "ab_test_"])
def test_without_a_key_that_holds_the_answer_is_401(stack: Stack, key: str | None) -> None:
    answer = call(stack, "GET", "alerts", key)
    assert problem(answer, 401)["type"].endswith(":unauthorized")
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


def test_every_route_but_the_stated_ones_asks_for_a_key(stack: Stack) -> None:
    """Open: liveness, the push key, receipts (each is signed), heartbeats and signals (the address or routing key is the
    proof), and leaving (the browser's secret is the proof)."""
    document = requests.get(f"{stack.api}/api/v1/openapi.json", timeout=10).json()
    unguarded = {
        (method.upper(), path)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        if not operation.get("security")
    }
    assert unguarded == {
        ("GET", "/healthz"),
        ("GET", "/readyz"),
        ("GET", "/api/v1/push/key"),
        ("DELETE", "/api/v1/push/subscriptions"),
        ("POST", "/api/v1/receipts/{channel}"),
        ("POST", "/api/v1/signals/{source_format}/{token}"),
        ("POST", "/v2/enqueue"),
        *((method, "/api/v1/heartbeats/{token}") for method in ("GET", "HEAD", "POST")),
    }


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "alerts", {"title": "t", "body": "b", "audience": {"everyone": True}}),
        ("POST", "recipients", {"name": "Nobody"}),
        ("GET", "recipients", None),
        ("POST", "groups", {"name": "Nobody"}),
        ("DELETE", "groups/none", None),
    ],
)
def test_the_wrong_scope_is_403(stack: Stack, wiring: Wiring, method: str, path: str, body: Any) -> None:
    _, key = wiring.keys.create("reads alerts", ["alerts:read"])
    assert "scope" in problem(call(stack, method, path, key, json=body), 403)["detail"]
    assert call(stack, "GET", "alerts", key).status_code == 200


def test_a_revoked_key_is_401_within_seconds(stack: Stack, wiring: Wiring) -> None:
    uid, key = wiring.keys.create("leaves", ["alerts:read"])
    assert call(stack, "GET", "alerts", key).status_code == 200
    wiring.keys.revoke(uid)
    stack.until(lambda: call(stack, "GET", "alerts", key).status_code == 401, 6)
    problem(call(stack, "GET", "alerts", key), 401)


def test_a_test_key_reaches_the_sandbox_and_says_so(stack: Stack, wiring: Wiring) -> None:
    _, key = wiring.keys.create("drill", ["alerts:send", "alerts:read"], test=True)
    assert key.startswith("ab_test_")
    stack.person("Test key", tag="testkey")
    body = {"title": "t", "body": "b", "audience": {"tag": "test:testkey"}}
    made = call(stack, "POST", "alerts", key, json=body)
    assert made.status_code == 202
    assert call(stack, "GET", f"alerts/{made.json()['id']}", key).json()["sandbox"] is True


# ---- requests that cannot be read ----------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [b"{", b'{"name": }', b"\xff\xfe"])
def test_malformed_json_is_400(stack: Stack, body: bytes) -> None:
    problem(call(stack, "POST", "recipients", stack.key, data=body, headers={"Content-Type": "application/json"}), 400)


def test_an_invalid_request_names_each_place_and_repeats_no_value(stack: Stack) -> None:
    secret = "+447700900199-do-not-repeat"
    body = {"name": "A\x01" + secret, "mobile": secret, "contacts": {"sms": secret}}
    answer = call(stack, "POST", "recipients", stack.key, json=body)
    document = problem(answer, 422)
    assert {e["at"] for e in document["errors"]} == {"body.name", "body.mobile", "body.contacts.sms"}
    assert all(e["problem"] for e in document["errors"])
    assert secret not in answer.text


def test_an_address_that_is_none_is_named_by_its_place_and_not_repeated(stack: Stack) -> None:
    answer = call(stack, "POST", "recipients", stack.key, json={"name": "A", "contacts": {"sms": ["07700 9x"]}})
    assert problem(answer, 422)["detail"].startswith("contacts.sms")
    assert "07700 9x" not in answer.text


def test_what_json_cannot_say_is_refused_and_no_fault(stack: Stack) -> None:
    headers = {"Content-Type": "application/json"}
    for body in (rb'{"name": "\ud800"}', rb'{"name": "A", "\ud800": 1}'):
        problem(call(stack, "POST", "recipients", stack.key, data=body, headers=headers), 422)
    deep = b'{"not":' * 900 + b"1" + b"}" * 900
    for audience in (rb'{"\ud800": 1}', rb'{"group": "\ud800"}', rb'{"tag": "a:\u0000"}', b'{"group": NaN}', deep):
        body = b'{"title": "t", "body": "b", "audience": ' + audience + b"}"
        problem(call(stack, "POST", "alerts", stack.key, data=body, headers=headers), 422)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"channels": ["pigeon"]}, "pigeon"),
        ({"channels": ["SMS!"]}, "channels"),
        ({"audience": {"group": "No such group"}}, "No such group"),
        ({"audience": {"tag": "without a colon"}}, "audience.tag"),
        ({"audience": {"recipients": ["nobody"]}}, "nobody"),
        ({"audience": {"everybody": True}}, "audience.everybody"),
        ({"severity": "loud"}, "severity"),
        ({"title": ""}, "title"),
    ],
)
def test_an_alert_that_cannot_be_is_422_and_says_what_to_mend(stack: Stack, change: dict[str, Any], words: str) -> None:
    body = {"title": "t", "body": "b", "audience": {"everyone": True}, **change}
    for path in ("alerts", "alerts/preview"):
        assert words in problem(call(stack, "POST", path, stack.key, json=body), 422)["detail"]


@pytest.mark.parametrize(
    "query", [{"tag": "site"}, {"group": "No such group"}, {"cursor": "x"}, {"limit": "0"}, {"q": "\x00"}, {"tag": "\x00:"}]
)
def test_a_search_that_cannot_be_is_422(stack: Stack, query: dict[str, str]) -> None:
    if "group" in query:
        assert stack.call("GET", "recipients", params=query).status_code in (200, 422)
        return
    problem(call(stack, "GET", "recipients", stack.key, params=query), 422)


@pytest.mark.parametrize("path", ["alerts/none", "recipients/none", "groups/none", "nothing/here", "alerts/none/deliveries"])
def test_what_is_not_there_is_404(stack: Stack, path: str) -> None:
    problem(call(stack, "GET", path, stack.key), 404)


@pytest.mark.parametrize(
    "path", ["alerts/%00", "alerts/%00/deliveries", "alerts/%00/events", "groups/%00", "recipients/%00"]
)
def test_a_nul_in_an_id_is_no_fault(stack: Stack, path: str) -> None:
    answer = call(stack, "GET", path, stack.key)
    assert answer.status_code in (404, 422)
    problem(answer, answer.status_code)


def test_a_wrong_method_is_405_and_names_the_right_ones(stack: Stack) -> None:
    answer = call(stack, "PUT", "alerts", stack.key)
    problem(answer, 405)
    assert answer.headers["Allow"] == "GET, POST"


def test_an_import_of_another_type_is_415(stack: Stack) -> None:
    problem(call(stack, "POST", "recipients/import", stack.key, json={"name": "A"}), 415)


# ---- receipts ------------------------------------------------------------------------------------------------------


def accepted_push(stack: Stack, tag: str) -> tuple[str, dict[str, Any]]:
    """An alert with one push that was accepted and not shown, and its delivery."""
    person = stack.person("Silent browser", tag=tag)
    key = requests.get(f"{stack.api}/api/v1/push/key", timeout=10).json()["public_key"]
    body = {"count": 1, "application_server_key": key, "receipts": False}
    browser = requests.post(f"{stack.sandbox}/_sandbox/browsers", json=body, timeout=10).json()["subscriptions"][0]
    enrolled = {"endpoint": browser["endpoint"], "keys": browser["keys"], "recipient": person["id"]}
    stack.call("POST", "push/subscriptions", 201, json=enrolled)
    alert = stack.send(tag, channels=["push"])["id"]
    return alert, stack.until(lambda: next((d for d in deliveries(stack, alert) if d["state"] == "accepted"), None))


def deliveries(stack: Stack, alert: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = stack.json("GET", f"alerts/{alert}/deliveries", 200)["items"]
    return found


def test_forged_receipts_are_403_and_change_nothing(stack: Stack) -> None:
    alert, delivery = accepted_push(stack, "forged")
    number = references.delivery_number(delivery["reference"])
    assert number is not None
    token = tokens.sign(b"a forger's secret", "receipt", number, delivery["attempt"])
    form = {"MessageSid": "SM" + "0" * 32, "MessageStatus": "delivered"}
    signed = {"X-Twilio-Signature": "AAAAAAAAAAAAAAAAAAAAAAAAAAA="}
    for answer in (
        call(stack, "POST", f"receipts/push?d={token}", json={"event": "shown"}),
        call(stack, "POST", "receipts/push", json={"event": "shown"}),
        call(stack, "POST", f"receipts/sms?d={token}", data=form),
        call(stack, "POST", f"receipts/sms?d={token}", data=form, headers=signed),
        call(stack, "POST", f"receipts/sms?d={token}", data=b"\xff", headers=signed),
    ):
        problem(answer, 403)
    assert deliveries(stack, alert) == [delivery]


def test_a_replayed_receipt_is_harmless(stack: Stack, wiring: Wiring) -> None:
    alert, delivery = accepted_push(stack, "replayed")
    number = references.delivery_number(delivery["reference"])
    assert number is not None
    token = tokens.sign(wiring.secret, "receipt", number, delivery["attempt"])
    assert call(stack, "POST", f"receipts/push?d={token}", json={"event": "shown"}).status_code == 204
    after = deliveries(stack, alert)
    assert after[0]["state"] == "delivered"
    for event in ("shown", "failed", "shown"):
        assert call(stack, "POST", f"receipts/push?d={token}", json={"event": event}).status_code == 204
    assert deliveries(stack, alert) == after
    assert stack.counts(stack.json("GET", f"alerts/{alert}", 200)) == {"push": {"delivered": 1}}


def test_a_receipt_for_a_channel_without_receipts_or_too_large_is_refused(stack: Stack) -> None:
    problem(call(stack, "POST", "receipts/pigeon", json={}), 404)
    problem(call(stack, "POST", "receipts/push", data=b"x" * 20_000), 413)
