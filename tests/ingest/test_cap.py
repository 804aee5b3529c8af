"""The messages have the elements of the examples in appendix A of CAP 1.2
(http://docs.oasis-open.org/emergency/cap/v1.2/CAP-v1.2-os.html)."""

from typing import Final

import pytest

from broadcaster.domain.messages import Severity
from broadcaster.domain.signal import Status
from tests.ingest.posts import only, read, refusal

XML: Final = {"content-type": "application/cap+xml"}

ALERT: Final = """<?xml version = "1.0" encoding = "UTF-8"?>
<alert xmlns = "urn:oasis:names:tc:emergency:cap:1.2">
  <identifier>HLTH-2026-0001</identifier>
  <sender>duty@health.example</sender>
  <sent>2026-10-12T07:31:00-00:00</sent>
  <status>Actual</status>
  <msgType>Alert</msgType>
  <source>Duty desk</source>
  <scope>Public</scope>
  <code>profile:health</code>
  <note>Exercise note</note>
  <info>
    <language>fr-CA</language>
    <category>Infra</category>
    <event>Panne de courriel</event>
    <urgency>Immediate</urgency>
    <severity>Severe</severity>
    <certainty>Observed</certainty>
    <headline>La messagerie est en panne</headline>
  </info>
  <info>
    <language>en-CA</language>
    <category>Infra</category>
    <event>Email outage</event>
    <responseType>Execute</responseType>
    <urgency>Immediate</urgency>
    <severity>Severe</severity>
    <certainty>Observed</certainty>
    <eventCode><valueName>SAME</valueName><value>CEM</value></eventCode>
    <expires>2026-10-12T11:31:00-00:00</expires>
    <senderName>Health duty desk</senderName>
    <headline>Email of the health service is down &amp; will be for hours</headline>
    <description>No mail is sent or received.</description>
    <instruction>Use the telephone.</instruction>
    <web>https://health.example/email</web>
    <contact>duty desk, 555 0100</contact>
    <area>
      <areaDesc>Northmoor</areaDesc>
      <polygon>38.47,-120.14 38.34,-119.95 38.52,-119.74 38.47,-120.14</polygon>
      <geocode><valueName>SAME</valueName><value>006109</value></geocode>
    </area>
    <area><areaDesc>Southmoor</areaDesc></area>
  </info>
</alert>
"""
OWN: Final = "duty@health.example,HLTH-2026-0001,2026-10-12T07:31:00-00:00"
LATER: Final = "duty@health.example,HLTH-2026-0002,2026-10-12T07:45:00-00:00"


def message(kind: str, identifier: str, references: str = "", **replaced: str) -> str:
    text = ALERT.replace("<msgType>Alert<", f"<msgType>{kind}<").replace("HLTH-2026-0001<", f"{identifier}<")
    if references:
        text = text.replace("  <info>", f"  <references>{references}</references>\n  <info>", 1)
    for old, new in replaced.items():
        old = old.replace("_", ">", 1)
        assert f"<{old}<" in text
        text = text.replace(f"<{old}<", f"<{old.partition('>')[0]}>{new}<")
    return text


UPDATE: Final = message("Update", "HLTH-2026-0002", OWN)
CANCEL: Final = message("Cancel", "HLTH-2026-0003", f"{LATER} {OWN}")


def test_an_alert() -> None:
    signal = only("cap", ALERT, headers=XML)
    assert signal.key == "HLTH-2026-0001"
    assert signal.status is Status.FIRING
    assert signal.title == "Email of the health service is down & will be for hours"
    assert signal.body == "No mail is sent or received.\nUse the telephone."
    assert signal.severity is Severity.HIGH
    assert signal.labels == {
        "sender": "duty@health.example",
        "scope": "Public",
        "event": "Email outage",
        "category": "Infra",
        "urgency": "Immediate",
        "certainty": "Observed",
        "senderName": "Health duty desk",
        "area": "Northmoor, Southmoor",
    }
    assert signal.at == 1_791_790_260
    assert signal.url == "https://health.example/email"


def test_update_and_cancel_meet_their_alert() -> None:
    update, cancel = only("cap", UPDATE), only("cap", CANCEL)
    assert update.key == cancel.key == only("cap", ALERT).key
    assert (update.status, cancel.status) == (Status.FIRING, Status.RESOLVED)


def test_the_reference_that_was_sent_first_counts_not_the_one_that_is_named_first() -> None:
    assert only("cap", message("Update", "x", f"{LATER}\n   {OWN}")).key == "HLTH-2026-0001"
    assert only("cap", message("Update", "x", f"a,odd,when {LATER}")).key == "HLTH-2026-0002"  # one without a time is last
    assert only("cap", message("Update", "x")).key == "x"
    assert only("cap", message("Alert", "x", OWN)).key == "x"  # an alert begins its own chain


def test_all_clear_ends_it_if_every_block_says_so() -> None:
    partly = UPDATE.replace("<responseType>Execute<", "<responseType>AllClear<")
    assert only("cap", partly).status is Status.FIRING
    wholly = partly.replace("<event>Panne", "<responseType>AllClear</responseType><event>Panne")
    assert only("cap", wholly).status is Status.RESOLVED


@pytest.mark.parametrize(
    ("word", "for_people"), [("Actual", True), ("Exercise", True), ("System", False), ("Test", False), ("Draft", False)]
)
def test_statuses(word: str, for_people: bool) -> None:
    signals = read("cap", message("Alert", "x", status_Actual=word))
    assert bool(signals) is for_people
    assert [signal.labels.get("exercise") for signal in signals] == (
        ["true" if word == "Exercise" else None] if for_people else []
    )


@pytest.mark.parametrize(
    ("word", "status"),
    [("Alert", Status.FIRING), ("Update", Status.FIRING), ("Cancel", Status.RESOLVED), ("Ack", None), ("Error", None)],
)
def test_types_of_message(word: str, status: Status | None) -> None:
    assert [signal.status for signal in read("cap", message(word, "x"))] == ([status] if status else [])


@pytest.mark.parametrize(
    ("word", "severity"),
    [
        ("Extreme", Severity.CRITICAL),
        ("Severe", Severity.HIGH),
        ("Moderate", Severity.NORMAL),
        ("Minor", Severity.LOW),
        ("Unknown", None),
    ],
)
def test_severities(word: str, severity: Severity | None) -> None:
    assert only("cap", message("Alert", "x", severity_Severe=word)).severity is severity


def test_the_language_is_english_or_else_the_first() -> None:
    assert only("cap", message("Alert", "x", **{"language_en-CA": "de"})).title == "La messagerie est en panne"
    implicit = ALERT.replace("<language>en-CA</language>", "")  # section 3.2.2: en-US
    assert only("cap", implicit).title.startswith("Email of")


def test_a_cancel_needs_no_info() -> None:
    bare = CANCEL[: CANCEL.index("  <info>")] + "</alert>"
    signal = only("cap", bare)
    assert (signal.key, signal.title, signal.body) == ("HLTH-2026-0001", "Exercise note", "")
    assert only("cap", bare.replace("<note>Exercise note</note>", "")).title == "HLTH-2026-0001"


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (ALERT.replace("cap:1.2", "cap:1.0"), "The root element is not alert of urn:oasis:names:tc:emergency:cap:1.2."),
        (ALERT.replace("HLTH-2026-0001", " "), "/alert/identifier: missing."),
        (message("Alert", "x", status_Actual="Real"), "/alert/status: expected Actual, Exercise, System, Test, Draft, not "),
        (message("Warn", "x"), "/alert/msgType: expected Alert, Update, Cancel, Ack, Error, not "),
        (message("Update", "x", "just-an-id"), "/alert/references: expected sender,identifier,sent, not "),
        (
            ALERT.replace("<alert", '<!DOCTYPE alert [<!ENTITY x SYSTEM "file:///etc/passwd">]><alert').replace(
                "Duty desk", "&x;"
            ),
            "The body declares a document type or an entity; neither is read.",
        ),
        ("{}", "The body is not XML"),
    ],
)
def test_what_is_wrong_is_told(body: str, says: str) -> None:
    assert refusal("cap", body).startswith(says)
