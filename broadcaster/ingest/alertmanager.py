"""Prometheus Alertmanager's webhook, version 4. Every alert of a notification is a signal.

Shape: https://prometheus.io/docs/alerting/latest/configuration/#webhook_config::

    {"version": "4", "groupKey": …, "status": "firing|resolved", "alerts": [{"status": "firing|resolved",
     "labels": {…}, "annotations": {…}, "startsAt": …, "endsAt": …, "generatorURL": …, "fingerprint": …}], …}

``read_alerts`` is Grafana's as well, whose webhook has the same alerts.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Final

from broadcaster.domain.messages import Severity
from broadcaster.domain.signal import Post, Signal, Status
from broadcaster.ingest.signals import severity, signal
from broadcaster.ingest.texts import hashed, quoted
from broadcaster.ingest.times import moment
from broadcaster.ingest.trees import Node, read_json

#: The label "severity" is free text; these are the words of Prometheus's own and of the common rule collections.
SEVERITIES: Final[Mapping[str, Severity]] = {
    "critical": Severity.CRITICAL,
    "page": Severity.CRITICAL,
    "emergency": Severity.CRITICAL,
    "error": Severity.HIGH,
    "high": Severity.HIGH,
    "major": Severity.HIGH,
    "warning": Severity.NORMAL,
    "warn": Severity.NORMAL,
    "medium": Severity.NORMAL,
    "minor": Severity.NORMAL,
    "ticket": Severity.NORMAL,
    "info": Severity.LOW,
    "low": Severity.LOW,
    "none": Severity.LOW,
}

_STATUSES: Final[Mapping[str, Status]] = {"firing": Status.FIRING, "resolved": Status.RESOLVED}


class Alertmanager:
    name: Final = "alertmanager"
    label: Final = "Prometheus Alertmanager"

    def read(self, post: Post, options: Mapping[str, str]) -> Sequence[Signal]:  # noqa: ARG002
        return read_alerts(read_json(post.body))


def read_alerts(body: Node) -> list[Signal]:
    """One signal for every item of ``alerts``. The array must be there; it may be empty."""
    alerts = body["alerts"].required()
    return [_read_alert(alert) for alert in alerts.items()]


def _read_alert(alert: Node) -> Signal:
    labels, annotations = alert["labels"].texts(), alert["annotations"].texts()
    status = _status(alert["status"])
    starts, ends = moment(alert["startsAt"].text()), moment(alert["endsAt"].text())
    return signal(
        alert["fingerprint"].text() or _of_labels(alert, labels),
        status,
        titles=(annotations.get("summary", ""), labels.get("alertname", "")),
        body=annotations.get("description", ""),
        severity=severity(SEVERITIES, labels.get("severity", "")),
        labels=labels,
        # endsAt of a firing alert is year 1, or the time at which it would be taken for over if nothing more were heard.
        at=(ends or starts) if status is Status.RESOLVED else starts,
        began=status is Status.FIRING,
        url=alert["generatorURL"].text(),
    )


def _status(node: Node) -> Status:
    word = node.required().text()
    if word not in _STATUSES:
        raise node.fault(f"expected firing or resolved, not {quoted(word)}")
    return _STATUSES[word]


def _of_labels(alert: Node, labels: Mapping[str, str]) -> str:
    """What a fingerprint is made of (versions before 0.19 send none): all labels, in order of their names."""
    if not labels:
        raise alert["fingerprint"].fault("missing, and there are no labels to tell the alert by")
    return hashed(json.dumps(sorted(labels.items())))
