"""Monitors as people make them: create, read, change, pause, delete, try out; maintenance, heartbeats and history."""

import asyncio
import hashlib
import json
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import structlog
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from sqlalchemy import Connection, Row
from sqlalchemy.exc import IntegrityError
from uuid_utils import uuid7

from broadcaster.domain.errors import Conflict, Invalid, NotFound
from broadcaster.domain.monitor import Circumstances, Kind, Reading, Verdict
from broadcaster.domain.policy import Policy
from broadcaster.services.alerts import Alerts
from broadcaster.services.incidents import Incidents, check_policy
from broadcaster.services.looking import GRACE
from broadcaster.services.sealing import SealBroken, Sealer
from broadcaster.services.secretive import filled, sealed, split
from broadcaster.store import monitors as store
from broadcaster.store.database import Database, read_clock

log = structlog.get_logger(__name__)

MOST: Final = 2_000
SPARK: Final = 40  # readings that a view carries
HEARD: Final = "heartbeat"  # the kind that others call
LATE_MS: Final = 60_000  # beyond a look's time and timeout: whoever should look does not
_IN_A_ROW: Final = ("failed", "degraded", "ok", "working", "unknown")


@dataclass(frozen=True, slots=True)
class Watch:
    """How a thing is watched. Times in seconds. ``control``: host:port. ``policy`` None: nothing is raised."""

    name: str
    kind: str
    config: Mapping[str, Any]
    interval: float = 60.0
    timeout: float = 10.0
    failures: int = 3
    successes: int = 5
    quorum: int = 1
    hold_down: float = 60.0
    sign_in_pause: float = 300.0
    vantages: tuple[str, ...] = ("main",)
    control: str | None = None
    policy: Policy | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """One reading. Times in ms since the epoch, latency in ms."""

    id: int
    vantage: str
    due_at: int
    at: int
    verdict: str
    code: str
    reason: str
    latency_ms: int | None
    detail: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Changed:
    at: int
    old: str
    new: str
    code: str | None
    reason: str | None
    evidence: dict[str, Any]


@dataclass(frozen=True, slots=True)
class VantageView:
    """``late``: it should have looked long ago; no process of this vantage seems to run."""

    name: str
    next_at: int | None
    last_at: int | None
    holds: str | None
    in_a_row: Mapping[str, int]
    late: bool


@dataclass(frozen=True, slots=True)
class MonitorView:
    """``secrets``: JSON pointers into config of what is kept and not shown. ``recent``: the last readings, oldest first."""

    uid: str
    watch: Watch
    secrets: tuple[str, ...]
    created_at: int
    paused_at: int | None
    state: str
    state_since: int
    code: str | None
    reason: str | None
    seen_at: int | None
    in_maintenance: bool
    vantages: tuple[VantageView, ...]
    recent: tuple[Seen, ...]


@dataclass(frozen=True, slots=True)
class Tally:
    """How many monitors are in each state (those that are paused count as that only). ``unwatched``: of them, how many are
    not looked at as they should be."""

    down: int = 0
    degraded: int = 0
    unknown: int = 0
    ok: int = 0
    paused: int = 0
    unwatched: int = 0


@dataclass(frozen=True, slots=True)
class Window:
    """Maintenance: nothing is raised of ``monitor``; None: of no monitor. Times in ms since the epoch."""

    uid: str
    monitor: str | None
    name: str | None  # the monitor's
    from_at: int
    until_at: int
    note: str


class Monitors:
    """For the API, the console and the command line. Looking is ``services.looking``."""

    def __init__(
        self, database: Database, kinds: Mapping[str, Kind], alerts: Alerts, incidents: Incidents, sealer: Sealer
    ) -> None:
        self._database = database
        self.kinds = kinds
        self._alerts = alerts
        self._incidents = incidents
        self._sealer = sealer

    # ---- making and changing -----------------------------------------------------------------------------------

    def create(self, watch: Watch) -> tuple[MonitorView, str | None]:
        """The new monitor, which looks at once; and, for a heartbeat, the token that others call it with: never shown
        again. Raises Invalid, and Conflict for a name that is there."""
        values = self._values(watch)
        token = secrets.token_urlsafe(32) if watch.kind == HEARD else None
        uid = str(uuid7())
        try:
            with self._database.write() as connection:
                now = read_clock(connection)
                if len(store.page(connection, after=0, limit=MOST)) == MOST:
                    raise Conflict(f"There are {MOST} monitors already; delete some first.")
                times = {"created_at": now, "since": now, "state_since": now}
                row = {"uid": uid, **values, **times, "ping_hash": None if token is None else _hash(token)}
                store.add(connection, row, watch.vantages, now)
        except IntegrityError:
            raise Conflict("There is a monitor with this name already.") from None
        log.info("monitors.created", monitor=uid, kind=watch.kind)
        return self.get(uid), token

    def replace(self, uid: str, watch: Watch, *, keep_secrets: bool) -> MonitorView:
        """The whole of it anew; it begins afresh. ``keep_secrets``: those that are left out of a config that is otherwise
        the same stay; of one that is not they must be given again, so that nobody can have them sent to another host.
        Raises NotFound, Invalid, Conflict."""
        with self._database.read() as connection:
            old = _found(store.by_uid(connection, uid))
        if old.kind != watch.kind:
            raise Invalid("kind: cannot be changed; make another monitor.")
        values = self._values(watch, old if keep_secrets else None)
        try:
            with self._database.write() as connection:
                row = _found(store.by_uid(connection, uid, lock=True))
                now = read_clock(connection)
                paused = row.paused_at is not None
                store.change(connection, row.id, {**values, "since": now, "version": row.version + 1})
                store.set_vantages(connection, row.id, watch.vantages, None if paused else now)
        except IntegrityError:
            raise Conflict("There is a monitor with this name already.") from None
        return self.get(uid)

    def pause(self, uid: str) -> MonitorView:
        """It looks no more; what it has raised goes on. Pausing twice is harmless. Raises NotFound."""
        with self._database.write() as connection:
            row = _found(store.by_uid(connection, uid, lock=True))
            if row.paused_at is None:
                store.change(connection, row.id, {"paused_at": read_clock(connection)})
                store.schedule(connection, row.id, None)
        return self.get(uid)

    def resume(self, uid: str) -> MonitorView:
        """It looks again, at once. Raises NotFound."""
        with self._database.write() as connection:
            row = _found(store.by_uid(connection, uid, lock=True))
            if row.paused_at is not None:
                now = read_clock(connection)
                store.change(connection, row.id, {"paused_at": None, "since": now})
                store.schedule(connection, row.id, now)
        return self.get(uid)

    def look_now(self, uid: str) -> MonitorView:
        """Its next look, from every vantage, is due at once. Raises NotFound, and Conflict while it is paused."""
        with self._database.write() as connection:
            row = _found(store.by_uid(connection, uid, lock=True))
            if row.paused_at is not None:
                raise Conflict("This monitor is paused; resume it first.")
            store.schedule(connection, row.id, read_clock(connection))
        return self.get(uid)

    def delete(self, uid: str) -> None:
        """It is gone; what it has raised ends with it, with an all-clear where one is due. Raises NotFound."""
        with self._database.write() as connection:
            row = _found(store.by_uid(connection, uid, lock=True))
            store.change(connection, row.id, {"deleted_at": read_clock(connection), "ping_hash": None, "secrets": None})
            store.schedule(connection, row.id, None)
            self._incidents.clear_cause(connection, f"monitor:{uid}")

    async def try_out(self, kind: str, config: Mapping[str, Any], timeout: float) -> Reading:
        """One look with this config from here, of which nothing is kept. Raises Invalid."""
        parsed = self._parse(kind, config)
        now = time.time()  # this runs on the server's own loop, which must not wait for a database
        circumstances = Circumstances(due=now, now=now, timeout=timeout, since=now)
        try:
            return await asyncio.wait_for(self.kinds[kind].look(parsed, circumstances), timeout + GRACE)
        except TimeoutError:
            return Reading(Verdict.FAILED, "timeout", f"It did not answer within {timeout:g} s.", timeout)
        except Exception as error:  # noqa: BLE001 - as in looking: a fault of a kind's is a reading
            log.error("monitors.bug", kind=kind, error=type(error).__name__, exc_info=error)
            return Reading(Verdict.UNKNOWN, "bug", "A fault of our own while looking; see the log.")

    def called(self, token: str) -> str:
        """The monitor that this token is of. Raises NotFound."""
        with self._database.read() as connection:
            row = store.by_ping(connection, _hash(token))
        if row is None:
            raise NotFound("There is no heartbeat with this address.")
        return str(row.uid)

    def heard(self, token: str) -> None:
        """A heartbeat. Raises NotFound."""
        uid = self.called(token)  # anybody may call: only a token that holds is worth SQLite's write lock
        with self._database.write() as connection:
            store.heard(connection, _found(store.by_uid(connection, uid)).id)

    # ---- reading -----------------------------------------------------------------------------------------------

    def get(self, uid: str) -> MonitorView:
        """Raises NotFound."""
        with self._database.read() as connection:
            return self._views(connection, [_found(store.by_uid(connection, uid))])[0]

    def page(self, cursor: int | None, limit: int, name: str | None = None) -> tuple[list[MonitorView], int | None]:
        """In the order of their making (only the one of this name), and the cursor of the next page."""
        with self._database.read() as connection:
            rows = store.page(connection, after=cursor or 0, limit=limit, name=name)
            return self._views(connection, rows), rows[-1].id if len(rows) == limit else None

    def worst_first(self, offset: int, limit: int) -> list[MonitorView]:
        """What is down first, what is paused last; within that by name."""
        with self._database.read() as connection:
            return self._views(connection, store.worst_first(connection, offset=offset, limit=limit))

    def tally(self) -> Tally:
        with self._database.read() as connection:
            return Tally(**store.tally(connection), unwatched=store.count_unwatched(connection, grace=LATE_MS))

    def readings(self, uid: str, cursor: int | None, limit: int) -> tuple[list[Seen], int | None]:
        """The newest first, and the cursor of the next page. Raises NotFound."""
        with self._database.read() as connection:
            monitor = _found(store.by_uid(connection, uid))
            rows = store.readings_page(connection, monitor.id, before=cursor, limit=limit)
        return [_seen(row) for row in rows], rows[-1].id if len(rows) == limit else None

    def changes(self, uid: str, cursor: int | None, limit: int) -> tuple[list[Changed], int | None]:
        """State by state, the newest first. Raises NotFound."""
        with self._database.read() as connection:
            monitor = _found(store.by_uid(connection, uid))
            rows = store.changes_page(connection, monitor.id, before=cursor, limit=limit)
        views = [Changed(r.at, r.old, r.new, r.code, r.reason, json.loads(r.evidence)) for r in rows]
        return views, rows[-1].id if len(rows) == limit else None

    # ---- maintenance -------------------------------------------------------------------------------------------

    def add_window(self, monitor: str | None, from_at: int | None, until_at: int, note: str, by: str) -> Window:
        """Nothing is raised then. ``from_at`` None: from now. Raises NotFound, and Invalid for times that make no window."""
        with self._database.write() as connection:
            row = None if monitor is None else _found(store.by_uid(connection, monitor))
            now = read_clock(connection)
            begins = now if from_at is None else from_at
            if until_at <= max(begins, now):
                raise Invalid("until: must be after its begin, and after now.")
            uid = str(uuid7())
            store.add_maintenance(
                connection,
                {
                    "uid": uid, "monitor_id": None if row is None else row.id, "from_at": begins, "until_at": until_at,
                    "note": note, "created_by": by,
                },
            )  # fmt: skip
        return Window(uid, monitor, None if row is None else row.name, begins, until_at, note)

    def windows(self) -> list[Window]:
        """What is or will be, and the last that were."""
        with self._database.read() as connection:
            rows = store.maintenance_page(connection, 100)
            known = store.by_ids(connection, [row.monitor_id for row in rows if row.monitor_id is not None])
        found = []
        for row in rows:
            monitor = None if row.monitor_id is None else known[row.monitor_id]
            uid, name = (None, None) if monitor is None else (monitor.uid, monitor.name)
            found.append(Window(row.uid, uid, name, row.from_at, row.until_at, row.note))
        return found

    def end_window(self, uid: str) -> None:
        """It is over now. Raises NotFound."""
        with self._database.write() as connection:
            if not store.end_maintenance(connection, uid):
                raise NotFound("There is no maintenance with this id that is not over.")

    # ---- rows --------------------------------------------------------------------------------------------------

    def _values(self, watch: Watch, old: Row[Any] | None = None) -> dict[str, Any]:
        plain, found = self._settings(watch, old)
        kept = sealed(found, self._sealer)
        _check_times(watch)
        if watch.policy is not None:
            check_policy(self._alerts, watch.policy)
        return {
            "name": watch.name, "kind": watch.kind, "config": json.dumps(plain), "secrets": kept,
            "interval_ms": round(watch.interval * 1000), "timeout_ms": round(watch.timeout * 1000),
            "failures": watch.failures, "successes": watch.successes, "quorum": watch.quorum,
            "hold_down_ms": round(watch.hold_down * 1000), "sign_in_pause_ms": round(watch.sign_in_pause * 1000),
            "control": watch.control, "policy": None if watch.policy is None else json.dumps(watch.policy.to_json()),
        }  # fmt: skip

    def _settings(self, watch: Watch, old: Row[Any] | None) -> tuple[dict[str, Any], dict[str, str]]:
        """(what may be read, secrets by JSON pointer), with those of ``old`` that are left out and may stay."""
        kept = {} if old is None else self._secrets(old)
        whole, left_out = filled(watch.config, kept)
        if old is not None and left_out:
            try:
                plain, found = split(self._parse(watch.kind, whole))
            except Invalid:  # they have no place in it any more, or it is at fault anyhow: it is judged as it was given
                return split(self._parse(watch.kind, watch.config))
            if plain != json.loads(old.config):
                names = ", ".join(pointer[1:].replace("/", ".") for pointer in left_out)
                raise Invalid(f"config: it has changed, so that its secrets must be given again (or be null): {names}.")
            return plain, found
        return split(self._parse(watch.kind, watch.config))

    def _secrets(self, row: Row[Any]) -> dict[str, str]:
        """By JSON pointer. None where they cannot be read any more: such a monitor can still be seen, and mended."""
        try:
            found: dict[str, str] = json.loads(self._sealer.open(row.secrets)) if row.secrets else {}
        except SealBroken:
            return {}
        return found

    def _parse(self, kind: str, config: Mapping[str, Any]) -> BaseModel:
        """Raises Invalid, whose words never repeat what was given: it may be a password."""
        if kind not in self.kinds:
            raise Invalid(f"kind: must be one of {', '.join(sorted(self.kinds))}.")
        try:
            parsed: BaseModel = self.kinds[kind].config.model_validate(dict(config))
        except ValidationError as error:
            faults = error.errors(include_input=False, include_url=False)
            places = [".".join(["config", *(str(part) for part in fault["loc"])]) + f": {_fault(fault)}" for fault in faults]
            raise Invalid("; ".join(places[:10])) from None
        return parsed

    def _views(self, connection: Connection, rows: Sequence[Row[Any]]) -> list[MonitorView]:
        ids = [row.id for row in rows]
        vantages, recent = store.vantages_of(connection, ids), store.latest_readings(connection, ids, SPARK)
        quiet, now = store.in_maintenance(connection, ids), read_clock(connection)
        return [self._view(row, vantages[row.id], recent[row.id], now, quiet=row.id in quiet) for row in rows]

    def _view(
        self, row: Row[Any], looks: Sequence[Row[Any]], recent: Sequence[Row[Any]], now: int, *, quiet: bool
    ) -> MonitorView:
        watch = Watch(
            name=row.name, kind=row.kind, config=json.loads(row.config), interval=row.interval_ms / 1000,
            timeout=row.timeout_ms / 1000, failures=row.failures, successes=row.successes, quorum=row.quorum,
            hold_down=row.hold_down_ms / 1000, sign_in_pause=row.sign_in_pause_ms / 1000,
            vantages=tuple(look.vantage for look in looks), control=row.control,
            policy=Policy.from_json(json.loads(row.policy)) if row.policy else None,
        )  # fmt: skip
        late = now - LATE_MS - row.timeout_ms
        views = [
            VantageView(
                v.vantage, v.next_at, v.last_at, v.holds, {name: getattr(v, f"n_{name}") for name in _IN_A_ROW},
                late=v.next_at is not None and v.next_at < late,
            )
            for v in looks
        ]  # fmt: skip
        return MonitorView(
            uid=row.uid, watch=watch, secrets=self._kept(row), created_at=row.created_at, paused_at=row.paused_at,
            state=row.state, state_since=row.state_since, code=row.code, reason=row.reason, seen_at=row.seen_at,
            in_maintenance=quiet, vantages=tuple(views), recent=tuple(_seen(r) for r in recent),
        )  # fmt: skip

    def _kept(self, row: Row[Any]) -> tuple[str, ...]:
        """Pointers to its secrets; to the whole where they cannot be read: its looks say so, and a list must not fail."""
        try:
            return tuple(json.loads(self._sealer.open(row.secrets))) if row.secrets else ()
        except SealBroken:
            return ("",)


def _check_times(watch: Watch) -> None:
    if watch.quorum > len(watch.vantages):
        raise Invalid(f"quorum: there are {len(watch.vantages)} vantages only.")
    if len(set(watch.vantages)) < len(watch.vantages):
        raise Invalid("vantages: each once.")


def _fault(fault: ErrorDetails) -> str:
    """What is wrong, without what was given: one of pydantic's sentences repeats it."""
    if fault["type"] == "union_tag_invalid":
        return f"Must be one of {fault['ctx']['expected_tags']}"
    return fault["msg"]


def _seen(row: Row[Any]) -> Seen:
    detail = json.loads(row.detail) if row.detail else {}
    return Seen(row.id, row.vantage, row.due_at, row.at, row.verdict, row.code, row.reason, row.latency_ms, detail)


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _found(row: Row[Any] | None) -> Row[Any]:
    if row is None:
        raise NotFound("There is no monitor with this id.")
    return row
