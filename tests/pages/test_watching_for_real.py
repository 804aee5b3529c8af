"""The pages on the real services: an outage from the first failed look to the all-clear, seen and decided by a person."""

import re
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import cast

import pytest
import requests

from broadcaster.console import asked, monitor_pages
from broadcaster.domain import tokens
from broadcaster.domain.monitor import Verdict
from broadcaster.domain.policy import Release
from broadcaster.services.keys import Keys, Scope
from broadcaster.services.progress import Progress
from tests.engine.rig import START, Engine
from tests.pages.site import SECRET, Settings, Wiring, serve
from tests.pages.site import Site as Pages
from tests.pages.test_watching import read
from tests.watching import conftest, rig

engine = conftest.engine


@pytest.fixture
def site(engine: Engine) -> Iterator[rig.Site]:
    with rig.standing_clock(engine):
        yield rig.Site(engine)


@pytest.fixture
def pages(site: rig.Site, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pages]:
    """The pages' clock is the engine's."""
    clock = SimpleNamespace(time=lambda: START / 1000 + site.engine.clock.ahead)
    for module in (asked, monitor_pages):
        monkeypatch.setattr(module, "time", clock)
    wiring = SimpleNamespace(
        settings=Settings(), secret=SECRET, sandbox_only=True, keys=Keys(site.engine.database), alerts=site.engine.alerts,
        progress=Progress(site.engine.database, site.engine.channels, SECRET), monitors=site.monitors,
        incidents=site.incidents, channels=site.engine.channels,
    )  # fmt: skip
    with serve(cast(Wiring, wiring)) as running:
        yield running


@pytest.fixture
def browser(pages: Pages) -> requests.Session:
    scopes = [Scope.ALERTS_READ, Scope.ALERTS_SEND, Scope.MONITORS_READ, Scope.MONITORS_WRITE]
    keys = cast(Keys, pages.wiring.keys)
    uid, _ = keys.create("Night desk", [str(scope) for scope in scopes])
    session = requests.Session()
    session.headers["Origin"] = pages.url
    assert session.get(pages.enter(uid)).ok
    return session


def fails(site: rig.Site, *names: str) -> None:
    for name in names:
        site.kind.says[name] = Verdict.FAILED
    for _ in range(3):
        site.look()


def works(site: rig.Site) -> None:
    site.kind.says.clear()
    for _ in range(3):
        site.look()
        site.follow()


def test_an_outage_is_seen_approved_told_and_over(site: rig.Site, pages: Pages, browser: requests.Session) -> None:
    url = f"{pages.url}/console"
    site.watch(policy=replace(rig.POLICY, release=Release.APPROVE))
    site.look()
    assert "1 monitor: works" in read(browser.get(f"{url}/alerts"))
    fails(site, "mail")
    assert "1 monitor down , 1 incident waits for you" in read(browser.get(f"{url}/alerts"))
    assert "What it is told" in browser.get(f"{url}/monitors").text
    (uid,) = set(re.findall(r'href="/console/incidents/([\w-]+)"', browser.get(f"{url}/incidents").text))
    text = read(browser.get(f"{url}/incidents/{uid}"))
    assert "Nobody is told until somebody decides" in text
    assert "send it to everyone in the directory, by Bleep" in text
    assert "Mail is down mail does not answer. Since" in text
    browser.post(f"{url}/incidents/{uid}/send")
    site.follow()
    assert site.told() == ["Mail is down"]
    text = read(browser.get(f"{url}/incidents/{uid}"))
    assert "Night desk decided to send it." in text
    assert re.search(r"Alert: Mail is down \d+:\d\d[ap]m", text)
    (alert,) = [found for what, found in site.incidents.get(uid).alerts if what == "alert"]
    assert "Mail is down mail does not answer." in read(browser.get(f"{url}/alerts/{alert}"))
    link = f"{pages.url}/m/{tokens.sign(SECRET, 'message', 1)}"
    assert "Down Mail , since" in read(requests.get(link))
    works(site)
    assert site.told() == ["Mail is down", "Mail works again"]
    assert "This is over since" in requests.get(link).text
    assert "Everyone who may have got the alert was told that it is over." in browser.get(f"{url}/incidents/{uid}").text
    assert "1 monitor: works" in read(browser.get(f"{url}/monitors"))


def test_a_dismissal_is_kept_to(site: rig.Site, pages: Pages, browser: requests.Session) -> None:
    site.watch(policy=replace(rig.POLICY, release=Release.HOLD, hold=120))
    fails(site, "mail")
    (incident,) = site.incidents.page(None, 10)[0]
    url = f"{pages.url}/console/incidents/{incident.uid}"
    assert "This will be sent by itself at" in browser.get(url).text
    assert "1 minute 50 seconds" in browser.get(url).text
    browser.post(f"{url}/dismiss")
    site.engine.clock.turn(200)
    site.follow()
    assert site.told() == []
    assert "Night desk decided not to send it" in browser.get(url).text
    assert "Too late" in browser.post(f"{url}/send").text


def test_a_monitor_is_looked_at_paused_and_left_alone_for_an_hour(
    site: rig.Site, pages: Pages, browser: requests.Session
) -> None:
    uid = site.watch(config={"what": "mail", "password": "open sesame"}, interval=600.0)
    url = f"{pages.url}/console/monitors/{uid}"
    site.look()
    browser.post(f"{url}/look")
    site.look()
    assert len(site.kind.looks) == 2
    text = browser.get(url).text
    assert "The last 2 looks: 2 good. It took 10\xa0ms to 10\xa0ms." in text
    assert "open sesame" not in text
    assert "kept, and never shown" in text
    browser.post(f"{url}/maintenance", data={"hours": "1", "note": "new certificate"})
    text = browser.get(url).text
    assert "new certificate" in text
    assert "Maintenance: nothing is sent" in text
    (window,) = re.findall(r"/maintenance/([\w-]+)/end", text)
    browser.post(f"{url}/maintenance/{window}/end")
    assert "Maintenance: nothing is sent" not in browser.get(url).text
    browser.post(f"{url}/pause")
    assert site.monitors.get(uid).paused_at is not None
    assert "Paused" in browser.get(f"{pages.url}/console/monitors").text
    browser.post(f"{url}/resume")
    site.engine.clock.turn(700)
    assert "no worker seems to run there" in browser.get(url).text
