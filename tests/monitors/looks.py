"""One look, as a worker takes it, and what must hold of every reading whatever happened."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, TypeVar

import uvloop
from pydantic import BaseModel, SecretStr

from broadcaster.domain.monitor import Circumstances, Kind, Reading

T = TypeVar("T")

#: (kind, code) of every reading of this run.
SEEN: Final[set[tuple[str, str]]] = set()
#: Fields that hold what must never show.
_PRIVATE: Final = ("username", "smtp_username", "sender", "recipient")


def circumstances(timeout: float = 10.0, **changes: Any) -> Circumstances:
    now = time.time()
    return Circumstances(**{"due": now, "now": now, "timeout": timeout, "since": now - 3600, **changes})


def run(main: Callable[[], Awaitable[T]], loop: str = "asyncio") -> T:
    """On a loop of its own; nothing may be left running on it."""

    async def alone() -> T:
        result = await main()
        left: Iterable[asyncio.Task[Any]] = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        if left:  # a stand-in that is just accepting somebody who has left
            _, left = await asyncio.wait(left, timeout=5)
        assert not left, left
        return result

    with asyncio.Runner(loop_factory=uvloop.new_event_loop if loop == "uvloop" else None) as runner:
        return runner.run(alone())


async def look(kind: Kind, config: BaseModel | dict[str, Any], timeout: float = 10.0, **changes: Any) -> Reading:
    """The reading; it must come within ``timeout``."""
    made = config if isinstance(config, BaseModel) else kind.config(**config)
    async with asyncio.timeout(timeout):
        reading = await kind.look(made, circumstances(timeout, **changes))
    check(kind, made, reading)
    return reading


def look_at(
    kind: Kind,
    server: AbstractAsyncContextManager[int],
    config: Callable[[int], dict[str, Any]],
    timeout: float = 10.0,
    loop: str = "asyncio",
) -> Reading:
    """The reading of a look at a stand-in that lives as long as the look."""

    async def main() -> Reading:
        async with server as port:
            return await look(kind, config(port), timeout)

    return run(main, loop)


def check(kind: Kind, config: BaseModel, reading: Reading) -> None:
    """Every reading: a known code, one plain sentence, flat evidence, and no secret or address anywhere."""
    SEEN.add((kind.name, reading.code))
    assert reading.code in kind.codes, f"{reading.code} is none of {kind.name}'s codes"
    assert reading.reason.isprintable()
    assert reading.reason[-1] in ".)", reading.reason
    assert len(reading.reason) <= 300
    for value in reading.detail.values():
        assert value is None or isinstance(value, str | int | float | bool)
        assert not isinstance(value, str) or (value.isprintable() and len(value) <= 200)
    json.dumps(dict(reading.detail), allow_nan=False)
    shown = repr(reading)
    for name in type(config).model_fields:
        value = getattr(config, name)
        if isinstance(value, SecretStr):
            assert value.get_secret_value() not in shown
        elif kind.name != "canary" and name in _PRIVATE and value and len(value) > 5:
            assert value not in shown
