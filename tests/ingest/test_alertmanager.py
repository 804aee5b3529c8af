"""The example has the members of https://prometheus.io/docs/alerting/latest/configuration/#webhook_config."""

from typing import Any, Final

import pytest

from broadcaster.domain.messages import Severity
from broadcaster.domain.signal import Status
from tests.ingest.posts import changed, only, read, refusal

FIRING: Final[dict[str, Any]] = {
    "receiver": "broadcaster",
    "status": "firing",
    "alerts": [
        {
            "status": "firing",
            "labels": {"alertname": "MailDown", "instance": "https://mail.northmoor.example", "severity": "critical"},
            "annotations": {
                "description": "mail.northmoor.example has not answered for 5 minutes.",
                "summary": "Email is down",
            },
            "startsAt": "2026-10-12T07:31:00.828Z",
            "endsAt": "0001-01-01T00:00:00Z",
            "generatorURL": "http://prometheus.northmoor.example:9090/graph?g0.expr=probe_success+%3D%3D+0&g0.tab=1",
            "fingerprint": "1a30ba71cca2921f",
        }
    ],
    "groupLabels": {"alertname": "MailDown"},
    "commonLabels": {"alertname": "MailDown", "severity": "critical"},
    "commonAnnotations": {"summary": "Email is down"},
    "externalURL": "http://alertmanager.northmoor.example:9093",
    "version": "4",
    "groupKey": '{}:{alertname="MailDown"}',
    "truncatedAlerts": 0,
}
RESOLVED: Final = changed(
    changed(changed(FIRING, "/status", "resolved"), "/alerts/0/status", "resolved"),
    "/alerts/0/endsAt",
    "2026-10-12T08:00:00Z",
)


def test_firing() -> None:
    signal = only("alertmanager", FIRING)
    assert signal.key == "1a30ba71cca2921f"
    assert signal.status is Status.FIRING
    assert signal.title == "Email is down"
    assert signal.body == "mail.northmoor.example has not answered for 5 minutes."
    assert signal.severity is Severity.CRITICAL
    assert signal.labels == FIRING["alerts"][0]["labels"]
    assert signal.at == 1_791_790_260.828
    assert signal.url == FIRING["alerts"][0]["generatorURL"]


def test_resolved_meets_firing() -> None:
    signal = only("alertmanager", RESOLVED)
    assert signal.status is Status.RESOLVED
    assert signal.key == only("alertmanager", FIRING).key
    assert signal.at == 1_791_792_000


def test_each_alert_has_its_own_status_whatever_the_groups() -> None:
    both = changed(FIRING, "/alerts", [FIRING["alerts"][0], changed(RESOLVED["alerts"][0], "/fingerprint", "other")])
    assert [(signal.key, signal.status) for signal in read("alertmanager", both)] == [
        ("1a30ba71cca2921f", Status.FIRING),
        ("other", Status.RESOLVED),
    ]


def test_without_a_fingerprint_the_labels_are_the_key() -> None:
    old = [changed(body, "/alerts/0/fingerprint", ...) for body in (FIRING, RESOLVED)]
    keys = {only("alertmanager", body).key for body in old}
    assert len(keys) == 1
    assert keys.pop().startswith("sha256:")
    turned = dict(reversed(FIRING["alerts"][0]["labels"].items()))
    assert only("alertmanager", changed(old[0], "/alerts/0/labels", turned)).key == only("alertmanager", old[0]).key
    assert only("alertmanager", changed(old[0], "/alerts/0/labels/instance", "b")).key != only("alertmanager", old[0]).key


def test_the_alerts_name_stands_in_for_a_summary() -> None:
    assert only("alertmanager", changed(FIRING, "/alerts/0/annotations", ...)).title == "MailDown"


@pytest.mark.parametrize(
    ("word", "severity"),
    [
        ("critical", Severity.CRITICAL),
        ("page", Severity.CRITICAL),
        ("emergency", Severity.CRITICAL),
        ("error", Severity.HIGH),
        ("high", Severity.HIGH),
        ("major", Severity.HIGH),
        ("warning", Severity.NORMAL),
        ("warn", Severity.NORMAL),
        ("medium", Severity.NORMAL),
        ("minor", Severity.NORMAL),
        ("ticket", Severity.NORMAL),
        ("info", Severity.LOW),
        ("low", Severity.LOW),
        ("none", Severity.LOW),
        ("Critical", Severity.CRITICAL),
        ("sky-high", None),
    ],
)
def test_severities(word: str, severity: Severity | None) -> None:
    assert only("alertmanager", changed(FIRING, "/alerts/0/labels/severity", word)).severity is severity


@pytest.mark.parametrize(
    ("pointer", "value", "says"),
    [
        ("/alerts", ..., "/alerts: missing."),
        ("/alerts", {}, "/alerts: expected an array."),
        ("/alerts/0", 1, "/alerts/0: expected an object."),
        ("/alerts/0/status", "pending", '/alerts/0/status: expected firing or resolved, not "pending".'),
        ("/alerts/0/status", ..., "/alerts/0/status: missing."),
        ("/alerts/0/labels", [], "/alerts/0/labels: expected an object."),
        ("/alerts/0/labels/severity", 1, "/alerts/0/labels/severity: expected a text."),
        ("/alerts/0/annotations/summary", {}, "/alerts/0/annotations/summary: expected a text."),
        ("/alerts/0/startsAt", 5, "/alerts/0/startsAt: expected a text."),
        ("/alerts/0/fingerprint", [], "/alerts/0/fingerprint: expected a text."),
    ],
)
def test_what_is_wrong_is_told(pointer: str, value: Any, says: str) -> None:
    assert refusal("alertmanager", changed(FIRING, pointer, value)) == says


def test_without_fingerprint_and_labels_there_is_no_key() -> None:
    bare = changed(changed(FIRING, "/alerts/0/fingerprint", ...), "/alerts/0/labels", {})
    assert refusal("alertmanager", bare).startswith("/alerts/0/fingerprint: missing")


def test_a_thousand_alerts_are_read_and_not_one_more() -> None:
    assert read("alertmanager", changed(FIRING, "/alerts", [])) == []
    assert len(read("alertmanager", changed(FIRING, "/alerts", FIRING["alerts"] * 1_000))) == 1_000
    assert "at most 1,000" in refusal("alertmanager", changed(FIRING, "/alerts", FIRING["alerts"] * 1_001))
