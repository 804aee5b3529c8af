"""`broadcaster demo --once`, as whoever has just cloned it runs it: mail is lost, everybody is told, and told again."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from broadcaster.cli import demo, outage, tally
from broadcaster.sandbox import postfix
from tests.conftest import skip_loudly

PEOPLE = 40
COMMAND = [sys.executable, "-m", "broadcaster.cli", "demo", "--once", "--people", str(PEOPLE)]


@pytest.fixture
def environment() -> Iterator[dict[str, str]]:
    """No setting of whoever runs the tests, and a place for what the demonstration leaves."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("BROADCASTER_")}
    with tempfile.TemporaryDirectory(prefix="ab-", dir="/tmp") as folder:  # short: a unix socket's path has 108 bytes
        yield {**kept, "TMPDIR": folder, "PYTHONUNBUFFERED": "1"}


@pytest.mark.parametrize("mail", ["sandbox", "postfix"])
def test_mail_is_lost_everybody_is_told_it_comes_back_and_the_same_people_are_told(
    mail: str, environment: dict[str, str]
) -> None:
    if mail == "postfix" and (why := postfix.missing()):
        skip_loudly("a real mail system (Postfix and Dovecot)", why)
    done = subprocess.run(
        [*COMMAND, "--mail", mail], capture_output=True, text=True, timeout=150, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    check_books(json.loads(done.stdout.splitlines()[-1]), mail)
    check_story(done.stderr, done.stdout)


def check_books(books: dict[str, Any], mail: str) -> None:
    everybody = books["delivered"]
    assert set(everybody) == {"sms", "slack", "push"}
    assert min(everybody.values()) > 0
    assert books["targeted"] == sum(everybody.values()) >= PEOPLE
    for each in (books, books["all_clear"]):
        assert (each["state"], each["lost"], each["duplicates"]) == ("completed", 0, 0)
        assert 0 < each["seconds_to_first"] <= each["seconds_to_all"]
        assert 0 < each["seconds_to_notice"] < 45
    # It needs as long as three looks take at least: nobody has helped.
    assert books["seconds_to_notice"] > (outage.FAILURES - 1) * outage.EVERY
    assert books["all_clear"]["seconds_to_notice"] > (outage.SUCCESSES - 1) * outage.EVERY
    assert books["all_clear"]["delivered"] == everybody
    assert (books["all_clear"]["strangers"], books["all_clear"]["missed"]) == (0, 0)
    assert books["mail"] == mail


def check_story(told: str, bars: str) -> None:
    looks = re.findall(r"^  \d\d:\d\d:\d\d  (\w+) +(.+)$", told, re.MULTILINE)
    verdicts = [verdict for verdict, _ in looks]
    assert "ok failed failed failed" in " ".join(verdicts)
    assert verdicts[-2:] == ["ok", "ok"]
    assert any("did not arrive" in reason for verdict, reason in looks if verdict == "failed")
    parts = (
        "The wall of phones:",
        "The monitor:",
        "From now on mail is lost.",
        "looks in a row: mail is accepted but does not arrive.",
        "The live alert:",
        "Now mail works again.",
        "The all-clear:",
    )
    places = [told.index(part) for part in parts]
    assert places == sorted(places)
    assert [line.split()[0] for line in bars.splitlines()].count("completed") == 2  # the alert's bars and the all-clear's


def test_an_interrupted_demonstration_leaves_no_process(environment: dict[str, str]) -> None:
    """Ctrl-C in the middle of the outage, with whatever mail system there is."""
    with subprocess.Popen(COMMAND, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment) as running:
        assert running.stderr is not None
        for line in running.stderr:
            if "From now on mail is lost" in line:
                break
        family = psutil.Process(running.pid).children(recursive=True)
        assert len(family) >= 8  # Redis, sandbox, API, workers, and perhaps mail servers
        running.send_signal(signal.SIGINT)
        running.stderr.read()
        assert running.wait(30) == 130
    deadline = time.monotonic() + 5
    while left := [p for p in family if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]:
        assert time.monotonic() < deadline, left
        time.sleep(0.1)


def books(**changes: Any) -> dict[str, Any]:
    good = {"targeted": 2, "lost": 0, "duplicates": 0}
    clear = {**good, "strangers": 0, "missed": 0, **changes.pop("all_clear", {})}
    return {**good, **changes, "all_clear": clear}


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({}, 0),
        ({"targeted": 0}, 1),
        ({"lost": 1}, 1),
        ({"duplicates": 1}, 1),
        ({"all_clear": {"targeted": 0}}, 1),
        ({"all_clear": {"lost": 1}}, 1),
        ({"all_clear": {"duplicates": 1}}, 1),
        ({"all_clear": {"strangers": 1}}, 1),
        ({"all_clear": {"missed": 1}}, 1),
    ],
)
def test_it_succeeds_only_if_everybody_had_both_once(changes: dict[str, Any], code: int) -> None:
    assert demo.exit_code(books(**changes)) == code


def test_who_was_asked_for_and_is_not_at_a_provider_is_lost() -> None:
    page = tally.Page({"sms": {"+447700900001"}}, {"sms": 1, "push": 0}, 0, 103.0, 104.5)
    channels = [{"channel": "sms", "targeted": 2}, {"channel": "push", "targeted": 1}]
    found = tally.count({"targeted": 3, "state": "completed", "channels": channels}, page, 100.0)
    assert found == {
        "targeted": 3, "delivered": {"sms": 1, "push": 0}, "lost": 2, "duplicates": 0, "seconds_to_first": 3.0,
        "seconds_to_all": 4.5, "state": "completed",
    }  # fmt: skip
