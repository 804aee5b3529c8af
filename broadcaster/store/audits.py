"""The books' own audit: SQL that finds rows which break a rule. It never writes and knows no remedy.

Every check yields (alert's uid, delivery or None, what is wrong); no address is ever in it. Those that look at single
deliveries take them slice by slice, so that neither side ever holds more than a slice; the others aggregate in the
database, which may use its disk for that.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from sqlalchemy import Connection, text

from broadcaster.domain.lifecycle import OPEN, STATES, State, allowed
from broadcaster.store.database import is_postgresql

SLICE: Final = 50_000  # delivery ids
_LOWEST, _HIGHEST = -(2**63), 2**63 - 1

_LEGAL: Final = [f"{old}>{new}" for old in STATES for new in STATES if allowed(old, new)]
_WAITING: Final = sorted(OPEN - {State.SENDING})

_COUNTED: Final = ", ".join(f"count(*) FILTER (WHERE state = '{s}') AS n_{s}" for s in STATES)
_SUM: Final = " + ".join(f"b.n_{s}" for s in STATES)
_UNEQUAL: Final = {s: f"b.n_{s} <> coalesce(c.n_{s}, 0)" for s in STATES}
_UNEQUALS: Final = " || ".join(
    f"CASE WHEN {_UNEQUAL[s]} THEN '; {s}: ' || b.n_{s} || ', rows: ' || coalesce(c.n_{s}, 0) ELSE '' END" for s in STATES
)

_RECOUNT: Final = f"""
WITH c AS (SELECT batch_id, count(*) AS size, {_COUNTED}
           FROM deliveries d WHERE 1 = 1 {{alert}} GROUP BY batch_id)
SELECT a.uid, NULL, 'batch ' || b.id || ' holds ' || b.size || ' in its books, of them '
       || ({_SUM}) || ' in a state; its rows are ' || coalesce(c.size, 0) || {_UNEQUALS}
FROM batches b JOIN alerts a ON a.id = b.alert_id LEFT JOIN c ON c.batch_id = b.id
WHERE (b.size <> coalesce(c.size, 0) OR b.size <> {_SUM} OR {" OR ".join(_UNEQUAL.values())}) {{batch_alert}}
ORDER BY b.id
"""

_BELONGS: Final = """
SELECT a.uid, d.id, CASE WHEN a.id IS NULL THEN 'it is of alert ' || d.alert_id || ', which is not there'
       ELSE 'it is of step ' || d.step || ' and stands in batch ' || d.batch_id || ', which is '
         || CASE WHEN b.id IS NULL THEN 'not there' WHEN b.alert_id = d.alert_id THEN 'of step ' || b.step
                 ELSE 'of another alert' END END
FROM deliveries d LEFT JOIN alerts a ON a.id = d.alert_id LEFT JOIN batches b ON b.id = d.batch_id
WHERE d.id BETWEEN :first AND :last
  AND (a.id IS NULL OR b.id IS NULL OR b.alert_id <> d.alert_id OR b.step <> d.step) {alert}
ORDER BY d.id
"""

_TRANSITION: Final = """
SELECT a.uid, e.delivery_id, 'event ' || e.id || ' goes from ' || e.old || ' to ' || e.new
FROM delivery_events e LEFT JOIN deliveries d ON d.id = e.delivery_id LEFT JOIN alerts a ON a.id = d.alert_id
WHERE e.delivery_id BETWEEN :first AND :last AND e.old || '>' || e.new NOT IN ({legal}) {alert}
ORDER BY e.id
""".replace("{legal}", ", ".join(f"'{pair}'" for pair in _LEGAL))

_CHAIN: Final = """
WITH e AS (
  SELECT delivery_id, id, old, new, coalesce(lag(new) OVER w, 'queued') AS stood, lead(id) OVER w AS following
  FROM delivery_events WHERE delivery_id BETWEEN :first AND :last
  WINDOW w AS (PARTITION BY delivery_id ORDER BY id))
SELECT a.uid, e.delivery_id, CASE
         WHEN d.id IS NULL THEN 'event ' || e.id || ' belongs to no delivery'
         WHEN e.stood <> e.old THEN 'event ' || e.id || ' leaves ' || e.old || ', but it stood at ' || e.stood
         ELSE 'its last event leads to ' || e.new || ', but it stands at ' || d.state END
FROM e LEFT JOIN deliveries d ON d.id = e.delivery_id LEFT JOIN alerts a ON a.id = d.alert_id
WHERE (d.id IS NULL OR e.stood <> e.old OR (e.following IS NULL AND e.new <> d.state)) {alert}
UNION ALL
SELECT a.uid, d.id, 'it stands at ' || d.state || ' without an event'
FROM deliveries d JOIN alerts a ON a.id = d.alert_id
WHERE d.id BETWEEN :first AND :last AND d.state NOT IN ('queued', 'skipped')
  AND NOT EXISTS (SELECT 1 FROM delivery_events e WHERE e.delivery_id = d.id) {alert}
ORDER BY 2
"""

_ATTEMPT: Final = """
WITH e AS (
  SELECT delivery_id, id, attempt,
         sum(CASE WHEN new = 'sending' THEN 1 ELSE 0 END) OVER (PARTITION BY delivery_id ORDER BY id) AS marks,
         lead(id) OVER (PARTITION BY delivery_id ORDER BY id) AS following
  FROM delivery_events WHERE delivery_id BETWEEN :first AND :last),
k AS (
  SELECT delivery_id, count(*) AS kept, min(n) AS lowest, max(n) AS highest
  FROM attempts WHERE delivery_id BETWEEN :first AND :last GROUP BY delivery_id)
SELECT a.uid, d.id, 'event ' || e.id || ' is of attempt ' || e.attempt || ', after ' || e.marks || ' marks'
FROM e JOIN deliveries d ON d.id = e.delivery_id JOIN alerts a ON a.id = d.alert_id WHERE e.attempt <> e.marks {alert}
UNION ALL
SELECT a.uid, d.id, 'it is at attempt ' || d.attempt || ', after ' || coalesce(e.marks, 0) || ' marks'
FROM deliveries d JOIN alerts a ON a.id = d.alert_id LEFT JOIN e ON e.delivery_id = d.id AND e.following IS NULL
WHERE d.id BETWEEN :first AND :last AND d.attempt <> coalesce(e.marks, 0) {alert}
UNION ALL
SELECT a.uid, d.id, 'it is at attempt ' || d.attempt || ', and ' || coalesce(k.kept, 0) || ' earlier ones are kept'
FROM deliveries d JOIN alerts a ON a.id = d.alert_id LEFT JOIN k ON k.delivery_id = d.id
WHERE d.id BETWEEN :first AND :last {alert} AND CASE
  WHEN k.kept IS NULL THEN d.attempt > 1
  ELSE k.kept <> d.attempt - 1 OR k.lowest <> 1 OR k.highest <> d.attempt - 1 END
ORDER BY 2
"""

_DUE: Final = """
SELECT a.uid, d.id, CASE
         WHEN d.state IN ({waiting}) AND d.next_at IS NULL THEN 'it is ' || d.state || ' and never due'
         WHEN b.next_at IS NULL THEN 'it is ' || d.state || ' and has something due, but its batch ' || b.id || ' never is'
         ELSE 'it is sending, and nobody has its batch ' || b.id END
FROM deliveries d JOIN batches b ON b.id = d.batch_id JOIN alerts a ON a.id = d.alert_id
WHERE d.id BETWEEN :first AND :last AND (
  (d.state IN ({waiting}) AND d.next_at IS NULL)
  OR ((d.next_at IS NOT NULL OR d.state = 'sending') AND b.next_at IS NULL)
  OR (d.state = 'sending' AND b.owner IS NULL)) {alert}
ORDER BY d.id
""".replace("{waiting}", ", ".join(f"'{s}'" for s in _WAITING))

_PROVIDER_ID: Final = """
WITH known AS (
  SELECT id AS delivery, route, provider_id FROM deliveries WHERE provider_id IS NOT NULL
  UNION ALL SELECT delivery_id, route, provider_id FROM attempts WHERE provider_id IS NOT NULL),
twice AS (
  SELECT min(delivery) AS lowest, max(delivery) AS highest, count(*) AS times
  FROM known GROUP BY route, provider_id HAVING count(*) > 1)
SELECT a.uid, d.id, 'a provider id of it is in the books ' || t.times || ' times'
       || CASE WHEN t.lowest = t.highest THEN ''
               ELSE ', also with delivery ' || CASE WHEN d.id = t.lowest THEN t.highest ELSE t.lowest END END
FROM twice t JOIN deliveries d ON d.id IN (t.lowest, t.highest) JOIN alerts a ON a.id = d.alert_id
WHERE 1 = 1 {alert}
ORDER BY d.id
"""

# A person is in reach of a step when it planned a delivery for them that was not skipped from the start.
_PLAN: Final = """
WITH c AS (
  SELECT d.alert_id, d.step, count(DISTINCT d.recipient_id) AS people,
         count(DISTINCT CASE WHEN d.state <> 'skipped'
           OR EXISTS (SELECT 1 FROM delivery_events e WHERE e.delivery_id = d.id) THEN d.recipient_id END) AS reachable
  FROM deliveries d WHERE 1 = 1 {alert} GROUP BY d.alert_id, d.step)
SELECT a.uid, NULL, CASE
         WHEN s.planned_at IS NOT NULL AND s.next_at IS NOT NULL THEN 'step ' || s.step || ' is planned and still due'
         ELSE 'step ' || s.step || ' counts ' || s.people || ' people, ' || s.unreachable || ' of them out of reach;'
              || ' its rows: ' || coalesce(c.people, 0) || ' people, ' || coalesce(c.reachable, 0) || ' of them in reach' END
FROM alert_steps s JOIN alerts a ON a.id = s.alert_id LEFT JOIN c ON c.alert_id = s.alert_id AND c.step = s.step
WHERE ((s.planned_at IS NOT NULL AND s.next_at IS NOT NULL) OR coalesce(c.people, 0) > s.people
       OR coalesce(c.reachable, 0) <> s.people - s.unreachable) {step_alert}
UNION ALL
SELECT a.uid, NULL, 'batch ' || b.id || ' is of step ' || b.step || ', which the alert does not have'
FROM batches b JOIN alerts a ON a.id = b.alert_id
WHERE NOT EXISTS (SELECT 1 FROM alert_steps s WHERE s.alert_id = b.alert_id AND s.step = b.step) {batch_alert}
ORDER BY 3
"""

#: check -> its statements over everything at once; and over one slice of deliveries.
WHOLE: Final = {"targeted": _RECOUNT, "provider_id": _PROVIDER_ID, "plan": _PLAN}
SLICED: Final = {"targeted": _BELONGS, "transition": _TRANSITION, "chain": _CHAIN, "attempt": _ATTEMPT, "due": _DUE}


@contextmanager
def patiently(connection: Connection) -> Iterator[None]:
    """Statements may take minutes, and sort on the disk instead of in memory. Around a transaction that has not begun."""
    if is_postgresql(connection):
        connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
        # Every statement reads a whole range. A database that is new has no statistics yet, and what was planned for
        # one row a side took minutes over 30,000.
        connection.exec_driver_sql("SET LOCAL enable_nestloop = off")
        yield
        return
    driver = connection.connection.driver_connection  # SQLite changes this outside of a transaction only
    assert driver is not None
    driver.execute("PRAGMA temp_store=FILE")
    try:
        yield
    finally:
        connection.rollback()
        driver.execute("PRAGMA temp_store=MEMORY")  # as every connection of the pool has it


def totals(connection: Connection, alert: int | None) -> tuple[int, int, int]:
    """How many alerts, deliveries and events there are; of one alert, if given."""
    sql = "SELECT (SELECT count(*) FROM alerts), (SELECT count(*) FROM deliveries), (SELECT count(*) FROM delivery_events)"
    if alert is not None:
        sql = """
        SELECT 1, (SELECT count(*) FROM deliveries WHERE alert_id = :alert),
          (SELECT count(*) FROM delivery_events e JOIN deliveries d ON d.id = e.delivery_id WHERE d.alert_id = :alert)"""
    row = connection.execute(text(sql), {} if alert is None else {"alert": alert}).one()
    return row[0], row[1], row[2]


def slices(connection: Connection, alert: int | None) -> list[tuple[int, int]]:
    """Ranges of delivery ids (first, last) that together hold all; for all alerts also what lies outside of any."""
    where = "" if alert is None else "WHERE alert_id = :alert"
    sql = text(f"SELECT min(id), max(id) FROM deliveries {where}")
    first, last = connection.execute(sql, {} if alert is None else {"alert": alert}).one()
    if first is None:
        return [(_LOWEST, _HIGHEST)]
    starts = [_LOWEST, *range(first + SLICE, last + 1, SLICE)]
    return list(zip(starts, [*(s - 1 for s in starts[1:]), _HIGHEST], strict=True))


def faults(
    connection: Connection, sql: str, alert: int | None, part: tuple[int, int] | None = None
) -> Iterator[tuple[str | None, int | None, str]]:
    """Runs one statement of WHOLE, or one of SLICED on a slice; for one alert, if given. Rows are streamed."""
    conditions = {"alert": "d.alert_id", "batch_alert": "b.alert_id", "step_alert": "s.alert_id"}
    values: dict[str, Any] = {} if part is None else {"first": part[0], "last": part[1]}
    for name, column in conditions.items():
        sql = sql.replace(f"{{{name}}}", "" if alert is None else f"AND {column} = :alert")
    if alert is not None:
        values["alert"] = alert
    for row in connection.execute(text(sql), values, execution_options={"yield_per": 1_000}):
        yield row[0], row[1], row[2]
