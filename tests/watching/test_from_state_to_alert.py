"""What is seen becomes one alert, and one all-clear to the same people; what is not an outage becomes nothing."""

import json
from dataclasses import replace
from typing import Any
from unittest import mock

import pytest

from broadcaster.domain.audience import AnyOf, Everyone, InGroup
from broadcaster.domain.errors import Conflict
from broadcaster.domain.messages import Severity
from broadcaster.domain.monitor import Verdict
from broadcaster.domain.policy import Release
from broadcaster.services.directory import Directory, Person
from broadcaster.services.incidents import AGAIN, LEASE_MS, Cause, Incidents
from broadcaster.services.lifesign import what_is_stuck
from broadcaster.store import incidents as store
from broadcaster.store.database import UNAVAILABLE
from broadcaster.store.tables import monitors
from tests.engine.rig import NAME
from tests.engine.stepping import Worker
from tests.watching.rig import POLICY, Site


def test_an_outage_is_one_alert_and_its_end_one_all_clear(site: Site) -> None:
    uid = site.watch()
    site.look()
    assert site.state(uid) == "ok"
    site.kind.says["mail"] = Verdict.FAILED
    for _ in range(6):
        site.look()
        site.follow()
    assert site.state(uid) == "down"
    assert site.told() == ["Mail is down"]
    site.kind.says.clear()
    for _ in range(4):
        site.look()
        site.follow()
    assert site.state(uid) == "ok"
    assert site.told() == ["Mail is down", "Mail works again"]
    (incident,) = site.incidents.page(None, 10)[0]
    assert incident.state == "closed"
    assert [c.reason for c in incident.causes] == ["mail does not answer."]


def test_one_failed_look_among_good_ones_raises_nothing(site: Site) -> None:
    uid = site.watch()
    for verdict in [Verdict.OK, Verdict.FAILED, Verdict.FAILED, Verdict.OK, Verdict.FAILED, Verdict.OK]:
        site.kind.says["mail"] = verdict
        site.look()
        site.follow()
    assert site.state(uid) == "ok"
    assert site.told() == []
    assert [c.new for c in site.monitors.changes(uid, None, 10)[0]] == ["ok"]


def test_a_flapping_server_is_one_alert(site: Site) -> None:
    uid = site.watch(hold_down=60.0)
    fails = [Verdict.FAILED] * 3
    for verdict in [*fails, *([Verdict.OK, Verdict.OK, Verdict.OK, *fails] * 4)]:
        site.kind.says["mail"] = verdict
        site.look()
        site.follow()
    assert site.state(uid) == "down"
    assert site.told() == ["Mail is down"]


def test_a_vantage_without_a_connection_of_its_own_says_nothing(site: Site) -> None:
    uid = site.watch(control="192.0.2.1:53")
    site.look()
    site.kind.says["mail"], site.control["main"] = Verdict.FAILED, False
    for _ in range(5):
        site.look()
        site.follow()
    assert site.state(uid) == "unknown"
    assert site.told() == []
    assert site.monitors.get(uid).code == "control_unreachable"
    site.control["main"] = True  # and now it does see that it is down
    for _ in range(3):
        site.look()
        site.follow()
    assert site.told() == ["Mail is down"]


def test_two_of_three_vantages_decide(site: Site) -> None:
    places = ("a", "b", "c")
    uid = site.watch(vantages=places, quorum=2)
    site.kind.says["mail@a"] = Verdict.FAILED
    for _ in range(5):
        site.look(*places)
        site.follow()
    assert site.state(uid) == "ok"
    site.kind.says["mail@b"] = Verdict.FAILED
    for _ in range(3):
        site.look(*places)
        site.follow()
    assert site.state(uid) == "down"
    assert site.told() == ["Mail is down"]


def test_what_fails_for_one_cause_is_one_alert_with_all_reasons(site: Site) -> None:
    policy = replace(POLICY, group="mail", title="{{count}} services are down")
    names = [f"Mail{n}" for n in range(10)]
    for name in names:
        site.watch(name, policy=policy)
        site.kind.says[name.lower()] = Verdict.FAILED
    for _ in range(4):
        site.look()
        site.follow()
    assert site.told() == ["10 services are down"]
    (incident,) = site.incidents.page(None, 10)[0]
    assert sorted(c.name for c in incident.causes) == sorted(names)
    site.kind.says.clear()
    site.kind.says["mail3"] = Verdict.FAILED
    for _ in range(3):
        site.look()
        site.follow()
    assert len(site.told()) == 1  # one still is down
    site.kind.says.clear()
    for _ in range(3):
        site.look()
        site.follow()
    assert len(site.told()) == 2


def test_a_later_cause_joins_and_is_not_told_at_once(site: Site) -> None:
    policy = replace(POLICY, group="mail")
    for name in ("Smtp", "Imap"):
        site.watch(name, policy=policy)
    site.kind.says["smtp"] = Verdict.FAILED
    for _ in range(4):
        site.look()
        site.follow()
    site.kind.says["imap"] = Verdict.FAILED
    for _ in range(4):
        site.look()
        site.follow()
    assert site.told() == ["Smtp is down"]
    assert [c.name for c in site.incidents.page(None, 10)[0][0].causes] == ["Smtp", "Imap"]


def test_held_it_is_told_when_the_time_is_over_and_nobody_has_dismissed_it(site: Site) -> None:
    site.watch(policy=replace(POLICY, release=Release.HOLD, hold=120))
    site.kind.says["mail"] = Verdict.FAILED
    for _ in range(4):
        site.look()
    site.follow()
    assert site.told() == []
    site.engine.clock.turn(120)
    site.follow()
    assert site.told() == ["Mail is down"]


def test_dismissed_it_is_not_told_for_as_long_as_it_lasts(site: Site) -> None:
    site.watch(policy=replace(POLICY, release=Release.HOLD, hold=120))
    site.kind.says["mail"] = Verdict.FAILED
    for _ in range(3):
        site.look()
    (incident,) = site.incidents.page(None, 10)[0]
    site.incidents.dismiss(incident.uid, "nurse")
    for _ in range(20):
        site.look()
        site.follow()
    assert site.told() == []
    site.kind.says.clear()
    for _ in range(3):
        site.look()
        site.follow()
    assert site.told() == []
    assert site.incidents.get(incident.uid).state == "closed"
    site.kind.says["mail"] = Verdict.FAILED  # the next outage is asked about anew
    for _ in range(3):
        site.look()
    assert len(site.incidents.page(None, 10, only_open=True)[0]) == 1


def test_what_fails_after_a_dismissal_is_asked_about_by_itself(site: Site) -> None:
    policy = replace(POLICY, group="mail", release=Release.APPROVE)
    for name in ("Smtp", "Imap"):
        site.watch(name, policy=policy)
    site.kind.says["smtp"] = Verdict.FAILED
    for _ in range(3):
        site.look()
    (dismissed,) = site.incidents.page(None, 10)[0]
    site.incidents.dismiss(dismissed.uid, "nurse")
    site.kind.says["imap"] = Verdict.FAILED
    for _ in range(3):
        site.look()
    new, old = site.incidents.page(None, 10)[0]
    assert [c.name for c in new.causes] == ["Imap"]
    assert (new.state, old.uid, old.state) == ("asking", dismissed.uid, "dismissed")
    site.kind.says.clear()
    for _ in range(3):
        site.look()
        site.follow()
    assert [i.state for i in site.incidents.page(None, 10)[0]] == ["closed", "closed"]
    assert site.told() == []


def test_it_waits_for_approval_and_is_told_at_once_then(site: Site) -> None:
    site.watch(policy=replace(POLICY, release=Release.APPROVE))
    site.kind.says["mail"] = Verdict.FAILED
    for _ in range(20):
        site.look()
        site.follow()
    assert site.told() == []
    (incident,) = site.incidents.page(None, 10)[0]
    assert incident.state == "asking"
    site.incidents.release(incident.uid, "matron")
    site.follow()
    assert site.told() == ["Mail is down"]
    with pytest.raises(Conflict, match="told"):
        site.incidents.dismiss(incident.uid, "matron")


def test_what_ends_before_it_was_told_says_nothing(site: Site) -> None:
    site.watch(policy=replace(POLICY, release=Release.HOLD, hold=120))
    for verdict in [Verdict.FAILED] * 3 + [Verdict.OK] * 3:
        site.kind.says["mail"] = verdict
        site.look()
        site.follow()
    site.engine.clock.turn(200)
    site.follow()
    assert site.told() == []


def test_a_reminder_comes_at_its_pace_until_it_is_over(site: Site) -> None:
    site.watch(policy=replace(POLICY, remind_every=60))
    site.kind.says["mail"] = Verdict.FAILED
    for _ in range(15):
        site.look()
        site.follow()
    titles = site.told()
    assert titles[0] == "Mail is down"
    assert titles[1:] == ["Mail is still down"] * (len(titles) - 1)
    assert 2 <= len(titles) - 1 <= 3
    site.kind.says.clear()
    for _ in range(3):
        site.look()
        site.follow()
    assert site.told()[-1] == "Mail works again"


def test_in_maintenance_nothing_is_raised_and_afterwards_what_is_still_down_is(site: Site) -> None:
    uid = site.watch()
    now = site.engine.rows("SELECT since FROM monitors")[0][0]
    site.monitors.add_window(uid, None, now + 100_000, "new certificate", "me")
    site.kind.says["mail"] = Verdict.FAILED
    for _ in range(5):
        site.look()
        site.follow()
    assert site.state(uid) == "down"
    assert site.told() == []
    site.engine.clock.turn(100)
    site.look()
    site.follow()
    assert site.told() == ["Mail is down"]


def test_the_all_clear_goes_to_those_who_may_have_got_the_alert_and_to_nobody_else(site: Site) -> None:
    site.watch()
    site.kind.says["mail"] = Verdict.FAILED
    for _ in range(3):
        site.look()
    site.follow()
    Directory(site.engine.database, site.engine.channels).create(Person("Late", addresses={NAME: ["9999"]}))
    site.kind.says.clear()
    for _ in range(3):
        site.look()
        site.follow()
    assert site.told() == ["Mail is down", "Mail works again"]


def test_what_has_not_left_when_it_is_over_is_stopped_and_nobody_hears_of_it(site: Site) -> None:
    a_raised_alert_is_over(site)
    steps(site)
    site.follow()
    assert site.told() == []
    assert site.incidents.page(None, 10)[0][0].state == "closed"


def test_an_all_clear_waits_for_what_is_on_its_way(site: Site) -> None:
    a_raised_alert_is_over(site)
    site.engine.planner.run_one(lowest=3)
    worker = Worker(site.engine, "slow")
    worker.go()
    worker.go()  # marked, and not yet written
    steps(site)
    assert site.incidents.page(None, 10)[0][0].state == "clearing"
    while worker.busy:
        worker.go()
    site.follow()
    assert site.told() == ["Mail is down", "Mail works again"]


def a_raised_alert_is_over(site: Site) -> None:
    """Mail was down, which was raised, and it is well again; nothing was planned or sent in between."""
    site.watch()
    site.kind.says["mail"] = Verdict.FAILED
    for _ in range(3):
        site.look()
    site.engine.clock.turn(0.6)
    assert site.incidents.run_one()
    site.kind.says.clear()
    for _ in range(3):
        site.look()


def steps(site: Site) -> None:
    """A few of the incident's, while no alert moves."""
    for _ in range(4):
        site.engine.clock.turn(0.05)
        site.incidents.run_one()


@pytest.mark.parametrize("part", ["raise_within", "announce"])
def test_a_step_that_breaks_off_is_taken_whole_or_not_at_all(site: Site, part: str) -> None:
    """Before its transaction ends, and after."""
    site.watch(policy=replace(POLICY, remind_every=60))
    site.kind.says["mail"] = Verdict.FAILED
    for _ in range(3):
        site.look()
    whole = getattr(site.engine.alerts, part)
    for _ in range(2):  # the alert, and a reminder

        def killed(*args: Any) -> None:
            whole(*args)
            raise RuntimeError("killed")

        site.engine.clock.turn(60)
        with mock.patch.object(site.engine.alerts, part, side_effect=killed), pytest.raises(RuntimeError):
            site.incidents.run_one()
        site.engine.clock.turn(30)
        site.follow()
    assert site.told() == ["Mail is down", "Mail is still down"]
    assert [what for what, _ in site.incidents.page(None, 10)[0][0].alerts] == ["alert", "reminder"]


def test_who_wakes_up_after_its_lease_says_nothing(site: Site) -> None:
    down(site, "a")
    site.engine.clock.turn(1)
    with site.engine.database.write() as connection:
        frozen = store.claim(connection, "frozen", LEASE_MS)
    assert frozen is not None
    assert not site.incidents.run_one()  # it is leased
    site.engine.clock.turn(LEASE_MS / 1000)
    site.follow()
    woken = Incidents(
        site.engine.database, site.engine.alerts, mock.Mock(), owner=lambda: "frozen", source="IT", expires_in=600,
        timezone="Europe/London",
    )  # fmt: skip
    with mock.patch.object(store, "any_due", return_value=True), mock.patch.object(store, "claim", return_value=frozen):
        assert woken.run_one()
    site.follow()
    assert site.told() == ["A is down"]


def test_trouble_with_the_database_puts_it_off_for_a_moment_only_and_is_no_excuse(site: Site) -> None:
    site.watch()
    site.kind.says["mail"] = Verdict.FAILED
    for _ in range(3):
        site.look()
    site.engine.clock.turn(0.6)
    locked = UNAVAILABLE[0]("", None, Exception("lock timeout"))
    for wait in (1.1, 61):
        with mock.patch.object(site.engine.alerts, "raise_within", side_effect=locked), pytest.raises(UNAVAILABLE):
            site.incidents.run_one()
        assert not site.incidents.run_one()
        site.engine.clock.turn(wait)
    with site.engine.database.read() as connection:
        assert what_is_stuck(connection) is not None  # it was due all the time
    site.follow()
    assert site.told() == ["Mail is down"]


def test_a_group_or_channel_that_is_gone_keeps_nobody_else_in_the_dark(site: Site) -> None:
    directory = Directory(site.engine.database, site.engine.channels)
    group = directory.create_group("On call", None)
    audience = AnyOf((Everyone(), InGroup("On call")))
    site.watch(policy=replace(POLICY, audience=audience))
    directory.delete_group(group.id)
    lost = json.loads(site.engine.rows("SELECT policy FROM monitors")[0][0]) | {"steps": [[[NAME, "carrier"], 0]]}
    with site.engine.database.write() as connection:
        connection.execute(monitors.update().values(policy=json.dumps(lost)))
    site.kind.says["mail"] = Verdict.FAILED
    for _ in range(3):
        site.look()
    site.follow()
    assert site.told() == ["Mail is down"]
    (incident,) = site.incidents.page(None, 10)[0]
    assert "On call" in str(incident.lacks)
    assert "carrier" in str(incident.lacks)
    assert "instead" not in str(incident.lacks)  # there was another way
    with site.engine.database.read() as connection:
        assert what_is_stuck(connection) is not None  # somebody has to look after it


def test_where_nobody_at_all_would_be_told_it_is_tried_again(site: Site) -> None:
    directory = Directory(site.engine.database, site.engine.channels)
    group = directory.create_group("On call", None)
    site.watch(policy=replace(POLICY, audience=InGroup("On call")))
    directory.delete_group(group.id)
    site.kind.says["mail"] = Verdict.FAILED
    for _ in range(3):
        site.look()
    site.follow()
    (incident,) = site.incidents.page(None, 10)[0]
    assert "On call" in str(incident.fault)
    directory.create_group("On call", None)
    directory.create(Person("Late", addresses={NAME: ["9999"]}, groups=["On call"]))
    site.engine.clock.turn(30)
    site.follow()
    assert site.told() == ["Mail is down"]
    assert site.incidents.get(incident.uid).state == "told"
    assert site.incidents.get(incident.uid).fault is None


def test_what_joins_is_told_after_a_while_in_one_message_and_what_is_worse_at_once(site: Site) -> None:
    policy = replace(POLICY, group="mail", severity=Severity.HIGH, update_after=600)
    for name in ("A", "B", "C"):
        site.watch(name, policy=policy)
    site.kind.says["a"] = Verdict.FAILED
    for _ in range(4):
        site.look()
        site.follow()
    site.kind.says["b"] = site.kind.says["c"] = Verdict.FAILED
    for _ in range(4):
        site.look()
        site.follow()
    assert site.told() == ["A is down"]
    site.engine.clock.turn(600)
    site.follow()
    assert site.told() == ["A is down", "B, C is down"]
    with site.engine.database.write() as connection:
        worse = Cause("test:d", "D", "a test", "It burns.", Severity.CRITICAL)
        site.incidents.raise_cause(connection, worse, policy, "mail")
    site.follow()
    assert site.told() == ["A is down", "B, C is down", "D is down"]


def test_what_only_a_test_says_never_meets_what_is_real(site: Site) -> None:
    with site.engine.database.write() as connection:
        site.incidents.raise_cause(
            connection, Cause("t", "Test thing", "a test", "No.", Severity.CRITICAL), POLICY, "all", sandbox=True
        )
        site.incidents.raise_cause(connection, Cause("r", "Mail", "mail", "No.", Severity.CRITICAL), POLICY, "all")
    site.follow()
    rows = site.engine.rows("SELECT title, sandbox FROM alerts ORDER BY title")
    assert [(row.title, bool(row.sandbox)) for row in rows] == [("Mail is down", False), ("Test thing is down", True)]


def test_a_cause_that_goes_and_comes_between_two_steps_leaves_the_all_clear_due(site: Site) -> None:
    cause = Cause("c", "Mail", "mail", "No.", Severity.CRITICAL)
    with site.engine.database.write() as connection:
        site.incidents.raise_cause(connection, cause, POLICY, "g")
    site.follow()
    for _ in range(3):
        with site.engine.database.write() as connection:
            site.incidents.clear_cause(connection, "c")
            site.incidents.raise_cause(connection, cause, POLICY, "g")
        site.engine.clock.turn(0.1)
        site.incidents.run_one()
    with site.engine.database.write() as connection:
        site.incidents.clear_cause(connection, "c")
    site.follow()
    assert site.told() == ["Mail is down", "Mail works again"]


def test_an_incident_can_be_closed_by_hand_and_what_still_fails_is_a_new_one(site: Site) -> None:
    site.watch()
    site.kind.says["mail"] = Verdict.FAILED
    for _ in range(3):
        site.look()
    site.follow()
    (incident,) = site.incidents.page(None, 10)[0]
    site.incidents.close(incident.uid, "matron")
    site.follow()
    assert site.told() == ["Mail is down", "Mail works again"]
    site.look()
    site.follow()
    assert site.told() == ["Mail is down", "Mail works again", "Mail is down"]


def test_a_password_that_is_refused_is_not_tried_until_the_mailbox_is_locked(site: Site) -> None:
    site.watch(sign_in_pause=300.0)
    site.kind.says["mail"], site.kind.refused = Verdict.FAILED, True
    for _ in range(30):
        site.look()
    assert len(site.kind.looks) == 3
    site.engine.clock.turn(30)
    site.look()
    assert len(site.kind.looks) == 4


# ---- what happens while something is being said ------------------------------------------------------------------------


def down(site: Site, key: str, severity: Severity = Severity.HIGH, **policy: Any) -> None:
    """A cause in the one group of these tests."""
    cause = Cause(key, key.upper(), "a test", "No.", severity)
    laid_down = replace(POLICY, severity=Severity.HIGH, **{"update_after": 60, **policy})
    with site.engine.database.write() as connection:
        site.incidents.raise_cause(connection, cause, laid_down, "mail")


def well(site: Site, key: str) -> None:
    with site.engine.database.write() as connection:
        site.incidents.clear_cause(connection, key)


def test_what_joins_in_the_instant_of_a_word_is_told_in_the_next(site: Site) -> None:
    for first, second in (("a", "b"), ("c", "d")):  # the first word, and an update
        down(site, first)
        site.engine.clock.turn(60)
        with mock.patch.object(site.engine.alerts, "announce", side_effect=lambda *_: down(site, second)):  # noqa: B023
            site.incidents.run_one()
        site.follow()
        site.engine.clock.turn(60)
        site.follow()
    assert site.told() == ["A is down", "B is down", "C is down", "D is down"]


def test_what_had_gone_when_the_rest_was_told_and_comes_back_is_told(site: Site) -> None:
    down(site, "b")
    down(site, "a")
    well(site, "b")
    site.follow()
    assert site.told() == ["A is down"]
    down(site, "b")
    site.engine.clock.turn(60)
    site.follow()
    assert site.told() == ["A is down", "B is down"]


def test_what_ends_while_it_cannot_be_told_is_not_told_any_more(site: Site) -> None:
    down(site, "a", audience=InGroup("Nobody"))
    site.engine.clock.turn(1)
    assert site.incidents.run_one()
    with site.engine.database.read() as connection:
        assert what_is_stuck(connection) is not None
    well(site, "a")
    site.follow()
    (incident,) = site.incidents.page(None, 10)[0]
    assert (incident.state, site.told()) == ("closed", [])
    with site.engine.database.read() as connection:
        assert what_is_stuck(connection) is None


def test_what_is_dismissed_while_it_cannot_be_told_is_not_told_any_more(site: Site) -> None:
    down(site, "a", audience=InGroup("Nobody"))
    site.engine.clock.turn(1)
    assert site.incidents.run_one()
    (incident,) = site.incidents.page(None, 10)[0]
    site.incidents.dismiss(incident.uid, "matron")
    Directory(site.engine.database, site.engine.channels).create_group("Nobody", None)
    site.engine.clock.turn(60)
    site.follow()
    assert site.incidents.get(incident.uid).state == "dismissed"
    assert site.engine.rows("SELECT id FROM alerts") == []


def test_what_is_dismissed_while_its_step_begins_is_not_told(site: Site) -> None:
    down(site, "a", release=Release.HOLD, hold=60)
    site.engine.clock.turn(60)
    (incident,) = site.incidents.page(None, 10)[0]
    callers = site.incidents._callers

    def meanwhile(test: bool) -> Any:
        site.incidents.dismiss(incident.uid, "nurse")
        return callers(test)

    with mock.patch.object(site.incidents, "_callers", meanwhile):
        site.incidents.run_one()
    site.follow()
    assert (site.told(), site.incidents.get(incident.uid).state) == ([], "dismissed")
    well(site, "a")
    assert site.incidents.get(incident.uid).state == "closed"


def test_where_a_group_has_become_empty_nobody_believes_that_people_were_told(site: Site) -> None:
    directory = Directory(site.engine.database, site.engine.channels)
    directory.create_group("On call", None)
    down(site, "a", audience=InGroup("On call"))
    site.follow()
    (incident,) = site.incidents.page(None, 10)[0]
    assert (incident.state, incident.fault) == ("waiting", "audience: there is nobody in it.")
    with site.engine.database.read() as connection:
        assert what_is_stuck(connection) is not None


def test_what_goes_and_comes_back_is_not_told_again_while_the_rest_lasts(site: Site) -> None:
    down(site, "a")
    down(site, "b")
    site.follow()
    for _ in range(3):
        well(site, "b")
        site.engine.clock.turn(5)
        site.follow()
        down(site, "b")
        site.engine.clock.turn(120)
        site.follow()
    assert site.told() == ["A, B is down"]
    (incident,) = site.incidents.page(None, 10)[0]
    assert [(c.name, c.cleared_at) for c in incident.causes] == [("A", None), ("B", None)]


def test_what_grows_worse_is_told_at_once_and_only_once(site: Site) -> None:
    down(site, "a", update_after=600)
    site.follow()
    for severity in (Severity.CRITICAL, Severity.HIGH, Severity.CRITICAL):
        down(site, "a", severity, update_after=600)
        site.follow()
    assert site.told() == ["A is down", "A is down"]
    assert [row[0] for row in site.engine.rows("SELECT severity FROM alerts ORDER BY id")] == ["high", "critical"]


def test_the_last_word_is_the_one_that_holds(site: Site) -> None:
    """It fails again while a slow send holds the all-clear up."""
    down(site, "a")
    site.engine.clock.turn(1)
    site.incidents.run_one()
    site.engine.planner.run_one(lowest=3)
    slow = Worker(site.engine, "slow")
    slow.go()
    slow.go()  # marked, and not yet written
    well(site, "a")
    steps(site)
    down(site, "a")
    site.engine.clock.turn(1)
    site.incidents.run_one()
    while slow.busy:
        slow.go()
    site.follow()
    assert site.told() == ["A is down", "A is down"]
    old = site.incidents.page(None, 10)[0][1]
    assert (old.state, old.lacks) == ("closed", AGAIN)
    well(site, "a")
    site.follow()
    assert site.told() == ["A is down", "A is down", "A works again"]
    assert [what for what, _ in site.incidents.page(None, 10)[0][0].alerts] == ["alert", "earlier", "all_clear"]


def test_what_is_over_is_said_though_something_else_of_its_group_has_failed_since(site: Site) -> None:
    down(site, "a")
    site.engine.clock.turn(1)
    site.incidents.run_one()
    site.engine.planner.run_one(lowest=3)
    slow = Worker(site.engine, "slow")
    slow.go()
    slow.go()  # marked, and not yet written
    well(site, "a")
    steps(site)
    down(site, "b", all_clear=False)
    site.engine.clock.turn(1)
    site.incidents.run_one()
    while slow.busy:
        slow.go()
    site.follow()
    assert sorted(site.told()) == ["A is down", "A works again", "B is down"]


def test_what_was_put_off_is_due_when_something_happens(site: Site) -> None:
    directory = Directory(site.engine.database, site.engine.channels)
    group = directory.create_group("On call", None)
    directory.create(Person("Late", addresses={NAME: ["9999"]}, groups=["On call"]))
    down(site, "a", audience=InGroup("On call"), remind_every=60)
    site.follow()
    directory.delete_group(group.id)
    site.engine.clock.turn(60)
    assert site.incidents.run_one()  # a reminder that cannot be sent
    well(site, "a")
    site.engine.clock.turn(0.1)
    site.incidents.run_one()
    site.incidents.run_one()
    site.follow()
    assert site.told() == ["A is down", "A works again"]


def test_growth_is_measured_by_what_still_lasts(site: Site) -> None:
    down(site, "a", Severity.CRITICAL, update_after=600)
    site.follow()
    down(site, "b", Severity.NORMAL)
    site.engine.clock.turn(600)
    site.follow()
    well(site, "a")
    site.follow()
    down(site, "b", Severity.HIGH)
    site.follow()
    assert site.told() == ["A is down", "B is down", "B is down"]


def test_what_is_said_again_in_other_words_is_told_in_these(site: Site) -> None:
    down(site, "a", remind_every=60)
    site.follow()
    cause = Cause("a", "A is CRITICAL", "a test", "No.", Severity.HIGH)
    with site.engine.database.write() as connection:
        site.incidents.raise_cause(connection, cause, POLICY, "mail")
    site.engine.clock.turn(60)
    site.follow()
    assert site.told() == ["A is down", "A is CRITICAL is still down"]


def test_a_monitor_that_matters_more_is_told_at_once(site: Site) -> None:
    policy = replace(POLICY, group="mail", severity=Severity.HIGH, update_after=600)
    site.watch("Smtp", policy=policy)
    site.watch("Imap", policy=replace(policy, severity=Severity.CRITICAL))
    for name in ("smtp", "imap"):
        site.kind.says[name] = Verdict.FAILED
        for _ in range(4):
            site.look()
            site.follow()
    assert site.told() == ["Smtp is down", "Imap is down"]


def test_what_only_a_test_says_never_silences_the_heartbeat(site: Site) -> None:
    cause = Cause("t", "Test thing", "a test", "No.", Severity.CRITICAL)
    with site.engine.database.write() as connection:
        site.incidents.raise_cause(connection, cause, replace(POLICY, audience=InGroup("Nobody")), "g", sandbox=True)
    site.follow()
    (incident,) = site.incidents.page(None, 10)[0]
    assert incident.fault is not None
    site.engine.clock.turn(61)
    with site.engine.database.read() as connection:
        assert what_is_stuck(connection) is None


def test_however_many_words_there_were_the_all_clear_is_sent_and_each_is_stopped_once(site: Site) -> None:
    down(site, "a", remind_every=60)
    for _ in range(6):
        site.follow()
        site.engine.clock.turn(60)
    site.incidents.run_one()  # the last one has not left
    well(site, "a")
    with (
        mock.patch("broadcaster.services.incidents.MAX_HAD", 3),
        mock.patch("broadcaster.domain.audience.MAX_HAD", 3),
        mock.patch.object(site.engine.alerts, "cancel", wraps=site.engine.alerts.cancel) as cancel,
    ):
        site.engine.planner.run_one(lowest=3)
        worker = Worker(site.engine, "slow")
        worker.go()
        worker.go()  # marked, and not yet written
        for _ in range(4):
            site.engine.clock.turn(0.6)
            assert site.incidents.run_one()
        while worker.busy:
            worker.go()
        site.follow()
        assert cancel.call_count == len({call.args for call in cancel.call_args_list}) > 0
    assert site.told()[-1] == "A works again"
    assert site.incidents.page(None, 10)[0][0].state == "closed"


def test_where_every_way_is_gone_the_others_are_taken_and_somebody_hears_of_it(site: Site) -> None:
    down(site, "a", steps=((("carrier",), 0),))
    site.follow()
    assert site.told() == ["A is down"]
    (incident,) = site.incidents.page(None, 10)[0]
    assert incident.lacks == f"Told without channel 'carrier', which is gone. Told by {NAME} instead."
