"""The main promise, through the public HTTP interface: one call, and everybody has it, once, and the operator sees it."""

import json
import time
from typing import Any

import pytest
import requests

from broadcaster.wiring import Wiring
from tests.conftest import Stack, running

NUMBER = 920_000


def number() -> str:
    """A phone that nobody else in this run has."""
    global NUMBER
    NUMBER += 1
    return f"+447700{NUMBER}"


def test_everybody_gets_it_once_on_every_channel(stack: Stack) -> None:
    phones = [number() for _ in range(60)]
    for n, phone in enumerate(phones):
        stack.person(f"Clinician {n}", tag="all", sms=[phone], slack=[f"U0A{n:06d}"], browsers=1)
    accepted = stack.send("all", severity="critical")
    view = stack.settled(accepted["id"])
    assert stack.counts(view) == {"sms": {"delivered": 60}, "slack": {"accepted": 60}, "push": {"delivered": 60}}
    assert view["people"] == 60
    assert view["unreachable"] == 0
    for phone in phones:
        assert len(stack.messages("sms", phone)) == 1
    page = stack.json("GET", f"alerts/{view['id']}/deliveries", 200, params={"channel": "sms", "limit": "1000"})
    assert len(page["items"]) == 60
    assert all(item["reference"] for item in page["items"])
    assert phones[0] not in json.dumps(page), "addresses are masked"


def test_targeted_is_the_sum_of_all_states_at_every_instant(stack: Stack) -> None:
    for n in range(40):
        stack.person(f"Sum {n}", tag="sum", sms=[number()], browsers=1)
    accepted = stack.send("sum", channels=["sms", "push"])
    seen = 0
    while True:
        view = stack.json("GET", f"alerts/{accepted['id']}", 200)
        for channel in view["channels"]:
            assert sum(channel["counts"].values()) == channel["targeted"]
        seen += 1
        if view["state"] == "completed":
            break
        assert seen < 3000
    assert view["targeted"] == 80


def test_a_refused_number_fails_with_its_reason_and_is_not_used_again(stack: Stack) -> None:
    bad = "+447700900902"  # the sandbox answers as for a landline: 21614
    stack.person("Landline", tag="refused", sms=[bad])
    view = stack.settled(stack.send("refused", channels=["sms"])["id"])
    assert stack.counts(view) == {"sms": {"failed": 1}}
    item = stack.json("GET", f"alerts/{view['id']}/deliveries", 200)["items"][0]
    assert item["code"] == "21614"
    again = stack.settled(stack.send("refused", channels=["sms"])["id"])
    assert stack.counts(again) == {"sms": {"skipped": 1}}


def test_one_idempotency_key_is_one_alert(stack: Stack) -> None:
    phone = number()
    stack.person("Once", tag="idem", sms=[phone])
    key = {"Idempotency-Key": f"idem-{stack.name}"}
    first = stack.send("idem", headers=key, channels=["sms"])
    second = stack.send("idem", headers=key, channels=["sms"])
    assert second["id"] == first["id"]
    assert (first["created"], second["created"]) == (True, False)
    other = stack.send("idem", expect=422, headers=key, channels=["sms"], title="Something else")
    assert other["type"].endswith(":idempotency-key-reused")
    stack.settled(first["id"])
    assert len(stack.messages("sms", phone)) == 1


def test_an_open_dedup_key_answers_with_the_open_alert(stack: Stack) -> None:
    stack.person("Dedup", tag="dedup", sms=[number()])
    first = stack.send("dedup", dedup_key="mail-down", channels=["sms"])
    assert stack.send("dedup", dedup_key="mail-down", channels=["sms"], title="Mail is still down")["id"] == first["id"]


def test_a_test_keys_alert_never_answers_for_a_real_one_and_a_retry_is_remembered(stack: Stack) -> None:
    stack.person("Apart", tag="apart", sms=[number()])
    wiring = Wiring(stack.settings)
    _, test_key = wiring.keys.create("drill", ["alerts:send"], test=True)
    wiring.database.close()
    body = {"title": "t", "body": "b", "audience": {"tag": "test:apart"}, "dedup_key": "apart", "channels": ["sms"]}
    drill = requests.post(
        f"{stack.api}/api/v1/alerts", json=body, headers={"Authorization": f"Bearer {test_key}"}, timeout=10
    ).json()
    real = stack.send("apart", dedup_key="apart", channels=["sms"])
    assert real["created"]
    assert real["id"] != drill["id"]
    key = {"Idempotency-Key": f"apart-{stack.name}"}
    assert stack.send("apart", headers=key, dedup_key="apart", channels=["sms"])["id"] == real["id"]
    stack.send("apart", expect=422, headers=key, channels=["sms"], title="Another body")


def test_a_body_beyond_all_reason_is_not_read(stack: Stack) -> None:
    answer = requests.post(f"{stack.api}/api/v1/alerts", data=b"x" * (2 << 20), timeout=10)
    assert answer.status_code == 413
    assert answer.json()["type"].endswith(":too-large")


def test_a_cancelled_alert_sends_nothing_more(stack: Stack) -> None:
    for n in range(30):
        stack.person(f"Cancel {n}", tag="cancel", sms=[number()])
    body: dict[str, Any] = {"channels": ["slack"], "escalation": [{"after_seconds": 3600, "channels": ["sms"]}]}
    accepted = stack.send("cancel", **body)
    answer = stack.json("POST", f"alerts/{accepted['id']}/cancel", 200)
    assert answer == {"stopped": 0, "left": 0}
    view = stack.settled(accepted["id"])
    assert view["state"] == "cancelled"


def test_escalation_reaches_those_whom_the_first_step_did_not(stack: Stack) -> None:
    reached, missed = number(), number()
    stack.person("Has a browser", tag="escalate", sms=[reached], browsers=1)
    stack.person("Has none", tag="escalate", sms=[missed])
    body: dict[str, Any] = {"channels": ["push"], "escalation": [{"after_seconds": 2, "channels": ["sms"]}]}
    accepted = stack.send("escalate", severity="critical", **body)
    stack.until(lambda: stack.messages("sms", missed))
    stack.settled(accepted["id"])
    assert stack.messages("sms", reached) == []


def test_a_slip_in_a_tag_is_refused_instead_of_telling_nobody(stack: Stack) -> None:
    stack.person("Right", tag="slip", sms=[number()])
    refused = stack.send("Slip", expect=422)
    assert "test:Slip" in refused["detail"]


def test_the_stream_follows_an_alert_to_its_end(stack: Stack) -> None:
    stack.person("Streamed", tag="stream", sms=[number()])
    accepted = stack.send("stream", channels=["sms"])
    answer = stack.call("GET", f"alerts/{accepted['id']}/events", 200, stream=True)
    events: list[str] = []
    data: dict[str, Any] = {}
    for line in answer.iter_lines(decode_unicode=True):
        if line.startswith("event: "):
            events.append(line.removeprefix("event: "))
        elif line.startswith("data: ") and events[-1] == "progress":
            data = json.loads(line.removeprefix("data: "))
    assert events[-1] == "end"
    assert data["state"] == "completed"


def test_preview_tells_what_would_happen_and_sends_nothing(stack: Stack) -> None:
    phone = number()
    stack.person("Preview", tag="preview", sms=[phone])
    stack.person("Nobody can reach", tag="preview")
    body = {
        "title": "Email is down",
        "body": "Łatwo: use “paper”.",
        "audience": {"tag": "test:preview"},
        "channels": ["sms"],
    }
    plan = stack.json("POST", "alerts/preview", 200, json=body)
    assert (plan["people"], plan["unreachable"]) == (2, 1)
    assert plan["channels"][0]["encoding"] == "UCS-2"
    assert any("1 of 2" in w for w in plan["warnings"])
    assert stack.messages("sms", phone) == []


def test_at_least_95_percent_of_batches_are_run_by_celery_tasks(stack: Stack) -> None:
    """Over everything this stack has done so far, and 60 alerts more: the poller is for bad days."""
    stack.person("Often told", tag="often", sms=[number()])
    for alert in [stack.send("often", channels=["sms"], severity="normal")["id"] for _ in range(60)]:
        stack.settled(alert)
    text = requests.get(f"{stack.api}/metrics", timeout=10).text
    runs = {by: float(line.split()[-1]) for by in ("task", "poller") for line in text.splitlines()
            if line.startswith(f'broadcaster_batch_runs{{by="{by}"}}')}  # fmt: skip
    assert runs["task"] >= 60
    assert runs["task"] / (runs["task"] + runs["poller"]) >= 0.95, runs


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_with_redis_gone_alerts_are_accepted_and_delivered_all_the_same(
    database: str, request: pytest.FixtureRequest
) -> None:
    changes = {} if database == "sqlite" else {"database_url": request.getfixturevalue("postgres_url")()}
    # Nothing listens there: refused, as with a stopped server.
    with running_without_redis(f"{database}-no-redis", **changes) as stack:
        phones = [number() for _ in range(50)]
        for n, phone in enumerate(phones):
            stack.person(f"No Redis {n}", tag="noredis", sms=[phone], slack=[f"U0B{n:06d}"], browsers=1)
        began = time.monotonic()
        accepted = stack.send("noredis")
        assert time.monotonic() - began < 1.0
        view = stack.settled(accepted["id"], 60)
        assert stack.counts(view) == {"sms": {"delivered": 50}, "slack": {"accepted": 50}, "push": {"delivered": 50}}
        for phone in phones:
            assert len(stack.messages("sms", phone)) == 1


def running_without_redis(name: str, **changes: Any) -> Any:
    return running(name, redis_url="redis://127.0.0.1:1/0", ready=False, **changes)
