"""A chunk of envelopes becomes outcomes: concurrently, no sooner than its slot, no later than its lease, never raising.

What lives here: pacing, the lease check, the brake, the last line of defence against bugs. What does not: any provider.
"""

import asyncio
import traceback
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

import structlog

from broadcaster.channels import wire
from broadcaster.domain.channel import AttemptId
from broadcaster.domain.messages import Envelope
from broadcaster.domain.outcomes import Ambiguous, Deferred, Outcome, Rejected, Scope, Throttled

log = structlog.get_logger()

#: Requests in flight for one chunk. 64 was faster than 256 (FACTS, measured).
IN_FLIGHT: Final = 64
#: Shorter waits than this are left to the next reading of the clock.
_TICK: Final = 0.0005
#: Longest wait for a slot before looking whether the envelope was recalled meanwhile.
_LOOK: Final = 0.1

_RECALLED: Final = Deferred("recalled", "Its route was told to wait before it could leave")

Item = TypeVar("Item")


@dataclass(slots=True)
class _Brake:
    """Set by the first answer that makes further requests pointless; holds for everything not yet written."""

    outcome: Rejected | Throttled | None = None
    until: float = 0.0
    pulled: asyncio.Event = field(default_factory=asyncio.Event)

    def pull(self, outcome: Outcome) -> None:
        match outcome:
            case Throttled(retry_after, _):
                until = wire.boottime() + retry_after
                if self.outcome is None or (isinstance(self.outcome, Throttled) and until > self.until):
                    self.outcome, self.until = outcome, until
            case Rejected(Scope.CHANNEL, _, _):
                self.outcome = outcome
            case _:
                return
        self.pulled.set()

    def read(self) -> Outcome | None:
        """The same answer for the next one: what remains of the wait, or the refusal of the channel."""
        if isinstance(self.outcome, Throttled):
            return Throttled(max(0.0, self.until - wire.boottime()), self.outcome.code)
        return self.outcome


async def dispatch(
    chunk: Sequence[tuple[Envelope, Item]],
    send: Callable[[Envelope, Item], Awaitable[Outcome]],
    *,
    in_flight: int = IN_FLIGHT,
    limiter: Callable[[Item], str] = lambda _: "",
) -> AsyncIterator[tuple[AttemptId, Outcome]]:
    """Exactly one outcome per envelope, as it happens; at most ``in_flight`` requests at once.

    ``send`` makes one request per envelope on a ``wire.session``. ``limiter`` names whose limit an item falls under: a
    Throttled or a refusal of the channel stops what is not yet written under the same name. Closing the iterator
    cancels what is under way (those envelopes then have no outcome and count as uncertain).
    """
    waiting = deque(sorted(chunk, key=lambda pair: pair[0].not_before))
    brakes: defaultdict[str, _Brake] = defaultdict(_Brake)
    done: deque[tuple[AttemptId, Outcome]] = deque()
    news = asyncio.Event()

    async def work() -> None:
        passage = _Passage()
        wire.flight.set(passage)
        while waiting:
            envelope, item = waiting.popleft()
            brake = brakes[limiter(item)]
            passage.begin(envelope, brake)
            outcome = await _one(passage, item, send)
            brake.pull(outcome)
            done.append(((envelope.delivery, envelope.attempt), outcome))
            news.set()

    tasks = [asyncio.create_task(work()) for _ in range(min(in_flight, len(chunk)))]
    try:
        for _ in range(len(chunk)):
            if not done:  # woken once for all that came in one turn of the loop
                news.clear()
                await news.wait()
            yield done.popleft()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class _Passage(wire.Flight):
    """What one task sends, one envelope after the other."""

    __slots__ = ("brake", "envelope")
    envelope: Envelope
    brake: _Brake

    def begin(self, envelope: Envelope, brake: _Brake) -> None:
        self.envelope, self.brake, self.written, self.retry_after = envelope, brake, False, None

    def check(self) -> Outcome | None:
        if self.envelope.recalled:
            return _RECALLED
        if wire.boottime() > self.envelope.not_after:
            return Deferred("lease_expired", "The lease ended before the request could be written")
        return self.brake.read()


async def _one(passage: _Passage, item: Item, send: Callable[[Envelope, Item], Awaitable[Outcome]]) -> Outcome:
    try:
        if passage.envelope.not_before - wire.boottime() > _TICK:
            await _slot(passage.envelope, passage.brake)
        if (outcome := passage.check()) is not None:
            return outcome
        return await send(passage.envelope, item)
    except wire.NotWritten as stopped:
        return stopped.outcome
    except Exception as error:  # noqa: BLE001  # whatever it is, the envelope needs its outcome
        if wire.is_transport(error):
            return wire.fault(error, passage.written)
        log.error("send.bug", error=type(error).__name__, where=_where(error), written=passage.written, exc_info=False)
        return Ambiguous("internal_error", "A fault of our own while sending; see the log")


async def _slot(envelope: Envelope, brake: _Brake) -> None:
    """Waits for ``not_before``, unless the brake is pulled or the slot lies behind the lease's end."""
    while (wait := envelope.not_before - wire.boottime()) > _TICK and not envelope.recalled:
        if envelope.not_before > envelope.not_after:
            raise wire.NotWritten(Deferred("lease_expired", "The slot lies after the lease's end"))
        try:
            await asyncio.wait_for(brake.pulled.wait(), min(wait, _LOOK))
        except TimeoutError:
            continue
        return


def _where(error: BaseException) -> list[str]:
    """File, line and function of the innermost frames; never the error's text, which may hold an address."""
    frames = traceback.extract_tb(error.__traceback__)[-4:]
    return [f"{frame.filename.rsplit('/', 1)[-1]}:{frame.lineno} {frame.name}" for frame in frames]
