"""Running a batch: claim, then chunk by chunk mark, send, commit; then give it back.

No transaction is open while a provider is being called. Every write holds the batch's lease first (fencing), except for
handing in what was learnt: that matches the attempt, so even a process that has lost its lease may do it.
"""

import asyncio
import itertools
import math
import random
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final

import structlog
from sqlalchemy import Connection, Row

from broadcaster.domain import retrying, tokens
from broadcaster.domain.breaking import PROBE_SIZE
from broadcaster.domain.channel import Channel, ChannelSet, Lane, LooksUp
from broadcaster.domain.lifecycle import State
from broadcaster.domain.messages import Envelope, Message, Severity
from broadcaster.domain.outcomes import Accepted, Ambiguous, Deferred, Finding, Outcome, Rejected, Scope, Throttled, Unknown
from broadcaster.domain.references import reference
from broadcaster.services import outcomes
from broadcaster.services.flights import Air, Flight, Loop, Result
from broadcaster.services.ratelimit import Booked, RateLimiter
from broadcaster.services.routing import Choice, Routing, Standings
from broadcaster.store import alerts as alert_store
from broadcaster.store import batches, routes
from broadcaster.store import deliveries as store
from broadcaster.store.database import UNAVAILABLE, Database, read_clock

log = structlog.get_logger(__name__)

TROUBLE_MS: Final = 1_000  # that a batch waits after the database's trouble
LEASE_MS: Final = {True: 5_000, False: 30_000}  # critical, other
FRESH_HORIZON: Final = 0.15  # s that a batch's first chunk may be booked ahead: a busy sender is left to whoever is at it
HORIZON: Final = 0.5  # s that any other may
PATIENCE: Final = 2.0  # s that a batch waits to book; one that would wait longer is put back
CHUNK_SECONDS: Final = 0.5  # a chunk on a limited route is at most this long
#: Of a critical batch both together stay below CRITICAL_MARK_TO_WIRE.
CRITICAL_HORIZON: Final = 0.4
CRITICAL_CHUNK_SECONDS: Final = 0.5
OVERLAP: Final = 0.1  # s: the next chunk is marked while one flies, unless that one's turn comes later than this
LEAD: Final = 0.01  # s that marking may take until a chunk's turns begin; what is critical waits for nothing
PAUSE_LOOK: Final = 0.05  # s between looks, while messages wait for their turn, whether their route was told to wait
#: A provider that answers slowly gets more chunks at once, up to WIDEST, until the process sends AIM_RATE a second.
AIM_RATE: Final = 2_000
WIDEST: Final = 4
LONGEST_ID: Final = 1_000  # characters of a provider's id
WIDE_CHUNK: Final = 64  # smaller ones tell nothing of it
SPLIT_LOSSES: Final = 5  # leases lost in a row: from then on each of its deliveries is a batch of its own
POISON_LOSSES: Final = 8
LOOKUPS_AT_ONCE: Final = 20
LOOKUP_HORIZON: Final = {True: 5.0, False: 0.5}  # s a look-up may wait for its turn: critical ones go first
NO_ROUTE_WAIT: Final = 1.0  # s
REFUSED_PAUSE: Final = (15.0, 60.0, 300.0)  # s a route rests after refusing our credentials, by refusals in a row


@dataclass(frozen=True, slots=True)
class PutBack:
    """The batch cannot go on for so many seconds: its route is booked, or (None) no route is usable."""

    seconds: float
    route: str | None


@dataclass(slots=True)
class _Run:
    """One batch being worked on.

    ``ready`` is what of it may leave, as it was read; ``over``: nothing more of it does. ``abandoned``: a former owner may
    have left something. ``untidy``: time, an operator or a doubt has a say first. ``standings``: as just read.
    """

    claim: batches.Claim
    channel: Channel
    alert: Row[Any]
    message: Message
    ready: deque[store.Ready] = field(default_factory=deque)
    standings: Standings | None = None
    abandoned: bool = False
    untidy: bool = False
    fresh: bool = True  # it has booked nothing yet
    over: bool = False
    not_before: float = 0.0  # CLOCK_BOOTTIME seconds: its rate limit is booked until then
    ended: bool = False  # the alert was cancelled, or its time ran out
    put_back: PutBack | None = None


class LeaseLost(Exception):
    """Somebody else has the batch now: stop, without writing."""


class Deliverer:
    """Runs batches, one at a time per process. ``keeper`` renews the current lease from another thread."""

    def __init__(
        self,
        database: Database,
        channels: ChannelSet,
        limiter: RateLimiter,
        loop: Loop,
        *,
        owner: str,
        secret: bytes,
        public_url: str,
        routing: Routing | None = None,
    ) -> None:
        self._database = database
        self._channels = channels
        self._limiter = limiter
        self._loop = loop
        self._owner = owner
        self._secret = secret
        self._public_url = public_url
        self._routing = routing or Routing(database, channels)
        self._current: tuple[batches.Claim, float] | None = None
        self._widths: dict[str, int] = {}  # by route
        self._air: Air | None = None
        self._stopping = threading.Event()
        self.consumed = 0

    def run_one(
        self,
        *,
        lowest: int,
        grace: int = 0,
        by_task: bool,
        until: float = math.inf,
        give_way: Callable[[], bool] = lambda: False,
    ) -> bool:
        """Claims the most urgent due batch and runs it. False: there was none, or this process is stopping.

        ``until`` (``time.monotonic``): begins no chunk after it; the rest of the batch stays due. ``give_way``: asked
        between chunks; True leaves the rest for later, because something more urgent waits.
        """
        if self._stopping.is_set():
            return False
        if self._database.dialect == "sqlite" and not self._anything_due():  # its one write lock is not taken in vain
            return False
        leases = (LEASE_MS[True], LEASE_MS[False])
        wanted: dict[str, Any] = {"leases": leases, "lowest": lowest, "grace": grace, "by_task": by_task}
        at, blocked = time.clock_gettime(time.CLOCK_BOOTTIME), batches.NOTHING_BLOCKED
        try:
            with self._database.write() as connection:
                standings = self._routing.standings(connection)
                blocked = self._routing.blocked(standings)
                claim = batches.claim(connection, self._owner, blocked=blocked, **wanted)
                if claim is None:
                    return False
                run = self._begin(connection, claim, standings)
        except UNAVAILABLE:
            raise
        except Exception:  # what cannot even be read must not stand before everything else: it waits for a lease
            with self._database.write() as connection:
                batches.claim(connection, self._owner, blocked=blocked, **wanted)
            raise
        with self._leased(claim, at):
            self._run(run, until, give_way)
        self.consumed += 1
        return True

    def stop(self) -> None:
        """No further chunk is begun. Of those in the air, what was written is waited for and committed; the rest stays."""
        self._stopping.set()
        air = self._air
        if air is not None:
            air.recall()

    def keep_lease(self) -> None:
        """Renews the running batch's lease when a third of it is gone. Called about every second by the keeper."""
        current = self._current
        if current is None:
            return
        claim, renewed = current
        lease = LEASE_MS[claim.priority == 0]
        if time.clock_gettime(time.CLOCK_BOOTTIME) - renewed < lease / 3000:
            return
        at = time.clock_gettime(time.CLOCK_BOOTTIME)
        with self._database.write() as connection:
            if not batches.renew(connection, claim, self._owner, lease):
                return
        if self._current is not None and self._current[0] is claim:
            self._current = (claim, at)

    # ---- one batch ---------------------------------------------------------------------------------------------

    @contextmanager
    def _leased(self, claim: batches.Claim, at: float) -> Iterator[None]:
        """``at``: CLOCK_BOOTTIME before the claim."""
        self._current = (claim, at)
        try:
            yield
        except LeaseLost:
            log.warning("delivering.lease_lost", batch=claim.id)
        except store.LostRace:  # somebody changed a row between the look and the write: look again
            log.info("delivering.lost_race", batch=claim.id)
            self._let_go(claim)
        except UNAVAILABLE:
            self._let_go(claim, lost=False)
            raise
        finally:  # after any other fault the lease runs out by itself: the batch must not stand before all others at once
            self._current = None

    def _let_go(self, claim: batches.Claim, *, lost: bool = True) -> None:
        """Ends the lease, so that nobody waits for it or takes us for frozen. ``lost``: it counts as a death would.

        The database's trouble is no deed of the batch's: it does not count, and others have their turn first.
        """
        try:
            with self._database.write() as connection:
                if batches.hold(connection, claim, self._owner):
                    if lost:
                        batches.release_owner(connection, self._owner)
                    else:
                        batches.put_off(connection, claim, self._owner, TROUBLE_MS)
        except UNAVAILABLE:
            log.warning("delivering.lease_left_to_time", batch=claim.id)

    def _lease_end(self, claim: batches.Claim) -> float:
        """CLOCK_BOOTTIME seconds: it goes on while the machine sleeps, as the database's clock does."""
        assert self._current is not None
        return self._current[1] + LEASE_MS[claim.priority == 0] / 1000

    def _anything_due(self) -> bool:
        with self._database.read() as connection:
            return batches.any_due(connection, self._routing.blocked(self._routing.standings(connection)))

    def _begin(self, connection: Connection, claim: batches.Claim, standings: Standings) -> _Run:
        """What the batch is about and what of it may leave now, read while it is claimed."""
        alert = alert_store.by_id(connection, claim.alert_id)
        channel = self._channels.get(claim.channel, sandbox=alert.sandbox)
        run = _Run(claim, channel, alert, message_of(alert))
        over = alert.cancelled_at is not None or alert.now >= alert.expires_at
        run.abandoned = claim.sending > 0 or claim.losses >= SPLIT_LOSSES
        ready = store.ready(connection, claim.id, alert.now)
        run.untidy = over or run.abandoned or ready is None
        if ready is not None and not run.untidy:
            run.ready.extend(ready)
            run.standings = standings
        return run

    def _run(self, run: _Run, until: float, give_way: Callable[[], bool]) -> None:
        """One pass over what is due. What becomes due meanwhile makes the batch due again (``_give_back``)."""
        claim, channel, alert = run.claim, run.channel, run.alert
        if not (run.abandoned and self._recover(claim, channel, alert)):
            if run.untidy:
                self._tidy(claim, channel, alert)
                with self._database.read() as connection:
                    run.ready.extend(store.ready(connection, claim.id, read_clock(connection), tidy=True) or ())
            self._send_all(run, until, give_way)
            if run.untidy:
                self._look_up_due(claim, channel, alert, run.message)
        self._give_back(claim, run.put_back)

    def _recover(self, claim: batches.Claim, channel: Channel, alert: Row[Any]) -> bool:
        """Rows that a former owner left in ``sending`` may have been sent. True: it was split, nothing is left to send."""
        with self._fenced(claim) as connection:
            now = read_clock(connection)
            ctx = self._context(connection, channel, alert, now)
            left = store.in_state(connection, claim.id, [State.SENDING])
            store.apply(connection, [outcomes.doubt(r, ctx, "lease_expired", "its sender vanished") for r in left], now)
            if left:
                log.warning("delivering.recovered", batch=claim.id, uncertain=len(left))
            if claim.losses >= SPLIT_LOSSES and claim.size > 1:
                self._split(connection, claim)
                return True
            if claim.losses >= POISON_LOSSES:
                rows = store.in_state(connection, claim.id, [State.QUEUED, State.RETRYING])
                store.keep_attempts(connection, rows, now)
                failed = [outcomes.mark(r, r.route or channel.route, now) for r in rows]
                store.apply(connection, failed, now)
                rows = [replace(c.row, state=State.SENDING, attempt=c.attempt, route=c.route) for c in failed]
                reason = "its batch's workers died again and again"
                rejected = Rejected(Scope.MESSAGE, "poison", reason)
                changes = [outcomes.after_outcome(r, r.attempt, rejected, ctx) for r in rows]
                store.apply(connection, [c for c in changes if c], now)
        return False

    def _split(self, connection: Connection, claim: batches.Claim) -> None:
        """One delivery in it may kill whoever touches it: alone, it can take no others with it."""
        rows = store.in_state(connection, claim.id, [State.QUEUED, State.RETRYING, State.UNCERTAIN])
        rows = store.lock(connection, [r.id for r in rows])
        states = [(r.state, r.next_at) for r in rows]
        for row, batch in zip(rows, batches.split(connection, claim, states, losses=SPLIT_LOSSES), strict=True):
            store.move(connection, row, batch)
        log.error("delivering.batch_split", batch=claim.id, deliveries=len(rows), losses=claim.losses)

    def _tidy(self, claim: batches.Claim, channel: Channel, alert: Row[Any]) -> None:
        """What time or an operator has decided: expired, cancelled, no receipt, no certainty."""
        with self._fenced(claim) as connection:
            fresh = alert_store.hold(connection, alert.id)
            now = read_clock(connection)
            ctx = self._context(connection, channel, alert, now)
            changes: list[store.Change | None] = []
            if fresh.cancelled_at is not None or now >= alert.expires_at:
                end = (State.CANCELLED, "cancelled", "cancelled before it left")
                if fresh.cancelled_at is None:
                    end = (State.EXPIRED, "expired", "its time ran out before it left")
                rows = store.in_state(connection, claim.id, [State.QUEUED, State.RETRYING])
                changes += [outcomes.unsent(r, *end) for r in rows]
            rows = store.due(connection, claim.id, [State.ACCEPTED], now, claim.size)
            changes += [outcomes.no_receipt(r) for r in rows]
            rows = store.due(connection, claim.id, [State.UNCERTAIN], now, claim.size)
            changes += [outcomes.without_look_up(r, ctx) for r in rows]
            made = [c for c in changes if c is not None]
            for change in made:
                if change.code == outcomes.DECLARED and change.new is State.RETRYING:
                    log.error("delivering.declared_resend", delivery=change.row.id, attempt=change.row.attempt)
            store.apply(connection, made, now)

    # ---- sending -----------------------------------------------------------------------------------------------

    def _send_all(self, run: _Run, until: float, give_way: Callable[[], bool]) -> None:
        """Chunk after chunk, the next one marked while one is in the air. What is in the air always lands."""
        width = self._widths.get(run.channel.route, 1)
        self._air = air = Air(self._loop, run.message, width)
        try:
            while True:
                while run.ready and not run.over and not self._stopping.is_set() and self._room(run, air, width):
                    flight = self._next_chunk(run)
                    if flight is not None:
                        air.take_off(flight)
                    if self._stopping.is_set() or run.ended:
                        air.recall()
                    run.over = run.over or air.broken or time.monotonic() >= until or (run.claim.priority > 0 and give_way())
                if air.flights:
                    self._land(run, air)
                elif run.ready and not run.over and not self._stopping.is_set():  # it may not book yet
                    self._stopping.wait(min(PAUSE_LOOK, max(0.0, self._turn_in(run))))
                    run.over = time.monotonic() >= until or give_way()
                else:
                    break
        finally:
            while air.flights:
                self._land(run, air)
            self._air = None
        air.check()

    @staticmethod
    def _turn_in(run: _Run) -> float:
        """s until its next chunk may be booked."""
        return run.not_before - time.clock_gettime(time.CLOCK_BOOTTIME)

    def _room(self, run: _Run, air: Air, width: int) -> bool:
        """Whether another chunk may be marked: not long before the last one's turns are over, since it would only wait too.

        Of chunks that are not paced, ``width`` fly and one waits; of paced ones the rate limit says how many.
        """
        flights, now = air.flights, time.clock_gettime(time.CLOCK_BOOTTIME)
        if run.not_before > now or any(f.paced and f.turns_end - now > OVERLAP for f in flights):
            return False
        return sum(not f.paced for f in flights) <= width and len(flights) <= WIDEST

    def _land(self, run: _Run, air: Air) -> None:
        """Commits the next outcomes; recalls what is in the air on a route that was told to wait, here or elsewhere."""
        paced = [f for f in air.flights if f.paced]
        turns = [f.turns_end - OVERLAP - time.clock_gettime(time.CLOCK_BOOTTIME) for f in paced] + [self._turn_in(run)]
        landed = air.outcomes(min([PAUSE_LOOK, *(t for t in turns if t > 0)]) if paced else None)
        if landed is None:
            for other in paced:
                if self._limiter.paused(other.keys):
                    other.recall()
            return
        flight, group = landed
        end = self._lease_end(run.claim)
        for other in air.flights:
            if other.channel.traits.duplicates_collapse:  # of others the wait is bounded: look-ups count on it
                other.extend(end)
        if group:
            told = self._rest(flight, group)
            for other in air.flights:
                if other is not flight and not told.isdisjoint(other.keys):
                    other.recall()
            self._commit(flight, run.alert, group)
        elif len(flight.chunk) >= WIDE_CHUNK and not flight.paced:
            self._widths[flight.channel.route] = min(WIDEST, 1 + int(flight.seconds * AIM_RATE / len(flight.chunk)))

    def _next_chunk(self, run: _Run) -> Flight | None:
        """The next chunk, marked. None: nothing of it may leave, or it waits: here (``run.not_before``) or put back."""
        claim, critical = run.claim, run.claim.priority == 0
        standings, run.standings = run.standings or self._standings(), None
        choice, rows = self._choose(standings, run.channel, run.ready, critical=critical)
        if rows and choice is not None and choice.probe and not self._routing.may_probe(choice.channel.route):
            # Somebody else tries it: as if it were still resting.
            choice, rows = self._choose(self._standings(), run.channel, run.ready, critical=critical)
        if choice is None:
            run.over, run.put_back = True, PutBack(NO_ROUTE_WAIT, None)
            return None
        channel = choice.channel
        rows = rows[: PROBE_SIZE if choice.probe else _chunk_size(channel, critical=critical)]
        envelopes = [self._envelope(channel, row.id, row.attempt + 1, row.address) for row in rows]
        contents = [channel.render(run.message, e) for e in envelopes]
        lanes = [channel.lanes(e, channel.quote(c)) for e, c in zip(envelopes, contents, strict=True)]
        size = _fitting(lanes, CRITICAL_CHUNK_SECONDS if critical else CHUNK_SECONDS)
        rows, envelopes, contents, lanes = rows[:size], envelopes[:size], contents[:size], lanes[:size]
        horizon, lead = (CRITICAL_HORIZON, 0.0) if critical else (FRESH_HORIZON if run.fresh else HORIZON, LEAD)
        answer = self._limiter.reserve(lanes, horizon, lead=lead, urgent=critical)
        if isinstance(answer, Booked):
            wait = max(0.02, answer.wait - HORIZON / 2)
            if critical or wait > PATIENCE or self._others_wait(run, standings):
                run.over, run.put_back = True, PutBack(max(0.05, wait), channel.route)
            else:
                run.not_before = time.clock_gettime(time.CLOCK_BOOTTIME) + wait
            return None
        run.fresh = False
        start = time.clock_gettime(time.CLOCK_BOOTTIME)
        marked = self._mark(run, channel, rows)
        end = self._lease_end(claim)
        if not channel.traits.duplicates_collapse:
            end = min(end, start + (retrying.CRITICAL_MARK_TO_WIRE if critical else retrying.MARK_TO_WIRE))
        for envelope, delay in zip(envelopes, answer.delays, strict=True):
            envelope.not_before, envelope.not_after = start + delay, end
        chunk = [pair for pair in zip(envelopes, contents, strict=True) if pair[0].delivery in marked]
        if not chunk:
            return None
        return Flight(
            channel,
            chunk,
            dict(zip([r.id for r in rows], lanes, strict=True)),
            paced=max(answer.delays) > OVERLAP,
            turns_end=start + max(answer.delays),
            refused=standings.of(channel.route).refusals > 0,
        )

    def _others_wait(self, run: _Run, standings: Standings) -> bool:
        """Whether anything is due that needs another sender than this batch: no process waits for one meanwhile."""
        blocked = self._routing.blocked(standings)
        with self._database.glance() as connection:
            mine = run.claim.route
            return batches.any_due(connection, batches.Blocked((*blocked.critical, mine), (*blocked.other, mine)))

    def _standings(self) -> Standings:
        with self._database.glance() as connection:
            return self._routing.standings(connection)

    def _choose(
        self, standings: Standings, channel: Channel, rows: Sequence[store.Ready], *, critical: bool
    ) -> tuple[Choice | None, list[store.Ready]]:
        """The route of the next chunk, and the rows of these that take it: most have tried none in vain."""
        candidates = self._channels.routes(channel)
        if rows[0].avoid is None and (choice := standings.choose(candidates, frozenset(), critical=critical)):
            chunk = itertools.islice(rows, choice.channel.traits.chunk)  # the rest need not be looked through
            return choice, list(itertools.takewhile(lambda r: r.avoid is None, chunk))
        found: dict[str | None, Choice | None] = {}
        for avoid in dict.fromkeys(r.avoid for r in rows):
            found[avoid] = standings.choose(candidates, frozenset((avoid or "").split(",")), critical=critical)
        first = next((choice for choice in found.values() if choice is not None), None)
        if first is None:
            return None, list(rows)
        return first, [r for r in rows if found[r.avoid] == first]

    def _envelope(self, channel: Channel, delivery: int, attempt: int, address: str) -> Envelope:
        token = tokens.sign(self._secret, "receipt", delivery, attempt)
        return Envelope(
            delivery=delivery,
            attempt=attempt,
            address=address,
            reference=reference(delivery),
            link=f"{self._public_url}/m/{tokens.sign(self._secret, 'message', delivery)}",
            receipt_url=f"{self._public_url}/api/v1/receipts/{channel.traits.name}?d={token}",
        )

    def _mark(self, run: _Run, channel: Channel, rows: Sequence[store.Ready]) -> set[int]:
        """Marks the chunk as ``sending`` and commits. The ids that were marked: others changed, or must not be sent."""
        gone = {r.id for r in rows}
        run.ready = deque(r for r in run.ready if r.id not in gone)
        first = [r.id for r in rows if r.attempt == 0 and r.usable]
        marked: set[int] = set()
        if first:
            with self._database.once() as connection:
                claim = run.claim
                found = store.mark_first(connection, claim.id, claim.fence, self._owner, first, channel.route)
            if found is None:
                raise LeaseLost
            if not found.going:
                self._end(run)
                return set()
            marked = found.ids
        rest = [r for r in rows if r.id not in marked]
        if rest:  # tried before, or changed since they were read: cancelled, proved to have arrived, address disabled
            try:
                marked |= self._mark_rest(run, channel, rest)
            except store.LostRace:  # certainly not marked. Any other fault leaves that open: the batch must be recovered
                if not marked:
                    raise
                log.info("delivering.marked_in_part", batch=run.claim.id)  # what is marked leaves; the rest stays due
        return marked

    def _mark_rest(self, run: _Run, channel: Channel, rows: Sequence[store.Ready]) -> set[int]:
        with self._database.write() as connection:
            now = self._going(connection, run)
            if now is None:
                return set()
            lately = store.disabled(connection, [r.contact_id for r in rows])
            rows = [r._replace(usable=False) if r.contact_id in lately else r for r in rows]
            return self._mark_each(connection, channel, rows, now)

    def _going(self, connection: Connection, run: _Run) -> int | None:
        """Fenced, as in ``_fenced``: the time. None when the alert is over; then nothing more of the batch leaves."""
        held = batches.hold_with_alert(connection, run.claim, self._owner)
        if held is None:
            raise LeaseLost
        cancelled_at, expires_at = held
        now = read_clock(connection)
        if cancelled_at is None and now < expires_at:
            return now
        self._end(run)
        return None

    @staticmethod
    def _end(run: _Run) -> None:
        """The alert was cancelled or its time ran out."""
        run.ready.clear()
        run.ended = True

    @staticmethod
    def _mark_each(connection: Connection, channel: Channel, rows: Sequence[store.Ready], now: int) -> set[int]:
        """The same for rows that are looked at one by one: they may have changed, or were tried before."""
        if not rows:
            return set()
        still = {r.id: r for r in store.lock(connection, [r.id for r in rows])}
        same = [r for r in rows if still[r.id].state == r.state and still[r.id].attempt == r.attempt]
        reason = "the address was taken out of use"
        skipped = [outcomes.unsent(still[r.id], State.SKIPPED, "disabled", reason) for r in same if not r.usable]
        going = [still[r.id] for r in same if r.usable]
        store.keep_attempts(connection, going, now)
        changes = [*(c for c in skipped if c), *(outcomes.mark(r, channel.route, now) for r in going)]
        store.apply(connection, changes, now)
        return {r.id for r in going}

    def _rest(self, flight: Flight, group: Sequence[Result]) -> set[str]:
        """Pauses for everybody what the provider told to wait: the whole route, or one lane of it (one push service).

        Returns what it paused.
        """
        channel = flight.channel
        waits: dict[str, float] = {}
        for (delivery, _), outcome in group:
            if isinstance(outcome, Throttled):
                for key in [lane.key for lane in flight.lanes[delivery]] or [channel.route]:
                    waits[key] = max(outcome.retry_after, waits.get(key, 0.0))
        refused = next((o for _, o in group if isinstance(o, Rejected) and o.scope is Scope.CHANNEL), None)
        if not waits and refused is None:
            return set()
        for key, seconds in waits.items():
            self._limiter.pause([key], seconds)

        def write(connection: Connection) -> None:
            now = read_clock(connection)
            for key, seconds in sorted(waits.items()):
                routes.pause(connection, key, now + int(seconds * 1000), "told to slow down", refused=False)
            if refused is not None:
                times = routes.refusals(connection, channel.route)
                seconds = REFUSED_PAUSE[min(times, len(REFUSED_PAUSE) - 1)]
                reason = f"{refused.code}: {refused.reason}"
                routes.pause(connection, channel.route, now + int(seconds * 1000), reason, refused=True)
                log.critical("delivering.route_refused", route=channel.route, code=refused.code, reason=refused.reason)

        self._persist(write)
        return {*waits, *([channel.route] if refused is not None else [])}

    def _commit(self, flight: Flight, alert: Row[Any], group: Sequence[Result]) -> None:
        """Writes outcomes down. Does not hold the lease: what was learnt is handed in whoever owns the batch now."""
        channel = flight.channel
        hopeless = self._hopeless(channel.route, group)
        self._routing.saw(channel.route, [outcome for (delivery, _), outcome in group if delivery not in hopeless])
        group = [(attempt, _plain(outcome)) for attempt, outcome in group]
        taken = [(*attempt, o.provider_id, o.cost) for attempt, o in group if isinstance(o, Accepted)]
        moved: set[int] = set()

        def accept(connection: Connection) -> None:
            nonlocal moved
            deadline = int(channel.traits.receipt_deadline * 1000) if channel.traits.gives_receipts else None
            moved = store.accept(connection, taken, deadline)

        if taken:
            self._persist(accept, self._database.once)
            if flight.refused:
                self._persist(lambda connection: routes.works_again(connection, channel.route))
        left = [result for result in group if result[0][0] not in moved]
        if left:  # a transaction of its own: rows first, then their batch, as receipts lock them
            self._persist(lambda connection: self._commit_each(connection, channel, alert, left))

    def _hopeless(self, route: str, group: Sequence[Result]) -> set[int]:
        """Deliveries that failed here again, after this route and another had been tried.

        Whatever fails wherever it is sent says nothing new of a route: two numbers at which every supplier chokes, tried
        again and again, must not close all of them for everybody.
        """
        failed = [delivery for (delivery, n), outcome in group if n > 2 and isinstance(outcome, Deferred | Ambiguous)]
        if not failed or not self._routing.watches(route):
            return set()
        try:
            with self._database.glance() as connection:
                return store.tried_here_and_beside(connection, failed, route)
        except UNAVAILABLE:  # what was learnt must be written down all the same
            return set()

    def _commit_each(self, connection: Connection, channel: Channel, alert: Row[Any], group: Sequence[Result]) -> None:
        """Outcomes that need a look at their row: all but an acceptance that comes first."""
        rows = {r.id: r for r in store.lock(connection, [delivery for (delivery, _), _ in group])}
        now = read_clock(connection)
        ctx = self._context(connection, channel, alert, now)
        changes = [
            outcomes.after_outcome(rows[delivery], attempt, outcome, replace(ctx, jitter=random.random()))
            for (delivery, attempt), outcome in group
        ]
        store.apply(connection, [c for c in changes if c is not None], now)
        for (delivery, attempt), outcome in group:
            if isinstance(outcome, Accepted) and attempt != rows[delivery].attempt:
                store.note_attempt(connection, delivery, attempt, provider_id=outcome.provider_id, cost=outcome.cost)
        bad = [
            rows[delivery].contact_id for (delivery, _), o in group if isinstance(o, Rejected) and o.scope is Scope.ADDRESS
        ]
        if bad:
            store.disable_contacts(connection, bad, "refused by the provider", now)

    # ---- finding out -------------------------------------------------------------------------------------------

    def _look_up_due(self, claim: batches.Claim, channel: Channel, alert: Row[Any], message: Message) -> None:
        """Asks the provider, each on its own route, about uncertain deliveries whose time has come."""
        if self._stopping.is_set():
            return
        with self._database.read() as connection:
            rows = store.due(connection, claim.id, [State.UNCERTAIN], read_clock(connection), LOOKUPS_AT_ONCE)
            addresses = store.addresses(connection, [r.contact_id for r in rows])
            earlier = store.earlier_ids(connection, rows)
        by_route: dict[str, list[store.DeliveryRow]] = {}
        for row in rows:
            by_route.setdefault(row.route or channel.route, []).append(row)
        channels = {c.route: c for c in self._channels.routes(channel)}
        for name, mine in sorted(by_route.items()):
            route = channels.get(name)
            if route is None:
                self._found([(r, Unknown("its route is no longer configured")) for r in mine], channel, alert)
            elif isinstance(route, LooksUp):
                envelopes = {
                    r.id: replace(
                        self._envelope(route, r.id, r.attempt, addresses[r.contact_id][0]),
                        earlier=earlier.get(r.id, ()),
                    )
                    for r in mine
                }
                self._ask(claim, route, alert, message, mine, envelopes)

    def _ask(
        self,
        claim: batches.Claim,
        channel: Channel,
        alert: Row[Any],
        message: Message,
        rows: Sequence[store.DeliveryRow],
        envelopes: dict[int, Envelope],
    ) -> None:
        """One look-up a row, at the pace that the provider's lists allow."""
        assert isinstance(channel, LooksUp)
        looks_up: LooksUp = channel
        lane = Lane(f"lookup:{channel.route}", channel.lookup_rate, 1)
        urgent = claim.priority == 0
        pace = self._limiter.reserve([[lane]] * len(rows), LOOKUP_HORIZON[urgent], urgent=urgent)
        if isinstance(pace, Booked):
            self._later(rows, pace.wait)
            return

        async def ask(row: store.DeliveryRow, delay: float) -> tuple[store.DeliveryRow, Finding]:
            await asyncio.sleep(delay)
            envelope = envelopes[row.id]
            return row, await looks_up.look_up(envelope, channel.render(message, envelope), row.sent_at or 0)

        async def ask_all() -> list[tuple[store.DeliveryRow, Finding]]:
            return await asyncio.gather(*(ask(r, delay) for r, delay in zip(rows, pace.delays, strict=True)))

        found = self._loop.submit(ask_all()).result()
        self._found(found, channel, alert)
        log.info("delivering.looked_up", batch=claim.id, findings=Counter(type(f).__name__ for _, f in found))

    def _found(self, found: Sequence[tuple[store.DeliveryRow, Finding]], channel: Channel, alert: Row[Any]) -> None:
        def write(connection: Connection) -> None:
            now = read_clock(connection)
            ctx = self._context(connection, channel, alert, now)
            locked = {r.id: r for r in store.lock(connection, [r.id for r, _ in found])}
            same = [(locked[r.id], finding) for r, finding in found if locked[r.id].attempt == r.attempt]
            repeats = store.times_ended_as(connection, [row for row, _ in same], outcomes.ABSENT)
            changes = [outcomes.after_finding(row, finding, ctx, repeats.get(row.id, 0)) for row, finding in same]
            store.apply(connection, [c for c in changes if c is not None], now)

        self._persist(write)

    def _later(self, rows: Sequence[store.DeliveryRow], seconds: float) -> None:
        """The look-ups' turn has not come."""

        def write(connection: Connection) -> None:
            now = read_clock(connection)
            locked = store.lock(connection, [r.id for r in rows])
            still = [r for r in locked if r.state is State.UNCERTAIN]
            store.apply(connection, [outcomes.postponed(r, now + int(seconds * 1000)) for r in still], now)

        self._persist(write)

    # ---- books -------------------------------------------------------------------------------------------------

    def _give_back(self, claim: batches.Claim, put_back: PutBack | None) -> None:
        def write(connection: Connection) -> None:
            # Held first: a receipt that makes something due again either is seen here or waits, and sets it afterwards.
            if not batches.hold(connection, claim, self._owner):
                raise LeaseLost
            due = store.next_due(connection, claim.id)
            if put_back is not None and due is not None:
                now, wait = read_clock(connection), int(put_back.seconds * 1000)
                if claim.priority == 0 or put_back.route is None:
                    due = max(due, now + wait)
                else:
                    routes.book(connection, put_back.route, now + wait)
            batches.give_back(connection, claim, self._owner, due)

        self._persist(write)

    @contextmanager
    def _fenced(self, claim: batches.Claim) -> Iterator[Connection]:
        """A write transaction in which the lease is ours and stays so. Raises LeaseLost."""
        with self._database.write() as connection:
            if not batches.hold(connection, claim, self._owner):
                raise LeaseLost
            yield connection

    def _persist(
        self,
        write: Callable[[Connection], None],
        transaction: Callable[[], AbstractContextManager[Connection]] | None = None,
    ) -> None:
        """Runs ``write`` in a transaction until the database takes it: what a provider told us must not be lost."""
        wait = 0.05
        while True:
            try:
                with (transaction or self._database.write)() as connection:
                    write(connection)
                return
            except (*UNAVAILABLE, store.LostRace) as error:
                log.warning("delivering.database_busy", error=type(error).__name__, again_in=wait)
                time.sleep(wait)  # a back-off, in a thread of its own; the loop goes on
                wait = min(wait * 2, 2.0)

    def _context(self, connection: Connection, channel: Channel, alert: Row[Any], now: int) -> outcomes.Context:
        first = self._channels.get(channel.traits.name, sandbox=alert.sandbox)
        routes_of = self._channels.routes(first)
        usable = self._routing.usable(connection, first) if len(routes_of) > 1 else ()
        return outcomes.Context(
            channel.traits,
            now,
            alert.expires_at,
            critical=alert.priority == 0,
            routes=tuple(c.route for c in routes_of),
            usable=usable,
        )


def message_of(alert: Row[Any]) -> Message:
    """The alert's words, as channels take them."""
    return Message(
        alert=alert.uid,
        title=alert.title,
        body=alert.body,
        severity=Severity(alert.severity),
        drill=alert.drill,
        source=alert.source,
        sent_at=alert.created_at,
        expires_at=alert.expires_at,
    )


def _chunk_size(channel: Channel, *, critical: bool) -> int:
    rate = channel.traits.rate
    seconds = CRITICAL_CHUNK_SECONDS if critical else CHUNK_SECONDS
    return channel.traits.chunk if rate is None else max(1, min(channel.traits.chunk, int(rate * seconds)))


def _fitting(lanes: Sequence[Sequence[Lane]], seconds: float) -> int:
    """How many of these messages leave within ``seconds``, one at least: a text of four segments takes four turns."""
    used: Counter[str] = Counter()
    for n, message in enumerate(lanes):
        for lane in message:
            used[lane.key] += lane.units / lane.rate  # type: ignore[assignment] # seconds
        if n and any(used[lane.key] > seconds for lane in message):
            return n
    return len(lanes)


def _plain(outcome: Outcome) -> Outcome:
    """A provider's id is a stranger's text: one that no database can keep is not kept, and the acceptance is."""
    if isinstance(outcome, Accepted) and outcome.provider_id is not None:
        name = outcome.provider_id
        if len(name) > LONGEST_ID or not (name.isascii() and name.isprintable()):
            return Accepted(None, outcome.cost)
    return outcome
