"""API keys: made by the command line, shown once, kept as hashes, checked on every request.

A key reads ``ab_live_<prefix>_<secret>`` or ``ab_test_…``; the secret half has 256 random bits, so a plain SHA-256 is
enough (a slow hash protects guessable secrets only) and comparing costs nothing on the hot path.
"""

import hashlib
import hmac
import json
import re
import secrets
import time
from collections import deque
from dataclasses import dataclass
from enum import StrEnum
from threading import Lock
from typing import Any

from sqlalchemy import Connection, Row
from sqlalchemy.exc import IntegrityError
from uuid_utils import uuid7

from broadcaster.domain.errors import Forbidden, Invalid, NotFound, NotSignedIn
from broadcaster.store import keys as store
from broadcaster.store.database import Database, read_clock

_FORM = re.compile(r"ab_(live|test)_([a-z0-9]{12})_([A-Za-z0-9_-]{43})")
_CACHE_SECONDS = 2.0
_ITSELF = {False: "00000000-0000-7000-8000-000000000001", True: "00000000-0000-7000-8000-000000000002"}


class Scope(StrEnum):
    """What a key may do."""

    ALERTS_SEND = "alerts:send"
    ALERTS_READ = "alerts:read"
    DIRECTORY_READ = "directory:read"
    DIRECTORY_WRITE = "directory:write"
    METRICS_READ = "metrics:read"
    MONITORS_READ = "monitors:read"
    MONITORS_WRITE = "monitors:write"
    SIGNALS_SEND = "signals:send"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks. ``test``: whatever it sends reaches the sandbox only."""

    id: int
    uid: str
    name: str
    scopes: frozenset[Scope]
    test: bool

    def must_have(self, scope: Scope) -> None:
        """Raises Forbidden."""
        if scope not in self.scopes:
            raise Forbidden(f"This key lacks the scope {scope}. Make one that has it with `broadcaster keys create`.")


class Keys:
    """Making, listing, revoking and checking API keys."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._cache: dict[bytes, tuple[float, Caller]] = {}
        self._lock = Lock()

    def create(self, name: str, scopes: list[str], *, test: bool = False) -> tuple[str, str]:
        """A new key: (uid, the whole key, which is never shown again). Raises Invalid for an unknown scope."""
        wanted = sorted({_scope(s) for s in scopes})
        prefix, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
        uid = str(uuid7())
        with self._database.write() as connection:
            store.insert(
                connection,
                uid=uid,
                name=name,
                prefix=prefix,
                secret_hash=hashlib.sha256(secret.encode()).digest(),
                scopes=json.dumps(wanted),
                test=test,
                created_at=read_clock(connection),
            )
        return uid, f"ab_{'test' if test else 'live'}_{prefix}_{secret}"

    def list(self) -> list[dict[str, object]]:
        """All keys without their secrets, the newest first."""
        with self._database.read() as connection:
            return [row for row in store.all_keys(connection) if row["uid"] not in _ITSELF.values()]

    def revoke(self, uid: str) -> None:
        """Ends the key within seconds everywhere. Raises NotFound."""
        with self._database.write() as connection:
            if not store.revoke(connection, uid, read_clock(connection)):
                raise NotFound("No working key has this id; see `broadcaster keys list`.")
        self._cache.clear()

    def recall(self, key: str) -> Caller | None:
        """The caller behind ``key``, if it was looked up a moment ago. Never waits."""
        cached = self._cache.get(_digest(key))
        return cached[1] if cached and cached[0] > time.monotonic() else None

    def authenticate(self, key: str) -> Caller:
        """The caller behind ``key``. Raises NotSignedIn, for every kind of wrong key with the same words."""
        caller = self.recall(key)
        if caller is None:
            caller = self._look_up(key)
            with self._lock:
                if len(self._cache) > 1000:
                    self._cache.clear()
                self._cache[_digest(key)] = (time.monotonic() + _CACHE_SECONDS, caller)
        return caller

    def by_uid(self, uid: str) -> Caller:
        """The caller behind a key's id, for a signed session. Raises NotSignedIn once the key is revoked."""
        with self._database.read() as connection:
            row = store.by_uid(connection, uid)
        if row is None or row.revoked_at is not None:
            raise NotSignedIn("This session's API key is not known, or was revoked.")
        return _caller(row)

    def name_of(self, uid: str) -> str | None:
        """The name of a key, also of one that was revoked: for who did what. None: there is no such key."""
        with self._database.read() as connection:
            row = store.by_uid(connection, uid)
        return None if row is None else row.name

    def itself(self, *, test: bool) -> Caller:
        """The broadcaster, when it raises an alert of its own. Its key's secret is known to nobody."""
        uid = _ITSELF[test]
        with self._database.read() as connection:
            row = store.by_uid(connection, uid)
        if row is None:
            try:
                with self._database.write() as connection:
                    self._insert_itself(connection, uid, test=test)
            except IntegrityError:  # another process was first
                pass
            with self._database.read() as connection:
                row = store.by_uid(connection, uid)
        assert row is not None
        return _caller(row)

    @staticmethod
    def _insert_itself(connection: Connection, uid: str, *, test: bool) -> None:
        store.insert(
            connection,
            uid=uid,
            name="the broadcaster itself",
            prefix=secrets.token_hex(6),
            secret_hash=secrets.token_bytes(32),
            scopes="[]",
            test=test,
            created_at=read_clock(connection),
        )

    def _look_up(self, key: str) -> Caller:
        refused = NotSignedIn("This API key is not known, or was revoked.")
        form = _FORM.fullmatch(key)
        if not form:
            raise refused
        with self._database.read() as connection:
            row = store.by_prefix(connection, form[2])
        given = hashlib.sha256(form[3].encode()).digest()
        if row is None or not hmac.compare_digest(given, row.secret_hash) or row.revoked_at is not None:
            raise refused
        return _caller(row)


class RequestRate:
    """How many requests one caller made in the last minute, per API process."""

    def __init__(self, per_minute: int) -> None:
        self._per_minute = per_minute
        self._seen: dict[str, deque[float]] = {}

    def wait(self, caller: str) -> float:
        """0.0 when the request may go on (and is counted), else seconds until it may."""
        now = time.monotonic()
        seen = self._seen.setdefault(caller, deque())
        while seen and seen[0] <= now - 60:
            seen.popleft()
        if len(seen) >= self._per_minute:
            return 60 - (now - seen[0])
        seen.append(now)
        return 0.0


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


def _caller(row: Row[Any]) -> Caller:
    return Caller(row.id, row.uid, row.name, frozenset(Scope(s) for s in json.loads(row.scopes)), row.test)


def _scope(text: str) -> Scope:
    try:
        return Scope(text)
    except ValueError:
        raise Invalid(f"unknown scope {text!r}; use {', '.join(Scope)}") from None
