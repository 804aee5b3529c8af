"""The examples have the members of https://support.atlassian.com/statuspage/docs/enable-webhook-notifications/."""

from typing import Any, Final

import pytest

from broadcaster.domain.messages import Severity
from broadcaster.domain.signal import Status
from tests.ingest.posts import changed, only, read, refusal

_META: Final = {
    "unsubscribe": "http://status.supplier.example/?unsubscribe=j0vqr9kl3513",
    "documentation": "http://doers.statuspage.io/customer-notifications/webhooks/",
}
_PAGE: Final = {"id": "j2mfxwj97wnj", "status_indicator": "critical", "status_description": "Major System Outage"}


def _update(ident: str, status: str, body: str, at: str) -> dict[str, Any]:
    return {
        "body": body,
        "created_at": at,
        "display_at": at,
        "status": status,
        "twitter_updated_at": None,
        "updated_at": at,
        "wants_twitter_update": False,
        "id": ident,
        "incident_id": "lbkhbwn21v5q",
    }


MONITORING: Final[dict[str, Any]] = {
    "meta": _META,
    "page": _PAGE,
    "incident": {
        "backfilled": False,
        "created_at": "2026-10-12T07:31:00-06:00",
        "impact": "critical",
        "impact_override": None,
        "monitoring_at": "2026-10-12T08:00:00-06:00",
        "postmortem_body": None,
        "postmortem_body_last_updated_at": None,
        "postmortem_ignored": False,
        "postmortem_notified_subscribers": False,
        "postmortem_notified_twitter": False,
        "postmortem_published_at": None,
        "resolved_at": None,
        "scheduled_auto_transition": False,
        "scheduled_for": None,
        "scheduled_remind_prior": False,
        "scheduled_reminded_at": None,
        "scheduled_until": None,
        "shortlink": "http://j.mp/18zyDQx",
        "status": "monitoring",
        "updated_at": "2026-10-12T08:00:00-06:00",
        "id": "lbkhbwn21v5q",
        "organization_id": "j2mfxwj97wnj",
        "incident_updates": [
            _update("drfcwbnpxnr6", "monitoring", "The mail flows again; we watch it.", "2026-10-12T08:00:00-06:00"),
            _update("2rryghr4qgrh", "investigating", "Mail is not delivered.", "2026-10-12T07:31:00-06:00"),
        ],
        "name": "Mail delivery",
    },
}
INVESTIGATING: Final = changed(MONITORING, "/incident/status", "investigating")
RESOLVED: Final = changed(MONITORING, "/incident/status", "resolved")

COMPONENT: Final[dict[str, Any]] = {
    "meta": _META,
    "page": _PAGE | {"status_indicator": "major", "status_description": "Partial System Outage"},
    "component_update": {
        "created_at": "2026-10-12T07:31:00Z",
        "new_status": "major_outage",
        "old_status": "operational",
        "id": "k7730b5v92bv",
        "component_id": "rb5wq1dczvbm",
    },
    "component": {
        "created_at": "2026-01-01T00:00:00Z",
        "id": "rb5wq1dczvbm",
        "name": "Outgoing mail",
        "status": "major_outage",
    },
}
OPERATIONAL: Final = changed(COMPONENT, "/component_update/new_status", "operational")


def test_an_incident_and_its_end_meet() -> None:
    first, watched, over = (only("statuspage", body) for body in (INVESTIGATING, MONITORING, RESOLVED))
    assert first.key == watched.key == over.key == "lbkhbwn21v5q"
    assert [first.status, watched.status, over.status] == [Status.FIRING, Status.FIRING, Status.RESOLVED]
    assert watched.title == "Mail delivery"
    assert watched.body == "The mail flows again; we watch it."
    assert watched.severity is Severity.CRITICAL
    assert watched.labels == {"incident_status": "monitoring", "impact": "critical"}
    assert watched.at == 1_791_792_000 + 6 * 3_600
    assert watched.url == "http://j.mp/18zyDQx"


def test_the_newest_update_is_the_text_wherever_it_stands() -> None:
    updates = list(reversed(MONITORING["incident"]["incident_updates"]))
    assert only("statuspage", changed(MONITORING, "/incident/incident_updates", updates)).body.startswith("The mail flows")
    assert only("statuspage", changed(MONITORING, "/incident/incident_updates", [])).body == ""


@pytest.mark.parametrize(
    ("word", "status"),
    [
        *((word, Status.FIRING) for word in ("investigating", "identified", "monitoring")),
        *((word, Status.RESOLVED) for word in ("resolved", "postmortem")),
        *((word, None) for word in ("scheduled", "in_progress", "verifying", "completed")),
    ],
)
def test_statuses_of_incidents(word: str, status: Status | None) -> None:
    signals = read("statuspage", changed(MONITORING, "/incident/status", word))
    assert [signal.status for signal in signals] == ([status] if status else [])


@pytest.mark.parametrize(
    ("word", "severity"),
    [
        ("critical", Severity.CRITICAL),
        ("major", Severity.HIGH),
        ("minor", Severity.NORMAL),
        ("none", Severity.LOW),
        ("odd", None),
    ],
)
def test_impacts(word: str, severity: Severity | None) -> None:
    assert only("statuspage", changed(MONITORING, "/incident/impact", word)).severity is severity


def test_maintenance_and_what_was_entered_afterwards_are_no_signals() -> None:
    assert read("statuspage", changed(MONITORING, "/incident/impact", "maintenance")) == []
    assert read("statuspage", changed(MONITORING, "/incident/backfilled", True)) == []


def test_a_component_and_its_recovery_meet() -> None:
    outage, back = only("statuspage", COMPONENT), only("statuspage", OPERATIONAL)
    assert outage.key == back.key == "rb5wq1dczvbm"
    assert (outage.status, back.status) == (Status.FIRING, Status.RESOLVED)
    assert outage.title == "Outgoing mail: major outage"
    assert outage.labels == {"component": "Outgoing mail", "component_status": "major_outage"}
    assert outage.at == 1_791_790_260


@pytest.mark.parametrize(
    ("word", "meaning"),
    [
        ("operational", (Status.RESOLVED, None)),
        ("degraded_performance", (Status.FIRING, Severity.NORMAL)),
        ("partial_outage", (Status.FIRING, Severity.HIGH)),
        ("major_outage", (Status.FIRING, Severity.CRITICAL)),
        ("under_maintenance", (None, None)),
    ],
)
def test_statuses_of_components(word: str, meaning: tuple[Status | None, Severity | None]) -> None:
    signals = read("statuspage", changed(COMPONENT, "/component_update/new_status", word))
    assert [(signal.status, signal.severity) for signal in signals] == ([meaning] if meaning[0] else [])


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"page": _PAGE}, "The body: expected an incident or a component_update."),
        (changed(MONITORING, "/incident/id", ...), "/incident/id: missing."),
        (changed(MONITORING, "/incident/status", "odd"), '/incident/status: not a status of Statuspage: "odd".'),
        (changed(MONITORING, "/incident/incident_updates/0/body", 1), "/incident/incident_updates/0/body: expected a text."),
        (
            changed(COMPONENT, "/component_update/new_status", "x"),
            '/component_update/new_status: not a status of a component: "x".',
        ),
        (changed(COMPONENT, "/component", []), "/component: expected an object."),
    ],
)
def test_what_is_wrong_is_told(body: Any, says: str) -> None:
    assert refusal("statuspage", body) == says
