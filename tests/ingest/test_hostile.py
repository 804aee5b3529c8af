"""Whatever comes in, every format answers with fit signals or with NotThisFormat, soon, and never with anything else."""

import copy
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final
from xml.etree import ElementTree

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from broadcaster.domain.signal import NotThisFormat, Post
from broadcaster.ingest.formats import FORMATS
from tests.ingest import (
    test_alertmanager,
    test_azure,
    test_cap,
    test_cloudevents,
    test_generic,
    test_grafana,
    test_healthchecks,
    test_nagios,
    test_pagerduty,
    test_statuspage,
    test_uptime_kuma,
    test_zabbix,
)
from tests.ingest.posts import assert_fit, assert_told, post


@dataclass(frozen=True)
class Example:
    """A good request of a format."""

    name: str
    body: Any
    headers: Mapping[str, str] | None = None
    options: Mapping[str, str] | None = None


EXAMPLES: Final = [
    Example("alertmanager", test_alertmanager.FIRING),
    Example("alertmanager", test_alertmanager.RESOLVED),
    Example("grafana", test_grafana.FIRING),
    Example("pagerduty", test_pagerduty.TRIGGER),
    Example("pagerduty", test_pagerduty.RESOLVE),
    Example("uptime_kuma", test_uptime_kuma.DOWN),
    Example("healthchecks", test_healthchecks.DOWN),
    Example("nagios", test_nagios.PROBLEM),
    Example("zabbix", test_zabbix.PROBLEM),
    Example("azure", test_azure.RESOLVED),
    Example("statuspage", test_statuspage.MONITORING),
    Example("statuspage", test_statuspage.COMPONENT),
    Example("cloudevents", test_cloudevents.STRUCTURED, test_cloudevents.STRUCTURED_HEADERS),
    Example("cloudevents", test_generic.PLAIN, test_cloudevents.BINARY_HEADERS),
    Example("generic", test_generic.PLAIN),
    Example("generic", test_generic.ENVELOPE),
    Example("generic", test_generic.TICKET, None, test_generic.OPTIONS),
]
HEADERS: Final[list[Mapping[str, str]]] = [
    {},
    {"content-type": "application/json"},
    {"content-type": "application/x-www-form-urlencoded"},
    test_cloudevents.STRUCTURED_HEADERS,
    test_cloudevents.BINARY_HEADERS,
]

#: Names that formats look for, so that arbitrary trees get further than the first look.
_NAMES: Final = sorted({name for example in EXAMPLES for name in json.dumps(example.body).split('"')[1::2] if name})

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(), max_size=20)
    | st.sampled_from(_NAMES)
    | st.sampled_from(["", "9" * 400, "x" * 5_000, "\ud800", "\x00", "0001-01-01T00:00:00Z", "https://[", "{X}"])
)
trees = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(_NAMES) | st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=15,
)


def check(name: str, request: Post, options: Mapping[str, str] | None = None) -> None:
    refused = told(name, request, options)
    if refused:
        assert_told(refused)


def told(name: str, request: Post, options: Mapping[str, str] | None = None) -> str:
    """The refusal's text, or "" where there are signals, which are looked at."""
    try:
        signals = FORMATS[name].read(request, options or {})
    except NotThisFormat as error:
        return str(error)
    assert len(signals) <= 1_000
    for signal in signals:
        assert_fit(signal)
    return ""


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_the_examples_are_good(example: Example) -> None:
    signals = FORMATS[example.name].read(post(example.body, example.headers), example.options or {})
    assert signals
    for signal in signals:
        assert_fit(signal)


def test_there_is_an_example_of_every_format() -> None:
    assert {example.name for example in EXAMPLES} | {"cap"} == set(FORMATS)


@pytest.mark.parametrize("name", FORMATS)
@given(body=st.binary(max_size=300), headers=st.sampled_from(HEADERS))
def test_arbitrary_bytes(name: str, body: bytes, headers: Mapping[str, str]) -> None:
    check(name, Post(headers, body))


@pytest.mark.parametrize("name", FORMATS)
@given(tree=trees, headers=st.sampled_from(HEADERS))
def test_arbitrary_trees(name: str, tree: Any, headers: Mapping[str, str]) -> None:
    check(name, post(json.dumps(tree), headers))


@given(
    tree=trees,
    options=st.dictionaries(st.sampled_from([*test_generic.OPTIONS, "labels", "severity.low"]) | st.text(), st.text()),
)
def test_arbitrary_options(tree: Any, options: dict[str, str]) -> None:
    check("generic", post(json.dumps(tree)), options)
    check("cloudevents", post(json.dumps(tree), test_cloudevents.BINARY_HEADERS), options)


@given(headers=st.dictionaries(st.sampled_from([*test_cloudevents.BINARY_HEADERS]), st.text(st.characters(), max_size=30)))
def test_arbitrary_headers(headers: dict[str, str]) -> None:
    check("cloudevents", post(test_generic.PLAIN, headers))
    check("nagios", post(test_nagios.PROBLEM, headers))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_a_good_body_with_one_node_gone_or_replaced(example: Example, data: st.DataObject) -> None:
    body = copy.deepcopy(example.body)
    place, index = data.draw(st.sampled_from(list(_nodes(body))))
    if data.draw(st.booleans()):
        del place[index]
    else:
        place[index] = data.draw(trees)
    check(example.name, post(body, example.headers), example.options)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_a_good_body_with_each_node_gone_or_of_another_type(example: Example) -> None:
    for i in range(len(list(_nodes(example.body)))):
        values: tuple[Any, ...] = (..., None, 1, True, 1.5, "x", [], {}, [[]], {"": None}, 10**400, "\ud800\x00")
        for value in values:
            body = copy.deepcopy(example.body)
            place, index = list(_nodes(body))[i]
            if value is ...:
                del place[index]
            else:
                place[index] = value
            check(example.name, post(body, example.headers), example.options)


@pytest.mark.parametrize("document", [test_cap.ALERT, test_cap.UPDATE, test_cap.CANCEL])
@settings(max_examples=200)
@given(data=st.data())
def test_a_good_document_with_one_element_gone_or_replaced(document: str, data: st.DataObject) -> None:
    root = ElementTree.fromstring(document)
    parents = {child: parent for parent in root.iter() for child in parent}
    element = data.draw(st.sampled_from(list(parents)))
    match data.draw(st.sampled_from(["gone", "twice", "empty", "other"])):
        case "gone":
            parents[element].remove(element)
        case "twice":
            parents[element].append(copy.deepcopy(element))
        case "empty":
            element.clear()
        case _:
            xml = st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff")
            element.text = data.draw(st.text(xml, max_size=40) | st.just("a,b,c") | st.just("x" * 5_000))
    check("cap", Post(test_cap.XML, ElementTree.tostring(root)))


@given(cut=st.integers(0, len(test_cap.ALERT)), more=st.binary(max_size=20))
def test_a_good_document_with_something_else_in_the_middle(cut: int, more: bytes) -> None:
    document = test_cap.ALERT.encode()
    check("cap", Post(test_cap.XML, document[:cut] + more + document[cut:]))
    check("cap", Post(test_cap.XML, document[:cut] + more))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_a_refusal_repeats_at_most_forty_characters_of_the_body(example: Example) -> None:
    """A routing key or a patient's name in the wrong place must not come back in an answer or a log."""
    for i in range(len(list(_nodes(example.body)))):
        for value in ("\u2603" * 100, {"\u2603" * 100: {"\u2603" * 100: 1}}, ["\u2603" * 100]):
            body = copy.deepcopy(example.body)
            place, index = list(_nodes(body))[i]
            place[index] = value
            assert told(example.name, post(body, example.headers), example.options).count("\u2603") <= 40


MEGABYTE: Final = 1_000_000
LARGE: Final[dict[str, bytes]] = {
    "one long text": json.dumps({"msg": " \u2028\x1b\ud800" * (MEGABYTE // 24)}).encode(),
    "deep arrays": b"[" * MEGABYTE,
    "deep objects": b'{"data":' * (MEGABYTE // 8),
    "as many arrays as are read": b"[" + b"[]," * 49_998 + b"[]]",
    "many arrays": b"[" + b"[]," * (MEGABYTE // 3) + b"[]]",
    "many numbers": b"[" + (b"9" * 4_299 + b",") * (MEGABYTE // 4_300) + b"1]",
    "one number": b"9" * MEGABYTE,
    "escapes": b'{"msg": "' + b"\\" * MEGABYTE + b'"}',
    "many members": json.dumps({"labels": {f"l{i}": i for i in range(70_000)}, "key": "k", "status": "firing"}).encode(),
    "many alerts": json.dumps({"alerts": [{"status": "firing", "labels": {"alertname": "x" * 800}}] * 1_000}).encode(),
    "large labels": json.dumps(
        {"alerts": [{"status": "firing", "fingerprint": "f", "labels": {f"\u0001l{i}": "" for i in range(60_000)}}]}
    ).encode(),
    "details": json.dumps(
        {"event_action": "trigger", "payload": {"summary": "s", "custom_details": {f"d{i}": [] for i in range(49_900)}}}
    ).encode(),
    "fields": b"a=1&" * (MEGABYTE // 4),
    "per cents": b"host=" + b"%" * MEGABYTE,
    "references": test_cap.message("Cancel", "x", "a,b,2026-10-12T07:31:00Z " * (MEGABYTE // 25)).encode(),
    "elements": test_cap.ALERT.replace("<note>", "<b/>" * 45_000 + "<note>").encode(),
    "infos": test_cap.ALERT.replace("  <info>", "<info></info>" * 45_000 + "<info>", 1).encode(),
    "attributes": b'<alert xmlns="urn:oasis:names:tc:emergency:cap:1.2" '
    + b" ".join(b'a%d=""' % i for i in range(90_000))
    + b"/>",
    "namespaces": b"<alert " + b" ".join(b'xmlns:a%d="n"' % i for i in range(60_000)) + b"/>",
    "character references": test_cap.ALERT.replace("Duty desk", "&#38;" * (MEGABYTE // 5)).encode(),
    "zeros": bytes(MEGABYTE),
    "not UTF-8": b'{"key": "' + b"\xff" * MEGABYTE + b'", "status": "firing", "title": "\xff"}',
}


@pytest.mark.parametrize("body", LARGE.values(), ids=LARGE)
def test_a_megabyte_is_read_soon(body: bytes) -> None:
    """By each format, some with five kinds of headers; what grows faster than its body would take minutes."""
    started = time.process_time()
    for name in FORMATS:
        for headers in HEADERS if name in ("nagios", "cloudevents") else HEADERS[:1]:
            check(name, Post(headers, body))
    assert time.process_time() - started < 10


def _nodes(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Every (place, index) below the root."""
    match tree:
        case dict():
            for name, value in tree.items():
                yield tree, name
                yield from _nodes(value)
        case list():
            for i, value in enumerate(tree):
                yield tree, i
                yield from _nodes(value)
        case _:
            return
