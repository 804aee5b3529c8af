"""The example has the members of https://learn.microsoft.com/azure/azure-monitor/alerts/alerts-common-schema."""

from typing import Any, Final

import pytest

from broadcaster.domain.messages import Severity
from broadcaster.domain.signal import Status
from tests.ingest.posts import changed, only, refusal

RESOLVED: Final[dict[str, Any]] = {
    "schemaId": "azureMonitorCommonAlertSchema",
    "data": {
        "essentials": {
            "alertId": "/subscriptions/1111/providers/Microsoft.AlertsManagement/alerts/b9569717-bc32-442f-add5",
            "alertRule": "Mail gateway does not answer",
            "severity": "Sev1",
            "signalType": "Metric",
            "monitorCondition": "Resolved",
            "monitoringService": "Platform",
            "alertTargetIDs": [
                "/subscriptions/11111111/resourcegroups/mail/providers/microsoft.compute/virtualmachines/gw1"
            ],
            "configurationItems": ["gw1", "gw2"],
            "originAlertId": "3f2d4487-b0fc-4125-8bd5-7ad17384221e_mail_microsoft.insights_metricAlerts_gw1_-117781227",
            "firedDateTime": "2026-10-12T07:31:00.3713213Z",
            "resolvedDateTime": "2026-10-12T08:00:00.2246313Z",
            "description": "No message has passed for 5 minutes.",
            "essentialsVersion": "1.0",
            "alertContextVersion": "1.0",
        },
        "alertContext": {
            "properties": None,
            "conditionType": "SingleResourceMultipleMetricCriteria",
            "condition": {
                "windowSize": "PT5M",
                "allOf": [{"metricName": "Messages", "operator": "LessThan", "threshold": "1"}],
            },
        },
    },
}
FIRED: Final = changed(
    changed(RESOLVED, "/data/essentials/monitorCondition", "Fired"), "/data/essentials/resolvedDateTime", ...
)


def test_fired_and_resolved_meet() -> None:
    fired, resolved = only("azure", FIRED), only("azure", RESOLVED)
    assert fired.key == resolved.key == RESOLVED["data"]["essentials"]["alertId"]
    assert (fired.status, resolved.status) == (Status.FIRING, Status.RESOLVED)
    assert fired.title == "Mail gateway does not answer"
    assert fired.body == "No message has passed for 5 minutes."
    assert fired.severity is Severity.HIGH
    assert fired.labels == {"target": "gw1, gw2", "signal": "Metric", "service": "Platform"}
    assert fired.at == 1_791_790_260.371321
    assert resolved.at == 1_791_792_000.224631


@pytest.mark.parametrize(
    ("word", "severity"),
    [
        ("Sev0", Severity.CRITICAL),
        ("Sev1", Severity.HIGH),
        ("Sev2", Severity.NORMAL),
        ("Sev3", Severity.LOW),
        ("Sev4", Severity.LOW),
        ("sev4", Severity.LOW),
        ("Sev9", None),
    ],
)
def test_severities(word: str, severity: Severity | None) -> None:
    assert only("azure", changed(FIRED, "/data/essentials/severity", word)).severity is severity


@pytest.mark.parametrize(
    ("pointer", "value", "says"),
    [
        (
            "/schemaId",
            "AzureMonitorMetricAlert",
            "/schemaId: expected azureMonitorCommonAlertSchema; the action group must use the common alert schema.",
        ),
        ("/data", ..., "/data/essentials/monitorCondition: missing."),
        ("/data/essentials/alertId", ..., "/data/essentials/alertId: missing."),
        (
            "/data/essentials/monitorCondition",
            "Closed",
            '/data/essentials/monitorCondition: expected Fired or Resolved, not "Closed".',
        ),
        ("/data/essentials/configurationItems/0", 1, "/data/essentials/configurationItems/0: expected a text."),
    ],
)
def test_what_is_wrong_is_told(pointer: str, value: Any, says: str) -> None:
    assert refusal("azure", changed(FIRED, pointer, value)) == says
