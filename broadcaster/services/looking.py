"""Looking at what is watched, when its time has come, and judging what was seen.

The schedule lives in the database, and whichever process of a vantage is free claims what is due: no beat and no single
scheduler. A look that was due once is recorded once, and with it, in one transaction, the streak, the state, and the cause
that is raised or cleared.
"""

import asyncio
import json
import queue
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, Final

import structlog
from sqlalchemy import Connection, Row
from sqlalchemy.exc import IntegrityError, OperationalError

from broadcaster.domain.judgement import TROUBLE, Rules, State, Streak, judge, settle
from broadcaster.domain.monitor import Circumstances, Kind, Reading, Verdict
from broadcaster.domain.policy import Policy
from broadcaster.services.flights import Loop
from broadcaster.services.incidents import Cause, Incidents
from broadcaster.services.sealing import SealBroken, Sealer
from broadcaster.services.secretive import joined
from broadcaster.store import incidents as incident_store
from broadcaster.store import monitors as store
from broadcaster.store.database import UNAVAILABLE, Database, lost_a_race, read_clock

log = structlog.get_logger(__name__)

LEASE_MS: Final = 5_000  # beyond the look's own timeout
AT_ONCE: Final = 200  # looks under way in one process
CLAIMED_AT_ONCE: Final = 50
CONTROL_SECONDS: Final = 3.0
GATHER: Final = 0.05  # s
GRACE: Final = 0.5  # s that a look may take beyond its timeout until it is cut off
LONGEST: Final = 300  # characters of a reason that are kept
_RACES: Final = 5

Reachable = Callable[[str, int, float], Awaitable[bool]]  # host, port, seconds
_Done = tuple[store.Look, Reading, int]  # the last: ms since the epoch, when it was done


class Looker:
    """One per process. ``tick`` is called by a thread of its own, again and again."""

    def __init__(
        self,
        database: Database,
        kinds: Mapping[str, Kind],
        incidents: Incidents,
        loop: Loop,
        sealer: Sealer,
        reachable: Reachable,
        *,
        owner: str,
        vantage: str,
        grace: int = 0,
    ) -> None:
        """``grace``: ms that others have to take a look first."""
        self._database = database
        self._kinds = kinds
        self._incidents = incidents
        self._loop = loop
        self._sealer = sealer
        self._reachable = reachable
        self._owner = owner
        self._vantage = vantage
        self._grace = grace
        self._done: queue.SimpleQueue[_Done] = queue.SimpleQueue()
        self._under_way = 0

    def tick(self, patience: float) -> int:
        """Begins what is due and records what has ended; waits ``patience`` seconds at most for an end. How many ended."""
        self._begin()
        ended = self._ended(patience)
        if ended:
            self._under_way -= len(ended)
            self._record(ended)
        return len(ended)

    # ---- looking -----------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        room = min(CLAIMED_AT_ONCE, AT_ONCE - self._under_way)
        if room <= 0:
            return
        with self._database.glance() as connection:
            if not store.any_due(connection, self._vantage, grace=self._grace):
                return
        with self._database.write() as connection:
            wanted = {"lease": LEASE_MS, "limit": room, "grace": self._grace}
            looks = store.claim(connection, self._vantage, self._owner, **wanted)
            monitors = store.by_ids(connection, [look.monitor_id for look in looks])
            now = read_clock(connection)
        ahead = now - time.time() * 1000  # the database's clock, for when each look ends
        for look in looks:
            self._under_way += 1
            self._loop.submit(self._look(look, monitors[look.monitor_id], now / 1000, ahead))

    async def _look(self, look: store.Look, monitor: Row[Any], now: float, ahead: float) -> None:
        began = time.monotonic()
        try:
            reading = await self._reading(look, monitor, now)
            if reading.verdict is Verdict.FAILED and monitor.control:
                reading = await self._controlled(reading, monitor.control)
        except BaseException as error:  # noqa: BLE001 - a look without an end would be due for ever
            log.error("looking.bug", monitor=monitor.uid, kind=monitor.kind, error=type(error).__name__, exc_info=error)
            reading = Reading(Verdict.UNKNOWN, "bug", "A fault of our own while looking; see the log.")
        if reading.latency is None and reading.verdict is not Verdict.UNKNOWN:
            reading = replace(reading, latency=time.monotonic() - began)
        reading = replace(reading, reason=_plain(reading.reason)[:LONGEST], code=_plain(reading.code))
        self._done.put((look, reading, int(time.time() * 1000 + ahead)))

    async def _reading(self, look: store.Look, monitor: Row[Any], now: float) -> Reading:
        kind = self._kinds.get(monitor.kind)
        if kind is None:
            return Reading(Verdict.UNKNOWN, "no_such_kind", f"This version knows no monitor of the kind {monitor.kind}.")
        try:
            config = kind.config.model_validate(joined(json.loads(monitor.config), monitor.secrets, self._sealer))
        except SealBroken as broken:
            return Reading(Verdict.UNKNOWN, "secrets_unreadable", f"{str(broken).capitalize()}")
        timeout = monitor.timeout_ms / 1000
        circumstances = Circumstances(
            due=look.due_at / 1000,
            now=now,
            timeout=timeout,
            since=monitor.since / 1000,
            last_seen=None if monitor.seen_at is None else monitor.seen_at / 1000,
            vantage=self._vantage,
        )
        try:
            return await asyncio.wait_for(kind.look(config, circumstances), timeout + GRACE)
        except TimeoutError:
            return Reading(Verdict.FAILED, "timeout", f"It did not answer within {timeout:g} s.", timeout)

    async def _controlled(self, reading: Reading, control: str) -> Reading:
        """What fails while the control target fails too says something of us, and nothing of it."""
        host, _, port = control.rpartition(":")
        if await self._reachable(host.strip("[]"), int(port), CONTROL_SECONDS):
            return reading
        reason = "It failed, but so does the control target: this vantage has lost its own connection."
        return Reading(Verdict.UNKNOWN, "control_unreachable", reason, detail={"code": reading.code})

    def _ended(self, patience: float) -> list[_Done]:
        """What has ended. The first is waited for, and others for a moment more: a transaction costs the same for all."""
        ended: list[_Done] = []
        try:
            ended.append(self._done.get(timeout=patience))
            until = time.monotonic() + GATHER
            while len(ended) < self._under_way:
                ended.append(self._done.get(timeout=max(0.0, until - time.monotonic())))
        except queue.Empty:
            pass
        return ended

    # ---- judging -----------------------------------------------------------------------------------------------

    def _record(self, ended: Sequence[_Done]) -> None:
        """Writes what was seen. One that cannot be written takes no other with it; the database's trouble loses none."""
        batches = [list(ended)]
        while batches:
            batch = batches.pop()
            try:
                self._write_down(batch)
            except UNAVAILABLE:
                self._keep([done for waiting in (batch, *batches) for done in waiting])
                raise
            except Exception as error:
                if len(batch) > 1:
                    batches += [[one] for one in batch]
                    continue
                name = type(error).__name__
                log.error("looking.not_recorded", monitor=batch[0][0].monitor_id, error=name, exc_info=error)

    def _write_down(self, ended: Sequence[_Done]) -> None:
        """In one transaction. Writing the same again is harmless: a look that is recorded is no longer ours."""
        for n in range(_RACES):
            try:
                with self._database.write() as connection:
                    self._record_all(connection, ended)
                return
            except (IntegrityError, OperationalError) as error:
                # Another process has opened the same incident, which now is there; or others were in the way.
                again = isinstance(error, IntegrityError) or lost_a_race(error)
                if n == _RACES - 1 or not again:
                    raise

    def _keep(self, ended: Sequence[_Done]) -> None:
        """For the next tick: what was seen is worth more than a moment of the database's."""
        self._under_way += len(ended)
        for one in ended:
            self._done.put(one)

    def _record_all(self, connection: Connection, ended: Sequence[_Done]) -> None:
        ids = sorted({look.monitor_id for look, _, _ in ended})
        monitors = store.by_ids(connection, ids, lock=True)
        seen: dict[int, Reading] = {}
        failed: dict[int, int] = {}
        for look, reading, at in sorted(ended, key=lambda done: (done[0].monitor_id, done[0].vantage)):
            monitor = monitors[look.monitor_id]
            row = store.hold(connection, look, self._owner)
            if row is None or monitor.deleted_at is not None:  # too late: it is somebody else's, paused, changed or gone
                continue
            if store.record(connection, _row(look, reading, at)):
                seen[monitor.id] = reading
                if reading.verdict is Verdict.FAILED:
                    failed[monitor.id] = at
            streak = _streak(row).after(reading.verdict, _rules(monitor))
            refused = row.n_refused + 1 if reading.refused else 0
            next_at = _next(look, monitor, at, refused)
            when = {"last_at": at, "next_at": next_at, "ahead_ms": max(0, next_at - at)}
            store.advance(connection, look, {**_columns(streak), "n_refused": refused, **when})
        if seen:
            self._judge_all(connection, {number: monitors[number] for number in seen}, seen, failed)

    def _judge_all(
        self,
        connection: Connection,
        monitors: Mapping[int, Row[Any]],
        seen: Mapping[int, Reading],
        failed: Mapping[int, int],
    ) -> None:
        ids = list(monitors)
        vantages = store.vantages_of(connection, ids)
        quiet = store.in_maintenance(connection, ids)
        raised = incident_store.open_keys(connection, [_key(m) for m in monitors.values()])
        now = read_clock(connection)
        # In one order everywhere, as far as can be: incidents are locked on the way.
        for number, monitor in sorted(monitors.items(), key=lambda item: (_group(item[1]), item[0])):
            rules = _rules(monitor)
            streaks = {row.vantage: _streak(row) for row in vantages[number]}
            failed_at = failed.get(number, monitor.failed_at)
            since_failure = None if failed_at is None else (now - failed_at) / 1000
            old = State(monitor.state)
            new = settle(old, judge([s.vote(rules) for s in streaks.values()], rules), since_failure, rules)
            self._write(connection, monitor, old, new, seen[number], streaks, now, failed_at)
            self._follow(connection, monitor, new, seen[number], raised=_key(monitor) in raised, quiet=number in quiet)

    def _write(
        self,
        connection: Connection,
        monitor: Row[Any],
        old: State,
        new: State,
        reading: Reading,
        streaks: Mapping[str, Streak],
        now: int,
        failed_at: int | None,
    ) -> None:
        values: dict[str, Any] = {"failed_at": failed_at}
        telling = (reading.code, reading.reason) if _tells(reading, new) else (monitor.code, monitor.reason)
        values["code"], values["reason"] = telling
        if new is not old:
            values |= {"state": new.value, "state_since": now}
            evidence = {name: {k: v for k, v in asdict(s).items() if v} for name, s in streaks.items()}
            store.note_change(
                connection,
                {
                    "monitor_id": monitor.id, "at": now, "old": old.value, "new": new.value, "code": telling[0],
                    "reason": telling[1], "evidence": json.dumps(evidence),
                },
            )  # fmt: skip
            say = log.warning if new in TROUBLE or old in TROUBLE else log.info
            say("looking.changed", monitor=monitor.uid, old=old.value, new=new.value, code=telling[0])
        store.change(connection, monitor.id, values)

    def _follow(
        self, connection: Connection, monitor: Row[Any], state: State, reading: Reading, *, raised: bool, quiet: bool
    ) -> None:
        """Brings the cause in line with the state, whatever happened before: a crash, a maintenance, a new policy."""
        policy = Policy.from_json(json.loads(monitor.policy)) if monitor.policy else None
        trouble = state is State.DOWN or (state in TROUBLE and policy is not None and policy.on_degraded)
        if trouble and policy is not None and not quiet:
            reason = reading.reason if _tells(reading, state) else monitor.reason or reading.reason
            cause = Cause(_key(monitor), monitor.name, self._label(monitor.kind), reason, policy.severity)
            self._incidents.raise_cause(connection, cause, policy, _group(monitor))
        elif raised and state in (State.OK, State.DEGRADED) and not trouble:
            self._incidents.clear_cause(connection, _key(monitor))

    def _label(self, kind: str) -> str:
        return self._kinds[kind].label if kind in self._kinds else kind


def _tells(reading: Reading, state: State) -> bool:
    """Whether the reading says why the monitor is in this state: one good look does not, while it is still down."""
    fits = {
        State.OK: (Verdict.OK,),
        State.DEGRADED: (Verdict.DEGRADED,),
        State.DOWN: (Verdict.FAILED,),
        State.UNKNOWN: tuple(Verdict),
    }
    return reading.verdict in fits[state]


def _key(monitor: Row[Any]) -> str:
    return f"monitor:{monitor.uid}"


def _group(monitor: Row[Any]) -> str:
    """What fails in it together is one incident."""
    named = json.loads(monitor.policy).get("group") if monitor.policy else ""
    return named or f"monitor:{monitor.uid}"


def _rules(monitor: Row[Any]) -> Rules:
    return Rules(monitor.failures, monitor.successes, monitor.quorum, monitor.hold_down_ms / 1000)


def _streak(row: Row[Any]) -> Streak:
    holds = None if row.holds is None else Verdict(row.holds)
    return Streak(holds, row.n_failed, row.n_degraded, row.n_ok, row.n_working, row.n_unknown)


def _columns(streak: Streak) -> dict[str, Any]:
    counts = {f"n_{name}": getattr(streak, name) for name in ("failed", "degraded", "ok", "working", "unknown")}
    return {"holds": None if streak.holds is None else streak.holds.value, **counts}


def _plain(text: str) -> str:
    """What any database can keep."""
    return text.encode("utf-8", "replace").decode().replace("\x00", "\ufffd")


def _row(look: store.Look, reading: Reading, at: int) -> dict[str, Any]:
    return {
        "monitor_id": look.monitor_id, "vantage": look.vantage, "due_at": look.due_at, "at": at,
        "verdict": reading.verdict.value, "code": reading.code, "reason": reading.reason,
        "latency_ms": None if reading.latency is None else round(reading.latency * 1000),
        "detail": json.dumps(dict(reading.detail)) if reading.detail else None,
    }  # fmt: skip


def _next(look: store.Look, monitor: Row[Any], at: int, refused: int) -> int:
    """The next time of its pace that is to come; what was missed is not made up for. A password that was refused time and
    again is tried rarely: a look must not lock the mailbox."""
    if refused >= monitor.failures:
        return int(at + max(monitor.sign_in_pause_ms, monitor.interval_ms))
    if look.due_at > at + monitor.interval_ms:  # the clock was set back
        return int(at + monitor.interval_ms)
    missed = max(0, at - look.due_at) // monitor.interval_ms
    return int(look.due_at + (missed + 1) * monitor.interval_ms)
