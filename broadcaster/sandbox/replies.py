"""How the sandbox says no on its own routes, and how it reads what it is told: strictly.

Provider routes have their provider's error shapes; this is for `/_sandbox/` only.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from aiohttp import web

Reader = Callable[[Any], Any]
"""Takes a JSON value, gives the value to use, raises `BadValue` (or ValueError) with a reason."""


class BadInput(Exception):
    """What the caller sent is not understood; becomes a 400 problem document (RFC 9457)."""


class BadValue(ValueError):
    """One field's value is not understood."""


def json_reply(body: object, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """A JSON answer. Compact, and without aiohttp's charset juggling: this is on the hot path."""
    return web.Response(
        body=json.dumps(body, separators=(",", ":")).encode(),
        status=status,
        headers=headers,
        content_type="application/json",
    )


def problem(status: int, title: str, detail: str) -> web.Response:
    """A problem document (RFC 9457)."""
    body = json.dumps({"type": "about:blank", "title": title, "status": status, "detail": detail}).encode()
    return web.Response(body=body, status=status, content_type="application/problem+json")


async def read_object(request: web.Request) -> dict[str, Any]:
    """The JSON object in the request's body; `BadInput` otherwise.

    `application/json` is insisted on: a foreign web page can then not post here without a preflight request.
    """
    if request.content_type != "application/json":
        raise BadInput("Content-Type must be application/json")
    try:
        value = json.loads(await request.read())
    except ValueError as error:
        raise BadInput(f"the body is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise BadInput("the body must be a JSON object")
    return value


def pick(value: Mapping[str, Any], readers: Mapping[str, Reader], required: tuple[str, ...] = ()) -> dict[str, Any]:
    """Reads each field of `value` with its reader; an unknown, missing or ill-typed field is `BadInput`."""
    unknown = sorted(set(value) - set(readers))
    if unknown:
        raise BadInput(f"unknown field {unknown[0]!r}; known: {', '.join(sorted(readers))}")
    for name in required:
        if name not in value:
            raise BadInput(f"field {name!r} is required")
    out: dict[str, Any] = {}
    for name, raw in value.items():
        try:
            out[name] = readers[name](raw)
        except ValueError as error:
            raise BadInput(f"field {name!r}: {error}") from None
    return out


def text(raw: Any) -> str:
    """A non-empty string of at most 2000 characters."""
    if not isinstance(raw, str) or not raw or len(raw) > 2000:
        raise BadValue("must be a non-empty string")
    return raw


def flag(raw: Any) -> bool:
    """true or false."""
    if not isinstance(raw, bool):
        raise BadValue("must be true or false")
    return raw


def number(low: float, high: float) -> Reader:
    """A number in [low, high]."""

    def read(raw: Any) -> float:
        if isinstance(raw, bool) or not isinstance(raw, int | float) or not low <= raw <= high:
            raise BadValue(f"must be a number from {low:g} to {high:g}")
        return float(raw)

    return read


def whole(low: int, high: int) -> Reader:
    """A whole number in [low, high]."""

    def read(raw: Any) -> int:
        if isinstance(raw, bool) or not isinstance(raw, int) or not low <= raw <= high:
            raise BadValue(f"must be a whole number from {low} to {high}")
        return raw

    return read


def one_of(*words: str) -> Reader:
    """One of a few words."""

    def read(raw: Any) -> str:
        if not isinstance(raw, str) or raw not in words:
            raise BadValue(f"must be one of {', '.join(words)}")
        return raw

    return read


def list_of(reader: Reader, most: int) -> Reader:
    """A list of at most `most` values."""

    def read(raw: Any) -> list[Any]:
        if not isinstance(raw, list) or len(raw) > most:
            raise BadValue(f"must be a list of at most {most}")
        return [reader(item) for item in raw]

    return read


def or_none(reader: Reader) -> Reader:
    """null, or what the reader takes."""
    return lambda raw: None if raw is None else reader(raw)


def query_int(request: web.Request, name: str, default: int, low: int, high: int) -> int:
    """A whole number from the query string."""
    raw = request.query.get(name)
    if raw is None:
        return default
    if not raw.isascii() or not raw.isdigit() or len(raw) > 15 or not low <= int(raw) <= high:
        raise BadInput(f"query {name!r} must be a whole number from {low} to {high}")
    return int(raw)
