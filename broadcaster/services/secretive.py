"""A monitor's settings, in two parts: what anybody may read, and its secrets, which are only ever written."""

import copy
import json
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, SecretStr

from broadcaster.services.sealing import Sealer

_SECRET = object()


def split(config: BaseModel) -> tuple[dict[str, Any], dict[str, str]]:
    """(what may be read, secrets by JSON pointer). Secrets that are empty are none."""
    secrets: dict[str, str] = {}
    plain = _without(config.model_dump(mode="python"), "", secrets)
    return json.loads(json.dumps(plain, default=str)), secrets


def joined(plain: dict[str, Any], sealed: str | None, sealer: Sealer) -> dict[str, Any]:
    """The whole again. Raises SealBroken."""
    for pointer, secret in (json.loads(sealer.open(sealed)) if sealed else {}).items():
        at: Any = plain
        *way, last = _names(pointer)
        for name in way:
            at = at[int(name) if isinstance(at, list) else name]
        at[int(last) if isinstance(at, list) else last] = secret
    return plain


def filled(config: Mapping[str, Any], secrets: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
    """A copy with those of ``secrets`` that it leaves out, and their pointers. What is empty or null is not left out."""
    whole: dict[str, Any] = copy.deepcopy(dict(config))
    left_out = []
    for pointer, secret in secrets.items():
        at: Any = whole
        *way, last = _names(pointer)
        for name in way:
            at = _inside(at, name)
        if isinstance(at, dict) and last not in at:
            at[last] = secret
            left_out.append(pointer)
    return whole, left_out


def sealed(secrets: Mapping[str, str], sealer: Sealer) -> str | None:
    return sealer.seal(json.dumps(secrets)) if secrets else None


def _without(value: Any, pointer: str, secrets: dict[str, str]) -> Any:
    match value:
        case SecretStr():
            if value.get_secret_value():
                secrets[pointer] = value.get_secret_value()
            return _SECRET
        case dict():
            found = {name: _without(part, f"{pointer}/{_escaped(name)}", secrets) for name, part in value.items()}
            return {name: part for name, part in found.items() if part is not _SECRET}
        case list() | tuple():
            return [_without(part, f"{pointer}/{n}", secrets) for n, part in enumerate(value)]
        case _:
            return value


def _inside(value: Any, name: str) -> Any:
    """The part of this name; None where there is none."""
    if isinstance(value, list) and name.isdigit():
        return value[int(name)] if int(name) < len(value) else None
    return value.get(name) if isinstance(value, dict) else None


def _escaped(name: str) -> str:
    """As in a JSON pointer (RFC 6901)."""
    return str(name).replace("~", "~0").replace("/", "~1")


def _names(pointer: str) -> list[str]:
    return [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]
