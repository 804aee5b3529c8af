"""The example has the members of
https://grafana.com/docs/grafana/latest/alerting/configure-notifications/manage-contact-points/integrations/webhook-notifier/."""

from typing import Any, Final

from broadcaster.domain.messages import Severity
from broadcaster.domain.signal import Status
from tests.ingest.posts import changed, only, read, refusal


def _alert(name: str, fingerprint: str, status: str) -> dict[str, Any]:
    return {
        "status": status,
        "labels": {"alertname": name, "team": "mail", "zone": "north", "severity": "warning"},
        "annotations": {
            "description": "The queue has grown for 20 minutes.",
            "runbook_url": "https://wiki.northmoor.example/runbook/1234",
            "summary": f"{name} in zone north",
        },
        "startsAt": "2026-10-12T09:31:00.157076+02:00",
        "endsAt": "0001-01-01T00:00:00Z" if status == "firing" else "2026-10-12T10:00:00+02:00",
        "generatorURL": "https://grafana.northmoor.example/alerting/1afz29v7z/edit",
        "fingerprint": fingerprint,
        "silenceURL": "https://grafana.northmoor.example/alerting/silence/new?alertmanager=grafana",
        "dashboardURL": "",
        "panelURL": "",
        "values": {"B": 44.23943737541908, "C": 1},
    }


def _body(status: str) -> dict[str, Any]:
    return {
        "receiver": "Broadcaster",
        "status": status,
        "orgId": 1,
        "alerts": [_alert("Long queue", "c6eadffa33fcdf37", status), _alert("Slow mail", "bc97ff14869b13e3", status)],
        "groupLabels": {},
        "commonLabels": {"team": "mail"},
        "commonAnnotations": {},
        "externalURL": "https://grafana.northmoor.example/",
        "version": "1",
        "groupKey": "{}:{}",
        "truncatedAlerts": 0,
        "title": "[FIRING:2]  (mail)",
        "state": "alerting" if status == "firing" else "ok",
        "message": "**Firing**\n\nLabels:\n - alertname = Long queue",
    }


FIRING: Final = _body("firing")
RESOLVED: Final = _body("resolved")


def test_firing_and_resolved_meet() -> None:
    firing, resolved = read("grafana", FIRING), read("grafana", RESOLVED)
    assert (
        [signal.key for signal in firing] == [signal.key for signal in resolved] == ["c6eadffa33fcdf37", "bc97ff14869b13e3"]
    )
    assert {signal.status for signal in firing} == {Status.FIRING}
    assert {signal.status for signal in resolved} == {Status.RESOLVED}
    assert firing[0].title == "Long queue in zone north"
    assert firing[0].severity is Severity.NORMAL
    assert firing[0].at == 1_791_790_260.157076
    assert resolved[0].at == 1_791_792_000


def test_the_groups_message_is_the_text_of_a_single_alert_without_one() -> None:
    two = changed(FIRING, "/alerts/0/annotations", {})
    assert read("grafana", two)[0].body == ""
    one = changed(two, "/alerts/1", ...)
    assert only("grafana", one).body == FIRING["message"]
    assert only("grafana", changed(FIRING, "/alerts/1", ...)).body == "The queue has grown for 20 minutes."


def test_what_is_wrong_is_told() -> None:
    assert refusal("grafana", changed(FIRING, "/message", 1)) == "/message: expected a text."
    assert refusal("grafana", changed(FIRING, "/alerts/1/status", "alerting")).startswith("/alerts/1/status: expected")
