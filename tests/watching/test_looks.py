"""The schedule: every look that was due is made and recorded once, whoever dies; and what is kept of a monitor."""

import itertools
import json
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from unittest import mock

import pytest
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from broadcaster.domain.errors import Conflict, Invalid, NotFound
from broadcaster.domain.monitor import Verdict
from broadcaster.services.looking import LEASE_MS
from broadcaster.services.monitors import Watch
from broadcaster.store import monitors as store
from broadcaster.store.database import UNAVAILABLE
from tests.watching.rig import INTERVAL, Site


def due_times(site: Site) -> list[int]:
    return [row[0] for row in site.engine.rows("SELECT due_at FROM readings ORDER BY due_at")]


def test_each_look_comes_at_its_pace_and_what_was_missed_is_not_made_up_for(site: Site) -> None:
    site.watch()
    for _ in range(4):
        site.look()
    first = due_times(site)[0]
    assert due_times(site) == [first + n * 10_000 for n in range(4)]
    site.engine.clock.turn(35)
    site.look()
    site.look()
    assert [at - first for at in due_times(site)[4:]] == [40_000, 80_000]


def test_a_look_whose_process_died_is_made_by_another_and_recorded_once(site: Site) -> None:
    site.watch()
    with site.engine.database.write() as connection:
        (claimed,) = store.claim(connection, "main", "dead", lease=LEASE_MS, limit=10, grace=0)
    site.looker().tick(0.01)
    assert due_times(site) == []  # it is leased
    with site.engine.database.write() as connection:
        store.release(connection, "dead")  # as a neighbour does that sees the death
    site.looker().tick(0.01)
    assert due_times(site) == [claimed.due_at]
    with site.engine.database.write() as connection:  # the dead one was only asleep, and comes with what it saw
        assert store.hold(connection, claimed, "dead") is None
    site.look()
    assert due_times(site) == [claimed.due_at]


def test_a_look_whose_process_cannot_be_seen_is_made_when_its_lease_ends(site: Site) -> None:
    site.watch(timeout=5.0)
    with site.engine.database.write() as connection:
        (claimed,) = store.claim(connection, "main", "elsewhere", lease=LEASE_MS, limit=10, grace=0)
    site.engine.clock.turn(LEASE_MS / 1000 + 5.1)
    site.looker().tick(0.01)
    assert due_times(site) == [claimed.due_at]


def test_many_that_look_at_once_take_each_look_once(site: Site) -> None:
    for n in range(30):
        site.watch(f"Mail{n}")
    at_once = threading.Barrier(6)

    def claim(n: int) -> list[int]:
        at_once.wait(10)
        with site.engine.database.write() as connection:
            return [look.monitor_id for look in store.claim(connection, "main", f"{n}", lease=LEASE_MS, limit=10, grace=0)]

    with ThreadPoolExecutor(6) as pool:
        taken = [monitor for found in pool.map(claim, range(6)) for monitor in found]
    assert len(taken) == len(set(taken))
    assert site.looker().tick(0.01) == 30 - len(taken)


def test_a_paused_monitor_looks_no_more_and_resumed_at_once(site: Site) -> None:
    uid = site.watch()
    site.look()
    site.monitors.pause(uid)
    site.monitors.pause(uid)
    for _ in range(3):
        site.look()
    assert len(due_times(site)) == 1
    with pytest.raises(Conflict, match="paused"):
        site.monitors.look_now(uid)
    site.monitors.resume(uid)
    site.look()
    assert len(due_times(site)) == 2


def test_a_monitor_that_is_deleted_while_it_raises_ends_with_an_all_clear(site: Site) -> None:
    uid = site.watch()
    site.kind.says["mail"] = Verdict.FAILED
    for _ in range(3):
        site.look()
    site.follow()
    site.monitors.delete(uid)
    site.follow()
    assert site.told() == ["Mail is down", "Mail works again"]
    with pytest.raises(NotFound):
        site.monitors.get(uid)
    site.watch()  # the name is free again


def test_secrets_are_used_and_never_shown_nor_kept_in_plain_words(site: Site) -> None:
    uid = site.watch(config={"what": "mail", "password": "hunter2-hunter2"})
    view = site.monitors.get(uid)
    assert view.watch.config == {"what": "mail"}
    assert view.secrets == ("/password",)
    assert "hunter2" not in json.dumps([list(map(str, row)) for row in site.engine.rows("SELECT * FROM monitors")])
    same = Watch("Mail", "obedient", {"what": "mail"}, interval=INTERVAL)
    assert site.monitors.replace(uid, same, keep_secrets=True).secrets == ("/password",)
    elsewhere = Watch("Mail", "obedient", {"what": "a host of mine"}, interval=INTERVAL)
    with pytest.raises(Invalid, match="given again"):  # or it could be had by pointing it somewhere else
        site.monitors.replace(uid, elsewhere, keep_secrets=True)


def test_faults_of_a_config_are_told_without_what_was_given(site: Site) -> None:
    with pytest.raises(Invalid) as refused:
        site.watch(config={"what": "mail", "password": ["hunter2"], "passwort": "hunter2"})
    assert "config.password" in refused.value.detail
    assert "config.passwort" in refused.value.detail
    assert "hunter2" not in refused.value.detail


def test_a_name_is_there_once(site: Site) -> None:
    site.watch()
    with pytest.raises(Conflict, match="name"):
        site.watch()


def test_a_clock_that_is_set_back_blinds_nobody(site: Site) -> None:
    uid = site.watch()
    site.engine.clock.turn(3600)
    site.look()
    site.engine.clock.set(site.engine.clock.ahead - 3600)
    for _ in range(4):
        site.look()
    assert len(due_times(site)) >= 4
    assert site.state(uid) == "ok"


@pytest.mark.parametrize("fault", [ValueError("no"), IntegrityError("", None, Exception("a race that never ends"))])
def test_one_reading_that_cannot_be_kept_takes_no_other_with_it(site: Site, fault: Exception) -> None:
    for n in range(3):
        site.watch(f"Mail{n}")
    write = store.record

    def record(connection: Connection, row: Mapping[str, Any]) -> bool:
        if row["monitor_id"] == 2:
            raise fault
        return write(connection, row)

    with mock.patch.object(store, "record", record):
        site.look()
    assert {row[0] for row in site.engine.rows("SELECT monitor_id FROM readings")} == {1, 3}


def test_what_was_seen_outlives_a_moment_without_the_database(site: Site) -> None:
    site.watch()
    looker = site.looker()
    away = UNAVAILABLE[0]("", None, Exception())
    with mock.patch.object(store, "record", side_effect=away), pytest.raises(UNAVAILABLE):
        looker.tick(0.01)
    looker.tick(0.01)
    assert len(due_times(site)) == 1
    assert len(site.kind.looks) == 1


def test_trouble_while_a_bad_one_is_set_apart_loses_none_of_the_rest(site: Site) -> None:
    for n in range(4):
        site.watch(f"Mail{n}")
    write, calls = store.record, itertools.count()

    def record(connection: Connection, row: Mapping[str, Any]) -> bool:
        if row["monitor_id"] == 2:
            raise ValueError("this one cannot be written")
        if next(calls) == 2:  # after the first of the rest was written by itself
            raise UNAVAILABLE[0]("", None, Exception())
        return write(connection, row)

    looker = site.looker()
    with mock.patch.object(store, "record", record):
        with pytest.raises(UNAVAILABLE):
            looker.tick(0.01)
        looker.tick(0.01)
    assert {row[0] for row in site.engine.rows("SELECT monitor_id FROM readings")} == {1, 3, 4}
    assert len(site.kind.looks) == 4


def test_whatever_a_reason_holds_it_is_kept(site: Site) -> None:
    site.watch()
    site.kind.reason = "half \ud800 and nothing \x00 at all " + "x" * 1_000
    site.look()
    (reason,) = site.engine.rows("SELECT reason FROM readings")[0]
    assert reason.startswith("half ? and nothing")
    assert len(reason) == 300
