"""The example has the members that Kuma's server/notification-providers/webhook.js, model/heartbeat.js and model/monitor.js
write (https://github.com/louislam/uptime-kuma)."""

from typing import Any, Final

import pytest

from broadcaster.domain.signal import Status
from tests.ingest.posts import changed, only, read, refusal

DOWN: Final[dict[str, Any]] = {
    "heartbeat": {
        "monitorID": 3,
        "status": 0,
        "time": "2026-10-12 07:31:00.123",
        "msg": "connect ECONNREFUSED 10.1.2.3:443",
        "ping": None,
        "important": True,
        "duration": 60,
    },
    "monitor": {
        "id": 3,
        "name": "Northmoor webmail",
        "url": "https://mail.northmoor.example",
        "method": "GET",
        "hostname": None,
        "port": None,
        "maxretries": 2,
        "weight": 2000,
        "active": True,
        "type": "http",
        "interval": 60,
        "tags": [{"id": 1, "monitor_id": 3, "tag_id": 1, "value": "Northmoor", "name": "site", "color": "#2563eb"}],
    },
    "msg": "[Northmoor webmail] [🔴 Down] connect ECONNREFUSED 10.1.2.3:443",
}
UP: Final = changed(changed(DOWN, "/heartbeat/status", 1), "/heartbeat/msg", "200 - OK")
TEST: Final = {"heartbeat": None, "monitor": None, "msg": "Broadcaster Testing"}


def test_down_and_up_meet() -> None:
    down, up = only("uptime_kuma", DOWN), only("uptime_kuma", UP)
    assert down.key == up.key == "3"
    assert (down.status, up.status) == (Status.FIRING, Status.RESOLVED)
    assert (down.title, up.title) == ("Northmoor webmail is down", "Northmoor webmail is up")
    assert down.body == "connect ECONNREFUSED 10.1.2.3:443"
    assert down.labels == {"monitor": "Northmoor webmail", "type": "http", "site": "Northmoor"}
    assert down.at == 1_791_790_260.123
    assert down.url == "https://mail.northmoor.example"


@pytest.mark.parametrize(("number", "status"), [(0, Status.FIRING), (1, Status.RESOLVED), (2, None), (3, None)])
def test_statuses(number: int, status: Status | None) -> None:
    assert [signal.status for signal in read("uptime_kuma", changed(DOWN, "/heartbeat/status", number))] == (
        [status] if status else []
    )


def test_a_test_says_nothing() -> None:
    assert read("uptime_kuma", TEST) == []


def test_a_monitor_that_is_not_of_the_web_has_no_link() -> None:
    assert only("uptime_kuma", changed(DOWN, "/monitor/url", "https://")).url is None


def test_without_the_monitor_the_message_is_the_title() -> None:
    assert only("uptime_kuma", changed(DOWN, "/monitor", None)).title == DOWN["msg"]


@pytest.mark.parametrize(
    ("pointer", "value", "says"),
    [
        ("/heartbeat/status", 9, '/heartbeat/status: expected 0, 1, 2 or 3, not "9".'),
        ("/heartbeat/status", None, "/heartbeat/status: missing."),
        ("/heartbeat/monitorID", {}, "/heartbeat/monitorID: expected a text, a number or a boolean."),
        ("/heartbeat", "x", "/heartbeat: expected an object."),
        ("/monitor/tags", {}, "/monitor/tags: expected an array."),
    ],
)
def test_what_is_wrong_is_told(pointer: str, value: Any, says: str) -> None:
    assert refusal("uptime_kuma", changed(DOWN, pointer, value)) == says


def test_other_json_is_not_kumas() -> None:
    assert refusal("uptime_kuma", {}) == "/msg: missing."
