"""One rate limit across all workers, per lane (provider account and sender, Slack channel, push service).

A reservation books time: a chunk of messages gets the instants at which each may leave, spaced evenly, so the rate
holds in every second and not only on average. The book is in Redis (one script, atomic). What is urgent and finds the
lane booked keeps it for itself for as long as it takes to come back. Without Redis each process keeps to its share, rate
divided by live processes; both start empty, so a change between them never bursts.
"""

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import structlog
from redis import Redis
from redis.exceptions import RedisError

from broadcaster.domain.channel import Lane

log = structlog.get_logger(__name__)

REDIS_SECONDS: Final = 0.05  # a limiter that is slower than this counts as lost
_RETRY_LOST_AFTER: Final = 1.0

# KEYS: lanes, then as many keys that say that a lane is kept for what is urgent, and as many that it was told to wait. ARGV:
# horizon and lead in us, 1 for urgent, then per lane the us to book. All lanes are booked, or none.
# Returns {wait}, us until no lane is booked beyond the horizon or kept, or {0, now, start, start, ...}, us since the epoch.
_SCRIPT: Final = """
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local n, lead, urgent, minute = #KEYS / 3, tonumber(ARGV[2]), ARGV[3] == '1', 60000000
local starts, worst, kept = {}, 0, 0
for i = 1, n do
  local free = tonumber(redis.call('GET', KEYS[i]) or '0')
  -- Nobody books so far ahead: the clock was set back.
  if free > now + minute and redis.call('EXISTS', KEYS[2 * n + i]) == 0 then free = 0 end
  if free < now + lead then free = now + lead end
  starts[i] = free
  if free - now > worst then worst = free - now end
  local wait = urgent and 0 or redis.call('PTTL', KEYS[n + i]) * 1000
  if wait < minute and wait > kept then kept = wait end
end
if kept > 0 then return {math.max(worst, kept)} end
if worst > tonumber(ARGV[1]) then
  if urgent then
    for i = 1, n do
      local ahead = starts[i] - now
      if ahead > tonumber(ARGV[1]) then redis.call('SET', KEYS[n + i], 1, 'PX', math.ceil(ahead / 1000) + 1500) end
    end
  end
  return {worst}
end
local out = {0, now}
for i = 1, n do
  local upto = starts[i] + tonumber(ARGV[i + 3])
  redis.call('SET', KEYS[i], string.format('%.0f', upto), 'PX', math.ceil((upto - now) / 1000) + 60000)
  if urgent then redis.call('SET', KEYS[n + i], 1, 'PX', math.max(1, math.ceil((upto - now) / 1000))) end
  out[i + 2] = starts[i]
end
return out
"""


@dataclass(frozen=True, slots=True)
class Granted:
    """Seconds from now at which each message of the chunk may leave, in the chunk's order."""

    delays: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Booked:
    """Nothing was reserved: the lane is booked for ``wait`` seconds more than the caller would wait."""

    wait: float


class RateLimiter:
    """``live_processes`` tells how many processes share the rate while Redis is away."""

    def __init__(self, redis: Redis, live_processes: Callable[[], int], prefix: str = "ab:lane:") -> None:
        self._redis = redis
        self._script = redis.register_script(_SCRIPT)
        self._live = live_processes
        self._prefix = prefix
        self._local: dict[str, float] = {}
        self._lost_at: float | None = None
        self._shared_loss = False
        self._lock = threading.Lock()
        self._ahead = 0.0  # s that our clock is ahead of Redis's

    @property
    def lost(self) -> bool:
        return self._lost_at is not None

    def somebody_lost_redis(self, lost: bool) -> None:
        """One process without Redis keeps to its share; so must all others, or the sum is too much."""
        self._shared_loss = lost

    def reserve(
        self, lanes: Sequence[Sequence[Lane]], horizon: float, *, lead: float = 0.0, urgent: bool = False
    ) -> Granted | Booked:
        """Books the chunk's messages (their lanes, in order). ``horizon``: seconds the caller is ready to wait. ``lead``:
        those that it needs before the first can leave; what is late for its turn leaves together with what comes after it.

        ``urgent``: nobody who is not may book until its turn comes and a moment longer, nor while what it has booked leaves.
        """
        booked: dict[str, tuple[float, float]] = {}  # key -> (rate, units in all)
        for message in lanes:
            for lane in message:
                rate, units = booked.get(lane.key, (lane.rate, 0.0))
                booked[lane.key] = (rate, units + lane.units)
        if not booked:
            return Granted((0.0,) * len(lanes))
        starts = self._book({key: units / rate for key, (rate, units) in booked.items()}, horizon, lead, urgent=urgent)
        return Booked(starts) if isinstance(starts, float) else Granted(tuple(_spread(lanes, starts)))

    def pause(self, keys: Sequence[str], seconds: float) -> None:
        """Nothing more leaves on these lanes for that long: a provider said so. ``paused`` tells it to those under way."""
        with self._lock:
            for key in keys:
                self._local[key] = max(self._local.get(key, 0.0), time.monotonic() + seconds)
        try:
            for key in keys:
                until = int((time.time() + seconds) * 1e6)
                self._redis.set(self._prefix + key, until, px=int(seconds * 1000) + 60_000)
                self._redis.set(f"{self._prefix}paused:{key}", 1, px=max(1, int(seconds * 1000)))
        except RedisError:
            self._lose()

    def paused(self, keys: Iterable[str]) -> bool:
        """Whether any process was told to wait on one of these, and it still holds. False while Redis is away."""
        if self.lost:
            return False
        try:
            return bool(self._redis.exists(*(f"{self._prefix}paused:{key}" for key in keys)))
        except RedisError:
            self._lose()
            return False

    def _book(self, durations: dict[str, float], horizon: float, lead: float, *, urgent: bool) -> dict[str, float] | float:
        if not self._shared_loss and self._may_try():
            try:
                keys = [f"{self._prefix}{kind}{key}" for kind in ("", "urgent:", "paused:") for key in durations]
                arguments = [int(horizon * 1e6), int(lead * 1e6), int(urgent), *(int(d * 1e6) for d in durations.values())]
                asked = time.monotonic()
                answer = self._script(keys=keys, args=arguments)
                answered = time.monotonic()
            except RedisError:
                self._lose()
            else:
                self._lost_at = None
                if int(answer[0]) > 0:
                    return int(answer[0]) / 1e6
                there, *starts = (int(us) / 1e6 for us in answer[1:])
                # A slow answer says little of when it was given: from all together every process knows the same instants,
                # or their turns would fall into one another's.
                self._ahead = min(max(self._ahead, asked - there), answered - there)
                return {key: at + self._ahead - answered for key, at in zip(durations, starts, strict=True)}
        return self._book_share(durations, horizon, lead)

    def _book_share(self, durations: dict[str, float], horizon: float, lead: float) -> dict[str, float] | float:
        share = max(1, self._live())
        with self._lock:
            now = time.monotonic()
            starts = {key: max(self._local.get(key, 0.0), now + lead) for key in durations}
            worst = max(starts.values()) - now
            if worst > horizon:
                return worst
            for key, duration in durations.items():
                self._local[key] = starts[key] + duration * share
            return {key: start - now for key, start in starts.items()}

    def _may_try(self) -> bool:
        return self._lost_at is None or time.monotonic() - self._lost_at >= _RETRY_LOST_AFTER

    def _lose(self) -> None:
        if self._lost_at is None:
            log.warning("ratelimit.redis_lost", now="each process keeps to its share of the rate")
        self._lost_at = time.monotonic()


def _spread(lanes: Sequence[Sequence[Lane]], starts: dict[str, float]) -> list[float]:
    """When each message may leave: after what is before it in each of its lanes."""
    used = dict.fromkeys(starts, 0.0)
    delays = []
    for message in lanes:
        delays.append(max((starts[lane.key] + used[lane.key] for lane in message), default=0.0))
        for lane in message:
            used[lane.key] += lane.units / lane.rate
    return delays
