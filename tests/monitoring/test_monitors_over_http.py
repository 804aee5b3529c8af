"""A monitor's life over HTTP, and what never comes back of it."""

import csv
import io
import json
from typing import Any

import pytest
import requests

from broadcaster import wiring
from broadcaster.domain.monitor import Verdict
from tests.api.test_keys_and_errors import problem
from tests.monitoring.rig import PASSWORD, PUBLIC, TELL, Desk
from tests.monitoring.serving import EVIL_REASON

RULE = {
    "title": "{{name}} is gone", "body": "{{reasons}}", "all_clear_title": "Back", "all_clear_body": "After {{duration}}.",
    "reminder_title": "Still gone", "severity": "critical", "audience": {"everyone": True}, "channels": ["slack"],
    "escalation": [{"after_seconds": 300, "channels": ["slack"]}], "release": "hold", "hold_seconds": 30, "group": "mail",
    "group_wait_seconds": 2.5, "remind_every_seconds": 600, "update_after_seconds": 0,
    "all_clear": False, "on_degraded": True, "expires_in": 3600,
    "source": "Trust IT", "drill": True,
}  # fmt: skip


# ---- made, seen, changed, gone -------------------------------------------------------------------------------------


def test_what_is_made_is_seen_with_everything_but_its_secrets(desk: Desk) -> None:
    body = desk.body(
        timeout_seconds=2.5, quorum=2, vantages=["main", "branch-2"], control="[2001:db8::1]:443", sign_in_pause_seconds=60,
        alert=RULE,
    )  # fmt: skip
    answer = desk.call("POST", "monitors", 201, json=body)
    made = answer.json()
    assert answer.headers["Location"] == made["links"]["self"] == f"/api/v1/monitors/{made['id']}"
    assert made.pop("ping_url") is None
    assert desk.json("GET", f"monitors/{made['id']}", 200) == made
    given = {name: made[name] for name in body if name not in ("vantages", "config")}
    assert given == {name: value for name, value in body.items() if name in given}
    assert sorted(made["vantages"]) == ["branch-2", "main"]
    assert made["config"] == {"host": body["name"], "port": 993, "tls": True, "says": "ok", "reason": "It is well."}
    assert made["secrets"] == ["/password"]
    assert (made["state"], made["recent"], made["paused_at"]) == ("unknown", [], None)


def test_a_shorter_interval_shortens_the_timeout_that_nobody_asked_for(desk: Desk) -> None:
    assert desk.watch(interval_seconds=5)["timeout_seconds"] == 5
    assert desk.watch()["timeout_seconds"] == 10


def test_the_list_has_cursors_and_finds_a_name(desk: Desk) -> None:
    names = [desk.watch("Listed")["name"] for _ in range(5)]
    found: list[str] = []
    query = {"limit": "2"}
    while True:
        page = desk.json("GET", "monitors", 200, params=query)
        assert len(page["items"]) <= 2
        found += [m["name"] for m in page["items"]]
        if page["next_cursor"] is None:
            break
        query["cursor"] = page["next_cursor"]
    assert [name for name in found if name in names] == names
    assert [m["name"] for m in desk.json("GET", "monitors", 200, params={"name": names[3]})["items"]] == [names[3]]
    assert desk.json("GET", "monitors", 200, params={"name": "nobody's"})["items"] == []


def test_a_change_is_whole_and_keeps_the_secret_of_an_unchanged_config(desk: Desk) -> None:
    made = desk.watch()
    path = f"monitors/{made['id']}"
    body = {"name": desk.name("Renamed"), "kind": "obedient", "config": made["config"], "alert": TELL}
    changed = desk.json("PUT", path, 200, json=body)
    assert (changed["name"], changed["interval_seconds"], changed["failures"]) == (body["name"], 60, 3)
    assert changed["alert"]["audience"] == {"everyone": True}
    assert changed["secrets"] == ["/password"]
    desk.wiring.obedient.told.clear()
    desk.look(changed)
    assert desk.json("GET", f"{path}/readings", 200)["items"][0]["detail"]["signed_in"] is True
    elsewhere = {**body, "config": {**made["config"], "host": "elsewhere.example"}}
    assert "given again" in problem(desk.call("PUT", path, json=elsewhere), 422)["detail"]
    without = {**elsewhere, "config": {**elsewhere["config"], "password": ""}}
    assert desk.json("PUT", path, 200, json=without)["secrets"] == []
    problem(desk.call("PUT", path, json={**body, "kind": "heartbeat", "config": {}}), 422)


def test_a_name_is_had_once_and_free_again_after_its_end(desk: Desk) -> None:
    one, other = desk.watch(), desk.watch()
    body = desk.body(name=one["name"])
    problem(desk.call("POST", "monitors", json=body), 409)
    problem(desk.call("PUT", f"monitors/{other['id']}", json=body), 409)
    assert desk.call("DELETE", f"monitors/{one['id']}", 204).content == b""
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/look"), ("GET", "/readings"), ("GET", "/changes")):
        problem(desk.call(method, f"monitors/{one['id']}{path}"), 404)
    problem(desk.call("PUT", f"monitors/{one['id']}", json=body), 404)
    desk.call("POST", "monitors", 201, json=body)


def test_it_looks_is_paused_and_resumed(desk: Desk) -> None:
    made = desk.watch()
    desk.looks()
    path = f"monitors/{made['id']}"
    assert desk.json("GET", path, 200)["state"] == "ok"
    assert len(desk.json("GET", path, 200)["recent"]) == 1
    paused = desk.json("POST", f"{path}/pause", 200)
    assert paused["paused_at"] is not None
    assert paused["looks"][0]["next_at"] is None
    assert desk.json("POST", f"{path}/pause", 200) == paused
    problem(desk.call("POST", f"{path}/look"), 409)
    desk.looks()
    assert len(desk.json("GET", path, 200)["recent"]) == 1
    assert desk.json("POST", f"{path}/resume", 200)["paused_at"] is None
    desk.looks()
    seen = desk.json("GET", path, 200)
    assert [r["verdict"] for r in seen["recent"]] == ["ok", "ok"]
    assert seen["looks"][0]["in_a_row"]["ok"] == 2


def test_a_trial_look_keeps_nothing(desk: Desk) -> None:
    before = desk.json("GET", "monitors", 200, params={"limit": "200"})["items"]
    config = {"host": "h", "port": 25, "says": "failed", "reason": "Refused.", "password": PASSWORD}
    answer = desk.call("POST", "monitors/try", 200, json={"kind": "obedient", "config": config, "timeout_seconds": 1})
    assert answer.json() == {
        "verdict": "failed", "code": "down", "reason": "Refused.", "latency_ms": 12,
        "detail": {"port": 25, "signed_in": True},
    }  # fmt: skip
    assert desk.json("GET", "monitors", 200, params={"limit": "200"})["items"] == before


def test_every_kind_says_what_it_asks_for(desk: Desk) -> None:
    kinds = {k["name"]: k for k in desk.json("GET", "monitor-kinds", 200)["items"]}
    assert set(kinds) == {"obedient", "heartbeat"}
    assert kinds["obedient"]["codes"]["down"] == "It is not."
    assert kinds["obedient"]["config_schema"]["properties"]["password"]["writeOnly"] is True


# ---- what it has seen ----------------------------------------------------------------------------------------------


def _sheet(answer: requests.Response) -> list[dict[str, str]]:
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
    return list(csv.DictReader(io.StringIO(answer.text)))


def test_readings_and_changes_page_by_page_and_as_a_sheet(desk: Desk) -> None:
    made = desk.watch()
    for verdict in (Verdict.OK, Verdict.FAILED, Verdict.FAILED, Verdict.DEGRADED, Verdict.OK):
        desk.look(made, verdict)
    path = f"monitors/{made['id']}"
    first = desk.json("GET", f"{path}/readings", 200, params={"limit": "3"})
    second = desk.json("GET", f"{path}/readings", 200, params={"limit": "3", "cursor": first["next_cursor"]})
    readings = first["items"] + second["items"]
    assert [r["verdict"] for r in readings] == ["ok", "degraded", "failed", "failed", "ok"]
    assert second["next_cursor"] is None
    assert readings[0] == {**readings[0], "vantage": "main", "code": "ok", "latency_ms": 12}
    rows = _sheet(desk.call("GET", f"{path}/readings", 200, headers={"Accept": "text/csv"}))
    assert [{**r, "latency_ms": int(r["latency_ms"]), "detail": json.loads(r["detail"])} for r in rows] == readings
    changes = desk.json("GET", f"{path}/changes", 200)["items"]
    assert [(c["old"], c["new"]) for c in changes] == [
        ("degraded", "ok"), ("down", "degraded"), ("ok", "down"), ("unknown", "ok"),
    ]  # fmt: skip
    assert changes[2]["evidence"] == {"main": {"holds": "failed", "failed": 1}}
    rows = _sheet(desk.call("GET", f"{path}/changes", 200, params={"format": "csv"}))
    assert [{**r, "evidence": json.loads(r["evidence"])} for r in rows] == changes
    asked = desk.call("GET", f"{path}/changes", 200, params={"format": "json"}, headers={"Accept": "text/csv"})
    assert asked.json()["items"] == changes


def test_a_sheet_has_every_reading_and_no_formula(desk: Desk) -> None:
    made = desk.watch(config={"host": "h", "reason": EVIL_REASON})
    for _ in range(7):
        desk.look(made)
    assert desk.json("GET", f"monitors/{made['id']}/readings", 200)["items"][0]["reason"] == EVIL_REASON
    rows = _sheet(desk.call("GET", f"monitors/{made['id']}/readings?format=csv&limit=2", 200))
    assert len(rows) == 7
    assert {r["reason"] for r in rows} == {"'" + EVIL_REASON}
    problem(desk.call("GET", "monitors/none/readings?format=csv"), 404)


# ---- secrets and refusals ------------------------------------------------------------------------------------------


def test_a_password_never_comes_back(desk: Desk) -> None:
    body = desk.body(alert=TELL)
    answers = [desk.call("POST", "monitors", 201, json=body)]
    made = answers[0].json()
    path = f"monitors/{made['id']}"
    desk.look(made, Verdict.FAILED)
    answers += [
        desk.call("GET", path, 200),
        desk.call("GET", "monitors?limit=200", 200),
        desk.call("PUT", path, 200, json=body),
        desk.call("POST", f"{path}/pause", 200),
        desk.call("POST", f"{path}/resume", 200),
        desk.call("POST", f"{path}/look", 202),
        desk.call("GET", f"{path}/readings?format=csv", 200),
        desk.call("GET", f"{path}/changes", 200),
        desk.call("GET", "incidents", 200),
        desk.call("POST", "monitors", 409, json=body),
    ]
    for answer in answers:
        assert PASSWORD not in answer.text
    assert PASSWORD not in desk.log.read_text()


@pytest.mark.parametrize(
    ("change", "at"),
    [
        ({"config": {"host": "h", "port": PASSWORD, "password": PASSWORD}}, "config.port"),
        ({"config": {"host": "h", "pasword": PASSWORD}}, "config.pasword"),
        ({"config": {"password": PASSWORD}}, "config.host"),
        ({"config": {"host": "h", "says": PASSWORD}}, "config.says"),
        ({"config": {"host": "h", "password": [PASSWORD]}}, "config.password"),
        ({"config": PASSWORD}, "body.config"),
        ({"config": [PASSWORD]}, "body.config"),
        ({"password": PASSWORD}, "body.password"),
        ({"interval_seconds": PASSWORD}, "body.interval_seconds"),
        ({"config": {"host": "h", "password": PASSWORD}, "interval_seconds": 0}, "body.interval_seconds"),
        ({"config": {"host": "h", "password": PASSWORD}, "interval_seconds": 5, "timeout_seconds": 6}, "timeout_seconds"),
    ],
)
def test_a_refusal_names_the_place_and_repeats_nothing(desk: Desk, change: dict[str, Any], at: str) -> None:
    trial = {name: value for name, value in change.items() if name != "interval_seconds"}
    answers = [desk.call("POST", "monitors", json=desk.body(**change))]
    if "config" in change and "timeout_seconds" not in change and "interval_seconds" not in change:
        answers.append(desk.call("POST", "monitors/try", json={"kind": "obedient", **trial}))
    for answer in answers:
        assert at in problem(answer, 422)["detail"]
        assert PASSWORD not in answer.text
    assert PASSWORD not in desk.log.read_text()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kind": "telepathy"}, "heartbeat, obedient"),
        ({"name": "a\nb"}, "name"),
        ({"interval_seconds": 86_401}, "interval_seconds"),
        ({"timeout_seconds": 0.01}, "timeout_seconds"),
        ({"failures": 21}, "failures"),
        ({"successes": 0}, "successes"),
        ({"quorum": 2}, "quorum"),
        ({"vantages": ["a", "a"]}, "vantages"),
        ({"vantages": ["A!"]}, "vantages"),
        ({"vantages": []}, "vantages"),
        ({"control": "mail.example.org"}, "control"),
        ({"control": "mail.example.org:0"}, "control"),
        ({"control": "mail.example.org:65536"}, "control"),
        ({"alert": {"audience": {"everyone": True}}}, "channels: push, sms not available"),
        ({"alert": {**TELL, "audience": {"group": "No such group"}}}, "No such group"),
        ({"alert": {**TELL, "audience": {"tag": "role:none"}}}, "role"),
        ({"alert": {**TELL, "audience": {"nobody": True}}}, "alert.audience.nobody"),
        ({"alert": {**TELL, "title": "{{nmae}} is down"}}, "{{nmae}}"),
        ({"alert": {**TELL, "remind_every_seconds": 59}}, "remind_every_seconds"),
        ({"alert": {**TELL, "release": "maybe"}}, "release"),
        ({"alert": {**TELL, "escalation": [{"after_seconds": 9, "channels": ["slack"]}] * 2}}, "escalation"),
        ({"config": {"host": "h" * 70_000}}, "config"),
    ],
)
def test_what_cannot_be_is_422_and_says_what_to_mend(desk: Desk, change: dict[str, Any], words: str) -> None:
    assert words in problem(desk.call("POST", "monitors", json=desk.body(**change)), 422)["detail"]


def test_what_json_cannot_say_is_refused_and_no_fault(desk: Desk) -> None:
    deep = b'{"a":' * 900 + b"1" + b"}" * 900
    for config in (rb'{"host": "\ud800"}', rb'{"\ud800": 1}', b'{"host": NaN}', b'{"port": 1e999}', deep):
        body = b'{"name": "Odd", "kind": "obedient", "config": ' + config + b"}"
        problem(desk.call("POST", "monitors", data=body, headers={"Content-Type": "application/json"}), 422)
    for number in (b"NaN", b"Infinity", b"-Infinity"):
        body = b'{"name": "Odd", "kind": "obedient", "config": {"host": "h"}, "interval_seconds": ' + number + b"}"
        problem(desk.call("POST", "monitors", data=body, headers={"Content-Type": "application/json"}), 422)
    problem(desk.call("POST", "monitors", data=b"{", headers={"Content-Type": "application/json"}), 400)
    for path in ("monitors/%00", "monitors/%00/readings", "incidents/%00", "monitors?name=%00", "heartbeats/%00"):
        answer = desk.call("GET", path)
        problem(answer, 404 if path.startswith("heartbeats") else 422)


READS = [
    ("GET", "monitors"), ("GET", "monitors/none"), ("GET", "monitors/none/readings"), ("GET", "monitors/none/changes"),
    ("GET", "monitor-kinds"), ("GET", "maintenance"), ("GET", "incidents"), ("GET", "incidents/none"),
]  # fmt: skip
WRITES = [
    ("POST", "monitors"), ("PUT", "monitors/none"), ("DELETE", "monitors/none"), ("POST", "monitors/none/look"),
    ("POST", "monitors/none/pause"), ("POST", "monitors/none/resume"), ("POST", "monitors/try"), ("POST", "maintenance"),
    ("DELETE", "maintenance/none"),
]  # fmt: skip
DECISIONS = [("POST", "incidents/none/release"), ("POST", "incidents/none/dismiss")]


@pytest.mark.parametrize(
    ("scope", "routes"), [("monitors:read", READS), ("monitors:write", WRITES), ("alerts:send", DECISIONS)]
)
def test_every_route_asks_for_its_scope(desk: Desk, scope: str, routes: list[tuple[str, str]]) -> None:
    every = {"alerts:send", "alerts:read", "directory:read", "directory:write", "monitors:read", "monitors:write"}
    _, without = desk.wiring.keys.create("without", sorted(every - {scope}))
    _, only = desk.wiring.keys.create("only", [scope])
    bodies = {"monitors": desk.body(), "monitors/none": desk.body(), "maintenance": {"monitor": "none", "for_seconds": 60}}
    bodies["monitors/try"] = {"kind": "obedient", "config": {"host": "h"}}
    for method, path in routes:
        body = bodies.get(path)
        problem(desk.call(method, path, key="", json=body), 401)
        assert scope in problem(desk.call(method, path, key=without, json=body), 403)["detail"]
        assert desk.call(method, path, key=only, json=body).status_code in (200, 201, 404)


def test_a_test_key_changes_nothing_of_what_real_people_are_told(desk: Desk) -> None:
    _, key = desk.wiring.keys.create("drill", ["monitors:read", "monitors:write", "alerts:send"], test=True)
    made, incident = desk.down(release="approve")
    uid = made["id"]
    attempts: list[tuple[str, str, Any]] = [
        ("POST", "monitors", desk.body(alert=TELL)),
        ("POST", "monitors", desk.body()),
        ("PUT", f"monitors/{uid}", desk.body()),
        ("POST", f"monitors/{uid}/pause", None),
        ("POST", f"monitors/{uid}/look", None),
        ("DELETE", f"monitors/{uid}", None),
        ("POST", "maintenance", {"monitor": None, "for_seconds": 60}),
        ("POST", "signal-rules", {"name": desk.name("r"), "match": {}, "alert": None}),
        ("POST", "signal-sources", {"name": desk.name("s"), "format": "generic"}),
        *(("POST", f"incidents/{incident['id']}/{decision}", None) for decision in ("release", "dismiss", "close")),
    ]
    for method, path, body in attempts:
        assert "test key" in problem(desk.call(method, path, key=key, json=body), 403)["detail"], path
    made = desk.json(
        "POST", "signal-sources", 201, key=key, json={"name": desk.name("s"), "format": "generic", "test": True}
    )
    desk.call("DELETE", f"signal-sources/{made['id']}", 204, key=key)


# ---- heartbeats ----------------------------------------------------------------------------------------------------


def test_a_heartbeat_is_heard_without_a_key_and_its_address_is_shown_once(desk: Desk) -> None:
    answer = desk.call("POST", "monitors", 201, json=desk.body("Backup", kind="heartbeat", config={}))
    made = answer.json()
    prefix = f"{PUBLIC}/api/v1/heartbeats/"
    assert made["ping_url"].startswith(prefix)
    token = made["ping_url"].removeprefix(prefix)
    assert len(token) >= 32
    desk.looks()
    path = f"monitors/{made['id']}"
    assert desk.json("GET", path, 200)["state"] == "down"
    heard: list[str] = []
    for method in ("GET", "POST", "HEAD"):
        answer = desk.call(method, f"heartbeats/{token}", 200, key="", data=b"anything" if method == "POST" else None)
        assert answer.content == (b"" if method == "HEAD" else b'{"ok":true}')
        heard.append(desk.json("GET", path, 200)["heard_at"])
    assert None not in heard
    assert heard == sorted(set(heard))
    assert desk.look(made)["state"] == "ok"
    for shown in (desk.call("GET", path), desk.call("GET", "monitors?limit=200"), desk.call("GET", f"{path}/readings")):
        assert token not in shown.text
    assert token not in desk.log.read_text()
    desk.call("DELETE", path, 204)
    problem(desk.call("GET", f"heartbeats/{token}", key=""), 404)


def test_a_token_that_is_none_is_404_and_stands_in_no_log(desk: Desk) -> None:
    for method in ("GET", "POST"):
        problem(desk.call(method, "heartbeats/invented-by-somebody", key=""), 404)
    assert desk.call("HEAD", "heartbeats/invented-by-somebody", key="").status_code == 404
    assert "invented-by-somebody" not in desk.log.read_text()


def test_the_last_net_of_the_log_knows_secret_addresses() -> None:
    line = wiring._mask(None, "", '{"path": "/api/v1/heartbeats/s3cret-t0ken", "at": "/api/v1/signals/s3cret-t0ken?x=1"}')
    assert line == '{"path": "/api/v1/heartbeats/…", "at": "/api/v1/signals/…"}'


def test_a_heartbeat_that_comes_too_often_is_told_so_and_harms_no_other(desk: Desk) -> None:
    one, other = (desk.watch("Job", kind="heartbeat", config={})["ping_url"].rpartition("/")[2] for _ in range(2))
    statuses = [desk.call("GET", f"heartbeats/{one}", key="").status_code for _ in range(301)]
    assert statuses == [200] * 300 + [429]
    answer = desk.call("GET", f"heartbeats/{one}", key="")
    problem(answer, 429)
    assert int(answer.headers["Retry-After"]) >= 1
    desk.call("GET", f"heartbeats/{other}", 200, key="")
