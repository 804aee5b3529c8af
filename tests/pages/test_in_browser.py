"""The pages in a real browser: nothing is refused by our own policy, the live page moves, the worker shows and proves."""

import asyncio
import base64
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from broadcaster.console import assets
from tests.pages import chromium
from tests.pages.site import UID, Site, alert, channel, done, example, serve

pytestmark = pytest.mark.skipif(chromium.PATH is None, reason="NOT TESTED in a browser: install chromium")

WATCHING = (
    "/console/monitors", "/console/monitors/down", "/console/monitors/hostile", "/console/monitors/down/maintenance",
    "/console/incidents", "/console/incidents/waiting", "/console/incidents/told", "/console/incidents/hostile",
    "/console/incidents/waiting/dismiss",
)  # fmt: skip
RECEIPT = "/api/v1/receipts/push?d=1.1.signature"


@pytest.fixture(scope="module")
def server() -> Iterator[Site]:
    with serve(example()) as running:
        yield running


@pytest.fixture
def site(server: Site) -> Site:
    server.use(example())
    return server


def push(url: str, **changes: Any) -> str:
    """What our web push channel sends."""
    notification = {
        "title": "Email is down", "body": "Use the phone.", "navigate": f"{url}/m/live", "tag": "a-7K2M9QX", "lang": "en-GB",
        "silent": False, "requireInteraction": True, "renotify": False,
        "data": {"receipt": url + RECEIPT, "delivery": "7K2M9QX", "alert": UID},
    }  # fmt: skip
    return json.dumps({"web_push": 8030, "notification": {**notification, **changes}})


def test_no_page_is_refused_anything_by_its_own_policy(site: Site) -> None:
    async def visit() -> None:
        async with chromium.tab() as tab:
            await tab.go(f"{site.enter()}?next=/console/alerts")
            for path in (
                "/console/alerts", f"/console/alerts/{UID}", "/console/alerts/done", "/console/alerts/hostile",
                f"/console/alerts/{UID}/deliveries", f"/console/alerts/{UID}/cancel", "/console/sign-in",
                *WATCHING,
                "/enrol/good.token-1", "/m/live", "/m/hostile",
            ):  # fmt: skip
                await tab.go(site.url + path)
                await asyncio.sleep(0.2)
                assert tab.complaints == [], path
                if assets.installed():
                    assert await tab.js("getComputedStyle(document.body).backgroundColor") == "rgb(240, 244, 245)"

    asyncio.run(visit())


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_is_wider_than_the_screen(site: Site, width: int) -> None:
    async def visit() -> None:
        async with chromium.tab() as tab:
            await tab.do(
                "Emulation.setDeviceMetricsOverride", width=width, height=844, deviceScaleFactor=1, mobile=width < 500
            )
            await tab.go(f"{site.enter()}?next=/console/alerts")
            for path in ("/console/alerts", f"/console/alerts/{UID}", "/console/alerts/hostile",
                         f"/console/alerts/{UID}/deliveries", *WATCHING, "/enrol/good.token-1", "/m/hostile", "/m/over",
                         "/m/live"):  # fmt: skip
                await tab.go(site.url + path)
                assert await tab.js("document.documentElement.scrollWidth") <= width, path

    asyncio.run(visit())


def test_the_live_page_moves_and_comes_to_rest(site: Site) -> None:
    async def visit() -> None:
        async with chromium.tab() as tab:
            await tab.go(f"{site.enter()}?next=/console/alerts/{UID}")
            await tab.shows("document.querySelector('[data-connection]').dataset.on === 'true'")
            await tab.js("document.querySelector('.app-who').focus(), document.querySelector('details').open = true")
            sms = channel("sms", "SMS", delivered=1000, queued=200)
            view = replace(alert(people=1_200, unreachable=0), channels=(sms,), targeted=1200, reached=1000)
            site.wiring.progress.views[UID] = view
            await tab.shows("document.querySelector('.app-number__value').textContent === '1,000'")
            await tab.shows("document.querySelectorAll('.app-channel').length === 1")
            assert await tab.js("document.activeElement.className") == "app-who"
            assert await tab.js("document.querySelector('details').open")
            assert "1,000 of 1,200 people reached" in await tab.js("document.title")
            site.wiring.progress.views[UID] = done()
            await tab.shows("document.querySelector('[data-part=state]').textContent.includes('Finished')")
            await tab.shows("document.querySelector('[data-until-complete]') === null")
            assert "people reached" in await tab.js("document.querySelector('[role=status]').textContent")
            assert tab.complaints == []

    asyncio.run(visit())


async def press(tab: chromium.Tab, key: str, code: int, text: str = "") -> None:
    values: dict[str, Any] = {"key": key, "code": key, "windowsVirtualKeyCode": code}
    await tab.do("Input.dispatchKeyEvent", type="keyDown", **values, **({"text": text} if text else {}))
    await tab.do("Input.dispatchKeyEvent", type="keyUp", **values)


async def tab_to(tab: chromium.Tab, text: str) -> None:
    """With the Tab key alone, to what has this text."""
    for _ in range(40):
        await press(tab, "Tab", 9)
        if await tab.js("document.activeElement.textContent.trim()") == text:
            return
    raise AssertionError(f"the keyboard does not reach “{text}”")


def test_signing_in_and_cancelling_with_the_keyboard_alone(site: Site) -> None:
    """Also that our own forms pass the origin check of a real browser."""

    async def visit() -> None:
        async with chromium.tab() as tab:
            await tab.go(f"{site.url}/console/alerts/{UID}/cancel")
            assert "/console/sign-in" in await tab.js("location.href")
            await tab.js("document.querySelector('#key').focus()")
            await tab.do("Input.insertText", text="ab_test_abcdefghijkl_" + "x" * 43)
            await press(tab, "Enter", 13, "\r")
            await tab.shows(f"document.readyState === 'complete' && location.pathname === '/console/alerts/{UID}/cancel'")
            await press(tab, "Tab", 9)
            assert await tab.js("document.activeElement.textContent.trim()") == "Skip to main content"
            await tab_to(tab, "Yes, cancel it")
            await press(tab, "Enter", 13, "\r")
            await tab.shows(f"location.pathname === '/console/alerts/{UID}'")
            assert site.wiring.alerts.cancelled == [(UID, "key-1")]

    asyncio.run(visit())


def test_an_incident_is_decided_with_the_keyboard_alone_while_its_page_moves(site: Site) -> None:
    async def visit() -> None:
        async with chromium.tab(390, 844) as tab:
            await tab.go(f"{site.enter()}?next=/console/incidents/waiting")
            await tab.shows("document.querySelector('[data-connection]').dataset.on === 'true'")
            await tab_to(tab, "Do not send")
            countdown = await tab.js("document.querySelector('.app-outlook__countdown').textContent")
            await tab.shows(f"document.querySelector('.app-outlook__countdown').textContent !== {json.dumps(countdown)}")
            assert await tab.js("document.activeElement.textContent.trim()") == "Do not send"
            assert "This will be sent by itself" in await tab.js("document.title")
            await press(tab, "Enter", 13, "\r")
            await tab.shows("document.readyState === 'complete' && location.pathname.endsWith('/dismiss')")
            await tab_to(tab, "Yes, do not send it")
            await press(tab, "Enter", 13, "\r")
            await tab.shows("document.readyState === 'complete' && location.pathname === '/console/incidents/waiting'")
            assert site.wiring.incidents.done == [("dismiss", "waiting", "key-1")]
            await tab.shows("document.querySelector('.app-outlook h2').textContent === 'Nobody is told'")
            assert tab.complaints == []

    asyncio.run(visit())


def test_a_monitor_that_fails_is_seen_without_a_hand_moved(site: Site) -> None:
    site.wiring.monitors.views = {"well": site.wiring.monitors.views["well"]}
    site.wiring.incidents.views.clear()

    async def visit() -> None:
        async with chromium.tab() as tab:
            await tab.go(f"{site.enter()}?next=/console/alerts")
            await tab.shows("document.title.startsWith('1 monitor: works.')")
            view = site.wiring.monitors.views["well"]
            site.wiring.monitors.views["well"] = replace(view, state="down", reason="It does not answer.")
            await tab.shows("document.title.startsWith('1 monitor down.')")
            assert await tab.js("document.querySelector('[role=status]').textContent") != ""
            await tab.go(f"{site.url}/console/monitors")
            await tab.shows("document.querySelector('.app-monitor').textContent.includes('It does not answer.')")
            site.wiring.monitors.views["well"] = view
            await tab.shows("document.querySelector('.app-monitor--tick') !== null")
            assert tab.complaints == []

    asyncio.run(visit())


def test_without_scripts_pages_load_themselves_again_and_everything_can_be_done(site: Site) -> None:
    async def visit() -> None:
        async with chromium.tab() as tab:
            await tab.go(f"{site.enter()}?next=/console/alerts")
            await tab.do("Emulation.setScriptExecutionDisabled", value=True)
            await tab.go(f"{site.url}/console/incidents/asking")
            assert "loads again every 5 seconds" in await tab.js("document.body.innerText")
            assert await tab.js("document.querySelector('[data-connection]').hidden")
            await tab_to(tab, "Stop that")
            await press(tab, "Enter", 13, "\r")
            await tab.shows("document.readyState === 'complete' && location.search === '?refresh=off'")
            await tab_to(tab, "Send now")
            await press(tab, "Enter", 13, "\r")
            await tab.until(lambda: site.wiring.incidents.done == [("release", "asking", "key-1")])
            await tab.go(f"{site.url}/console/monitors/down?refresh=off")
            await tab_to(tab, "Maintenance")
            await press(tab, "Enter", 13, "\r")
            await tab.shows("document.readyState === 'complete' && location.pathname.endsWith('/maintenance')")
            await tab.js("document.querySelector('#note').focus()")
            await tab.do("Input.insertText", text="new certificate")
            await tab_to(tab, "For 4 hours from now")
            await press(tab, "Enter", 13, "\r")
            await tab.until(lambda: [done[0] for done in site.wiring.monitors.done] == ["maintenance"])

    asyncio.run(visit())


async def _worker(tab: chromium.Tab, site: Site) -> str:
    """Opens the enrolment page with permission given; the worker's registration id."""
    await tab.do("Browser.grantPermissions", origin=site.url, permissions=["notifications"])
    await tab.do("ServiceWorker.enable")
    await tab.go(f"{site.url}/enrol/good.token-1")
    await tab.shows("!document.querySelector('[data-state=ready]').hidden")
    await tab.js("navigator.serviceWorker.ready.then(() => true)")

    def active() -> str | None:
        for event in reversed(tab.events):
            if event["method"] == "ServiceWorker.workerVersionUpdated":
                for version in event["params"]["versions"]:
                    if version["status"] == "activated":
                        return str(version["registrationId"])
        return None

    return str(await tab.until(active))


async def _deliver(tab: chromium.Tab, site: Site, registration: str, data: str) -> None:
    await tab.do("ServiceWorker.deliverPushMessage", origin=site.url, registrationId=registration, data=data)


async def _on_screen(tab: chromium.Tab) -> list[dict[str, Any]]:
    code = """navigator.serviceWorker.ready.then((r) => r.getNotifications()).then((all) => all.map((n) => (
        {title: n.title, body: n.body, tag: n.tag, silent: n.silent, navigate: n.data.navigate})))"""
    found: list[dict[str, Any]] = await tab.js(code)
    return found


def test_a_push_is_shown_and_proved_and_a_repeat_is_silent(site: Site) -> None:
    async def visit() -> None:
        async with chromium.tab() as tab:
            worker = await _worker(tab, site)
            await _deliver(tab, site, worker, push(site.url))
            await tab.until(lambda: site.wiring.posted)
            assert site.wiring.posted == [("POST", "/api/v1/receipts/push", {"event": "shown"})]
            shown = {
                "title": "Email is down",
                "body": "Use the phone.",
                "tag": "a-7K2M9QX",
                "navigate": f"{site.url}/m/live",
            }
            assert [{**shown, "silent": False}] == await _on_screen(tab)
            shown_now = "navigator.serviceWorker.ready.then((r) => r.getNotifications())"
            await tab.js(f"{shown_now}.then((all) => all.forEach((n) => n.close()))")
            await _deliver(tab, site, worker, push(site.url, body="Again."))
            await tab.until(lambda: len(site.wiring.posted) == 2)
            assert [{**shown, "body": "Again.", "silent": True}] == await _on_screen(tab)
            assert tab.complaints == []

    asyncio.run(visit())


@pytest.mark.parametrize(
    "data", ["", "no json", "[]", "null", '{"web_push": "8030"}', '{"web_push": 8030, "notification": {"title": 7}}']
)
def test_what_cannot_be_read_is_shown_all_the_same(site: Site, data: str) -> None:
    async def visit() -> None:
        async with chromium.tab() as tab:
            await _deliver(tab, site, await _worker(tab, site), data)
            seen = await tab.until(lambda: _on_screen(tab))
            assert [n["title"] for n in seen] == ["An alert has come in"]
            assert site.wiring.posted == []

    asyncio.run(visit())


def test_receipts_are_tried_again_and_kept_until_they_can_be_sent(site: Site) -> None:
    async def visit() -> None:
        async with chromium.tab() as tab:
            worker = await _worker(tab, site)
            site.wiring.answers = [503, 503, 204]
            await _deliver(tab, site, worker, push(site.url))
            await tab.until(lambda: len(site.wiring.posted) == 3, 10)
            site.wiring.posted.clear()
            site.wiring.answers = [503] * 4  # all tries of this push
            await _deliver(tab, site, worker, push(site.url, tag="a-2"))
            await tab.until(lambda: len(site.wiring.posted) == 4, 20)
            await asyncio.sleep(0.3)
            site.wiring.posted.clear()
            await _deliver(
                tab, site, worker, push(site.url, tag="a-3", data={"receipt": f"{site.url}/api/v1/receipts/push?d=3"})
            )
            await tab.until(lambda: len(site.wiring.posted) == 2, 5)  # its own, and the one that was kept

    asyncio.run(visit())


def test_nothing_is_told_to_other_sites(site: Site) -> None:
    async def visit() -> None:
        async with chromium.tab() as tab:
            worker = await _worker(tab, site)
            elsewhere = site.url.replace("127.0.0.1", "localhost")
            data = push(site.url, data={"receipt": elsewhere + RECEIPT}, tag="b")
            await _deliver(tab, site, worker, data)
            await tab.until(lambda: _on_screen(tab))
            await asyncio.sleep(0.3)
            assert site.wiring.posted == []

    asyncio.run(visit())


def test_a_refused_permission_is_explained(site: Site) -> None:
    async def visit() -> None:
        async with chromium.tab() as tab:
            await tab.do("Browser.setPermission", origin=site.url, permission={"name": "notifications"}, setting="denied")
            await tab.go(f"{site.url}/enrol/good.token-1")
            await tab.shows("!document.querySelector('[data-state=denied]').hidden")
            assert await tab.js("[...document.querySelectorAll('[data-state]')].filter((s) => !s.hidden).length") == 1

    asyncio.run(visit())


def test_an_iphone_is_led_to_the_home_screen(site: Site) -> None:
    async def visit() -> None:
        async with chromium.tab() as tab:
            agent = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_4 like Mac OS X) AppleWebKit/605.1.15 Version/18.4 Safari/604.1"
            await tab.do("Emulation.setUserAgentOverride", userAgent=agent)
            await tab.go(f"{site.url}/enrol/good.token-1")
            await tab.shows("!document.querySelector('[data-state=ios]').hidden")

    asyncio.run(visit())


SUBSCRIBED = """
  const keys = {p256dh: "BA", auth: "aa"};
  let there = null;
  const subscription = {endpoint: "https://push.example/1", toJSON: () => ({endpoint: "https://push.example/1", keys,
    expirationTime: null}), unsubscribe: async () => { there = null; return true; }};
  PushManager.prototype.getSubscription = async () => there;
  PushManager.prototype.subscribe = async (options) => { window.asked = options; return (there = subscription); };
"""


def test_turning_on_and_off(site: Site) -> None:
    """Chromium has no push service here, so the subscription itself is a stand-in; the rest is real."""

    async def visit() -> None:
        async with chromium.tab() as tab:
            await tab.do("Page.addScriptToEvaluateOnNewDocument", source=SUBSCRIBED)
            await _worker(tab, site)
            await tab.js("document.querySelector('[data-do=turn-on]').click()")
            await tab.shows("!document.querySelector('[data-state=on]').hidden")
            body = {"endpoint": "https://push.example/1", "keys": {"p256dh": "BA", "auth": "aa"}, "expirationTime": None}
            assert site.wiring.posted == [("POST", "/api/v1/push/subscriptions", {**body, "enrolment": "good.token-1"})]
            assert await tab.js("asked.userVisibleOnly && asked.applicationServerKey.length") == len(
                base64.urlsafe_b64decode("BA" + "A" * 85 + "=")
            )
            assert await tab.js("document.activeElement.textContent") == "This browser will get alerts"
            await tab.js("document.querySelector('[data-do=turn-off]').click()")
            await tab.shows("!document.querySelector('[data-state=off]').hidden")
            assert site.wiring.posted[-1] == (
                "DELETE", "/api/v1/push/subscriptions", {"endpoint": "https://push.example/1", "auth": "aa"},
            )  # fmt: skip
            assert tab.complaints == []

    asyncio.run(visit())


def test_a_server_that_refuses_is_quoted(site: Site) -> None:
    async def visit() -> None:
        async with chromium.tab() as tab:
            await tab.do("Page.addScriptToEvaluateOnNewDocument", source=SUBSCRIBED)
            await _worker(tab, site)
            site.wiring.answers = [503]
            await tab.js("document.querySelector('[data-do=turn-on]').click()")
            await tab.shows("!document.querySelector('[data-state=failed]').hidden")
            assert await tab.js("document.querySelector('[data-reason]').textContent") == "The server answered 503."
            await tab.js("document.querySelector('[data-do=again]').click()")
            await tab.shows("!document.querySelector('[data-state=on]').hidden")

    asyncio.run(visit())
