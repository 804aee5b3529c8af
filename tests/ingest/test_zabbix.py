"""The bodies are what the module's parameters come to; the macros' values are those of
https://www.zabbix.com/documentation/current/en/manual/appendix/macros/supported_by_location."""

import json
from typing import Any, Final

import pytest

from broadcaster.domain.messages import Severity
from broadcaster.domain.signal import Status
from tests.ingest.posts import changed, only, read, refusal

PROBLEM: Final[dict[str, Any]] = {
    "event_id": "48213",
    "event_value": "1",
    "event_update_status": "0",
    "event_ack_status": "No",
    "event_nseverity": "4",
    "event_name": "Mail queue is growing on mail01",
    "event_tags_json": '[{"tag":"site","value":"Northmoor"},{"tag":"service","value":"mail"}]',
    "trigger_id": "13926",
    "trigger_url": "https://zabbix.northmoor.example/tr_events.php?triggerid=13926&eventid=48213",
    "host": "mail01",
    "message": "Problem started at 07:31:00 on 2026.10.12\r\nHost: mail01\r\nSeverity: High",
}
ACKNOWLEDGED: Final = PROBLEM | {"event_update_status": "1", "event_ack_status": "Yes"}
RECOVERY: Final = PROBLEM | {"event_value": "0"}


def test_from_problem_to_recovery() -> None:
    problem, acknowledged, recovery = (only("zabbix", body) for body in (PROBLEM, ACKNOWLEDGED, RECOVERY))
    assert problem.key == acknowledged.key == recovery.key == "48213"
    assert [problem.status, acknowledged.status, recovery.status] == list(Status)
    assert problem.title == "Mail queue is growing on mail01"
    assert problem.body == "Problem started at 07:31:00 on 2026.10.12\nHost: mail01\nSeverity: High"
    assert problem.labels == {"host": "mail01", "trigger": "13926", "site": "Northmoor", "service": "mail"}
    assert problem.severity is Severity.HIGH
    assert problem.url == PROBLEM["trigger_url"]


@pytest.mark.parametrize(
    ("value", "update", "acknowledged", "status"),
    [
        ("1", "0", "No", Status.FIRING),
        ("1", "1", "No", Status.FIRING),  # a comment, another severity, or taken out of hand again
        ("1", "1", "Yes", Status.ACKNOWLEDGED),
        ("0", "0", "Yes", Status.RESOLVED),
        ("0", "1", "Yes", Status.RESOLVED),  # a comment on one that is over
        (1, 1, 1, Status.ACKNOWLEDGED),
    ],
)
def test_statuses(value: Any, update: Any, acknowledged: Any, status: Status) -> None:
    body = PROBLEM | {"event_value": value, "event_update_status": update, "event_ack_status": acknowledged}
    assert only("zabbix", body).status is status


@pytest.mark.parametrize(
    ("word", "severity"),
    [
        ("5", Severity.CRITICAL),
        ("disaster", Severity.CRITICAL),
        ("4", Severity.HIGH),
        ("high", Severity.HIGH),
        ("3", Severity.NORMAL),
        ("average", Severity.NORMAL),
        ("2", Severity.NORMAL),
        ("warning", Severity.NORMAL),
        ("1", Severity.LOW),
        ("information", Severity.LOW),
        ("0", None),
        ("Not classified", None),
    ],
)
def test_severities(word: str, severity: Severity | None) -> None:
    assert only("zabbix", PROBLEM | {"event_nseverity": word}).severity is severity
    without = changed(PROBLEM, "/event_nseverity", ...)
    assert only("zabbix", without | {"trigger_severity": word.title()}).severity is severity


def test_the_triggers_name_stands_in_for_the_events() -> None:
    assert only("zabbix", changed(PROBLEM, "/event_name", ...) | {"trigger_name": "Mail queue"}).title == "Mail queue"


def test_unknown_macros_count_as_missing() -> None:
    signal = only("zabbix", PROBLEM | {"host": "*UNKNOWN*", "trigger_url": "{TRIGGER.URL}", "event_name": "{EVENT.NAME}"})
    assert "host" not in signal.labels
    assert signal.url is None
    assert signal.title.startswith("Problem started")


def test_the_test_button_says_nothing() -> None:
    assert read("zabbix", {name: f"{{{name.upper().replace('_', '.')}}}" for name in PROBLEM}) == []


@pytest.mark.parametrize("tags", ["", "[", "{}", "[1]", json.dumps([{"tag": 1}]), "{EVENT.TAGSJSON}"])
def test_tags_that_cannot_be_read_cost_no_alert(tags: str) -> None:
    assert only("zabbix", PROBLEM | {"event_tags_json": tags}).labels == {"host": "mail01", "trigger": "13926"}


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("event_id", ..., "/event_id: missing."),
        ("event_value", ..., "/event_value: missing."),
        ("event_value", "2", '/event_value: expected 0 or 1, not "2".'),
        ("host", [], "/host: expected a text, a number or a boolean."),
    ],
)
def test_what_is_wrong_is_told(name: str, value: Any, says: str) -> None:
    assert refusal("zabbix", changed(PROBLEM, f"/{name}", value)) == says
