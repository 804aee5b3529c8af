"""What other systems tell us becomes one alert for what fails together; replays, storms and late words change nothing."""

import base64
import hmac
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier
from typing import Any

import pytest

from broadcaster.domain.errors import Invalid, NotFound, NotSignedIn, TooMany
from broadcaster.domain.matching import Match
from broadcaster.domain.messages import Severity
from broadcaster.domain.signal import Post
from broadcaster.ingest.formats import FORMATS
from broadcaster.services.signals import BODY, TITLE, Rule, Signals
from broadcaster.store import signals as store
from tests.engine.rig import START
from tests.watching.rig import POLICY, Site

SAYING = replace(POLICY, title=TITLE, body=BODY)


class Told:
    """A site with one source of our plain shape, and the rules that are given."""

    def __init__(self, site: Site, *rules: Rule, **source: Any) -> None:
        self.site = site
        self.signals = Signals(site.engine.database, FORMATS, site.engine.alerts, site.incidents, site.sealer)
        for rule in rules or (Rule("all", Match(), SAYING),):
            self.signals.add_rule(rule)
        self.source, self.token = self.signals.create_source("watchtower", "generic", {}, **source)

    def say(self, key: str = "mail", status: str = "firing", headers: dict[str, str] | None = None, **more: Any) -> str:
        """What became of it."""
        body = json.dumps({"key": key, "status": status, "title": f"{key} is down", "body": "It timed out.", **more})
        found = self.signals.take(self.token, Post(headers or {}, body.encode()))
        self.site.follow()
        return found[0].what if found else "seen"


def test_from_firing_to_resolved(site: Site) -> None:
    told = Told(site)
    assert [told.say(), told.say(), told.say(status="resolved"), told.say(status="resolved")] == [
        "raise",
        "go_on",
        "clear",
        "nothing_to_clear",
    ]
    assert site.told() == ["mail is down", "mail is down works again"]


def test_a_storm_is_one_alert_and_a_label_can_divide_it(site: Site) -> None:
    told = Told(site, Rule("all", Match(), replace(SAYING, title="{{count}} are down"), group_by=("site",)))
    for n in range(5):
        body = {"key": f"n{n}", "status": "firing", "title": f"n{n}", "labels": {"site": "north"}}
        told.signals.take(told.token, Post({}, json.dumps(body).encode()))
    site.follow()
    assert site.told() == ["5 are down"]
    told.say("s1", labels={"site": "south"})
    assert site.told() == ["5 are down", "1 are down"]


def test_what_comes_late_or_is_played_again_changes_nothing(site: Site) -> None:
    told = Told(site)
    assert told.say(at="2026-11-25T09:00:00Z") == "raise"
    assert told.say(status="resolved", at="2026-11-25T09:05:00Z") == "clear"
    assert told.say(at="2026-11-25T09:00:00Z") == "stale"
    assert told.say(at="2026-11-25T09:06:00Z") == "raise"
    assert told.say(status="resolved", at="2026-11-25T09:05:00Z") == "stale"
    assert site.told() == ["mail is down", "mail is down works again", "mail is down"]


def test_an_end_in_whole_seconds_is_an_end(site: Site) -> None:
    told = Told(site)
    assert told.say(at="2026-11-25T09:00:00.900Z") == "raise"
    assert told.say(status="resolved", at="2026-11-25T09:00:00Z") == "clear"
    assert told.say(at="2026-11-25T09:00:00.900Z") == "stale"  # sent again: its answer was lost
    assert told.say(at="2026-11-25T09:00:01.200Z") == "raise"


def test_a_beginning_that_is_played_again_after_its_end_is_stale_to_the_instant(site: Site) -> None:
    told = Told(site)
    assert told.say(at="2026-11-25T09:00:00Z") == "raise"
    assert told.say(at="2026-11-25T09:00:00Z") == "go_on"
    assert told.say(status="resolved", at="2026-11-25T09:00:00.500Z") == "clear"
    assert told.say(at="2026-11-25T09:00:00.400Z") == "stale"
    assert told.say(at="2026-11-25T09:00:00.500Z") == "stale"


def test_the_first_rule_that_means_it_takes_it(site: Site) -> None:
    told = Told(
        site,
        Rule("noise", Match(labels={"env": "test*"}), None),
        Rule("urgent", Match(severities=(Severity.CRITICAL,)), replace(SAYING, title="URGENT {{name}}")),
        Rule("mail", Match(text="mail"), SAYING),
    )
    assert told.say(labels={"env": "testing"}) == "drop"
    assert told.say("disk") == "no_rule"
    assert told.say("disk", severity="critical") == "raise"
    assert told.say("mail server") == "raise"
    assert site.told() == ["URGENT disk is down", "mail server is down"]
    severities = [row[0] for row in site.engine.rows("SELECT severity FROM alerts ORDER BY id")]
    assert severities == ["critical", "critical"]  # its own; and the rule's, where the signal states none


def test_rules_keep_their_order_when_they_change(site: Site) -> None:
    told = Told(site, *(Rule(name, Match(), None) for name in "abc"))
    first = told.signals.rules()[0]
    told.signals.replace_rule(first.uid, replace(first.rule, name="A"), position=2)
    told.signals.add_rule(Rule("new", Match(), None), position=0)
    assert [v.rule.name for v in told.signals.rules()] == ["new", "b", "c", "A"]
    told.signals.delete_rule(told.signals.rules()[1].uid)
    assert [(v.position, v.rule.name) for v in told.signals.rules()] == [(0, "new"), (1, "c"), (2, "A")]


def test_acknowledged_there_it_is_not_said_again_here_and_its_end_still_is(site: Site) -> None:
    told = Told(site, Rule("all", Match(), replace(SAYING, remind_every=60)))
    told.say()
    assert told.say(status="acknowledged") == "acknowledge"
    for _ in range(5):
        site.engine.clock.turn(60)
        site.follow()
    assert site.told() == ["mail is down"]
    told.say(status="resolved")
    assert len(site.told()) == 2


def test_trying_out_does_nothing(site: Site) -> None:
    told = Told(site)
    body = json.dumps({"key": "mail", "status": "firing", "title": "Mail"}).encode()
    (said,) = told.signals.try_out(told.source.uid, Post({}, body))
    assert (said.rule, said.what) == ("all", "raise")
    site.follow()
    assert site.told() == []
    assert site.engine.rows("SELECT count(*) FROM signals")[0][0] == 0


def test_a_source_that_sends_too_much_is_told_to_wait(site: Site) -> None:
    told = Told(site, per_minute=3)
    for _ in range(3):
        told.say()
    with pytest.raises(TooMany):
        told.say()


def test_an_address_that_is_not_known_and_a_body_that_is_none(site: Site) -> None:
    told = Told(site)
    with pytest.raises(NotFound):
        told.signals.take("no-such-token", Post({}, b"{}"))
    with pytest.raises(NotFound):
        told.signals.take(told.token, Post({}, b"{}"), "alertmanager")
    with pytest.raises(Invalid, match="/key"):
        told.signals.take(told.token, Post({}, b"{}"))
    assert told.signals.source(told.source.uid).refused == 1


def test_a_signed_source_takes_what_is_signed_once_and_nothing_else(site: Site) -> None:
    key = b"k" * 32
    told = Told(site, signing="whsec_" + base64.b64encode(key).decode())
    body = json.dumps({"key": "mail", "status": "firing", "title": "Mail"}).encode()

    def headers(request: str, at: float, secret: bytes = key) -> dict[str, str]:
        sign = hmac.digest(secret, f"{request}.{int(at)}.".encode() + body, "sha256")
        signature = "v1," + base64.b64encode(sign).decode()
        return {"webhook-id": request, "webhook-timestamp": f"{int(at)}", "webhook-signature": f"v1,AAAA {signature}"}

    now = START / 1000
    assert [s.what for s in told.signals.take(told.token, Post(headers("m1", now), body))] == ["raise"]
    assert told.signals.take(told.token, Post(headers("m1", now), body)) == []  # played again
    for bad in (headers("m2", now, b"x" * 32), headers("m3", now - 301), headers("m4", now + 400), {}):
        with pytest.raises(NotSignedIn):
            told.signals.take(told.token, Post(bad, body))
    changed = {**headers("m5", now), "webhook-id": "m6"}
    with pytest.raises(NotSignedIn):
        told.signals.take(told.token, Post(changed, body))


def test_many_at_once_of_one_cause_are_one_incident(site: Site) -> None:
    told, at_once = Told(site), Barrier(8)

    def say(n: int) -> str:
        body = json.dumps({"key": f"n{n}", "status": "firing", "title": f"n{n}"}).encode()
        at_once.wait(10)
        return told.signals.take(told.token, Post({}, body))[0].what

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(say, range(8))) == ["raise"] * 8
    site.follow()
    assert len(site.incidents.page(None, 10)[0]) == 1
    assert len(site.told()) == 1


def test_a_source_that_is_deleted_ends_what_it_had_raised(site: Site) -> None:
    told = Told(site)
    told.say()
    told.signals.delete_source(told.source.uid)
    site.follow()
    assert len(site.told()) == 2
    with pytest.raises(NotFound):
        told.say()


def test_options_are_checked_when_they_are_entered(site: Site) -> None:
    told = Told(site)
    with pytest.raises(Invalid, match="key"):
        told.signals.create_source("other", "generic", {"key": "no pointer"})
    with pytest.raises(Invalid, match="takes none"):
        told.signals.create_source("other", "alertmanager", {"key": "/x"})


def test_what_is_over_or_raises_nothing_is_forgotten_after_a_month_and_what_lasts_is_not(site: Site) -> None:
    told = Told(site, Rule("all", Match(text="is down"), SAYING))
    told.say("lasting")
    for status in ("firing", "resolved"):
        told.say("over", status=status)
    told.say("noise", title="Nothing to speak of")
    site.engine.clock.turn(29 * 86_400)
    for wait, left in ((0, ["lasting", "noise", "over"]), (2, ["lasting"])):
        site.engine.clock.turn(wait * 86_400)
        with site.engine.database.write() as connection:
            store.sweep(connection, 100)
        assert [row[0] for row in site.engine.rows("SELECT key FROM signals ORDER BY key")] == left
    assert told.say("lasting", status="resolved") == "clear"


def test_what_alertmanager_took_for_over_and_goes_on_is_told_again(site: Site) -> None:
    """It loses sight of Prometheus for minutes: what fires goes on with the time at which it began."""
    told = Told(site)
    source, token = told.signals.create_source("prometheus", "alertmanager", {})

    def say(status: str, ends: str = "0001-01-01T00:00:00Z") -> str:
        alert = {"status": status, "labels": {"alertname": "MailDown"}, "annotations": {}, "fingerprint": "f"}
        alert |= {"startsAt": "2026-11-25T09:00:00Z", "endsAt": ends}
        found = told.signals.take(token, Post({}, json.dumps({"version": "4", "alerts": [alert]}).encode()))
        site.follow()
        return found[0].what

    assert source.format == "alertmanager"
    assert [say("firing"), say("resolved", "2026-11-25T09:10:00Z")] == ["raise", "clear"]
    assert say("firing") == "stale"  # sent again: its answer was lost
    site.engine.clock.turn(20)
    assert [say("firing"), say("firing"), say("resolved", "2026-11-25T09:20:00Z")] == ["raise", "go_on", "clear"]
    assert site.told() == ["MailDown", "MailDown works again"] * 2
