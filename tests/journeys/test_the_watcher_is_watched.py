"""The broadcaster looks at itself: a real alert to a test person, all the way to the receipt."""

import time

from tests.conftest import Stack
from tests.journeys.test_an_alert_reaches_everybody import number


def test_a_canary_goes_the_whole_way(stack: Stack) -> None:
    phone, name = number(), f"Canary {time.monotonic_ns()}"
    person = stack.person("Test phone", tag=name, sms=[phone])
    config = {"api_url": stack.api, "api_key": stack.key, "recipient": person["id"], "channels": ["sms"], "deadline": 20}
    body = {"name": name, "kind": "canary", "config": config, "interval_seconds": 60, "timeout_seconds": 30}
    monitor = stack.json("POST", "monitors", 201, json=body)
    stack.until(lambda: stack.json("GET", f"monitors/{monitor['id']}", 200)["state"] == "ok")
    (reading,) = stack.json("GET", f"monitors/{monitor['id']}/readings", 200)["items"]
    assert (reading["code"], reading["latency_ms"] > 0) == ("ok", True)
    (message,) = stack.messages("sms", phone)
    assert "Canary" in message["text"]
    assert stack.key not in stack.call("GET", f"monitors/{monitor['id']}").text
    stack.call("DELETE", f"monitors/{monitor['id']}", 204)


def test_a_canary_without_a_phone_fails(stack: Stack) -> None:
    """Its person has no phone any more."""
    name = f"Canary {time.monotonic_ns()}"
    person = stack.person("No phone at all", tag=name)
    config = {"api_url": stack.api, "api_key": stack.key, "recipient": person["id"], "channels": ["sms"], "deadline": 3}
    body = {"name": name, "kind": "canary", "config": config, "interval_seconds": 60, "timeout_seconds": 10, "failures": 1}
    monitor = stack.json("POST", "monitors", 201, json=body)
    stack.until(lambda: stack.json("GET", f"monitors/{monitor['id']}", 200)["state"] == "down")
    assert stack.json("GET", f"monitors/{monitor['id']}", 200)["code"] == "nobody_targeted"
    stack.call("DELETE", f"monitors/{monitor['id']}", 204)
