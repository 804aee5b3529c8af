"""Atlassian Statuspage's webhooks to subscribers: what a supplier tells of itself.

Shape: https://support.atlassian.com/statuspage/docs/enable-webhook-notifications/. Either an incident::

    {"meta": {…}, "page": {"id": …, "status_indicator": …, "status_description": …}, "incident": {"id": …, "name": …,
     "status": …, "impact": …, "backfilled": false, "created_at": …, "updated_at": …, "resolved_at": …, "shortlink": …,
     "incident_updates": [{"id": …, "body": …, "status": …, "created_at": …, …}], …}}

or a component::

    {"meta": {…}, "page": {…}, "component_update": {"component_id": …, "new_status": …, "old_status": …, "created_at": …, …},
     "component": {"id": …, "name": …, "status": …, …}}

Planned maintenance is no signal, and neither is what was entered afterwards (``backfilled``).
"""

from collections.abc import Mapping, Sequence
from typing import Final

from broadcaster.domain.messages import Severity
from broadcaster.domain.signal import Post, Signal, Status
from broadcaster.ingest.signals import severity, signal
from broadcaster.ingest.texts import quoted
from broadcaster.ingest.times import moment
from broadcaster.ingest.trees import Node, read_json

#: incident.impact. "maintenance" is handled before.
IMPACTS: Final[Mapping[str, Severity]] = {
    "critical": Severity.CRITICAL,
    "major": Severity.HIGH,
    "minor": Severity.NORMAL,
    "none": Severity.LOW,
}

#: incident.status. Somebody there works on every incident, so none of them says "acknowledged". None: of a maintenance.
STATUSES: Final[Mapping[str, Status | None]] = {
    "investigating": Status.FIRING,
    "identified": Status.FIRING,
    "monitoring": Status.FIRING,
    "resolved": Status.RESOLVED,
    "postmortem": Status.RESOLVED,
    "scheduled": None,
    "in_progress": None,
    "verifying": None,
    "completed": None,
}

#: component_update.new_status → (status, severity).
COMPONENTS: Final[Mapping[str, tuple[Status | None, Severity | None]]] = {
    "operational": (Status.RESOLVED, None),
    "degraded_performance": (Status.FIRING, Severity.NORMAL),
    "partial_outage": (Status.FIRING, Severity.HIGH),
    "major_outage": (Status.FIRING, Severity.CRITICAL),
    "under_maintenance": (None, None),
}


class Statuspage:
    name: Final = "statuspage"
    label: Final = "Statuspage"

    def read(self, post: Post, options: Mapping[str, str]) -> Sequence[Signal]:  # noqa: ARG002
        body = read_json(post.body)
        if not body["incident"].missing:
            return _read_incident(body["incident"])
        if not body["component_update"].missing:
            return _read_component(body["component_update"], body["component"])
        raise body.fault("expected an incident or a component_update")


def _read_incident(incident: Node) -> list[Signal]:
    word, impact = incident["status"].required().text(), incident["impact"].text()
    if word not in STATUSES:
        raise incident["status"].fault(f"not a status of Statuspage: {quoted(word)}")
    status = STATUSES[word]
    if status is None or impact == "maintenance" or incident["backfilled"].truth():
        return []
    latest = _latest(incident["incident_updates"].items())
    return [
        signal(
            incident["id"].required().text(),
            status,
            titles=(incident["name"].text(),),
            body=latest["body"].text(),
            severity=severity(IMPACTS, impact),
            labels={"incident_status": word, "impact": impact},
            at=moment(incident["updated_at"].text()),
            url=incident["shortlink"].text(),
        )
    ]


def _read_component(update: Node, component: Node) -> list[Signal]:
    word, name = update["new_status"].required().text(), component["name"].text()
    if word not in COMPONENTS:
        raise update["new_status"].fault(f"not a status of a component: {quoted(word)}")
    status, how_bad = COMPONENTS[word]
    if status is None:
        return []
    return [
        signal(
            (update["component_id"].text() or component["id"].required().text()),
            status,
            titles=(f"{name}: {word.replace('_', ' ')}" if name else "",),
            body=component["description"].text(),
            severity=how_bad,
            labels={"component": name, "component_status": word},
            at=moment(update["created_at"].text()),
        )
    ]


def _latest(updates: Sequence[Node]) -> Node:
    """Newest first as a rule, but nobody promises it."""
    return max(updates, key=lambda update: moment(update["created_at"].text()) or 0.0, default=Node(None))
