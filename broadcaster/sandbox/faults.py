"""Faults that a provider can be told to have, and how they change an answer.

Reply faults bend one HTTP exchange; callback faults bend what the provider reports later. Which request is
hit is chosen by a seeded generator, so that a failing run can be run again.

| kind | what the client sees | taken? |
|---|---|---|
| status | the given HTTP status (`retry_after` adds the header) | if `taken` |
| delay | the right answer, `seconds` later; handled after the wait | yes |
| late_reply | the right answer, `seconds` later; handled before the wait | yes |
| hang | no answer for `seconds` (default 3600), then a reset | if `taken` |
| reset_before | TCP reset | no |
| reset_after | TCP reset | yes |
| callback_late, _twice, _out_of_order, _early, _lost, _forged | see `CALLBACK_KINDS` | yes |
| lost, stuck, auth, down | of provider `mail` only: see `mail_post` | |
"""

from __future__ import annotations

import asyncio
import os
import random
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any

from aiohttp import web

from broadcaster.sandbox import replies

REPLY_KINDS = frozenset({"status", "delay", "hang", "reset_before", "reset_after", "late_reply"})
CALLBACK_KINDS = {
    "callback_late": "every callback of the message `seconds` later",
    "callback_twice": "each callback is made twice",
    "callback_out_of_order": "the final status before the earlier ones",
    "callback_early": "the first callback is answered before the send is (Twilio only)",
    "callback_lost": "no callback, though the message arrives",
    "callback_forged": "a wrong signature",
}
MAIL_KINDS = frozenset({"lost", "stuck", "auth", "down"})
OPERATIONS = ("send", "lookup", "any")

_READERS: dict[str, replies.Reader] = {
    "provider": replies.one_of("twilio", "notify", "slack", "push", "mail"),
    "kind": replies.one_of(*sorted(REPLY_KINDS), *CALLBACK_KINDS, *sorted(MAIL_KINDS)),
    "operation": replies.one_of(*OPERATIONS),
    "probability": replies.number(0, 1),
    "count": replies.whole(1, 10_000_000),
    "status": replies.whole(400, 599),
    "retry_after": replies.number(0, 86_400),
    "seconds": replies.number(0, 86_400),
    "taken": replies.flag,
    "match": replies.text,
}

_NONE: Mapping[str, float] = MappingProxyType({})  # one for all: a broadcast keeps millions

Take = Callable[[], Awaitable[web.Response]]
Refuse = Callable[[int], web.Response]


@dataclass(slots=True)
class Fault:
    """One fault. `probability` 1 unless said; `count` None = without end; `match` is a part of the
    address."""

    id: int
    provider: str
    kind: str
    operation: str = "send"
    probability: float = 1.0
    count: int | None = None
    status: int = 500
    retry_after: float | None = None
    seconds: float | None = None
    taken: bool = False
    match: str | None = None
    hits: int = 0


class Faults:
    """The faults in force, in the order they were set: the first that applies wins."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._faults: list[Fault] = []
        self._next_id = 1
        self._random = random.Random(seed)

    def add(self, fields: dict[str, Any]) -> dict[str, Any]:
        """Sets a fault from its JSON object; gives it back with its id. `BadInput` when not understood."""
        read = replies.pick(fields, _READERS, required=("provider", "kind"))
        if read["kind"] in ("delay", "late_reply", "callback_late") and "seconds" not in read:
            raise replies.BadInput(f"field 'seconds' is required for {read['kind']}")
        if (read["provider"] == "mail") is not (read["kind"] in MAIL_KINDS):
            raise replies.BadInput(f"field 'kind': {read['kind']} is no fault of {read['provider']}")
        if read["provider"] == "mail":
            read = _read_mail(fields, read)
        fault = Fault(self._next_id, **read)
        self._next_id += 1
        self._faults.append(fault)
        return asdict(fault)

    def as_json(self) -> list[dict[str, Any]]:
        """Every fault in force, with its `hits`."""
        return [asdict(fault) for fault in self._faults]

    def clear(self, fault_id: int | None = None) -> int:
        """Removes one fault or all; gives how many. All of them gone, the random choices start from the
        seed."""
        before = len(self._faults)
        self._faults = [f for f in self._faults if fault_id is not None and f.id != fault_id]
        if fault_id is None:
            self._random.seed(self._seed)
        return before - len(self._faults)

    def _choose(self, fault: Fault, provider: str, operation: str, address: str) -> bool:
        if fault.provider != provider or fault.operation not in (operation, "any") or fault.count == 0:
            return False
        if fault.match is not None and fault.match not in address:
            return False
        if fault.probability < 1 and self._random.random() >= fault.probability:
            return False
        fault.hits += 1
        if fault.count is not None:
            fault.count -= 1
        return True

    def mail(self, kind: str, operation: str, address: str) -> bool:
        """Whether a mail fault hits this message (or sign-in: `address` is the user)."""
        return any(f.kind == kind and self._choose(f, "mail", operation, address) for f in self._faults)

    def has_mail(self, kind: str, operation: str = "any") -> bool:
        """Whether a mail fault is in force, whomever it hits."""
        return any(f.kind == kind and (operation == "any" or f.operation in (operation, "any")) for f in self._faults)

    def callbacks(self, provider: str, address: str) -> Mapping[str, float]:
        """The callback faults of one message: kind → seconds."""
        if not self._faults:
            return _NONE
        return {
            f.kind: f.seconds or 0.0
            for f in self._faults
            if f.kind in CALLBACK_KINDS and self._choose(f, provider, "send", address)
        }

    async def answer(
        self, request: web.Request, provider: str, operation: str, address: str, take: Take, refuse: Refuse
    ) -> web.Response:
        """Answers a request through the first reply fault that hits it, or plainly with `take()`.

        `refuse(status)` makes an error in the provider's own shape.
        """
        for fault in self._faults:
            if fault.kind in REPLY_KINDS and self._choose(fault, provider, operation, address):
                return await _bend(fault, request, take, refuse)
        return await take()


def _read_mail(fields: dict[str, Any], read: dict[str, Any]) -> dict[str, Any]:
    """A fault of the mail system: of both its halves unless said; closed ports hit everybody, always."""
    known = {"provider", "kind", "operation"} | (set() if read["kind"] == "down" else {"probability", "count", "match"})
    for name in fields:
        if name not in known:
            raise replies.BadInput(f"field {name!r} has no meaning for mail's {read['kind']}")
    return {"operation": "any", **read}


async def _bend(fault: Fault, request: web.Request, take: Take, refuse: Refuse) -> web.Response:
    seconds = fault.seconds or 0.0
    if fault.kind == "status":
        if fault.taken:
            await take()
        response = refuse(fault.status)
        if fault.retry_after is not None:
            # Whole seconds, as all three providers send them (RFC 9110 §10.2.3 delay-seconds).
            response.headers["Retry-After"] = str(max(0, -int(-fault.retry_after // 1)))
        return response
    if fault.kind == "delay":
        await asyncio.sleep(seconds)
        return await take()
    if fault.kind == "late_reply":
        response = await take()
        await asyncio.sleep(seconds)
        return response
    if fault.kind == "reset_after" or (fault.kind == "hang" and fault.taken):
        await take()
    if fault.kind == "hang":
        return await hang(request, fault.seconds)
    return reset(request)


async def hang(request: web.Request, seconds: float | None) -> web.Response:
    """Says nothing for a long while (3600 s unless said), or until the client goes, then resets."""
    waited, limit = 0.0, 3600.0 if seconds is None else seconds
    while waited < limit and request.transport is not None and not request.transport.is_closing():
        await asyncio.sleep(min(0.25, limit - waited))
        waited += 0.25
    return reset(request)


def reset(request: web.Request) -> web.Response:
    """Cuts the TCP connection with a reset; the response that is returned goes nowhere."""
    transport = request.transport
    if transport is not None:
        sock = transport.get_extra_info("socket")
        if sock is not None:
            # Linger 0 makes the close a reset, not an orderly end. The option belongs to the connection, so a
            # duplicate handle will do: uvloop's own handle has no setsockopt.
            with socket.socket(fileno=os.dup(sock.fileno())) as handle:
                handle.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    return web.Response(status=500)
