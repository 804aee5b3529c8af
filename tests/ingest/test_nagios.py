"""The bodies are ours (the module's docstring), with the macros' values of
https://assets.nagios.com/downloads/nagioscore/docs/nagioscore/4/en/macrolist.html."""

from typing import Any, Final
from urllib.parse import urlencode

import pytest

from broadcaster.domain.messages import Severity
from broadcaster.domain.signal import Status
from tests.ingest.posts import changed, only, read, refusal

PROBLEM: Final[dict[str, Any]] = {
    "type": "PROBLEM",
    "host": "mail01",
    "service": "SMTP",
    "state": "CRITICAL",
    "output": 'CRITICAL - "Connection refused"',
    "time": 1_791_790_260,
}
ACKNOWLEDGEMENT: Final = PROBLEM | {"type": "ACKNOWLEDGEMENT"}
RECOVERY: Final = PROBLEM | {"type": "RECOVERY", "state": "OK", "output": "SMTP OK - 0.012 sec. response time"}
HOST: Final = {"type": "PROBLEM", "host": "mail01", "state": "DOWN", "output": "PING CRITICAL - Packet loss = 100%"}


def test_a_service_from_problem_to_recovery() -> None:
    problem, acknowledged, recovery = (only("nagios", body) for body in (PROBLEM, ACKNOWLEDGEMENT, RECOVERY))
    assert problem.key == acknowledged.key == recovery.key == "mail01!SMTP"
    assert [problem.status, acknowledged.status, recovery.status] == list(Status)
    assert problem.title == "SMTP on mail01 is CRITICAL"
    assert problem.body == 'CRITICAL - "Connection refused"'
    assert problem.labels == {"host": "mail01", "service": "SMTP", "state": "CRITICAL"}
    assert problem.at == 1_791_790_260
    assert recovery.severity is None


def test_a_host_is_not_one_of_its_services() -> None:
    signal = only("nagios", HOST)
    assert (signal.key, signal.title, signal.severity) == ("mail01", "mail01 is DOWN", Severity.CRITICAL)
    assert signal.at is None


def test_a_form_says_the_same_as_json() -> None:
    headers = {"content-type": "application/x-www-form-urlencoded"}
    assert only("nagios", urlencode(PROBLEM), headers=headers) == only("nagios", PROBLEM)
    assert refusal("nagios", "x=1", headers=headers) == "/host: missing."


def test_a_time_may_be_rfc_3339() -> None:
    assert only("nagios", PROBLEM | {"time": "2026-10-12T07:31:00Z"}).at == 1_791_790_260


def test_a_plug_in_that_prints_latin_1_costs_a_character() -> None:
    body = b'{"type": "PROBLEM", "host": "mail01", "state": "DOWN", "output": "H\xf4te injoignable"}'
    assert only("nagios", body).body == "H\ufffdte injoignable"


@pytest.mark.parametrize(
    ("kind", "meanings"),
    [
        ("PROBLEM", (Status.FIRING, Status.FIRING)),
        ("RECOVERY", (Status.RESOLVED, Status.RESOLVED)),
        ("ACKNOWLEDGEMENT", (Status.ACKNOWLEDGED, Status.ACKNOWLEDGED)),
        ("FLAPPINGSTART", (Status.FIRING, None)),
        ("FLAPPINGSTOP", (Status.FIRING, Status.RESOLVED)),
        ("FLAPPINGEND", (Status.FIRING, Status.RESOLVED)),
        ("FLAPPINGDISABLED", (Status.FIRING, Status.RESOLVED)),
        *(
            (kind, (None, None))
            for kind in ("DOWNTIMESTART", "DOWNTIMEEND", "DOWNTIMECANCELLED", "DOWNTIMEREMOVED", "CUSTOM")
        ),
    ],
)
@pytest.mark.parametrize(("state", "well"), [("CRITICAL", False), ("DOWN", False), ("OK", True), ("UP", True)])
def test_types(kind: str, meanings: tuple[Status | None, Status | None], state: str, well: bool) -> None:
    expected = meanings[well]
    signals = read("nagios", PROBLEM | {"type": kind, "state": state})
    assert [signal.status for signal in signals] == ([expected] if expected else [])


def test_the_end_of_flapping_may_be_the_news_of_a_recovery() -> None:
    assert only("nagios", RECOVERY | {"type": "FLAPPINGSTOP"}).status is Status.RESOLVED
    assert read("nagios", RECOVERY | {"type": "FLAPPINGSTART"}) == []  # well for now, but not over


@pytest.mark.parametrize(
    ("state", "severity"),
    [
        ("DOWN", Severity.CRITICAL),
        ("CRITICAL", Severity.CRITICAL),
        ("UNREACHABLE", Severity.HIGH),
        ("WARNING", Severity.NORMAL),
        ("UNKNOWN", Severity.NORMAL),
        ("OK", None),
        ("PENDING", None),
    ],
)
def test_severities(state: str, severity: Severity | None) -> None:
    assert only("nagios", PROBLEM | {"state": state}).severity is severity


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("type", "$NOTIFICATIONTYPE$", '/type: no type of notification: "$NOTIFICATIONTYPE$".'),
        ("type", ..., "/type: missing."),
        ("host", " ", "/host: missing."),
        ("host", 1, "/host: expected a text."),
        ("time", [], "/time: expected a text, a number or a boolean."),
    ],
)
def test_what_is_wrong_is_told(name: str, value: Any, says: str) -> None:
    assert refusal("nagios", changed(PROBLEM, f"/{name}", value)) == says
