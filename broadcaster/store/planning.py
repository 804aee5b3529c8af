"""Batches and deliveries for a slice of an audience, written where the addresses are: by the database itself."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, Row

from broadcaster.store.database import is_postgresql, swiftly

#: The slice's addresses on one channel as the directory was at the alert's revision, ``size`` of them to a part.
_ADDRESSES: Final = """
SELECT c.id, c.recipient_id, c.disabled_at IS NULL AS usable,
       (row_number() OVER (ORDER BY c.recipient_id, c.id) - 1) / :size AS part
FROM contacts c
WHERE c.recipient_id {among_people} {range} AND c.channel = :channel
  AND c.from_rev <= :revision AND (c.to_rev IS NULL OR c.to_rev > :revision)
"""

_BATCHES: Final = """
INSERT INTO batches (alert_id, step, channel, route, priority, created_at, woken_at, size, next_at, n_queued, n_skipped)
SELECT :alert, :step, :channel, :route, :priority, :now, :now, count(*),
       CASE WHEN sum(CASE WHEN usable THEN 1 ELSE 0 END) > 0 THEN :now END,
       sum(CASE WHEN usable THEN 1 ELSE 0 END), sum(CASE WHEN usable THEN 0 ELSE 1 END)
FROM {addresses} a GROUP BY part ORDER BY part
RETURNING id, n_queued
"""

_DELIVERIES: Final = """
INSERT INTO deliveries (alert_id, batch_id, contact_id, recipient_id, step, state, next_at, updated_at)
SELECT :alert, b.id, a.id, a.recipient_id, :step, CASE WHEN a.usable THEN 'queued' ELSE 'skipped' END,
       CASE WHEN a.usable THEN :now END, :now
FROM {addresses} a JOIN {batches} b ON b.part = a.part ORDER BY a.recipient_id, a.id
"""

#: PostgreSQL: the addresses are read once. Between two statements one could be added or taken out of use.
_ALL_IN_ONE: Final = f"""
WITH addresses AS MATERIALIZED ({_ADDRESSES}),
made AS ({_BATCHES.format(addresses="addresses")}),
numbered AS (SELECT id, row_number() OVER (ORDER BY id) - 1 AS part FROM made),
written AS ({_DELIVERIES.format(addresses="addresses", batches="numbered")})
SELECT (SELECT count(*) FROM made WHERE n_queued > 0), (SELECT count(DISTINCT recipient_id) FROM addresses WHERE usable)
"""

_REACHABLE: Final = """
SELECT count(DISTINCT c.recipient_id) FROM contacts c
WHERE c.recipient_id {among_people} {range} AND c.channel {among_channels} AND c.disabled_at IS NULL
  AND c.from_rev <= :revision AND (c.to_rev IS NULL OR c.to_rev > :revision)
"""

_AMONG: Final = {
    "postgresql": {
        "among_people": "= ANY(CAST(:people AS bigint[]))",
        "among_channels": "= ANY(CAST(:channels AS text[]))",
    },
    "sqlite": {
        "among_people": "IN (SELECT value FROM json_each(:people))",
        "among_channels": "IN (SELECT value FROM json_each(:channels))",
    },
}


_DENSE: Final = 4
_MANY: Final = 100


class Written(NamedTuple):
    """``batches`` with something to send, to so many different ``people`` (None: not counted)."""

    batches: int
    people: int | None


def write(
    connection: Connection, alert: Row[Any], step: int, people: Sequence[int], *, channel: str, route: str, size: int
) -> Written:
    """The batches of one channel, ``size`` deliveries each.

    ``alert`` has ``now``. ``people``: one slice, ascending, not empty.
    """
    values = {
        "alert": alert.id, "revision": alert.revision, "priority": alert.priority, "now": alert.now, "step": step,
        "channel": channel, "route": route, "size": size, "people": list(people),
    }  # fmt: skip
    if is_postgresql(connection):
        return Written(*_run(connection, _ALL_IN_ONE, values)[0])
    addresses = f"({_ADDRESSES})"
    made = sorted(_run(connection, _BATCHES.format(addresses=addresses), values))  # numbered in the order of their parts
    if made:
        numbered = "(SELECT value AS id, key AS part FROM json_each(:ids))"
        sql = _DELIVERIES.format(addresses=addresses, batches=numbered)
        _run(connection, sql, {**values, "ids": [batch for batch, _ in made]})
    return Written(sum(queued > 0 for _, queued in made), None)


def reachable(connection: Connection, people: Sequence[int], channels: Sequence[str], revision: int) -> int:
    """How many of them have a usable address on any of these channels. ``people`` as in ``write``."""
    values = {"people": list(people), "channels": list(channels), "revision": revision}
    return int(_run(connection, _REACHABLE, values)[0][0])


def _run(connection: Connection, sql: str, values: Mapping[str, Any]) -> Sequence[Any]:
    people = values["people"]
    # Many neighbours are read along the index, and not looked up one by one. For a few the server keeps the plan.
    dense = len(people) >= _MANY and people[-1] - people[0] < _DENSE * len(people)
    between = f"AND c.recipient_id BETWEEN {int(people[0])} AND {int(people[-1])}" if dense else ""
    sql = sql.format(**_AMONG[connection.dialect.name], range=between)
    if is_postgresql(connection):
        sql = re.sub(r":(\w+)", r"%(\1)s", sql)
    else:
        values = {name: json.dumps(v) if isinstance(v, list) else v for name, v in values.items()}
    return swiftly(connection, sql, values)
