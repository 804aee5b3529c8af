"""What people see of monitors and incidents: the service's views."""

from dataclasses import replace

from broadcaster.domain.monitor import Verdict
from broadcaster.domain.policy import Release
from broadcaster.services.incidents import Tally as Incidents
from broadcaster.services.keys import Keys
from broadcaster.services.monitors import Monitors
from broadcaster.services.monitors import Tally as Standing
from broadcaster.services.sealing import Sealer
from tests.watching.rig import POLICY, Site


def test_monitors_can_be_read_when_their_secrets_cannot(site: Site) -> None:
    uid = site.watch(config={"what": "mail", "password": "open sesame"})
    assert site.monitors.get(uid).secrets == ("/password",)
    with_another_key = Monitors(site.engine.database, {}, site.engine.alerts, site.incidents, Sealer(b"another key"))
    assert [(view.watch.name, view.secrets) for view in with_another_key.page(None, 10)[0]] == [("Mail", ("",))]


def test_what_is_down_comes_first_and_what_is_paused_last(site: Site) -> None:
    for name in ("Alpha", "beta", "Gamma"):
        site.watch(name)
    site.monitors.pause(site.watch("Aardvark"))
    site.kind.says["gamma"] = Verdict.FAILED
    for _ in range(3):
        site.look()
    assert [v.watch.name for v in site.monitors.worst_first(0, 10)] == ["Gamma", "Alpha", "beta", "Aardvark"]
    assert [v.watch.name for v in site.monitors.worst_first(1, 2)] == ["Alpha", "beta"]
    assert site.monitors.tally() == Standing(down=1, ok=2, paused=1)


def test_that_nobody_looks_is_told_apart_from_that_all_is_well(site: Site) -> None:
    uid = site.watch(vantages=("main", "elsewhere"))
    site.watch("Other")
    site.look()
    assert site.monitors.tally().unwatched == 0
    site.engine.clock.turn(70)  # the interval has passed too
    site.look()
    site.engine.clock.turn(0)
    assert site.monitors.tally() == Standing(ok=2, unwatched=1)
    assert {v.name: v.late for v in site.monitors.get(uid).vantages} == {"elsewhere": True, "main": False}
    site.monitors.pause(uid)
    assert site.monitors.tally() == Standing(ok=1, paused=1)


def test_the_incidents_of_a_monitor_and_what_waits_for_somebody(site: Site) -> None:
    uid = site.watch(policy=replace(POLICY, release=Release.APPROVE))
    other = site.watch("Other")
    assert site.incidents.tally() == Incidents()
    for verdict in (Verdict.FAILED, Verdict.OK, Verdict.FAILED):
        site.kind.says |= {"mail": verdict, "other": verdict}
        for _ in range(3):
            site.look()
            site.follow()
    assert site.incidents.tally() == Incidents(open=2, undecided=1)
    found = site.incidents.of_cause(f"monitor:{uid}", 10)
    assert [i.state for i in found] == ["asking", "closed"]
    assert {c.key for i in found for c in i.causes} == {f"monitor:{uid}"}
    assert len(site.incidents.of_cause(f"monitor:{other}", 1)) == 1
    assert found[0].body.startswith("mail does not answer. Since ")


def test_what_an_incident_says_is_of_what_is_down_now(site: Site) -> None:
    policy = replace(POLICY, group="mail", release=Release.APPROVE)
    for name in ("Smtp", "Imap"):
        site.watch(name, policy=policy)
        site.kind.says[name.lower()] = Verdict.FAILED
    for _ in range(3):
        site.look()
    assert site.incidents.page(None, 1)[0][0].title == "Smtp, Imap is down"
    del site.kind.says["smtp"]
    for _ in range(3):
        site.look()
    assert site.incidents.page(None, 1)[0][0].title == "Imap is down"


def test_who_decided_has_a_name_after_the_key_is_revoked(site: Site) -> None:
    keys = Keys(site.engine.database)
    uid, _ = keys.create("Night desk", ["alerts:send"])
    keys.revoke(uid)
    assert keys.name_of(uid) == "Night desk"
    assert keys.name_of("nobody") is None
