"""A monitor's settings, in two parts: what anybody may read, and its secrets, which are only ever written."""

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
        *way, last = pointer.split("/")[1:]
        for name in way:
            at = at[int(name) if isinstance(at, list) else name]
        at[int(last) if isinstance(at, list) else last] = secret
    return plain


def sealed(secrets: Mapping[str, str], sealer: Sealer) -> str | None:
    return sealer.seal(json.dumps(secrets)) if secrets else None


def _without(value: Any, pointer: str, secrets: dict[str, str]) -> Any:
    match value:
        case SecretStr():
            if value.get_secret_value():
                secrets[pointer] = value.get_secret_value()
            return _SECRET
        case dict():
            found = {name: _without(part, f"{pointer}/{name}", secrets) for name, part in value.items()}
            return {name: part for name, part in found.items() if part is not _SECRET}
        case list() | tuple():
            return [_without(part, f"{pointer}/{n}", secrets) for n, part in enumerate(value)]
        case _:
            return value
