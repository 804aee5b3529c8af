"""From a monitor that is down to an alert, and who decides; and times in which nobody is told."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from broadcaster.domain.monitor import Verdict
from tests.api.test_keys_and_errors import problem
from tests.monitoring.rig import TELL, Desk


def test_what_is_down_is_told_and_its_end_closes_the_incident(desk: Desk) -> None:
    monitor, incident = desk.down(severity="critical", title="{{name}} is gone")
    assert (incident["state"], incident["severity"], incident["alerts"]) == ("waiting", "critical", [])
    assert incident["title"] == f"{monitor['name']} is gone"
    assert [(c["kind"], c["reason"]) for c in incident["causes"]] == [("What it is told", "It is failed.")]
    desk.follow()
    told = desk.json("GET", f"incidents/{incident['id']}", 200)
    assert told["state"] == "told"
    assert [a["what"] for a in told["alerts"]] == ["alert"]
    assert desk.json("GET", f"alerts/{told['alerts'][0]['alert']}", 200)["title"] == f"{monitor['name']} is gone"
    assert incident["id"] in [i["id"] for i in desk.json("GET", "incidents?open=true", 200)["items"]]
    desk.look(monitor, Verdict.OK)
    desk.follow()
    closed = desk.json("GET", f"incidents/{incident['id']}", 200)
    assert closed["state"] == "closed"
    assert closed["causes"][0]["cleared_at"] is not None
    assert incident["id"] not in [i["id"] for i in desk.json("GET", "incidents?open=true", 200)["items"]]
    assert incident["id"] in [i["id"] for i in desk.json("GET", "incidents?open=false", 200)["items"]]


def test_incidents_have_cursors(desk: Desk) -> None:
    ids = [desk.down()[1]["id"] for _ in range(3)]
    first = desk.json("GET", "incidents", 200, params={"limit": "2"})
    second = desk.json("GET", "incidents", 200, params={"limit": "2", "cursor": first["next_cursor"]})
    assert [i["id"] for i in first["items"] + second["items"]][:3] == ids[::-1]


@pytest.mark.parametrize(("release", "state"), [("approve", "asking"), ("hold", "waiting")])
def test_what_waits_is_told_when_somebody_releases_it(desk: Desk, release: str, state: str) -> None:
    _, incident = desk.down(release=release, hold_seconds=3600)
    desk.follow()
    path = f"incidents/{incident['id']}"
    seen = desk.json("GET", path, 200)
    assert (seen["state"], seen["alerts"]) == (state, [])
    assert (seen["due_at"] is not None) == (release == "hold")
    assert desk.json("POST", f"{path}/release", 200)["decided_by"] == "tests"
    desk.follow()
    assert desk.json("GET", path, 200)["state"] == "told"
    for decision in ("release", "dismiss"):
        problem(desk.call("POST", f"{path}/{decision}"), 409)


def test_what_is_dismissed_is_told_to_nobody(desk: Desk) -> None:
    monitor, incident = desk.down(release="hold", hold_seconds=3600)
    path = f"incidents/{incident['id']}"
    assert desk.json("POST", f"{path}/dismiss", 200)["state"] == "dismissed"
    desk.look(monitor, Verdict.FAILED)
    desk.follow()
    assert desk.json("GET", path, 200)["alerts"] == []
    problem(desk.call("POST", f"{path}/release"), 409)
    for decision in ("release", "dismiss"):
        problem(desk.call("POST", f"incidents/none/{decision}"), 404)


def test_a_group_is_one_incident(desk: Desk) -> None:
    group = desk.name("group")
    monitors = [desk.watch(alert={**TELL, "group": group}) for _ in range(2)]
    for monitor in monitors:
        desk.look(monitor, Verdict.FAILED)
    names = {m["name"] for m in monitors}
    found = [i for i in desk.json("GET", "incidents", 200)["items"] if {c["name"] for c in i["causes"]} & names]
    assert [{c["name"] for c in i["causes"]} for i in found] == [names]


# ---- maintenance ---------------------------------------------------------------------------------------------------


def windows(desk: Desk) -> dict[str, dict[str, Any]]:
    return {w["id"]: w for w in desk.json("GET", "maintenance", 200)["items"]}


def test_in_maintenance_nobody_is_told_until_it_ends(desk: Desk) -> None:
    monitor = desk.watch(alert=TELL)
    body = {"monitor": monitor["id"], "for_seconds": 7200, "note": "New certificate"}
    window = desk.json("POST", "maintenance", 201, json=body)
    assert windows(desk)[window["id"]] == window
    assert (window["monitor"], window["monitor_name"]) == (monitor["id"], monitor["name"])
    assert (window["phase"], window["note"]) == ("now", "New certificate")
    seen = desk.look(monitor, Verdict.FAILED)
    assert (seen["state"], seen["in_maintenance"]) == ("down", True)
    with pytest.raises(StopIteration):
        desk.incident(monitor)
    assert desk.call("DELETE", f"maintenance/{window['id']}", 204).content == b""
    assert windows(desk)[window["id"]]["phase"] == "over"
    problem(desk.call("DELETE", f"maintenance/{window['id']}"), 404)
    assert desk.look(monitor, Verdict.FAILED)["in_maintenance"] is False
    assert desk.incident(monitor)["state"] == "waiting"


def test_maintenance_of_everything_to_come(desk: Desk) -> None:
    start = datetime.now(UTC) + timedelta(days=2)
    until = start + timedelta(hours=1)
    body = {"monitor": None, "from": start.isoformat(), "until": until.isoformat().replace("+00:00", "Z")}
    window = desk.json("POST", "maintenance", 201, json=body)
    assert (window["monitor"], window["monitor_name"], window["phase"]) == (None, None, "coming")
    assert datetime.fromisoformat(window["until"]) - datetime.fromisoformat(window["from"]) == timedelta(hours=1)
    assert desk.watch()["in_maintenance"] is False
    desk.call("DELETE", f"maintenance/{window['id']}", 204)


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"monitor": None}, 422, "until or for_seconds"),
        ({"monitor": None, "for_seconds": 60, "until": "2999-01-01T00:00:00Z"}, 422, "until or for_seconds"),
        ({"for_seconds": 60}, 422, "monitor"),
        ({"monitor": "none", "for_seconds": 60}, 404, "monitor"),
        ({"monitor": None, "until": "2020-01-01T00:00:00Z"}, 422, "until"),
        ({"monitor": None, "until": "2999-01-01T00:00:00Z"}, 422, "31 days"),
        ({"monitor": None, "until": "2026-13-01T00:00:00Z"}, 422, "no time"),
        ({"monitor": None, "from": "9999-12-31T00:00:00Z", "for_seconds": 1_728_000}, 422, "year 9000"),
        ({"monitor": None, "until": "2026-01-01T00:00:00"}, 422, "until"),
        ({"monitor": None, "until": 1_800_000_000}, 422, "until"),
        ({"monitor": None, "for_seconds": 32 * 86_400}, 422, "for_seconds"),
    ],
)
def test_times_that_make_no_window_are_refused(desk: Desk, body: dict[str, Any], status: int, words: str) -> None:
    before = windows(desk)
    assert words in problem(desk.call("POST", "maintenance", json=body), status)["detail"]
    assert windows(desk).keys() == before.keys()
