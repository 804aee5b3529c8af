"""A kind's settings from the command line: ``--set port=993`` becomes what the kind's JSON schema asks for."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from broadcaster.cli.shared import Wrong

Schema = Mapping[str, Any]


def config_from(pairs: Sequence[str], schema: Schema) -> dict[str, Any]:
    """``pairs``: "name=value"; "a.b=value" goes into a. Lists are JSON or have commas. Raises Wrong."""
    config: dict[str, Any] = {}
    for pair in pairs:
        path, equals, text = pair.partition("=")
        if not equals or not all(path.split(".")):
            raise Wrong(f"--set takes name=value, for example --set port=993; {pair!r} is none.")
        put(config, path, _typed(text, _at(path, schema), schema))
    return config


def put(config: dict[str, Any], path: str, value: Any) -> None:
    """Raises Wrong where something else than an object is in its way."""
    *way, last = path.split(".")
    at: Any = config
    for name in way:
        at = at.setdefault(name, {})
        if not isinstance(at, dict):
            raise Wrong(f"--set {path}: {name} has a value already.")
    at[last] = value


def types_of(schema: Schema, root: Schema) -> set[str]:
    """JSON's types that it takes. None: it does not say."""
    schema = _resolved(schema, root)
    found = {schema["type"]} if isinstance(schema.get("type"), str) else set(schema.get("type", ()))
    if "enum" in schema or "const" in schema:
        found |= {"string" for value in schema.get("enum", [schema.get("const")]) if isinstance(value, str)}
    for part in (*schema.get("anyOf", ()), *schema.get("oneOf", ()), *schema.get("allOf", ())):
        found |= types_of(part, root)
    return found


def _typed(text: str, schema: Schema, root: Schema) -> Any:
    types = types_of(schema, root)
    if not types or "string" in types:
        return text
    try:
        value = json.loads(text.lower() if "boolean" in types else text)
    except ValueError:
        value = None if text == "null" else text
    if "array" in types and not isinstance(value, list):
        inside = _resolved(schema, root).get("items", {})
        return [_typed(part.strip(), inside, root) for part in text.split(",") if part.strip()]
    return value


def _at(path: str, schema: Schema) -> Schema:
    """The schema of the setting; empty where there is no such: the API says so better."""
    at: Schema = schema
    for name in path.split("."):
        at = _properties(at, schema).get(name, {})
    return at


def _properties(schema: Schema, root: Schema) -> Mapping[str, Schema]:
    schema = _resolved(schema, root)
    found = dict(schema.get("properties", {}))
    for part in (*schema.get("anyOf", ()), *schema.get("oneOf", ())):
        found.update(_properties(part, root))
    return found


def _resolved(schema: Schema, root: Schema) -> Schema:
    reference = schema.get("$ref", "")
    if not reference:
        return schema
    at: Any = root
    for name in reference.removeprefix("#/").split("/"):
        at = at[name]
    found: Schema = at
    return found
