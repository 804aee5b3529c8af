"""Who is meant: everybody, groups, tags and named people, combined with and/or/not.

An audience is a small tree, written in JSON::

    {"everyone": true}
    {"group": "<group id or name>"}
    {"tag": {"key": "site", "value": "Northmoor"}}        (short: {"tag": "site:Northmoor"})
    {"recipients": ["<recipient id>", ...]}
    {"had": ["<alert id>", ...]}                          (may have got one of these alerts)
    {"all": [<audience>, ...]}    {"any": [<audience>, ...]}    {"not": <audience>}

What lives here: reading and writing that tree. Turning it into SQL is ``store.audiences``.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

MAX_DEPTH: Final = 8
MAX_NODES: Final = 200
MAX_NAMED: Final = 10_000
MAX_HAD: Final = 20_000  # a week of reminders, one a minute


@dataclass(frozen=True, slots=True)
class Everyone:
    """Every recipient in the directory."""


@dataclass(frozen=True, slots=True)
class InGroup:
    """Members of the group with this id or name."""

    group: str


@dataclass(frozen=True, slots=True)
class HasTag:
    """Recipients that carry this tag, for example key "role", value "nurse"."""

    key: str
    value: str


@dataclass(frozen=True, slots=True)
class Named:
    """These recipients, by public id."""

    recipients: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Had:
    """Everybody who may have got one of these alerts, by public id: to whom an all-clear goes."""

    alerts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AllOf:
    parts: tuple["Audience", ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    parts: tuple["Audience", ...]


@dataclass(frozen=True, slots=True)
class Not:
    part: "Audience"


Audience = Everyone | InGroup | HasTag | Named | Had | AllOf | AnyOf | Not


class InvalidAudience(ValueError):
    """The tree cannot be read; the text names the place and says what is expected there."""


def parse(tree: Any) -> Audience:
    """Reads the JSON form. Raises InvalidAudience with the path of the fault, for example ``audience.any[1].tag``."""
    audience = _parse(tree, "audience", 0)
    if sum(1 for _ in walk(audience)) > MAX_NODES:
        raise InvalidAudience(f"audience: at most {MAX_NODES} parts")
    return audience


def to_json(audience: Audience) -> dict[str, Any]:
    """The JSON form; ``parse(to_json(a)) == a``."""
    match audience:
        case Everyone():
            return {"everyone": True}
        case InGroup(group):
            return {"group": group}
        case HasTag(key, value):
            return {"tag": {"key": key, "value": value}}
        case Named(recipients):
            return {"recipients": list(recipients)}
        case Had(alerts):
            return {"had": list(alerts)}
        case AllOf(parts):
            return {"all": [to_json(part) for part in parts]}
        case AnyOf(parts):
            return {"any": [to_json(part) for part in parts]}
        case Not(part):
            return {"not": to_json(part)}


def walk(audience: Audience) -> Iterator[Audience]:
    """Every node, the root first."""
    yield audience
    match audience:
        case AllOf(parts) | AnyOf(parts):
            for part in parts:
                yield from walk(part)
        case Not(part):
            yield from walk(part)
        case _:
            return


def _parse(tree: Any, path: str, depth: int) -> Audience:
    if depth > MAX_DEPTH:
        raise InvalidAudience(f"{path}: nested deeper than {MAX_DEPTH}")
    if not isinstance(tree, dict) or len(tree) != 1:
        raise InvalidAudience(
            f"{path}: expected an object with exactly one of everyone, group, tag, recipients, had, all, any, not"
        )
    ((kind, value),) = tree.items()
    path = f"{path}.{kind}"
    match kind:
        case "everyone":
            if value is not True:
                raise InvalidAudience(f"{path}: expected true")
            return Everyone()
        case "group":
            return InGroup(_text(value, path))
        case "tag":
            return _tag(value, path)
        case "recipients":
            return _named(value, path)
        case "had":
            return _had(value, path)
        case "all":
            return AllOf(_parts(value, path, depth))
        case "any":
            return AnyOf(_parts(value, path, depth))
        case "not":
            return Not(_parse(value, path, depth + 1))
        case _:
            raise InvalidAudience(f"{path}: unknown; use everyone, group, tag, recipients, had, all, any or not")


def _parts(value: Any, path: str, depth: int) -> tuple[Audience, ...]:
    if not isinstance(value, list) or not value:
        raise InvalidAudience(f"{path}: expected a list with at least one audience")
    return tuple(_parse(part, f"{path}[{i}]", depth + 1) for i, part in enumerate(value))


def _tag(value: Any, path: str) -> HasTag:
    if isinstance(value, str):
        key, colon, rest = value.partition(":")
        if not colon:
            raise InvalidAudience(f'{path}: expected "key:value" or an object with key and value')
        return HasTag(_text(key, path), _text(rest, path))
    if not isinstance(value, dict) or set(value) != {"key", "value"}:
        raise InvalidAudience(f'{path}: expected "key:value" or an object with key and value')
    return HasTag(_text(value["key"], f"{path}.key"), _text(value["value"], f"{path}.value"))


def _named(value: Any, path: str) -> Named:
    if not isinstance(value, list) or not value:
        raise InvalidAudience(f"{path}: expected a list with at least one recipient id")
    if len(value) > MAX_NAMED:
        raise InvalidAudience(f"{path}: at most {MAX_NAMED} people by name; use a group for more")
    return Named(tuple(_text(item, f"{path}[{i}]") for i, item in enumerate(value)))


def _had(value: Any, path: str) -> Had:
    if not isinstance(value, list) or not value or len(value) > MAX_HAD:
        raise InvalidAudience(f"{path}: expected a list of 1 to {MAX_HAD} alert ids")
    return Had(tuple(_text(item, f"{path}[{i}]") for i, item in enumerate(value)))


def _text(value: Any, path: str) -> str:
    if not isinstance(value, str) or not value.strip() or len(value) > 200 or "\x00" in value:
        raise InvalidAudience(f"{path}: expected a text of 1 to 200 characters")
    return value.strip()
