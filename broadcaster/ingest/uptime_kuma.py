"""Uptime Kuma's notification "Webhook" with the body "application/json".

Shape: https://github.com/louislam/uptime-kuma/blob/master/server/notification-providers/webhook.js and model/heartbeat.js::

    {"heartbeat": {"monitorID": 1, "status": 0, "time": "2026-10-12 07:31:00.123", "msg": …, "ping": …, "important": true,
     "duration": …}, "monitor": {"id": 1, "name": …, "url": …, "type": …, "tags": [{"name": …, "value": …}], …}, "msg": …}

``heartbeat.time`` is UTC without saying so. Both parts are null in a test and in "certificate will expire": no signals.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from broadcaster.domain.signal import Post, Signal, Status
from broadcaster.ingest.signals import signal
from broadcaster.ingest.texts import quoted
from broadcaster.ingest.times import moment
from broadcaster.ingest.trees import Node, read_json

#: heartbeat.status (Kuma's src/util: DOWN, UP, PENDING, MAINTENANCE). None: nothing to tell anybody (it is being tried
#: again, or somebody meant it to be down).
STATUSES: Final[Mapping[str, Status | None]] = {
    "0": Status.FIRING,
    "1": Status.RESOLVED,
    "2": None,
    "3": None,
}

_SAID: Final[Mapping[Status, str]] = {Status.FIRING: "is down", Status.RESOLVED: "is up"}


class UptimeKuma:
    name: Final = "uptime_kuma"
    label: Final = "Uptime Kuma"

    def read(self, post: Post, options: Mapping[str, str]) -> Sequence[Signal]:  # noqa: ARG002
        body = read_json(post.body)
        heartbeat, monitor = body["heartbeat"], body["monitor"]
        if heartbeat.missing:
            body["msg"].required().text()  # any other JSON is not Kuma's
            return []
        status = _status(heartbeat["status"])
        if status is None:
            return []
        name = monitor["name"].text()
        return [
            signal(
                heartbeat["monitorID"].word() or monitor["id"].required().word(),
                status,
                titles=(f"{name} {_SAID[status]}" if name else "", body["msg"].text()),
                body=heartbeat["msg"].text() or body["msg"].text(),
                labels={"monitor": name, "type": monitor["type"].text()} | _tags(monitor["tags"]),
                at=moment(heartbeat["time"].text()),
                url=monitor["url"].text(),
            )
        ]


def _status(node: Node) -> Status | None:
    word = node.required().word()
    if word not in STATUSES:
        raise node.fault(f"expected 0, 1, 2 or 3, not {quoted(word)}")
    return STATUSES[word]


def _tags(tags: Node) -> dict[str, str]:
    return {tag["name"].text(): tag["value"].word() for tag in tags.items()}
