"""The examples have the members of https://developer.pagerduty.com/docs/events-api-v2/trigger-events/."""

from typing import Any, Final

import pytest

from broadcaster.domain.messages import Severity
from broadcaster.domain.signal import Status
from tests.ingest.posts import changed, only, refusal

TRIGGER: Final[dict[str, Any]] = {
    "payload": {
        "summary": "Mailbox store does not answer on mail01",
        "timestamp": "2026-10-12T07:31:00.315+0000",
        "source": "monitoring:northmoor:mail01",
        "severity": "error",
        "component": "mailbox",
        "group": "mail",
        "class": "unreachable",
        "custom_details": {"ping time": "1500ms", "load avg": 0.75, "deeper": {"not": "shown"}},
    },
    "routing_key": "R0123456789ABCDEF0123456789ABCDEF",
    "dedup_key": "mail01/mailbox",
    "images": [{"src": "https://example.org/logo.png", "href": "https://example.org/", "alt": "Logo"}],
    "links": [{"href": "https://monitoring.northmoor.example/mail01", "text": "Graph"}],
    "event_action": "trigger",
    "client": "Northmoor Monitoring",
    "client_url": "https://monitoring.northmoor.example",
}
ACKNOWLEDGE: Final = {
    "routing_key": "R0123456789ABCDEF0123456789ABCDEF",
    "dedup_key": "mail01/mailbox",
    "event_action": "acknowledge",
}
RESOLVE: Final = ACKNOWLEDGE | {"event_action": "resolve"}


def test_trigger() -> None:
    signal = only("pagerduty", TRIGGER)
    assert signal.key == "mail01/mailbox"
    assert signal.status is Status.FIRING
    assert signal.title == "Mailbox store does not answer on mail01"
    assert signal.body == "ping time: 1500ms\nload avg: 0.75"
    assert signal.severity is Severity.HIGH
    assert signal.labels == {
        "source": "monitoring:northmoor:mail01",
        "component": "mailbox",
        "group": "mail",
        "class": "unreachable",
        "client": "Northmoor Monitoring",
    }
    assert signal.at == 1_791_790_260.315
    assert signal.url == "https://monitoring.northmoor.example/mail01"


def test_acknowledge_and_resolve_meet_their_trigger() -> None:
    acknowledged, resolved = only("pagerduty", ACKNOWLEDGE), only("pagerduty", RESOLVE)
    assert (acknowledged.status, resolved.status) == (Status.ACKNOWLEDGED, Status.RESOLVED)
    assert acknowledged.key == resolved.key == only("pagerduty", TRIGGER).key


def test_the_routing_key_goes_nowhere() -> None:
    assert TRIGGER["routing_key"] not in repr(only("pagerduty", TRIGGER))


def test_a_trigger_without_a_key_is_known_again_by_what_it_says() -> None:
    bare = changed(TRIGGER, "/dedup_key", ...)
    key = only("pagerduty", bare).key
    assert key.startswith("sha256:")
    assert only("pagerduty", changed(bare, "/payload/timestamp", "2026-10-12T08:00:00Z")).key == key
    for name in ("source", "summary", "component"):
        assert only("pagerduty", changed(bare, f"/payload/{name}", "another")).key != key


def test_an_overlong_key_is_hashed() -> None:
    assert only("pagerduty", changed(TRIGGER, "/dedup_key", "k" * 255)).key == "k" * 255
    assert only("pagerduty", changed(TRIGGER, "/dedup_key", "k" * 256)).key.startswith("sha256:")


@pytest.mark.parametrize(
    ("word", "severity"),
    [
        ("critical", Severity.CRITICAL),
        ("error", Severity.HIGH),
        ("warning", Severity.NORMAL),
        ("info", Severity.LOW),
        ("fatal", None),
        ("", None),
    ],
)
def test_severities(word: str, severity: Severity | None) -> None:
    assert only("pagerduty", changed(TRIGGER, "/payload/severity", word)).severity is severity


def test_details_are_as_many_as_there_is_room_for() -> None:
    many = changed(TRIGGER, "/payload/custom_details", {f"d{i}": "x" * 50 for i in range(10_000)})
    assert len(only("pagerduty", many).body) <= 1_200
    assert only("pagerduty", changed(TRIGGER, "/payload/custom_details", "as text")).body == "as text"


@pytest.mark.parametrize(
    ("body", "says"),
    [
        # A change event (docs/events-api-v2/send-change-events) has no event_action.
        (
            {"routing_key": "x", "payload": {"summary": "Deployed", "timestamp": "2026-10-12T07:31:00Z", "source": "ci"}},
            "/event_action: missing; a change event is no alert.",
        ),
        (TRIGGER | {"event_action": "close"}, '/event_action: expected trigger, acknowledge or resolve, not "close".'),
        (RESOLVE | {"dedup_key": ""}, "/dedup_key: missing; without it nobody can tell what is meant."),
        (changed(TRIGGER, "/payload/summary", ...), "/payload/summary: missing."),
        (changed(TRIGGER, "/payload", "x"), "/payload: expected an object."),
        (changed(TRIGGER, "/payload/custom_details", []), "/payload/custom_details: expected an object."),
        (changed(TRIGGER, "/links/0/href", 1), "/links/0/href: expected a text."),
    ],
)
def test_what_is_wrong_is_told(body: Any, says: str) -> None:
    assert refusal("pagerduty", body) == says
