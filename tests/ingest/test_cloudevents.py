"""The examples have the attributes and headers of section 3 of
https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/http-protocol-binding.md."""

from base64 import b64encode
from json import dumps
from typing import Any, Final

import pytest

from broadcaster.domain.signal import Status
from tests.ingest.posts import changed, only, refusal
from tests.ingest.test_generic import OPTIONS, PLAIN, TICKET

STRUCTURED_HEADERS: Final = {"content-type": "application/cloudevents+json; charset=utf-8"}
STRUCTURED: Final[dict[str, Any]] = {
    "specversion": "1.0",
    "type": "example.northmoor.outage",
    "source": "/monitoring/mail",
    "subject": "mail 1",
    "id": "A234-1234-1234",
    "time": "2026-10-12T07:31:00Z",
    "comexampleextension1": "value",
    "datacontenttype": "application/json",
    "data": {"key": "mail-1", "status": "firing", "title": "Email is down"},
}
BINARY_HEADERS: Final = {
    "content-type": "application/json; charset=utf-8",
    "ce-specversion": "1.0",
    "ce-type": "example.northmoor.outage",
    "ce-time": "2026-10-12T07:31:00Z",
    "ce-id": "A234-1234-1234",
    "ce-source": "/monitoring/mail",
    "ce-subject": "mail%201",
}


def test_both_modes_say_the_same() -> None:
    signal = only("cloudevents", STRUCTURED, headers=STRUCTURED_HEADERS)
    assert (signal.key, signal.status, signal.title) == ("mail-1", Status.FIRING, "Email is down")
    assert signal.labels == {"source": "/monitoring/mail", "subject": "mail 1", "type": "example.northmoor.outage"}
    assert signal.at == 1_791_790_260
    assert only("cloudevents", STRUCTURED["data"], headers=BINARY_HEADERS) == signal


def test_resolved_meets_firing() -> None:
    resolved = only("cloudevents", changed(STRUCTURED, "/data/status", "resolved"), headers=STRUCTURED_HEADERS)
    assert (resolved.key, resolved.status) == ("mail-1", Status.RESOLVED)


def test_source_and_subject_are_the_key_of_data_without_one() -> None:
    without = changed(STRUCTURED, "/data/key", ...)
    assert only("cloudevents", without, headers=STRUCTURED_HEADERS).key == "/monitoring/mail mail 1"
    assert only("cloudevents", {"status": "resolved"}, headers=BINARY_HEADERS).key == "/monitoring/mail mail 1"
    assert refusal("cloudevents", changed(without, "/subject", ...), headers=STRUCTURED_HEADERS) == "/data/key: missing."


def test_options_map_the_data() -> None:
    assert only("cloudevents", TICKET, OPTIONS, BINARY_HEADERS).key == "4711"
    assert only("cloudevents", STRUCTURED | {"data": TICKET}, OPTIONS, STRUCTURED_HEADERS).labels["site"] == "Northmoor"


def test_data_may_be_base64() -> None:
    event = changed(STRUCTURED, "/data", ...) | {"data_base64": b64encode(dumps(PLAIN).encode()).decode()}
    assert only("cloudevents", event, headers=STRUCTURED_HEADERS).body == "Use the telephone."


@pytest.mark.parametrize(
    ("body", "headers", "says"),
    [
        (STRUCTURED | {"specversion": "0.3"}, STRUCTURED_HEADERS, "specversion: expected 1.0."),
        (changed(STRUCTURED, "/id", ...), STRUCTURED_HEADERS, "/id: missing."),
        (STRUCTURED | {"source": 1}, STRUCTURED_HEADERS, "/source: expected a text."),
        (changed(STRUCTURED, "/data", ...), STRUCTURED_HEADERS, "/data/status: missing."),
        (STRUCTURED | {"data_base64": "é"}, STRUCTURED_HEADERS, "/data_base64: not base64."),
        (STRUCTURED | {"data_base64": "x"}, STRUCTURED_HEADERS, "/data_base64: not base64."),
        (
            [],
            {"content-type": "application/cloudevents-batch+json"},
            "The header content-type: batches of events are not read.",
        ),
        (PLAIN, {"content-type": "application/json"}, "/specversion: missing."),
        (PLAIN, {"ce-specversion": "1.0"}, "The header ce-id: missing."),
        ("x", BINARY_HEADERS, "The body is not JSON: Expecting value at character 0."),
    ],
)
def test_what_is_wrong_is_told(body: Any, headers: dict[str, str], says: str) -> None:
    assert refusal("cloudevents", body, headers=headers) == says
