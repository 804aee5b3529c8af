"""A real Firefox, from the personal link to the alert on the screen and out again; the push service is the sandbox's."""

import signal
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from tests.browser import marionette
from tests.browser.marionette import Marionette, until
from tests.conftest import Stack, skip_loudly

TURN_ON = '[data-state="ready"] [data-do="turn-on"]'
TURN_OFF = '[data-state="on"] [data-do="turn-off"]'
ON, OFF = '[data-state="on"]', '[data-state="off"]'
NOTIFICATIONS = """
return navigator.serviceWorker.ready.then((r) => r.getNotifications()).then((all) => all.map((n) => n.title));
"""


@pytest.fixture
def browser(stack: Stack) -> Iterator[Marionette]:
    program = marionette.binary()
    if program is None:
        skip_loudly("Firefox", "apt-get install firefox-esr libnotify4 dbus")
        raise AssertionError("skip_loudly skips")
    push_server = stack.sandbox.replace("http://", "ws://", 1) + "/push/"
    with marionette.firefox(program, push_server) as running:
        yield running


def pushes(stack: Stack, person: dict[str, Any]) -> list[dict[str, Any]]:
    """The person's browsers, as the directory has them."""
    contacts = stack.json("GET", f"recipients/{person['id']}", 200)["contacts"]
    return [c for c in contacts if c["channel"] == "push"]


def alert(stack: Stack, tag: str, title: str) -> str:
    made: str = stack.send(tag, title=title, body="Use the ward phone list.", channels=["push"])["id"]
    return made


def push_counts(stack: Stack, made: str) -> dict[str, int]:
    return stack.counts(stack.json("GET", f"alerts/{made}", 200)).get("push", {})


def shown(browser: Marionette, title: str) -> dict[str, str]:
    """The notification of this title, once it is on the screen."""
    return until(lambda: next((a for a in browser.alerts() if a["title"] == title), {}), 20, f"notification {title!r}")


def test_a_push_that_is_repeated_after_a_doubt_is_on_the_screen_once(stack: Stack, browser: Marionette) -> None:
    """The push service takes it and answers 500; the browser's own receipt cannot come in, so it is sent again."""
    tag = f"firefox-twice-{stack.name}"
    person = stack.person("Owen Price", tag=tag)
    browser.open(stack.json("POST", f"recipients/{person['id']}/enrolment-links", 201)["url"])
    until(lambda: browser.visible(TURN_ON), name="the button")
    browser.click(TURN_ON)
    until(lambda: browser.visible(ON), name="the page's confirmation")
    fault = {"provider": "push", "kind": "status", "status": 500, "taken": True, "count": 1}
    requests.post(f"{stack.sandbox}/_sandbox/faults", json=fault, timeout=10).raise_for_status()
    before = pushed(stack)
    made = alert(stack, tag, "Only once")
    [api] = [p for p in stack.supervisor.parts if p.name == "api"]
    assert api.process is not None
    api.process.send_signal(signal.SIGSTOP)  # receipts wait at its door
    try:
        until(lambda: pushed(stack) == before + 2, 30, "the repeat")
    finally:
        stack.session.close()  # its kept-alive connection is closed by the other side as soon as that wakes
        api.process.send_signal(signal.SIGCONT)
    until(lambda: push_counts(stack, made) == {"delivered": 1}, 30, "the receipt")
    shown(browser, "Only once")
    assert [a["title"] for a in browser.alerts()].count("Only once") == 1
    assert browser.run(NOTIFICATIONS).count("Only once") == 1


def pushed(stack: Stack) -> int:
    """Pushes that the push service has taken, ever."""
    summary = requests.get(f"{stack.sandbox}/_sandbox/summary", timeout=10).json()
    return int(summary["channels"]["push"]["taken"])


def test_a_person_turns_alerts_on_sees_them_with_the_page_closed_and_turns_them_off(
    stack: Stack, browser: Marionette
) -> None:
    tag = f"firefox-{stack.name}"
    person = stack.person("Farah Evans", tag=tag)
    link = stack.json("POST", f"recipients/{person['id']}/enrolment-links", 201)["url"]
    assert link.startswith("http://localhost:"), "a secure context without a certificate"

    browser.open(link)
    until(lambda: browser.visible(TURN_ON), name="the button")
    assert pushes(stack, person) == [], "nothing is enrolled without a click"
    browser.click(TURN_ON)
    until(lambda: browser.visible(ON), name="the page's confirmation")
    [mine] = until(lambda: pushes(stack, person), name="the contact")
    assert mine["disabled_at"] is None

    first = alert(stack, tag, "First alert")
    until(lambda: push_counts(stack, first) == {"delivered": 1}, name="the receipt")
    assert shown(browser, "First alert")["body"] == "Use the ward phone list."
    assert "First alert" in browser.run(NOTIFICATIONS)

    browser.open("about:blank")
    second = alert(stack, tag, "Second alert")
    until(lambda: push_counts(stack, second) == {"delivered": 1}, name="the receipt with the page closed")
    shown(browser, "Second alert")

    [simulated] = stack.browsers(1)
    stack.call("POST", "push/subscriptions", 201, json={**simulated, "recipient": person["id"]})
    [other] = [c for c in pushes(stack, person) if c["id"] != mine["id"]]

    browser.open(link)
    until(lambda: browser.visible(TURN_OFF), name="the button to turn off")
    browser.click(TURN_OFF)
    until(lambda: browser.visible(OFF), name="the page's word that it is off")
    after = {c["id"]: c for c in pushes(stack, person)}
    assert after[mine["id"]]["disabled_reason"] == "unsubscribed"
    assert after[mine["id"]]["disabled_at"] is not None
    assert after[other["id"]]["disabled_at"] is None, "the person's other browser stays"

    third = alert(stack, tag, "Third alert")
    until(lambda: push_counts(stack, third) == {"delivered": 1, "skipped": 1}, name="only the other browser's receipt")
    assert len(stack.messages("push", simulated["endpoint"])) == 1
    assert not [a for a in browser.alerts() if a["title"] == "Third alert"]
