"""Another system's word becomes an alert on people's phones, through the real HTTP interface."""

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from broadcaster.ingest.formats import FORMATS
from tests.conftest import Stack, skip_loudly
from tests.ingest import (
    test_alertmanager,
    test_azure,
    test_cap,
    test_cloudevents,
    test_grafana,
    test_healthchecks,
    test_nagios,
    test_pagerduty,
    test_statuspage,
    test_uptime_kuma,
    test_zabbix,
)
from tests.ingest.test_hostile import EXAMPLES
from tests.journeys.test_an_alert_reaches_everybody import number
from tests.ports import free_port

PLAIN = {"key": "mail-1", "status": "firing", "title": "Email is down", "body": "It timed out.", "severity": "critical"}


@pytest.fixture
def phone(stack: Stack) -> Iterator[str]:
    """One person, who is told of everything that any source says; nothing is left of it afterwards."""
    tag, phone = f"signals{time.monotonic_ns()}", number()
    stack.person("Watcher", tag=tag, sms=[phone])
    alert = {"audience": {"tag": f"test:{tag}"}, "channels": ["sms"]}
    rule = stack.json("POST", "signal-rules", 201, json={"name": tag, "match": {}, "alert": alert, "position": 0})
    yield phone
    stack.call("DELETE", f"signal-rules/{rule['id']}", 204)
    for source in stack.json("GET", "signal-sources", 200)["items"]:
        stack.call("DELETE", f"signal-sources/{source['id']}", 204)


def source(stack: Stack, format_name: str, **more: Any) -> dict[str, Any]:
    """A new one; ``path``: where it posts to on this stack."""
    body = {"name": f"{format_name} {time.monotonic_ns()}", "format": format_name, **more}
    made: dict[str, Any] = stack.json("POST", "signal-sources", 201, json=body)
    return {**made, "path": f"{stack.api}{urlsplit(made['url']).path}"}


def texts(stack: Stack, phone: str) -> list[str]:
    return [m["text"] for m in stack.messages("sms", phone)]


def test_firing_raises_and_resolved_clears(stack: Stack, phone: str) -> None:
    where = source(stack, "generic")
    for _ in range(3):  # said again, it is not told again
        assert requests.post(where["path"], json=PLAIN, timeout=10).status_code == 202
    stack.until(lambda: len(texts(stack, phone)) == 1)
    (incident,) = [i for i in stack.json("GET", "incidents?open=true", 200)["items"] if i["title"] == "Email is down"]
    assert [c["reason"] for c in incident["causes"]] == ["It timed out."]
    answer = requests.post(where["path"], json={**PLAIN, "status": "resolved"}, timeout=10)
    assert answer.json()["signals"][0]["what"] == "clear"
    stack.until(lambda: len(texts(stack, phone)) == 2)
    assert sum("Over: Email is down" in text for text in texts(stack, phone)) == 1


def test_by_api_key_and_a_sources_name(stack: Stack, phone: str) -> None:
    where = source(stack, "generic")
    taken = stack.json("POST", "signals", 202, params={"source": where["name"]}, json=PLAIN)
    assert taken["signals"][0]["what"] == "raise"
    stack.call("POST", "signals", 404, params={"source": "nobody"}, json=PLAIN)
    assert requests.post(f"{stack.api}/api/v1/signals?source=x", json=PLAIN, timeout=10).status_code == 401
    stack.until(lambda: len(texts(stack, phone)) == 1)


def test_what_can_page_pagerduty_can_page_us(stack: Stack, phone: str) -> None:
    where = source(stack, "pagerduty")
    event = {**test_pagerduty.TRIGGER, "routing_key": where["routing_key"]}
    answer = requests.post(f"{stack.api}/v2/enqueue", json=event, timeout=10)
    assert (answer.status_code, answer.json()["status"]) == (202, "success")
    stack.until(lambda: len(texts(stack, phone)) == 1)
    event = {"routing_key": where["routing_key"], "event_action": "resolve", "dedup_key": answer.json()["dedup_key"]}
    assert requests.post(f"{stack.api}/v2/enqueue", json=event, timeout=10).status_code == 202
    stack.until(lambda: len(texts(stack, phone)) == 2)
    for bad in (b"", b"[]", b'{"routing_key": 5}', json.dumps({"routing_key": "0" * 32, "event_action": "trigger"})):
        answer = requests.post(f"{stack.api}/v2/enqueue", data=bad, timeout=10)
        assert (answer.status_code, answer.json()["status"]) == (400, "invalid event")


FIRING: dict[str, tuple[Any, dict[str, str]]] = {
    "alertmanager": (test_alertmanager.FIRING, {}),
    "grafana": (test_grafana.FIRING, {}),
    "uptime_kuma": (test_uptime_kuma.DOWN, {}),
    "healthchecks": (test_healthchecks.DOWN, {}),
    "nagios": (test_nagios.PROBLEM, {}),
    "zabbix": (test_zabbix.PROBLEM, {}),
    "azure": (test_azure.FIRED, {}),
    "statuspage": (test_statuspage.MONITORING, {}),
    "cap": (test_cap.ALERT, {"content-type": "application/cap+xml"}),
    "cloudevents": (test_cloudevents.STRUCTURED, dict(test_cloudevents.STRUCTURED_HEADERS)),
}


@pytest.mark.parametrize("name", sorted(set(FORMATS) - {"generic", "pagerduty"}))
def test_every_format_raises(stack: Stack, phone: str, name: str) -> None:
    where = source(stack, name)
    body, headers = FIRING[name]
    data = body if isinstance(body, str | bytes) else json.dumps(body)
    answer = requests.post(where["path"], data=data, headers=headers, timeout=10)
    assert answer.status_code == 202, answer.text
    assert {s["what"] for s in answer.json()["signals"] if s["status"] == "firing"} == {"raise"}
    stack.until(lambda: texts(stack, phone))


HOSTILE = [b"", b"\x00\xff\xfe", b"[" * 100_000, b'{"a":' * 50_000, b"null", b"1e999", b'"text"', b"<x/>"]


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_rubbish_is_refused_with_a_problem_and_raises_nothing(stack: Stack, name: str) -> None:
    where = source(stack, name)
    before = len(stack.json("GET", "incidents", 200)["items"])
    for body in HOSTILE:
        answer = requests.post(where["path"], data=body, timeout=10)
        assert answer.status_code == 422, (body[:20], answer.text)
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["detail"]
    for good in (e for e in EXAMPLES if e.name == name):  # each of its members of a wrong type
        if isinstance(good.body, dict):
            for member in good.body:
                answer = requests.post(where["path"], json={**good.body, member: [[]]}, timeout=10)
                assert answer.status_code in (202, 422), answer.text
    assert requests.post(where["path"], data=b"x" * (2 << 20), timeout=10).status_code == 413
    assert requests.post(f"{where['path']}x", data=b"{}", timeout=10).status_code == 404
    assert len(stack.json("GET", "incidents", 200)["items"]) == before or name in ("cap", "generic")
    stack.call("DELETE", f"signal-sources/{where['id']}", 204)


def test_a_real_alertmanager_raises_and_resolves(stack: Stack, phone: str, tmp_path: Path) -> None:
    """Configured as the README says."""
    if shutil.which("prometheus-alertmanager") is None:
        skip_loudly("Alertmanager", "apt-get install prometheus-alertmanager")
    where = source(stack, "alertmanager")
    config = tmp_path / "alertmanager.yml"
    config.write_text(f"""
route:
  receiver: broadcaster
  group_wait: 0s
  group_interval: 1s
  repeat_interval: 1h
receivers:
  - name: broadcaster
    webhook_configs:
      - url: {where["path"]}
        send_resolved: true
        max_alerts: 1000
""")
    port = free_port()
    command = [
        "prometheus-alertmanager", f"--config.file={config}", f"--storage.path={tmp_path / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}", "--cluster.listen-address=",
    ]  # fmt: skip
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        api = f"http://127.0.0.1:{port}/api/v2"
        stack.until(lambda: answers(f"{api}/status"))
        alert = {
            "labels": {"alertname": "MailDown", "severity": "critical", "site": "Northmoor"},
            "annotations": {"summary": "Mail is not delivered", "description": "The queue has not moved for 5 minutes."},
        }
        assert requests.post(f"{api}/alerts", json=[alert], timeout=10).status_code == 200
        stack.until(lambda: len(texts(stack, phone)) == 1)
        assert "Mail is not delivered" in texts(stack, phone)[0]
        over = {**alert, "endsAt": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
        assert requests.post(f"{api}/alerts", json=[over], timeout=10).status_code == 200
        stack.until(lambda: len(texts(stack, phone)) == 2)
    finally:
        process.terminate()
        process.wait(10)


def answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=2).ok
    except requests.ConnectionError:
        return False
