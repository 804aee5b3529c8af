"""Our own plain shape, mappings, and the envelope of
https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md."""

from typing import Any, Final

import pytest

from broadcaster.domain.messages import Severity
from broadcaster.domain.signal import NotThisFormat, Status
from broadcaster.ingest.generic import Layout
from tests.ingest.posts import changed, only, refusal

PLAIN: Final[dict[str, Any]] = {
    "key": "mail-1",
    "status": "firing",
    "title": "Email is down",
    "body": "Use the telephone.",
    "severity": "critical",
    "labels": {"site": "Northmoor", "floor": 2},
    "url": "https://status.northmoor.example/",
    "at": "2026-10-12T07:31:00Z",
}
RESOLVED: Final = PLAIN | {"status": "resolved"}
ENVELOPE: Final = {"type": "outage.began", "timestamp": "2026-10-12T07:31:00.000000Z", "data": PLAIN}

TICKET: Final[dict[str, Any]] = {
    "incident": {"id": 4711, "state": "New", "prio": 1, "title": "No mail", "text": "Nobody gets mail."},
    "sites": ["Northmoor", "Southmoor"],
    "link": "https://desk.northmoor.example/4711",
    "raised": "2026-10-12T07:31:00Z",
}
OPTIONS: Final = {
    "key": "/incident/id",
    "status": "/incident/state",
    "title": "/incident/title",
    "body": "/incident/text",
    "severity": "/incident/prio",
    "url": "/link",
    "at": "/raised",
    "label.site": "/sites/0",
    "firing": "open, new",
    "acknowledged": "assigned",
    "resolved": "closed,ok",
    "severity.critical": "P1,1",
    "severity.high": "P2,2",
}


def test_the_plain_shape() -> None:
    signal = only("generic", PLAIN)
    assert (signal.key, signal.status, signal.title, signal.body) == (
        "mail-1",
        Status.FIRING,
        "Email is down",
        "Use the telephone.",
    )
    assert signal.severity is Severity.CRITICAL
    assert signal.labels == {"site": "Northmoor", "floor": "2"}
    assert signal.url == "https://status.northmoor.example/"
    assert signal.at == 1_791_790_260
    assert only("generic", RESOLVED).key == signal.key


def test_little_is_enough() -> None:
    signal = only("generic", {"key": "mail-1", "status": "Resolved"})
    assert (signal.status, signal.title, signal.severity, signal.labels) == (Status.RESOLVED, "mail-1", None, {})


def test_the_envelope_of_standard_webhooks() -> None:
    assert only("generic", ENVELOPE) == only("generic", PLAIN)
    assert only("generic", changed(ENVELOPE, "/data/at", ...)).at == 1_791_790_260
    assert refusal("generic", changed(ENVELOPE, "/data/key", ...)) == "/data/key: missing."
    assert only("generic", PLAIN | {"data": {}}).key == "mail-1"


def test_a_mapping() -> None:
    signal = only("generic", TICKET, OPTIONS)
    assert (signal.key, signal.status, signal.title, signal.body) == ("4711", Status.FIRING, "No mail", "Nobody gets mail.")
    assert signal.severity is Severity.CRITICAL
    assert signal.labels == {"site": "Northmoor"}
    assert signal.url == "https://desk.northmoor.example/4711"
    assert signal.at == 1_791_790_260


def test_pointers_may_go_into_an_envelope() -> None:
    options = {"key": "/data/key", "status": "/type", "firing": "outage.began", "resolved": "outage.ended"}
    assert only("generic", ENVELOPE, options).status is Status.FIRING
    assert only("generic", ENVELOPE | {"type": "outage.ended"}, options).status is Status.RESOLVED


@pytest.mark.parametrize(
    ("word", "status"),
    [("open", Status.FIRING), ("NEW", Status.FIRING), ("assigned", Status.ACKNOWLEDGED), ("ok", Status.RESOLVED)],
)
def test_words_of_the_status(word: str, status: Status) -> None:
    assert only("generic", changed(TICKET, "/incident/state", word), OPTIONS).status is status


@pytest.mark.parametrize(
    ("word", "severity"),
    [
        ("P1", Severity.CRITICAL),
        (1, Severity.CRITICAL),
        (2, Severity.HIGH),
        ("p2", Severity.HIGH),
        ("low", Severity.LOW),
        ("normal", Severity.NORMAL),
        (3, None),
        ("", None),
    ],
)
def test_words_of_the_severity(word: Any, severity: Severity | None) -> None:
    assert only("generic", changed(TICKET, "/incident/prio", word), OPTIONS).severity is severity


def test_an_asterisk_is_any_other_word_or_none() -> None:
    options = OPTIONS | {"firing": "*"}
    assert only("generic", changed(TICKET, "/incident/state", "odd"), options).status is Status.FIRING
    assert only("generic", changed(TICKET, "/incident/state", ...), options).status is Status.FIRING
    assert only("generic", changed(TICKET, "/incident/state", "ok"), options).status is Status.RESOLVED


def test_true_and_false_are_words_too() -> None:
    options = {"status": "/down", "firing": "true", "resolved": "false"}
    assert only("generic", {"key": 1, "down": True}, options).status is Status.FIRING
    assert only("generic", {"key": 1, "down": False}, options).status is Status.RESOLVED


def test_our_own_words_can_be_given_another_meaning() -> None:
    assert only("generic", PLAIN | {"severity": "high"}, {"severity.critical": "high"}).severity is Severity.CRITICAL


@pytest.mark.parametrize(
    ("body", "options", "says"),
    [
        ([], {}, "The body: expected an object."),
        ({}, {}, "/key: missing."),
        (PLAIN | {"key": " "}, {}, "/key: missing."),
        (PLAIN | {"key": {}}, {}, "/key: expected a text, a number or a boolean."),
        (changed(PLAIN, "/status", ...), {}, "/status: missing."),
        (PLAIN | {"status": "odd"}, {}, '/status: "odd" is neither firing, acknowledged nor resolved.'),
        (PLAIN | {"labels": []}, {}, "/labels: expected an object."),
        (PLAIN | {"labels": {"a": []}}, {}, "/labels/a: expected a text, a number or a boolean."),
        (TICKET, OPTIONS | {"key": "/incident/number"}, "/incident/number: missing."),
        (TICKET, OPTIONS | {"title": "/incident"}, "/incident: expected a text, a number or a boolean."),
        (TICKET, OPTIONS | {"key": "incident.id"}, "The option key: not a JSON pointer (RFC 6901)."),
        (TICKET, OPTIONS | {"label.x": "/~3"}, "The option label.x: not a JSON pointer (RFC 6901)."),
        (TICKET, OPTIONS | {"resolved": "ok,new"}, 'The option resolved: "new" means something else already.'),
    ],
)
def test_what_is_wrong_is_told(body: Any, options: dict[str, str], says: str) -> None:
    assert refusal("generic", body, options) == says


def test_options_can_be_tried_before_any_alert_comes() -> None:
    Layout.of(OPTIONS)
    with pytest.raises(NotThisFormat, match=r"^The option url"):
        Layout.of({"url": "link"})
