"""Checks every part and credential, and says what to do about each fault."""

import asyncio
import shutil
from dataclasses import dataclass

from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError

from broadcaster.cli import embedded
from broadcaster.domain.channel import Channel
from broadcaster.settings import Settings
from broadcaster.store import migrate, processes
from broadcaster.wiring import Wiring, redis_client


@dataclass(frozen=True, slots=True)
class Finding:
    """One part: whether it is well, what was seen, and what to do."""

    part: str
    ok: bool
    detail: str
    do: str | None = None


def examine(settings: Settings) -> list[Finding]:
    """Asks every part that this configuration uses."""
    wiring = Wiring(settings)
    findings = [_database(wiring), _redis(settings), _workers(wiring), _disk(settings)]
    for name, first in sorted(wiring.channels.live.items()):
        for n, route in enumerate(wiring.channels.routes(first), 1):
            findings.append(_channel(name if n == 1 else f"{name}, route {n}", route, sandbox=wiring.sandbox_only))
    findings.append(_public_url(settings))
    return findings


def _database(wiring: Wiring) -> Finding:
    name = wiring.database.url.get_backend_name()
    try:
        current = migrate.is_current(wiring.database)
    except SQLAlchemyError as error:
        detail = f"{name} does not answer ({type(error).__name__})"
        return Finding("database", False, detail, "Check BROADCASTER_DATABASE_URL and that the server runs.")
    if not current:
        return Finding("database", False, f"{name} has older tables", "Run: broadcaster migrate")
    return Finding("database", True, f"{name}, tables are current")


def _redis(settings: Settings) -> Finding:
    try:
        info = redis_client(settings.resolved_redis_url, 2.0).info()
    except RedisError as error:
        todo = "Start it: `broadcaster up` runs an embedded one; else check BROADCASTER_REDIS_URL."
        return Finding("redis", False, f"does not answer ({type(error).__name__}); alerts still go out", todo)
    assert isinstance(info, dict)
    if not info.get("aof_enabled"):
        return Finding("redis", False, "keeps nothing over a restart", "Set appendonly yes in its configuration.")
    if info.get("maxmemory_policy") != "noeviction":
        return Finding("redis", False, "may throw wake-ups away when full", "Set maxmemory-policy noeviction.")
    return Finding(
        "redis", True, f"{info.get('server_name', 'redis')} {info.get('valkey_version') or info.get('redis_version')}"
    )


def _workers(wiring: Wiring) -> Finding:
    try:
        with wiring.database.read() as connection:
            alive, lost = processes.alive(connection)
    except SQLAlchemyError:
        return Finding("workers", False, "cannot be counted without the database", None)
    if not alive:
        return Finding(
            "workers", False, "none seen in the last 5 s", "Start them: `broadcaster up`, or `broadcaster worker`."
        )
    return Finding("workers", True, f"{alive} processes{', some without Redis' if lost else ''}")


def _disk(settings: Settings) -> Finding:
    settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    free = shutil.disk_usage(settings.data_dir).free / 1e9
    return Finding("disk", free > 1, f"{free:.1f} GB free in the data directory", None if free > 1 else "Make room.")


def _channel(name: str, channel: Channel, *, sandbox: bool) -> Finding:
    async def ask() -> str | None:
        await channel.open()
        try:
            return await channel.check()
        finally:
            await channel.close()

    try:
        fault = asyncio.run(ask())
    except OSError as error:
        fault = type(error).__name__
    where = "sandbox" if sandbox else "real"
    if fault is None:
        return Finding(name, True, f"{where}, takes our credentials")
    todo = "Start it: `broadcaster up`." if sandbox else f"Check the BROADCASTER settings of {name}."
    return Finding(name, False, f"{where}: {fault}", todo)


def _public_url(settings: Settings) -> Finding:
    url = settings.resolved_public_url
    if embedded.shape(settings).sandbox or url.startswith("https://"):
        return Finding("public address", True, embedded.origin(url))
    return Finding(
        "public address", False, f"{embedded.origin(url)} is not https", "Browsers take web push over https only."
    )
