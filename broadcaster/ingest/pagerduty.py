"""PagerDuty's Events API v2: every tool that can alert PagerDuty can alert us, by another address.

Shape: https://developer.pagerduty.com/docs/events-api-v2/trigger-events/::

    {"routing_key": …, "event_action": "trigger|acknowledge|resolve", "dedup_key": …, "client": …, "client_url": …,
     "links": [{"href": …, "text": …}], "payload": {"summary": …, "source": …, "severity": "critical|error|warning|info",
     "timestamp": …, "component": …, "group": …, "class": …, "custom_details": {…}}}

PagerDuty makes up a random key for a trigger without one, which nothing can resolve. Ours comes from what it says, so that a
trigger that is sent again is known. The routing key is a secret and goes nowhere.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Final

from broadcaster.domain.messages import Severity
from broadcaster.domain.signal import Post, Signal, Status
from broadcaster.ingest.signals import severity, signal
from broadcaster.ingest.texts import BODY, hashed, quoted
from broadcaster.ingest.times import moment
from broadcaster.ingest.trees import Node, read_json

SEVERITIES: Final[Mapping[str, Severity]] = {
    "critical": Severity.CRITICAL,
    "error": Severity.HIGH,
    "warning": Severity.NORMAL,
    "info": Severity.LOW,
}

ACTIONS: Final[Mapping[str, Status]] = {
    "trigger": Status.FIRING,
    "acknowledge": Status.ACKNOWLEDGED,
    "resolve": Status.RESOLVED,
}

_LABELS: Final = ("source", "component", "group", "class")


class PagerDuty:
    name: Final = "pagerduty"
    label: Final = "PagerDuty Events API v2"

    def read(self, post: Post, options: Mapping[str, str]) -> Sequence[Signal]:  # noqa: ARG002
        event = read_json(post.body)
        status = _status(event["event_action"])
        payload = event["payload"]
        summary = payload["summary"].required().text() if status is Status.FIRING else payload["summary"].text()
        return [
            signal(
                event["dedup_key"].word() or _derived_key(event, status),
                status,
                titles=(summary,),
                body=_details(payload["custom_details"]),
                severity=severity(SEVERITIES, payload["severity"].text()),
                labels={name: payload[name].word() for name in _LABELS} | {"client": event["client"].text()},
                at=moment(payload["timestamp"].word()),
                url=_url(event),
            )
        ]


def _status(node: Node) -> Status:
    word = node.text()
    if not word:
        raise node.fault("missing; a change event is no alert")
    if word not in ACTIONS:
        raise node.fault(f"expected trigger, acknowledge or resolve, not {quoted(word)}")
    return ACTIONS[word]


def _derived_key(event: Node, status: Status) -> str:
    if status is not Status.FIRING:
        raise event["dedup_key"].fault("missing; without it nobody can tell what is meant")
    payload = event["payload"]
    return hashed(json.dumps([payload[name].word() for name in ("source", "summary", "component")]))


def _details(details: Node) -> str:
    """ "name: value" for each plain value, as PagerDuty shows them; only as many as an alert has room for."""
    if isinstance(details.value, str):  # not in the documentation, but accepted and common
        return details.value
    lines: list[str] = []
    room = BODY
    for name, value in details.members().items():
        if room <= 0:
            break
        if isinstance(value, str | int | float):
            lines.append(f"{name}: {value}")
            room -= len(lines[-1]) + 1
    return "\n".join(lines)


def _url(event: Node) -> str:
    """The first link is about this event; client_url is the tool's own page."""
    for link in event["links"].items():
        if href := link["href"].text():
            return href
    return event["client_url"].text()
