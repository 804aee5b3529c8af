"""Sources and rules from the command line, by name or by id."""

import json
from pathlib import Path
from urllib.parse import urlsplit

import requests

from tests.monitoring.rig import Desk
from tests.monitoring.test_command_line import document, refusal, run

BODY = {"key": "m1", "status": "firing", "title": "Email is down", "severity": "critical"}


def rule(desk: Desk, folder: Path, name: str, source: str) -> str:
    """A file with a rule for one source."""
    body = {"name": name, "match": {"sources": [source]}, "alert": {"audience": {"everyone": True}, "channels": ["slack"]}}
    file = folder / "rule.json"
    file.write_text(json.dumps({**body, "position": 0}))
    return str(file)


def test_a_source_is_made_tried_and_deleted(desk: Desk, tmp_path: Path) -> None:
    name = desk.name("Tower")
    made = document(desk, "sources", "create", name, "generic")
    assert name in run(desk, "sources", "list").stdout
    run(desk, "rules", "add", rule(desk, tmp_path, name, name))
    assert f"from {name}" in run(desk, "rules", "list").stdout
    body = tmp_path / "body.json"
    body.write_text(json.dumps(BODY))
    assert run(desk, "sources", "try", name, str(body)).stdout == (
        f"firing: Email is down (m1) -> raise, by the rule '{name}'\n"
    )
    path = urlsplit(made["url"]).path
    posted = requests.post(f"{desk.api}{path}", json=BODY, timeout=10)
    assert (posted.status_code, posted.json()["signals"][0]["what"]) == (202, "raise")
    (signal,) = [s for s in desk.json("GET", "signals", 200)["items"] if s["source"] == name]
    assert (signal["status"], signal["times"]) == ("firing", 1)
    run(desk, "rules", "delete", name)
    run(desk, "sources", "delete", made["id"])
    assert requests.post(f"{desk.api}{path}", json=BODY, timeout=10).status_code == 404


def test_what_is_wrong_is_one_sentence(desk: Desk, tmp_path: Path) -> None:
    assert "format" in refusal(desk, "sources", "create", desk.name("x"), "carrier_pigeon")
    assert "NAME=VALUE" in refusal(desk, "sources", "create", desk.name("x"), "generic", "--option", "key")
    assert "nobody" in refusal(desk, "sources", "delete", "nobody")
    file = tmp_path / "rule.json"
    file.write_text("{")
    assert "JSON" in refusal(desk, "rules", "add", str(file))


def test_formats_are_listed(desk: Desk) -> None:
    names = {f["name"] for f in document(desk, "sources", "formats")["items"]}
    assert {"alertmanager", "pagerduty", "cap", "generic"} <= names
