"""A real mail system goes wrong in every way that matters: each is noticed in time, told once, and cleared once."""

import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final

import pytest

from tests.conftest import Stack
from tests.journeys.test_an_alert_reaches_everybody import number
from tests.monitors.conftest import mail_server as mail_server
from tests.monitors.mail_system import PASSWORD, Fault, MailSystem

INTERVAL: Final = 2.0
TIMEOUT: Final = 2.0
FAILURES: Final = 3
#: Fault -> the reason's code.
CODES: Final = {
    Fault.LOST: "accepted_not_delivered",
    Fault.STUCK: "accepted_not_delivered",
    Fault.AUTH: "auth_refused",
    Fault.DOWN: "submission_unreachable",
    Fault.EXPIRED: "certificate_expired",
}


@pytest.fixture
def watched(stack: Stack, mail_server: MailSystem) -> Iterator[tuple[dict[str, Any], str]]:
    """A round trip that is well, and the phone that is told when it is not."""
    mail_server.fault(Fault.NONE)
    tag, phone = f"mail{time.monotonic_ns()}", number()
    stack.person("On call", tag=tag, sms=[phone])
    config = {
        "smtp_host": "localhost", "smtp_port": mail_server.submission, "sender": "probe@probe.test",
        "recipient": "probe@probe.test", "imap_host": "localhost", "imap_port": mail_server.imaps, "username": "probe",
        "password": PASSWORD, "deliver_within": 1.5, "degraded_after": 1.5, "ca_certificates": mail_server.certificates,
    }  # fmt: skip
    body = {
        "name": tag, "kind": "mail_round_trip", "config": config, "interval_seconds": INTERVAL, "timeout_seconds": TIMEOUT,
        "failures": FAILURES, "successes": 2, "hold_down_seconds": 0, "sign_in_pause_seconds": INTERVAL,
        "alert": {"severity": "critical", "audience": {"tag": f"test:{tag}"}, "channels": ["sms"], "body": "{{reasons}}"},
    }  # fmt: skip
    monitor = stack.json("POST", "monitors", 201, json=body)
    stack.until(lambda: stack.json("GET", f"monitors/{monitor['id']}", 200)["state"] == "ok")
    yield monitor, phone
    stack.call("DELETE", f"monitors/{monitor['id']}", 204)


@pytest.mark.parametrize("fault", list(CODES))
def test_it_is_noticed_in_time_told_once_and_cleared_once(
    stack: Stack, mail_server: MailSystem, watched: tuple[dict[str, Any], str], fault: Fault
) -> None:
    monitor, phone = watched
    mail_server.fault(fault)
    began = time.time()
    stack.until(lambda: stack.json("GET", f"monitors/{monitor['id']}", 200)["state"] == "down", 60)
    stack.until(lambda: stack.messages("sms", phone), 20)
    decided, code = last_change(stack, monitor)
    assert code == CODES[fault]
    assert decided - began <= FAILURES * INTERVAL + TIMEOUT + 1
    (first,) = stack.messages("sms", phone)
    assert first["time"] - decided <= 2
    mail_server.fault(Fault.NONE)
    stack.until(lambda: len(stack.messages("sms", phone)) == 2, 60)
    assert sum("works again" in m["text"] for m in stack.messages("sms", phone)) == 1
    stack.until(lambda: not open_incidents(stack, monitor))
    assert len(stack.messages("sms", phone)) == 2


def last_change(stack: Stack, monitor: dict[str, Any]) -> tuple[float, str]:
    """When its state last changed, seconds since the epoch, and why."""
    change = stack.json("GET", f"monitors/{monitor['id']}/changes", 200)["items"][0]
    return moment(change["at"]), change["code"]


def open_incidents(stack: Stack, monitor: dict[str, Any]) -> list[Any]:
    found = stack.json("GET", "incidents?open=true", 200)["items"]
    return [i for i in found if any(c["name"] == monitor["name"] for c in i["causes"])]


def moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
