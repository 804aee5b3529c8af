"""Heartbeats: a job somewhere calls its address for as long as it works. The token in the address is the whole proof."""

import math
from typing import Annotated

from fastapi import APIRouter, Path
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel

from broadcaster.api.deps import Wired
from broadcaster.api.problems import responses
from broadcaster.domain.errors import TooMany
from broadcaster.wiring import Wiring

router = APIRouter(tags=["heartbeats"])

Token = Annotated[str, Path(description="From the `ping_url` that making the monitor has answered.")]
_ANSWERS = responses(404, 422, 429, 503)


class Heard(BaseModel):
    ok: bool


@router.get("/heartbeats/{token}", response_model=Heard, summary="I am alive", responses=_ANSWERS)
async def get_heartbeat(token: Token, wired: Wired) -> Heard:
    """Needs no API key. GET, HEAD and POST are the same: the simplest client that there is must do."""
    return await _hear(token, wired)


@router.head("/heartbeats/{token}", response_model=Heard, summary="I am alive", responses=_ANSWERS)
async def head_heartbeat(token: Token, wired: Wired) -> Heard:
    return await _hear(token, wired)


@router.post("/heartbeats/{token}", response_model=Heard, summary="I am alive", responses=_ANSWERS)
async def post_heartbeat(token: Token, wired: Wired) -> Heard:
    """What is posted is not read."""
    return await _hear(token, wired)


async def _hear(token: str, wired: Wiring) -> Heard:
    """Raises NotFound, and TooMany: only of tokens that hold, so that nobody fills the memory with invented ones."""
    monitor = await run_in_threadpool(wired.monitors.called, token)
    wait = wired.heartbeat_rate.wait(monitor)
    if wait > 0:
        raise TooMany("This heartbeat has come too often in the last minute.", retry_after=math.ceil(wait))
    await run_in_threadpool(wired.monitors.heard, token)
    return Heard(ok=True)
