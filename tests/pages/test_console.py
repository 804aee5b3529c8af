"""The console over real HTTP: who gets in, what is shown, what a page may never do."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import quote

import pytest
import requests
from itsdangerous import TimestampSigner

from broadcaster.console import assets, sessions, stream
from tests.pages.site import HOSTILE, KEY, READ_ONLY_KEY, SECRET, UID, Site, alert, channel, done, example, serve

Answer = requests.Response


@pytest.fixture(scope="module")
def server() -> Iterator[Site]:
    with serve(example()) as running:
        yield running


@pytest.fixture
def site(server: Site) -> Site:
    server.use(example())
    return server


@pytest.fixture
def browser(site: Site) -> requests.Session:
    """Signed in, and sends what a browser sends with a form."""
    session = requests.Session()
    session.headers["Origin"] = site.url
    assert session.get(site.enter()).ok
    return session


def no_redirect(session: Any, method: str, url: str, **values: Any) -> Answer:
    answer: Answer = session.request(method, url, allow_redirects=False, **values)
    return answer


# ---- signing in -----------------------------------------------------------------------------------------------------


def test_pages_send_strangers_to_the_sign_in_page_and_back(site: Site) -> None:
    answer = no_redirect(requests, "GET", f"{site.url}/console/alerts/{UID}/deliveries?state=failed")
    assert answer.status_code == 303
    assert answer.headers["location"] == "/console/sign-in?next=" + quote(
        f"/console/alerts/{UID}/deliveries?state=failed", safe=""
    )


def test_the_root_leads_to_the_alerts(site: Site) -> None:
    for path in ("/", "/console"):
        assert no_redirect(requests, "GET", site.url + path).headers["location"] == "/console/alerts"


def test_a_key_signs_in_with_a_cookie_that_scripts_and_other_sites_cannot_use(site: Site) -> None:
    form = {"key": f"  {KEY}\n", "next": f"/console/alerts/{UID}"}
    answer = no_redirect(requests, "POST", f"{site.url}/console/sign-in", data=form, headers={"Origin": site.url})
    assert (answer.status_code, answer.headers["location"]) == (303, f"/console/alerts/{UID}")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert "Max-Age=43200" in cookie
    assert "Secure" not in cookie
    assert KEY not in cookie


def test_behind_https_the_cookie_is_secure_and_bound_to_the_host(site: Site) -> None:
    link = site.enter()
    site.wiring.settings.resolved_public_url = "https://alerts.example.nhs.uk"
    cookie = no_redirect(requests, "GET", link).headers["set-cookie"]
    assert cookie.startswith("__Host-broadcaster=")
    assert "Secure" in cookie
    assert "Path=/" in cookie
    assert "Domain" not in cookie


@pytest.mark.parametrize(("key", "status", "says"), [("", 422, "Enter an API key"), ("ab_live_wrong", 401, "not known")])
def test_a_wrong_key_is_explained_at_the_field(site: Site, key: str, status: int, says: str) -> None:
    answer = requests.post(f"{site.url}/console/sign-in", data={"key": key}, headers={"Origin": site.url})
    assert answer.status_code == status
    assert "<title>Error: Sign in" in answer.text
    assert answer.text.count(says) == 2
    assert 'href="#key"' in answer.text
    assert "set-cookie" not in answer.headers


def test_a_key_without_the_scope_is_told_so(site: Site) -> None:
    answer = requests.get(site.enter("key-3"))
    assert answer.status_code == 403
    assert "alerts:read" in answer.text


@pytest.mark.parametrize(
    "origin", [None, "null", "https://evil.example", "http://127.0.0.1:1", "http://127.0.0.1.evil.example"]
)
def test_forms_of_other_sites_are_refused(site: Site, browser: requests.Session, origin: str | None) -> None:
    headers = {"Origin": origin}
    answer = no_redirect(browser, "POST", f"{site.url}/console/alerts/{UID}/cancel", headers=headers)
    assert answer.status_code == 403
    assert not site.wiring.alerts.cancelled


def test_a_browser_that_says_cross_site_is_believed(site: Site, browser: requests.Session) -> None:
    headers = {"Sec-Fetch-Site": "cross-site"}
    assert browser.post(f"{site.url}/console/alerts/{UID}/cancel", headers=headers).status_code == 403


@pytest.mark.parametrize(
    "target",
    [
        "https://evil.example/", "//evil.example", "/\\evil.example", "/consoleevil", "/console/../m/x",
        "/console//evil.example", "/console/alerts\r\nSet-Cookie: a=b",
        "/console/@evil.example", "javascript:alert(1)", "/m/x", "/console\\evil",
    ],
)  # fmt: skip
def test_it_only_goes_on_to_its_own_pages(site: Site, target: str) -> None:
    answer = no_redirect(requests, "GET", f"{site.enter()}?next={quote(target, safe='')}")
    assert answer.headers["location"] == "/console/alerts"
    form = {"key": KEY, "next": target}
    answer = no_redirect(requests, "POST", f"{site.url}/console/sign-in", data=form, headers={"Origin": site.url})
    assert answer.headers["location"] == "/console/alerts"


def test_a_link_from_another_site_still_arrives_signed_in(site: Site) -> None:
    """A redirect would lose the strict cookie there; a page that goes on by itself does not."""
    headers = {"Sec-Fetch-Site": "cross-site"}
    answer = no_redirect(requests, "GET", f"{site.enter()}?next=/console/alerts/{UID}", headers=headers)
    assert answer.status_code == 200
    assert f'http-equiv="refresh" content="0; url=/console/alerts/{UID}"' in answer.text
    assert "set-cookie" in answer.headers


@pytest.mark.parametrize("token", ["x", "key-1", "ImtleS0xIg.aaaa.bbbb"])
def test_a_forged_link_does_not_sign_in(site: Site, token: str) -> None:
    answer = requests.get(f"{site.url}/console/enter/{token}")
    assert answer.status_code == 401
    assert "more than 10 minutes old" in answer.text
    assert "set-cookie" not in answer.headers


def test_links_and_sessions_end(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    session = requests.Session()
    session.get(site.enter())
    monkeypatch.setattr(sessions, "LINK_SECONDS", -1)
    assert requests.get(site.enter()).status_code == 401
    assert session.get(f"{site.url}/console/alerts").url.endswith("/console/alerts")
    monkeypatch.setattr(sessions, "SESSION_SECONDS", -1)
    assert "/console/sign-in" in session.get(f"{site.url}/console/alerts").url


def test_a_link_is_no_session_and_a_forged_cookie_neither(site: Site) -> None:
    for value in ("key-1", TimestampSigner(SECRET, salt="enter").sign("key-1").decode(), site.enter().rpartition("/")[2]):
        answer = requests.get(f"{site.url}/console/alerts", cookies={"broadcaster": value})
        assert "/console/sign-in" in answer.url


def test_revoking_the_key_ends_its_sessions(site: Site, browser: requests.Session) -> None:
    site.wiring.keys.revoked = True
    assert "/console/sign-in" in browser.get(f"{site.url}/console/alerts").url
    assert browser.get(f"{site.url}/console/alerts/{UID}/stream").status_code == 401


def test_signing_out(site: Site, browser: requests.Session) -> None:
    browser.post(f"{site.url}/console/sign-out")
    assert "/console/sign-in" in browser.get(f"{site.url}/console/alerts").url


# ---- what every page has ------------------------------------------------------------------------------------------

PAGES = [
    "alerts", "sign-in", f"alerts/{UID}", "alerts/planning", "alerts/trouble", "alerts/done", "alerts/cancelled",
    "alerts/hostile", f"alerts/{UID}/cancel", f"alerts/{UID}/deliveries", f"alerts/{UID}/deliveries?state=failed",
    "alerts/hostile/deliveries?state=all", "alerts/nothing-here", "nothing/here",
]  # fmt: skip


@pytest.mark.parametrize("path", PAGES)
def test_every_page_keeps_others_out(site: Site, browser: requests.Session, path: str) -> None:
    answer = browser.get(f"{site.url}/console/{path}")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    # no-referrer would make browsers write "Origin: null" on our own forms
    assert answer.headers["referrer-policy"] == "same-origin"


@pytest.mark.parametrize("path", PAGES)
def test_every_page_can_be_read_by_anybody(site: Site, browser: requests.Session, path: str) -> None:
    text = browser.get(f"{site.url}/console/{path}").text
    assert '<html lang="en-GB"' in text
    assert re.search(r"<title>[^<]+ – Alert broadcaster</title>", text)
    assert len(re.findall(r"<h1[ >]", text)) == 1
    assert 'href="#maincontent"' in text
    assert "SANDBOX" in text
    ids = re.findall(r'\sid="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    for field in re.findall(r'<(?:input|select)[^>]*\sid="([^"]+)"', text):
        assert f'for="{field}"' in text


@pytest.mark.parametrize("path", PAGES)
def test_nothing_is_inline_but_the_one_line_with_its_nonce(site: Site, browser: requests.Session, path: str) -> None:
    answer = browser.get(f"{site.url}/console/{path}")
    nonce = re.search(r"'nonce-([^']+)'", answer.headers["content-security-policy"])
    assert nonce
    for opening in re.findall(r"<script[^>]*>", answer.text):
        assert f'nonce="{nonce[1]}"' in opening or 'src="/static/' in opening
    assert not re.search(r"<[^>]+\s(?:style|on[a-z]+)=\"", answer.text.replace(HOSTILE, ""))
    assert "<style" not in answer.text
    assert nonce[1] not in browser.get(f"{site.url}/console/{path}").text


@pytest.mark.parametrize("path", [p for p in PAGES if "hostile" in p])
def test_hostile_words_stay_words(site: Site, browser: requests.Session, path: str) -> None:
    text = browser.get(f"{site.url}/console/{path}").text
    assert "&lt;script&gt;alert(1)" in text
    assert "<script>alert" not in text
    assert "<img src=x" not in text
    assert "{{ 7*7 }}" in text


# ---- alerts ---------------------------------------------------------------------------------------------------------


def test_the_list_shows_state_people_and_reach(site: Site, browser: requests.Session) -> None:
    text = browser.get(f"{site.url}/console/alerts").text
    for word in (
        "Sending",
        "Finding people",
        "Finished",
        "Cancelled",
        "Drill",
        "1,670 of 2,250 arrived",
        "1,900 people",
        "74%",
    ):
        assert word in text
    assert f'href="/console/alerts/{UID}"' in text
    assert 'href="/console/alerts?cursor=17"' in text


def test_no_alerts_and_no_older_ones(site: Site, browser: requests.Session) -> None:
    assert "no older alerts" in browser.get(f"{site.url}/console/alerts?cursor=1").text
    site.wiring.progress.views.clear()
    assert "No alert has been raised yet" in browser.get(f"{site.url}/console/alerts").text


def test_the_live_page_says_everything_without_scripts(site: Site, browser: requests.Session) -> None:
    text = browser.get(f"{site.url}/console/alerts/{UID}").text
    for word in (
        "Email is down across the trust", "Critical", "Sending", "Do not try your password again", "1,612", "of 1,900",
        "people reached", "until the first arrived", "742 of 1,200 arrived", "Taken by provider", "Not certain", "Waiting",
        "no address on any of these channels", "See who has not been reached (580)", "Cancel this alert",
    ):  # fmt: skip
        assert word in text
    assert '<noscript><meta http-equiv="refresh" content="3"></noscript>' in text
    assert text.count("<polyline") == 10
    assert "Seconds since the alert was raised" in text
    assert "The curve as a table" in text


def test_reloading_can_be_stopped(site: Site, browser: requests.Session) -> None:
    assert 'http-equiv="refresh"' not in browser.get(f"{site.url}/console/alerts/{UID}?refresh=off").text


def test_a_finished_alert_stands_still(site: Site, browser: requests.Session) -> None:
    text = browser.get(f"{site.url}/console/alerts/done").text
    assert "Finished" in text
    for word in ('http-equiv="refresh"', "live.js", "Cancel this alert"):
        assert word not in text


def test_trouble_and_drills_are_loud(site: Site, browser: requests.Session) -> None:
    text = browser.get(f"{site.url}/console/alerts/trouble").text
    assert "A provider is not taking messages" in text
    assert "SMS: Twilio refuses our credentials (20003). Next try" in text
    assert "<strong>DRILL</strong>" in text
    assert "A provider is not taking messages" not in browser.get(f"{site.url}/console/alerts/{UID}").text


def test_no_sandbox_banner_where_messages_are_real(site: Site, browser: requests.Session) -> None:
    site.wiring.sandbox_only = False
    site.wiring.progress.views["real"] = alert("real", sandbox=False)
    assert "SANDBOX" not in browser.get(f"{site.url}/console/alerts/real").text
    assert "SANDBOX" in browser.get(f"{site.url}/console/alerts/{UID}").text


def test_states_add_up_on_the_page(site: Site, browser: requests.Session) -> None:
    text = browser.get(f"{site.url}/console/alerts/{UID}").text
    table = text[text.index("app-states") :]
    rows = re.findall(r"<strong>([\d,]+)</strong>", table)
    numbers = [int(n.replace(",", "")) for n in rows]
    assert sum(numbers[:-1]) == numbers[-1] == 2250


def test_large_alerts_count_messages_until_they_are_finished(site: Site, browser: requests.Session) -> None:
    many = (channel("sms", "SMS", delivered=900_000, queued=600_000), channel("push", "Web push", delivered=10))
    site.wiring.progress.views["big"] = alert("big", channels=many, people=1_500_000)
    text = browser.get(f"{site.url}/console/alerts/big").text
    assert "messages arrived" in text
    assert "people reached" not in text
    one_each = alert("big", channels=many[:1], people=1_500_023)
    site.wiring.progress.views["big"] = one_each
    text = browser.get(f"{site.url}/console/alerts/big").text
    assert ">900,000<" in text
    assert "people reached" in text


def test_people_are_not_said_to_be_none_while_they_are_looked_up(site: Site, browser: requests.Session) -> None:
    site.wiring.progress.views["planning"] = replace(site.wiring.progress.views["planning"], people=0, unreachable=0)
    text = browser.get(f"{site.url}/console/alerts/planning").text
    assert "still counting" in text
    assert "of 0" not in text


def test_pages_are_readable_without_the_design_system(
    browser: requests.Session, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assets, "installed", lambda: False)
    text = browser.get(f"{site.url}/console/alerts/{UID}").text
    assert "/static/console/plain.css" in text
    assert "vendor" not in text
    for path in re.findall(r'"(/static/[^"]+)"', text):
        assert requests.get(site.url + path).ok, path


def test_an_alert_that_does_not_exist(site: Site, browser: requests.Session) -> None:
    answer = browser.get(f"{site.url}/console/alerts/nothing-here")
    assert answer.status_code == 404
    assert "There is no alert with this id." in answer.text


# ---- cancelling -------------------------------------------------------------------------------------------------------


def test_cancelling_asks_first(site: Site, browser: requests.Session) -> None:
    text = browser.get(f"{site.url}/console/alerts/{UID}/cancel").text
    assert "<strong>380</strong> messages have not left yet" in text
    assert "<strong>1,870</strong> have left already" in text
    assert not site.wiring.alerts.cancelled
    answer = no_redirect(browser, "POST", f"{site.url}/console/alerts/{UID}/cancel")
    assert (answer.status_code, answer.headers["location"]) == (303, f"/console/alerts/{UID}")
    assert site.wiring.alerts.cancelled == [(UID, "key-1")]


def test_who_may_only_read_cannot_cancel(site: Site) -> None:
    reader = requests.Session()
    reader.headers["Origin"] = site.url
    reader.post(f"{site.url}/console/sign-in", data={"key": READ_ONLY_KEY})
    assert "Cancel this alert" not in reader.get(f"{site.url}/console/alerts/{UID}").text
    assert reader.post(f"{site.url}/console/alerts/{UID}/cancel").status_code == 403
    assert not site.wiring.alerts.cancelled


# ---- people -------------------------------------------------------------------------------------------------------------


def test_who_has_not_been_reached_the_worst_first(site: Site, browser: requests.Session) -> None:
    text = browser.get(f"{site.url}/console/alerts/{UID}/deliveries").text
    groups = re.findall(r'app-group">([^<]+?) <span class="app-group__count">([\d,]+)', text)
    assert groups[:2] == [("Failed", "14"), ("Not certain", "4")]
    assert ("Waiting", "320") in groups
    assert ("Taken by provider", "140") in groups  # Slack's, which gives no receipts, count as reached
    assert "+44 7••• •••012" in text
    assert 'href="?state=failed&amp;channel="' in text


def test_one_state_page_by_page(site: Site, browser: requests.Session) -> None:
    text = browser.get(f"{site.url}/console/alerts/{UID}/deliveries?state=queued&channel=slack").text
    following = re.search(r'href="(\?state=queued&amp;channel=slack&amp;cursor=\d+)"', text)
    assert following
    browser.get(f"{site.url}/console/alerts/{UID}/deliveries{following[1].replace('&amp;', '&')}")
    asked: list[tuple[object, ...]] = [(UID, "queued", "slack", None, 100), (UID, "queued", "slack", 129, 100)]
    assert site.wiring.progress.asked[-2:] == asked


def test_a_state_that_does_not_exist_is_no_filter(site: Site, browser: requests.Session) -> None:
    answer = browser.get(f"{site.url}/console/alerts/{UID}/deliveries?state=%27;drop&channel=<b>")
    assert answer.status_code == 200
    assert "Who has not been reached" in answer.text
    assert browser.get(f"{site.url}/console/alerts/{UID}/deliveries?cursor=x").status_code == 404


# ---- the live stream ------------------------------------------------------------------------------------------------------


def frames(answer: Answer) -> Iterator[dict[str, str]]:
    """Events as a browser reads them."""
    event: dict[str, str] = {}
    for line in answer.iter_lines(chunk_size=1, decode_unicode=True):
        if line:
            name, _, value = line.partition(": ")
            event[name] = value
        elif event:
            yield event
            event = {}


def test_the_stream_tells_each_change_and_the_end(
    site: Site, browser: requests.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "INTERVAL", 0.02)
    with browser.get(f"{site.url}/console/alerts/{UID}/stream", stream=True, timeout=10) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["cache-control"] == "no-store"
        told = frames(answer)
        assert next(told) == {"retry": "2000"}
        first = next(told)
        assert (first["event"], first["id"]) == ("progress", "1")
        data = json.loads(first["data"])
        assert (data["state"], data["reached"], data["people_reached"], data["complete"]) == ("sending", 1670, 1612, False)
        assert data["channels"]["sms"]["queued"] == 212
        assert "742 of 1,200 arrived" in data["parts"]["channels"]
        view = site.wiring.progress.views[UID]
        site.wiring.progress.views[UID] = replace(view, reached=1671)
        assert json.loads(next(told)["data"])["reached"] == 1671
        site.wiring.progress.views[UID] = done()
        assert json.loads(next(told)["data"])["complete"] is True
        end = next(told)
        assert (end["event"], json.loads(end["data"])) == ("end", {"reason": "complete"})
        assert next(told, None) is None


def test_the_stream_keeps_the_line_open_and_ends_with_the_session(
    site: Site, browser: requests.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "INTERVAL", 0.02)
    monkeypatch.setattr(stream, "HEARTBEAT", 0.05)
    with browser.get(f"{site.url}/console/alerts/{UID}/stream", stream=True, timeout=10) as answer:
        told = frames(answer)
        assert [next(told), next(told)["event"], next(told)][1:] == ["progress", {"": "still here"}]
        site.wiring.keys.revoked = True
        last = [event for event in told if event.get("event") == "end"]
        assert [json.loads(event["data"]) for event in last] == [{"reason": "unauthorized"}]


def test_the_stream_of_no_alert(site: Site, browser: requests.Session) -> None:
    assert browser.get(f"{site.url}/console/alerts/nothing-here/stream").status_code == 404


def test_hostile_words_in_the_stream_stay_words(site: Site, browser: requests.Session) -> None:
    with browser.get(f"{site.url}/console/alerts/hostile/stream", stream=True, timeout=10) as answer:
        told = frames(answer)
        next(told)
        assert "<script" not in next(told)["data"]
