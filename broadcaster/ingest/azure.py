"""Azure Monitor's common alert schema.

Shape: https://learn.microsoft.com/azure/azure-monitor/alerts/alerts-common-schema::

    {"schemaId": "azureMonitorCommonAlertSchema", "data": {"essentials": {"alertId": …, "alertRule": …, "severity": "Sev0",
     "signalType": …, "monitorCondition": "Fired|Resolved", "monitoringService": …, "alertTargetIDs": […],
     "configurationItems": […], "originAlertId": …, "firedDateTime": …, "resolvedDateTime": …, "description": …, …},
     "alertContext": {…}}}
"""

from collections.abc import Mapping, Sequence
from typing import Final

from broadcaster.domain.messages import Severity
from broadcaster.domain.signal import Post, Signal, Status
from broadcaster.ingest.signals import severity, signal
from broadcaster.ingest.texts import quoted
from broadcaster.ingest.times import moment
from broadcaster.ingest.trees import Node, read_json

SCHEMA: Final = "azureMonitorCommonAlertSchema"

#: Azure's own words for them: critical, error, warning, informational, verbose.
SEVERITIES: Final[Mapping[str, Severity]] = {
    "sev0": Severity.CRITICAL,
    "sev1": Severity.HIGH,
    "sev2": Severity.NORMAL,
    "sev3": Severity.LOW,
    "sev4": Severity.LOW,
}

CONDITIONS: Final[Mapping[str, Status]] = {"fired": Status.FIRING, "resolved": Status.RESOLVED}


class Azure:
    name: Final = "azure"
    label: Final = "Azure Monitor"

    def read(self, post: Post, options: Mapping[str, str]) -> Sequence[Signal]:  # noqa: ARG002
        body = read_json(post.body)
        if body["schemaId"].text() != SCHEMA:
            raise body["schemaId"].fault(f"expected {SCHEMA}; the action group must use the common alert schema")
        essentials = body["data"]["essentials"]
        status = _status(essentials["monitorCondition"])
        fired, resolved = moment(essentials["firedDateTime"].text()), moment(essentials["resolvedDateTime"].text())
        return [
            signal(
                essentials["alertId"].required().text(),
                status,
                titles=(essentials["alertRule"].text(),),
                body=essentials["description"].text(),
                severity=severity(SEVERITIES, essentials["severity"].text()),
                labels={
                    "target": ", ".join(item.text() for item in essentials["configurationItems"].items()),
                    "signal": essentials["signalType"].text(),
                    "service": essentials["monitoringService"].text(),
                },
                at=(resolved or fired) if status is Status.RESOLVED else fired,
                url=essentials["investigationLink"].text(),
            )
        ]


def _status(node: Node) -> Status:
    word = node.required().text()
    if word.lower() not in CONDITIONS:
        raise node.fault(f"expected Fired or Resolved, not {quoted(word)}")
    return CONDITIONS[word.lower()]
