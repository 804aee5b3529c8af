"""The same from the command line, by name or by id, for people and for programs."""

import csv
import io
import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result

from broadcaster.cli import watching
from broadcaster.cli.client import Client, NoAnswer
from broadcaster.cli.commands import cli
from broadcaster.cli.setting import config_from
from broadcaster.cli.shared import Wrong, out
from broadcaster.domain.monitor import Verdict
from tests.monitoring.rig import PASSWORD, PUBLIC, TELL, Desk
from tests.ports import free_port


def run(desk: Desk, *words: str, expect: int = 0, key: str | None = None, **options: Any) -> Result:
    arguments = ["--url", desk.api, "--api-key", key or desk.key, *words]
    done = CliRunner().invoke(cli, arguments, env={"COLUMNS": "200"}, **options)
    assert done.exit_code == expect, done.output + repr(done.exception)
    return done


def document(desk: Desk, *words: str, **options: Any) -> Any:
    return json.loads(run(desk, *words, "--json", **options).stdout)


def refusal(desk: Desk, *words: str, **options: Any) -> str:
    """One plain sentence, and 2."""
    done = run(desk, *words, expect=2, **options)
    assert done.stdout == ""
    assert done.stderr.startswith("Error: ")
    assert done.stderr.count("\n") == 1
    return done.stderr


def seen(desk: Desk, monitor: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = desk.json("GET", f"monitors/{monitor['id']}", 200)
    return found


def test_what_show_says_is_a_file_to_begin_with(desk: Desk, tmp_path: Path) -> None:
    made = document(desk, "monitors", "show", desk.watch("First")["name"])
    file = tmp_path / "monitor.json"
    file.write_text(json.dumps({**made, "name": desk.name("Second"), "failures": 7}))
    again = document(desk, "monitors", "create", str(file))
    assert (again["failures"], again["kind"], again["config"]["port"]) == (7, made["kind"], made["config"]["port"])


# ---- making --------------------------------------------------------------------------------------------------------


def test_a_monitor_in_one_line(desk: Desk) -> None:
    name = desk.name("Short")
    desk.json("POST", "groups", 201, json={"name": name})
    desk.json("POST", "recipients", 201, json={"name": "A", "tags": {"site": name}})
    words = ["--set", "host=mail.example.org", "--set", "port=587", "--set", "tls=false", "--every", "30", "--timeout", "2"]
    words += ["--tell-group", name, "--tell-tag", f"site:{name}", "--channels", "slack", "--severity", "critical"]
    words += ["--failures", "2", "--successes", "4", "--release", "hold", "--remind-every", "600", "--drill"]
    made = document(desk, "monitors", "create", name, "obedient", *words, "--secret", "password", input=f"{PASSWORD}\n")
    config = {"host": "mail.example.org", "port": 587, "tls": False, "says": "ok", "reason": "It is well."}
    assert (made["name"], made["config"], made["secrets"]) == (name, config, ["/password"])
    assert [made[f] for f in ("interval_seconds", "timeout_seconds", "failures", "successes")] == [30, 2, 2, 4]
    alert = made["alert"]
    assert alert["audience"] == {"any": [{"group": name}, {"tag": {"key": "site", "value": name}}]}
    assert (alert["channels"], alert["severity"], alert["release"]) == (["slack"], "critical", "hold")
    assert (alert["remind_every_seconds"], alert["drill"]) == (600, True)


def test_a_monitor_that_tells_everybody_or_nobody(desk: Desk) -> None:
    words = ("obedient", "--set", "host=h")
    assert document(desk, "monitors", "create", desk.name("Silent"), *words)["alert"] is None
    telling = document(desk, "monitors", "create", desk.name("Loud"), *words, "--tell-everyone", "--channels", "slack")
    assert telling["alert"]["audience"] == {"everyone": True}
    assert "whom" in refusal(desk, "monitors", "create", "X", *words, "--severity", "critical")


def test_a_monitor_from_a_file_and_from_standard_input(desk: Desk, tmp_path: Path) -> None:
    file = tmp_path / "monitor.json"
    bodies = [desk.body(alert=TELL), desk.body()]
    file.write_text(json.dumps(bodies[0]))
    said = run(desk, "monitors", "create", str(file)).stdout
    assert bodies[0]["name"] in said
    made = document(desk, "monitors", "create", "-", input=json.dumps(bodies[1]))
    assert made["name"] == bodies[1]["name"]
    assert "cannot be read" in refusal(desk, "monitors", "create", str(tmp_path / "none.json"))
    for text in ("{", "[]", ""):
        assert "JSON" in refusal(desk, "monitors", "create", "-", input=text)
    assert "NAME KIND" in refusal(desk, "monitors", "create", str(file), "--every", "5")


def test_a_heartbeats_address_is_shown_when_it_is_made(desk: Desk) -> None:
    name = desk.name("Backup")
    said = run(desk, "monitors", "create", name, "heartbeat", "--set", "interval=30").stdout
    assert f"{PUBLIC}/api/v1/heartbeats/" in said
    assert "heartbeats" not in run(desk, "monitors", "show", name).stdout


def test_what_the_api_refuses_is_one_sentence(desk: Desk) -> None:
    assert "config.host" in refusal(desk, "monitors", "create", "X", "obedient", "--set", f"password={PASSWORD}")
    assert "config.prot" in refusal(desk, "monitors", "create", "X", "obedient", "--set", "host=h", "--set", "prot=1")
    assert "heartbeat, obedient" in refusal(desk, "monitors", "create", "X", "telepathy", "--set", "a=b").replace(
        "obedient, heartbeat", "heartbeat, obedient"
    )
    taken = desk.watch()["name"]
    assert "name" in refusal(desk, "monitors", "create", taken, "obedient", "--set", "host=h")
    _, reading = desk.wiring.keys.create("reads", ["monitors:read"])
    assert "monitors:write" in refusal(desk, "monitors", "delete", taken, key=reading)
    assert run(desk, "monitors", "list", key="ab_live_none", expect=2).stderr.count("\n") == 1


def test_no_answer_is_3(desk: Desk) -> None:
    arguments = ["--url", f"http://127.0.0.1:{free_port()}", "--api-key", desk.key]
    for words in (("list",), ("watch",)):
        done = CliRunner().invoke(cli, [*arguments, "monitors", *words])
        assert done.exit_code == 3
        assert "No answer" in done.stderr


@pytest.mark.parametrize(
    ("pairs", "config"),
    [
        (["host=993", "port=993", "share=0.5"], {"host": "993", "port": 993, "share": 0.5}),
        (["host=", "port=many"], {"host": "", "port": "many"}),
        (["tls=true"], {"tls": True}),
        (["tls=No"], {"tls": "No"}),
        (["codes=200,301", "words=a, b"], {"codes": [200, 301], "words": ["a", "b"]}),
        (["codes=[200]"], {"codes": [200]}),
        (["limit=5"], {"limit": 5}),
        (["limit=null"], {"limit": None}),
        (["way=3"], {"way": "3"}),
        (["sign_in.user=7", "sign_in.tries=7"], {"sign_in": {"user": "7", "tries": 7}}),
        (["a=b=c", "unknown=5"], {"a": "b=c", "unknown": "5"}),
    ],
)
def test_a_setting_becomes_what_its_schema_asks_for(pairs: list[str], config: dict[str, Any]) -> None:
    user = {"properties": {"user": {"type": "string"}, "tries": {"type": "integer"}}}
    schema = {
        "$defs": {"SignIn": user, "Way": {"enum": ["1", "3"], "type": "string"}},
        "properties": {
            "host": {"type": "string"}, "port": {"type": "integer"}, "tls": {"type": "boolean"},
            "share": {"type": "number"}, "codes": {"type": "array", "items": {"type": "integer"}},
            "words": {"type": "array", "items": {"type": "string"}}, "way": {"$ref": "#/$defs/Way"},
            "limit": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
            "sign_in": {"anyOf": [{"$ref": "#/$defs/SignIn"}, {"type": "null"}]},
        },
    }  # fmt: skip
    assert config_from(pairs, schema) == config


@pytest.mark.parametrize("pairs", [["host"], ["=x"], ["a..b=1"], ["a=1", "a.b=2"]])
def test_a_setting_that_is_none(pairs: list[str]) -> None:
    with pytest.raises(Wrong):
        config_from(pairs, {})


# ---- by name or id -------------------------------------------------------------------------------------------------


def test_a_name_does_where_an_id_does(desk: Desk) -> None:
    made = desk.watch("By name")
    for which in (made["name"], made["id"]):
        assert document(desk, "monitors", "show", which)["id"] == made["id"]
        assert made["name"] in run(desk, "monitors", "show", which).stdout
        run(desk, "monitors", "pause", which)
        assert seen(desk, made)["paused_at"] is not None
        assert "paused" in refusal(desk, "monitors", "look", which)
        run(desk, "monitors", "resume", which)
        assert seen(desk, made)["paused_at"] is None
        run(desk, "monitors", "look", which)
        desk.looks()
    assert len(seen(desk, made)["recent"]) == 2
    run(desk, "monitors", "delete", made["name"])
    for words in (("show",), ("pause",), ("readings",), ("delete",), ("watch",)):
        for which in (made["name"], made["id"]):
            assert "There is no monitor" in refusal(desk, "monitors", *words, which)


def test_a_name_that_looks_like_an_id_is_found(desk: Desk) -> None:
    name = "01a21218-09e4-75ef-ba8c-26d46ae8e967"
    made = desk.watch(name=name)
    assert document(desk, "monitors", "show", name)["id"] == made["id"]
    run(desk, "monitors", "delete", name)


def test_what_is_shown_can_be_edited_and_put_back(desk: Desk, tmp_path: Path) -> None:
    made = desk.watch(alert=TELL, vantages=["main", "b"], quorum=2)
    view = document(desk, "monitors", "show", made["name"])
    view["name"] = desk.name("Edited")
    view["alert"]["severity"] = "critical"
    file = tmp_path / "edited.json"
    file.write_text(json.dumps(view))
    changed = document(desk, "monitors", "change", made["name"], str(file))
    assert changed == {**view, "looks": changed["looks"]}
    run(desk, "monitors", "change", made["id"], "-", input=json.dumps({**view, "name": made["name"]}))
    assert seen(desk, made)["name"] == made["name"]


def test_the_list_is_whole(desk: Desk) -> None:
    names = [desk.watch("Listed")["name"] for _ in range(3)]
    assert set(names) <= {m["name"] for m in document(desk, "monitors", "list")["items"]}
    said = run(desk, "monitors", "list").stdout
    assert all(name in said for name in names)


# ---- what it has seen ----------------------------------------------------------------------------------------------


def test_a_trial_says_how_it_went(desk: Desk, tmp_path: Path) -> None:
    done = run(desk, "monitors", "try", "obedient", "--set", "host=h", "--set", "says=ok", "--timeout", "1")
    assert done.stdout.startswith("ok: It is well. [ok] (12 ms)")
    file = tmp_path / "monitor.json"
    file.write_text(json.dumps(desk.body(says=Verdict.FAILED)))
    for what, given in ((str(file), None), ("-", file.read_text())):
        failed = run(desk, "monitors", "try", what, "--json", expect=1, input=given)
        assert json.loads(failed.stdout)["code"] == "down"
    assert "config.host" in refusal(desk, "monitors", "try", "obedient")


def test_readings_and_changes(desk: Desk) -> None:
    made = desk.watch(config={"host": "h", "reason": "[bold]Well[/bold]"})
    for verdict in (Verdict.OK, Verdict.FAILED, Verdict.OK):
        desk.look(made, verdict)
    for what in ("readings", "changes"):
        page = document(desk, "monitors", what, made["name"], "--limit", "2")
        assert page == desk.json("GET", f"monitors/{made['id']}/{what}", 200, params={"limit": "2"})
        rows = list(csv.DictReader(io.StringIO(run(desk, "monitors", what, made["name"], "--csv").stdout)))
        assert [r["code"] for r in rows] == [i["code"] for i in desk.json("GET", f"monitors/{made['id']}/{what}")["items"]]
        assert "[bold]Well[/bold]" in run(desk, "monitors", what, made["name"]).stdout


def test_kinds_and_their_settings(desk: Desk) -> None:
    assert "What it is told" in run(desk, "monitors", "kinds").stdout
    assert {k["name"] for k in document(desk, "monitors", "kinds")["items"]} == {"obedient", "heartbeat"}
    said = run(desk, "monitors", "kinds", "obedient").stdout
    assert "integer" in said
    assert "Secret." in said
    assert "(needed)" in said
    assert "telepathy" in refusal(desk, "monitors", "kinds", "telepathy")


# ---- incidents and maintenance -------------------------------------------------------------------------------------


def test_an_incident_is_seen_and_decided(desk: Desk) -> None:
    monitor, incident = desk.down(release="approve")
    assert monitor["name"] in run(desk, "incidents", "list", "--open").stdout
    assert incident["id"] in [i["id"] for i in document(desk, "incidents", "list")["items"]]
    said = run(desk, "incidents", "show", incident["id"]).stdout
    assert "asking" in said
    assert "It is failed." in said
    run(desk, "incidents", "release", incident["id"])
    desk.follow()
    assert document(desk, "incidents", "show", incident["id"])["state"] == "told"
    assert "told" in refusal(desk, "incidents", "dismiss", incident["id"])
    _, other = desk.down(release="hold")
    assert document(desk, "incidents", "dismiss", other["id"])["state"] == "dismissed"
    assert "There is no incident" in refusal(desk, "incidents", "show", "no?such")


def test_one_name_of_several_does_not_stand_for_the_others(desk: Desk) -> None:
    group = desk.name("Group")
    smtp, imap = (desk.watch(what, alert={**TELL, "release": "approve", "group": group}) for what in ("Smtp", "Imap"))
    for monitor in (smtp, imap):
        desk.look(monitor, Verdict.FAILED)
    incident = document(desk, "incidents", "show", imap["name"])  # to see it, any name does
    for verb in ("release", "dismiss", "close"):
        assert incident["id"] in refusal(desk, "incidents", verb, imap["name"])
    desk.look(smtp, Verdict.OK)
    assert "There is no incident" in refusal(desk, "incidents", "show", smtp["name"])  # it has recovered
    assert document(desk, "incidents", "dismiss", imap["name"])["id"] == incident["id"]


def test_maintenance_by_name_by_id_and_of_everything(desk: Desk) -> None:
    monitor = desk.watch()
    said = run(desk, "maintenance", "start", monitor["name"], "--for", "1h30m", "--note", "New disks").stdout
    assert monitor["name"] in said
    assert seen(desk, monitor)["in_maintenance"] is True
    (window,) = [w for w in document(desk, "maintenance", "list")["items"] if w["monitor"] == monitor["id"]]
    assert (window["note"], window["phase"]) == ("New disks", "now")
    assert "New disks" in run(desk, "maintenance", "list").stdout
    assert "New disks" in run(desk, "maintenance", "end", monitor["name"]).stdout
    assert seen(desk, monitor)["in_maintenance"] is False
    assert "no such maintenance" in refusal(desk, "maintenance", "end", monitor["name"])
    window = document(desk, "maintenance", "start", "--all", "--for", "2h")
    try:
        assert window["monitor"] is None
        assert seen(desk, monitor)["in_maintenance"] is True
    finally:
        run(desk, "maintenance", "end", window["id"])
    assert seen(desk, monitor)["in_maintenance"] is False
    for words in (("start", "--for", "2h"), ("start", monitor["name"], "--all", "--for", "2h"), ("end",)):
        assert "--all" in refusal(desk, "maintenance", *words)
    for length in ("2", "0h", "h", "2 hours", ""):
        assert "1h30m" in refusal(desk, "maintenance", "start", monitor["name"], "--for", length)


# ---- watching ------------------------------------------------------------------------------------------------------


def between_looks(monkeypatch: pytest.MonkeyPatch, *steps: Callable[[], object] | None) -> None:
    """What happens while `watch` would sleep; after the last of them somebody presses Ctrl-C."""
    to_come = iter(steps)

    def sleep(_seconds: float) -> None:
        try:
            step = next(to_come)
        except StopIteration:
            raise KeyboardInterrupt from None
        if step is not None:
            step()

    monkeypatch.setattr(watching, "time", SimpleNamespace(sleep=sleep))


def said_of(monitor: dict[str, Any], done: Result) -> list[str]:
    """Its lines, without time and name. What the looker logs goes to the same place here."""
    parts = [line.partition(f"  {monitor['name']}  ") for line in done.stdout.splitlines()]
    return [said for _, name, said in parts if name]


def test_a_change_is_said_once_however_often_it_is_seen(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monitor = desk.watch("Watched")
    fails = partial(desk.look, monitor, Verdict.FAILED)
    window = partial(desk.json, "POST", "maintenance", 201, json={"monitor": monitor["id"], "for_seconds": 60})
    between_looks(monkeypatch, None, fails, None, fails, window, None)
    lines = said_of(monitor, run(desk, "monitors", "watch", monitor["name"]))
    signs = ["unknown", "down  It is failed.", "down (maintenance)  It is failed."]
    assert lines == signs


def test_a_server_that_is_away_for_a_while_is_waited_for(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monitor = desk.watch("Watched")
    there, items = [True], Client.items

    def sometimes(client: Client, path: str, **query: str) -> Any:
        if not there[-1]:
            raise NoAnswer("No answer from there.")
        return items(client, path, **query)

    monkeypatch.setattr(Client, "items", sometimes)
    away, back = partial(there.append, False), partial(there.append, True)
    between_looks(monkeypatch, away, None, None, back, partial(desk.look, monitor, Verdict.OK))
    done = run(desk, "monitors", "watch", monitor["name"])
    assert done.stderr == "Error: No answer from there.\n"
    assert said_of(monitor, done) == ["unknown", "ok  It is well."]


@contextmanager
def watching_in_a_pipe(desk: Desk, *words: str) -> "Iterator[subprocess.Popen[str]]":
    command = [sys.executable, "-m", "broadcaster.cli", "--url", desk.api, "monitors", "watch", *words]
    environment = {**os.environ, "BROADCASTER_API_KEY": desk.key}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_watching_in_a_pipe_says_each_change_once_and_ends_well(desk: Desk) -> None:
    monitor = desk.watch("Watched")
    with watching_in_a_pipe(desk, monitor["name"]) as process:
        assert process.stdout is not None
        assert process.stdout.readline().split() == [monitor["state_since"], *monitor["name"].split(), "unknown"]
        for verdict, line in (
            (Verdict.OK, "ok  It is well."), (Verdict.FAILED, "down  It is failed."), (Verdict.FAILED, ""),
            (Verdict.OK, "ok  It is well."),
        ):  # fmt: skip
            desk.look(monitor, verdict)
            if line:
                assert process.stdout.readline().endswith(f"  {monitor['name']}  {line}\n")
        desk.call("POST", f"monitors/{monitor['id']}/pause", 200)
        assert "ok (paused)" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=30)
        assert (process.returncode, rest, errors) == (0, "", "")


def test_watching_as_documents_ends_with_its_reader(desk: Desk) -> None:
    monitor = desk.watch("Watched")
    with watching_in_a_pipe(desk, monitor["id"], "--json") as process:
        assert process.stdout is not None
        first = json.loads(process.stdout.readline())
        assert (first["id"], first["name"], first["state"]) == (monitor["id"], monitor["name"], "unknown")
        process.stdout.close()
        desk.look(monitor, Verdict.FAILED)
        assert process.wait(30) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""


def test_watching_on_a_terminal_draws_again_and_ends_well(desk: Desk) -> None:
    monitor = desk.watch("Drawn")
    terminal, theirs = pty.openpty()
    command = [sys.executable, "-m", "broadcaster.cli", "--url", desk.api, "monitors", "watch", monitor["name"]]
    environment = {**os.environ, "BROADCASTER_API_KEY": desk.key, "TERM": "xterm", "COLUMNS": "160"}
    process = subprocess.Popen(command, env=environment, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True)
    os.close(theirs)
    try:
        shown = b""
        for verdict, sign in ((None, b"unknown"), (Verdict.OK, b"12 ms"), (Verdict.FAILED, b"It is failed.")):
            if verdict is not None:
                desk.look(monitor, verdict)
            while sign not in shown:
                shown += os.read(terminal, 65_536)
        process.send_signal(signal.SIGINT)
        with suppress(OSError):  # the terminal's other end is gone
            while os.read(terminal, 65_536):
                pass
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
        os.close(terminal)


def test_a_line_of_readings_shows_how_slow_and_whether_at_all() -> None:
    looks = [("ok", 1), ("ok", 100), ("failed", None), ("unknown", None), ("degraded", 50), ("ok", None), ("failed", 9_000)]
    line = watching.sparkline([{"verdict": v, "latency_ms": ms} for v, ms in looks])
    assert line.plain == "▁█✗·▅▁✗"
    styles = {line.plain[span.start]: span.style for span in line.spans}
    assert styles["✗"] == "bold red"
    assert styles["▅"] == "yellow"
    assert watching.sparkline([]).plain == ""
    assert watching.sparkline([{"verdict": "ok", "latency_ms": 0}]).plain == "▁"


def test_the_live_table_has_every_column(desk: Desk) -> None:
    monitor = desk.watch("Drawn")
    desk.look(monitor, Verdict.OK)
    seen = desk.look(monitor, Verdict.FAILED)
    looks = watching._looks(Client(desk.api, desk.key), [monitor["id"]])
    monitors, fault = next(looks)
    with out.capture() as captured:
        out.print(watching._picture(monitors, "No answer for now", 200), width=200)
    text = captured.get()
    for part in (monitor["name"], "down", watching.clock(seen["state_since"]), "12 ms", "█✗", "It is failed.", "No answer"):
        assert part in text
    assert fault == ""
    with out.capture() as captured:
        out.print(watching._picture(monitors, "", 80), width=80)
    assert len(captured.get().splitlines()) == 2  # a narrow screen has one line for each
