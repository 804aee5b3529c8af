"""Posts made for tests, and what must hold for every signal and every refusal."""

import copy
import json
import math
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from broadcaster.domain.messages import Severity
from broadcaster.domain.signal import NotThisFormat, Post, Signal, Status
from broadcaster.ingest.formats import FORMATS


def post(body: Any, headers: Mapping[str, str] | None = None) -> Post:
    """``body``: bytes as they are, a text as UTF-8, anything else as JSON."""
    match body:
        case bytes():
            raw = body
        case str():
            raw = body.encode()
        case _:
            raw = json.dumps(body).encode()
    return Post(headers or {"content-type": "application/json"}, raw)


def read(
    name: str, body: Any, options: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None
) -> Sequence[Signal]:
    return FORMATS[name].read(post(body, headers), options or {})


def only(name: str, body: Any, options: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None) -> Signal:
    (signal,) = read(name, body, options, headers)
    assert_fit(signal)
    return signal


def refusal(name: str, body: Any, options: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None) -> str:
    with pytest.raises(NotThisFormat) as caught:
        read(name, body, options, headers)
    text = str(caught.value)
    assert_told(text)
    return text


def changed(body: Any, pointer: str, value: Any) -> Any:
    """A copy of ``body`` with this member set, or left out if ``value`` is ``...``."""
    body = copy.deepcopy(body)
    *steps, last = pointer.strip("/").split("/")
    place = body
    for step in steps:
        place = place[int(step)] if isinstance(place, list) else place[step]
    index: Any = int(last) if isinstance(place, list) else last
    if value is ...:
        del place[index]
    else:
        place[index] = value
    return body


def assert_fit(signal: Signal) -> None:
    """What every signal promises, whatever it was made of."""
    assert 1 <= len(signal.key) <= 255
    assert isinstance(signal.status, Status)
    assert 1 <= len(signal.title) <= 120
    assert "\n" not in signal.title
    assert len(signal.body) <= 1_200
    assert signal.severity is None or isinstance(signal.severity, Severity)
    assert len(signal.labels) <= 100
    assert signal.at is None or (math.isfinite(signal.at) and signal.at > 0)
    assert signal.url is None or signal.url.startswith(("http://", "https://"))
    for text in (signal.key, signal.title, signal.body, signal.url or "", *signal.labels, *signal.labels.values()):
        assert isinstance(text, str)
        text.encode()  # no lone surrogates
        assert not [c for c in text if unicodedata.category(c) == "Cc" and c != "\n"]


def assert_told(text: str) -> None:
    """What every refusal promises: one short sentence that can be shown."""
    text.encode()
    assert "\n" not in text
    assert 5 < len(text) < 250
    assert text.endswith(".")
