"""Which route of a channel a message takes: the first in order that is neither paused nor broken.

The routes' standing is in the database, so all processes see the same; what this process has seen of them is counted
in memory and handed in once a second. A breaker moves traffic: it never fails a message, and a critical one does not
wait for it when there is no other way.
"""

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import structlog
from sqlalchemy import Connection

from broadcaster.domain import breaking
from broadcaster.domain.breaking import Cause, Counts
from broadcaster.domain.channel import Channel, ChannelSet
from broadcaster.domain.outcomes import OURS, Accepted, Ambiguous, Deferred, Outcome, Rejected, Scope
from broadcaster.store import routes
from broadcaster.store.batches import Blocked
from broadcaster.store.database import UNAVAILABLE, Database, read_clock

log = structlog.get_logger(__name__)

HAND_IN_SECONDS: Final = 1.0
SPARE_CRITICAL_MS: Final = 60_000  # a critical message is no guinea pig for a route that has only just rested


@dataclass(frozen=True, slots=True)
class Choice:
    """The route to take. ``probe``: it is on trial, with a few messages."""

    channel: Channel
    probe: bool = False


@dataclass(frozen=True, slots=True)
class RouteView:
    """One route for the operator. ``used``: what is sent now takes it. ``until_ms``: ms since the epoch."""

    name: str
    channel: str
    position: int
    used: bool
    trouble: str | None
    until_ms: int | None


@dataclass(frozen=True, slots=True)
class Standings:
    """All routes as they stood at ``now`` (ms since the epoch)."""

    now: int
    by_name: Mapping[str, routes.Standing]

    def of(self, name: str) -> routes.Standing:
        return self.by_name.get(name) or routes.Standing(name)

    def trouble(self, name: str) -> tuple[str, int] | None:
        """Why the route is not used, as a person reads it, and until when (ms since the epoch); None when it is."""
        s = self.of(name)
        if s.paused_until > self.now:
            return s.pause_reason or "paused", s.paused_until
        if s.trips:
            return f"{s.trip_reason}; tried again with a few messages", max(s.open_until, s.probe_until)
        return None

    def usable(self, channel: Channel) -> bool:
        """Neither paused nor broken."""
        s = self.of(channel.route)
        return s.paused_until <= self.now and s.trips == 0

    def choose(self, candidates: Sequence[Channel], avoid: frozenset[str], *, critical: bool) -> Choice | None:
        """The route for a message that was tried in vain on ``avoid``; None: it has to wait."""
        order = sorted(candidates, key=lambda c: c.route in avoid)  # a wish, not a rule: better again than not at all
        for channel in order:
            s = self.of(channel.route)
            if s.paused_until > self.now:
                if not critical and s.trips == 0 and s.paused_until - self.now <= breaking.BRIEF:
                    return None
            elif s.trips == 0:
                return Choice(channel)
            elif max(s.open_until, s.probe_until) + (SPARE_CRITICAL_MS if critical else 0) <= self.now:
                return Choice(channel, probe=True)
        if not critical:
            return None
        return next((Choice(c) for c in order if self.of(c.route).paused_until <= self.now), None)


class Routing:
    """One per process."""

    def __init__(self, database: Database, channels: ChannelSet) -> None:
        self._database = database
        self._channels = channels
        self._seen: dict[str, Counts] = {}
        self._handed_in = time.monotonic()
        self._lock = threading.Lock()
        # With nowhere else to go, a breaker would only hold messages back.
        ways = [channels.routes(first) for first in channels.first()]
        self._watched = frozenset(c.route for routes_of in ways if len(routes_of) > 1 for c in routes_of)

    @staticmethod
    def standings(connection: Connection) -> Standings:
        return Standings(*routes.standings(connection))

    def blocked(self, standings: Standings) -> Blocked:
        """What a claim leaves alone: channels over whose routes nothing can go now."""
        critical, other = [], []
        for channel in self._channels.first():
            candidates = self._channels.routes(channel)
            if standings.choose(candidates, frozenset(), critical=True) is None:
                critical.append(channel.route)
            choice = standings.choose(candidates, frozenset(), critical=False)
            if choice is None or standings.of(choice.channel.route).busy_until > standings.now:
                other.append(channel.route)
        return Blocked(tuple(critical), tuple(other))

    def usable(self, connection: Connection, channel: Channel) -> tuple[str, ...]:
        """Names of the channel's routes that are neither paused nor broken, in order."""
        standings = self.standings(connection)
        return tuple(c.route for c in self._channels.routes(channel) if standings.usable(c))

    def overview(self) -> list[RouteView]:
        """Every route of every channel, in order of preference."""
        with self._database.read() as connection:
            standings = self.standings(connection)
        found = []
        for first in self._channels.first():
            candidates = self._channels.routes(first)
            choice = standings.choose(candidates, frozenset(), critical=False)
            if choice is not None and choice.probe:  # a few messages try it; the rest goes where they would go without
                others = [c for c in candidates if c is not choice.channel]
                choice = standings.choose(others, frozenset(), critical=False) or choice
            for position, channel in enumerate(candidates, 1):
                trouble = standings.trouble(channel.route)
                used = choice is not None and choice.channel is channel
                found.append(RouteView(channel.route, first.traits.name, position, used, *(trouble or (None, None))))
        return found

    def may_probe(self, name: str) -> bool:
        """Whether it is this process that tries the half-open route."""
        with self._database.write() as connection:
            return routes.take_probe(connection, name, read_clock(connection) + breaking.PROBE_TIME)

    # ---- what was seen of them ---------------------------------------------------------------------------------

    def watches(self, route: str) -> bool:
        """Whether it has a breaker."""
        return route in self._watched

    def saw(self, route: str, outcomes: Sequence[Outcome]) -> None:
        """Counts answers to requests."""
        if route not in self._watched:
            return
        good = bad = 0
        for outcome in outcomes:
            match outcome:
                case Accepted() | Rejected(Scope.ADDRESS | Scope.MESSAGE):
                    good += 1
                case Deferred(code) | Ambiguous(code) if code not in OURS:
                    bad += 1
                case _:
                    pass  # throttled, or refused altogether: pauses see to these
        if good or bad:
            self._add(route, Counts(good=good, bad=bad))

    def saw_receipt(self, route: str, *, delivered: bool) -> None:
        """Counts what became of a message that was taken: delivered, or not for a reason of the route's."""
        self._add(route, Counts(delivered=int(delivered), undelivered=int(not delivered)))

    def hand_in(self, *, now: bool = False) -> None:
        """Tells the database what was seen, and lets the breakers judge. At most once a second."""
        with self._lock:
            if not self._seen or (not now and time.monotonic() - self._handed_in < HAND_IN_SECONDS):
                return
            seen, self._seen = self._seen, {}
            self._handed_in = time.monotonic()
        try:
            with self._database.write() as connection:
                routes.count(connection, seen)
                standings = self.standings(connection)
                for name in sorted(seen):
                    self._judge(connection, standings, name)
        except UNAVAILABLE as error:  # told later; what it is called beside must not wait for it
            log.warning("routing.database_unavailable", error=type(error).__name__)
            for name, counts in seen.items():
                self._add(name, counts)

    def _add(self, route: str, counts: Counts) -> None:
        if route not in self._watched:
            return
        with self._lock:
            old = self._seen.get(route, Counts())
            self._seen[route] = replace(
                old,
                good=old.good + counts.good,
                bad=old.bad + counts.bad,
                delivered=old.delivered + counts.delivered,
                undelivered=old.undelivered + counts.undelivered,
            )

    def _judge(self, connection: Connection, standings: Standings, name: str) -> None:
        standing = standings.of(name)
        submits, receipts = routes.counts(connection, name)
        if standing.trips == 0:
            trip = breaking.trips(submits, receipts)
            if trip is not None:
                routes.trip(connection, name, trip.cause, trip.reason)
                log.error("routing.opened", route=name, cause=trip.cause.value, reason=trip.reason)
        elif standing.probe_until > 0 and standing.open_until <= standings.now:
            cause = Cause(standing.tripped_by or Cause.SUBMIT)
            verdict = breaking.closes(cause, submits if cause is Cause.SUBMIT else receipts)
            if verdict is True:
                routes.close(connection, name)
                log.warning("routing.closed", route=name)
            elif verdict is False:
                routes.trip(connection, name, cause, standing.trip_reason or "")
                log.error("routing.opened_again", route=name)
