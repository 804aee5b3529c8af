"""Reading values out of JSON and XML, and saying where they are wrong."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from broadcaster.domain.signal import NotThisFormat
from broadcaster.ingest.elements import MAX_DEPTH, MAX_ELEMENTS, read_xml
from broadcaster.ingest.trees import Node, pointer, read_form, read_json
from tests.ingest.posts import assert_told


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "The body is not JSON: Expecting value at character 0."),
        (b"{", "The body is not JSON"),
        (b"\x00\x01\x02", "The body is not JSON"),
        ("{}".encode("utf-16"), "The body is not JSON"),
        (b"[NaN]", "The body is not JSON: NaN is no number of JSON."),
        (b"[-Infinity]", "-Infinity is no number"),
        (b"[" + b"9" * 5_000 + b"]", "The body has a number that is too long."),
        (b"[" * 40_000, "The body is nested too deeply."),
        (b'{"a":' * 40_000, "The body is nested too deeply."),
        (b"[" * 100_000, "The body has more than 50,000 arrays and objects."),
        (b"[" + b"[],{}," * 30_000 + b"1]", "The body has more than 50,000 arrays and objects."),
    ],
)
def test_what_is_not_json_is_told(body: bytes, says: str) -> None:
    with pytest.raises(NotThisFormat) as caught:
        read_json(body)
    assert says in str(caught.value)
    assert_told(str(caught.value))


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b'\xef\xbb\xbf{"a": 1}', {"a": 1}),
        (b'{"a": 1, "a": 2}', {"a": 2}),
        (b'{"a": "two\nlines"}', {"a": "two\nlines"}),
        (b'{"a": "caf\xe9"}', {"a": "caf\udce9"}),  # Latin-1; texts replaces it
        (b'"\\ud83c\\udfe5"', "🏥"),
    ],
)
def test_what_senders_do_to_json_is_forgiven(body: bytes, value: Any) -> None:
    assert read_json(body).value == value


TREE = Node(
    {"text": "x", "number": 7, "half": 0.5, "huge": 1e999, "yes": True, "null": None, "list": [1, {"a/b": {"~": "deep"}}]}
)


@pytest.mark.parametrize(
    ("look", "says"),
    [
        (lambda: TREE["text"]["x"], "/text: expected an object."),
        (lambda: TREE["number"].text(), "/number: expected a text."),
        (lambda: TREE["text"].items(), "/text: expected an array."),
        (lambda: TREE["list"].word(), "/list: expected a text, a number or a boolean."),
        (lambda: TREE["huge"].word(), "/huge: expected a text, a number or a boolean."),
        (lambda: TREE["null"].required(), "/null: missing."),
        (lambda: TREE["absent"]["x"].required(), "/absent/x: missing."),
        (lambda: TREE["text"].truth(), "/text: expected true or false."),
        (lambda: TREE.texts(), "/number: expected a text."),
        (lambda: TREE["list"].items()[1]["a/b"].text(), "/list/1/a~1b: expected a text."),
        (lambda: Node([1]).text(), "The body: expected a text."),
        (lambda: Node([1] * 1_001).items(), "The body: 1,001 items; at most 1,000 are read in one request."),
        (lambda: Node({"x" * 500: 1}).texts(), f"/{'x' * 39}…: expected a text."),
        (lambda: Node({"\ud800": 1}).texts(), "/\ufffd: expected a text."),
    ],
)
def test_what_is_wrong_is_named_by_its_pointer(look: Callable[[], object], says: str) -> None:
    with pytest.raises(NotThisFormat) as caught:
        look()
    assert str(caught.value) == says


def test_values_are_read() -> None:
    assert TREE["text"].text() == TREE["text"].word() == "x"
    assert TREE["number"].word() == "7"
    assert TREE["half"].word() == "0.5"
    assert TREE["yes"].word() == "true"
    assert TREE["yes"].truth()
    assert TREE["null"].text() == TREE["absent"].word() == ""
    assert not TREE["absent"].items()
    assert Node({"a": "x", "b": 1, "c": None}).words() == {"a": "x", "b": "1", "c": ""}
    assert Node(int("9" * 4_000)).word() == "9" * 4_000


@pytest.mark.parametrize(
    ("text", "value"),
    [
        # Every example of RFC 6901, section 5, on its own document.
        ("", ...),
        ("/foo", ["bar", "baz"]),
        ("/foo/0", "bar"),
        ("/", 0),
        ("/a~1b", 1),
        ("/c%d", 2),
        ("/e^f", 3),
        ("/g|h", 4),
        ("/i\\j", 5),
        ('/k"l', 6),
        ("/ ", 7),
        ("/m~0n", 8),
        # And what leads nowhere.
        ("/foo/2", None),
        ("/foo/-", None),
        ("/foo/00", None),
        ("/foo/" + "9" * 5_000, None),
        ("/foo/0/bar", None),
        ("/bar", None),
    ],
)
def test_pointers_lead_where_rfc_6901_says(text: str, value: Any) -> None:
    document = json.loads(
        '{"foo": ["bar", "baz"], "": 0, "a/b": 1, "c%d": 2, "e^f": 3, "g|h": 4, "i\\\\j": 5, "k\\"l": 6, " ": 7, "m~n": 8}'
    )
    found = Node(document).follow(pointer(text))
    assert found.value == (document if value is ... else value)
    assert len(text) > 50 or found.pointer == text.rstrip()


@pytest.mark.parametrize("text", ["foo", "#/foo", "/~", "/~2", "/a~", "~0/a"])
def test_what_is_no_pointer_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="RFC 6901"):
        pointer(text)


def test_a_form_is_read_and_bounded() -> None:
    assert read_form(b"a=1%202&b=&c=%E2%82%AC+x&a=3").value == {"a": "3", "b": "", "c": "€ x"}
    with pytest.raises(NotThisFormat, match="more than 100 fields"):
        read_form(b"&".join(b"a%d=1" % i for i in range(101)))
    assert read_form(b"\xff=%FF&%00").value == {"\udcff": "\ufffd", "\0": ""}


LAUGHS = """<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY lol "lol"><!ENTITY lol1 "&lol;&lol;&lol;&lol;&lol;&lol;&lol;&lol;">
<!ENTITY lol2 "&lol1;&lol1;&lol1;&lol1;&lol1;&lol1;&lol1;&lol1;">]><a xmlns="n">&lol2;</a>"""


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (LAUGHS.encode(), "declares a document type"),
        (b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/hostname">]><a xmlns="n">&x;</a>', "declares a document type"),
        (b'<!DOCTYPE a SYSTEM "http://127.0.0.1:1/x.dtd"><a xmlns="n"/>', "declares a document type"),
        (b'<!DOCTYPE a [<!ENTITY % p SYSTEM "http://127.0.0.1:1/p">%p;]><a xmlns="n"/>', "declares a document type"),
        (b'<!DOCTYPE a><a xmlns="n"/>', "declares a document type"),
        (b'<a xmlns="n">&x;</a>', "not XML: undefined entity in line 1"),
        (LAUGHS.encode("utf-16"), "declares a document type"),
        (b'<?xml version="1.0" encoding="utf-7"?>+ADwAIQ-DOCTYPE a>', "not XML"),
        (b"", "not XML: no element found"),
        (b"<a", "not XML"),
        (b"\xff\xfe", "not XML"),
        (b"<a/>", "The root element is not a of n."),
        (b'<b xmlns="n"/>', "The root element is not a of n."),
        (b'<a xmlns="n">' + b"<b>" * 100_000, f"nested deeper than {MAX_DEPTH}"),
        (b'<a xmlns="n">' + b"<b/>" * MAX_ELEMENTS + b"</a>", "more than 50,000 elements"),
    ],
)
def test_xml_that_is_hostile_or_broken_is_refused(body: bytes, says: str) -> None:
    with pytest.raises(NotThisFormat) as caught:
        read_xml(body, "n a")
    assert says in str(caught.value)
    assert_told(str(caught.value))


def test_a_declared_encoding_loads_no_codec() -> None:
    """Python would look for a codec by whatever name a document declares."""
    assert read_xml('<?xml version="1.0" encoding="x-nobody"?><a xmlns="n">é</a>'.encode(), "n a").text == "é"


def test_elements_are_those_of_their_own_namespace() -> None:
    root = read_xml(b'<x:a xmlns:x="n" xmlns="m"><b>other</b><x:b> one <i>in</i></x:b><x:b>&lt;two&#10;</x:b></x:a>', "n a")
    assert [element.text for element in root.all("b")] == ["one", "<two"]
    assert root.first("b") == "one"
    assert root.first("absent") == ""
    with pytest.raises(NotThisFormat, match=r"^/a/absent: missing\.$"):
        root.required("absent")
