"""The console's pages for monitors and incidents over real HTTP: what is shown, what can be done, and by whom."""

import html
import json
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import requests

from broadcaster.console import incident_pages, monitor_pages, stream
from broadcaster.domain.policy import Release
from broadcaster.services.monitors import Window
from tests.pages import watched
from tests.pages.site import HOSTILE, UID, Site, example, serve
from tests.pages.test_console import Answer, frames, no_redirect

MINUTE = watched.MINUTE
PAGES = [
    "monitors", "monitors/down", "monitors/fenced", "monitors/slow", "monitors/new", "monitors/left", "monitors/paused",
    "monitors/hostile", "monitors/down/maintenance", "monitors/nothing-here", "incidents", "incidents/waiting",
    "incidents/asking", "incidents/told", "incidents/sending", "incidents/fault", "incidents/clearing",
    "incidents/dismissed", "incidents/closed", "incidents/untold", "incidents/hostile", "incidents/waiting/dismiss",
    "incidents/hostile/dismiss", "incidents/nothing-here",
]  # fmt: skip


@pytest.fixture(scope="module")
def server() -> Iterator[Site]:
    with serve(example()) as running:
        yield running


@pytest.fixture
def site(server: Site) -> Site:
    server.use(example())
    return server


def signed_in(site: Site, key: str) -> requests.Session:
    session = requests.Session()
    session.headers["Origin"] = site.url
    session.get(site.enter(key))
    return session


@pytest.fixture
def browser(site: Site) -> requests.Session:
    return signed_in(site, "key-1")


def read(answer: Answer) -> str:
    """What a person reads: no tags, one space where there were many."""
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", answer.text)).split())


def now() -> int:
    return int(time.time() * 1000)


# ---- every page -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PAGES)
def test_every_page_can_be_read_by_anybody_and_runs_nothing_of_a_strangers(
    site: Site, browser: requests.Session, path: str
) -> None:
    answer = browser.get(f"{site.url}/console/{path}")
    text = answer.text
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert answer.headers["cache-control"] == "no-store"
    assert re.search(r"<title>[^<]+ – Alert broadcaster</title>", text)
    assert len(re.findall(r"<h1[ >]", text)) == 1
    ids = re.findall(r'\sid="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    for field in re.findall(r'<(?:input|select)[^>]*\sid="([^"]+)"', text):
        assert f'for="{field}"' in text
    assert not re.search(r"<[^>]+\s(?:style|on[a-z]+)=\"", text.replace(HOSTILE, ""))
    assert "<script>alert" not in text
    assert "<img src=x" not in text
    if "hostile" in path:
        assert "&lt;script&gt;alert(1)" in text
        assert "{{ 7*7 }}" in text


@pytest.mark.parametrize("path", PAGES)
def test_strangers_are_sent_to_the_sign_in_page(site: Site, path: str) -> None:
    assert no_redirect(requests, "GET", f"{site.url}/console/{path}").status_code == 303


def test_headings_go_down_one_at_a_time(site: Site, browser: requests.Session) -> None:
    for path in PAGES:
        levels = [int(n) for n in re.findall(r"<h([1-6])[ >]", browser.get(f"{site.url}/console/{path}").text)]
        assert all(b - a <= 1 for a, b in zip(levels, levels[1:], strict=False)), (path, levels)


def test_the_navigation_leads_where_the_key_may_go(site: Site, browser: requests.Session) -> None:
    text = browser.get(f"{site.url}/console/monitors/down").text
    links = re.findall(r'nhsuk-header__navigation-link" href="([^"]+)"( aria-current="true")?', text)
    assert links == [
        ("/console/alerts", ""), ("/console/monitors", ' aria-current="true"'), ("/console/incidents", ""),
    ]  # fmt: skip
    few = signed_in(site, "key-4")
    assert 'href="/console/monitors"' not in few.get(f"{site.url}/console/alerts").text
    for path in ("monitors", "monitors/down", "monitors/stream", "monitors/down/stream"):
        answer = few.get(f"{site.url}/console/{path}")
        assert answer.status_code == 403, path
        assert "monitors:read" in answer.text


# ---- how things stand ------------------------------------------------------------------------------------------------


def test_the_start_page_says_what_is_down_and_what_waits(site: Site, browser: requests.Session) -> None:
    answer = browser.get(f"{site.url}/console/alerts")
    assert (
        "2 monitors down , 1 monitor working badly , 1 monitor not known , 1 monitor not looked at by anybody , "
        "3 incidents wait for you"
    ) in read(answer)
    assert "app-standing--trouble" in answer.text
    assert '<a href="/console/incidents">3 incidents wait for you</a>' in answer.text


def test_the_start_page_says_when_all_is_well_and_nothing_when_nothing_is_watched(
    site: Site, browser: requests.Session
) -> None:
    site.wiring.incidents.views.clear()
    site.wiring.monitors.views = {"well": site.wiring.monitors.views["well"]}
    assert "1 monitor: works" in read(browser.get(f"{site.url}/console/alerts"))
    site.wiring.monitors.views.clear()
    assert "app-standing" not in browser.get(f"{site.url}/console/alerts").text


def test_a_key_that_may_not_see_monitors_is_told_of_incidents_only(site: Site) -> None:
    text = read(signed_in(site, "key-4").get(f"{site.url}/console/alerts"))
    assert "3 incidents wait for you" in text
    assert "monitors down" not in text


# ---- monitors --------------------------------------------------------------------------------------------------------


def test_the_list_says_each_state_in_words_since_when_and_why(site: Site, browser: requests.Session) -> None:
    text = read(browser.get(f"{site.url}/console/monitors"))
    for words in (
        "Down for 4 minutes, since", "The server refused the connection.", "took 10.0 s", "Maintenance: nothing is sent",
        "Works badly for 9 minutes", "Not known for less than a minute", "It has not been looked at yet.", "Only watches",
        "Works for 3 days", "Paused for 26 hours", "Before that: down.", "Sending mail (SMTP)",
    ):  # fmt: skip
        assert words in text
    assert "Not looked at for 20 minutes" in text
    assert "“main” has not looked since" in text
    assert "Before that: works." in text


def test_the_small_drawing_marks_what_failed_and_says_so_in_words(site: Site, browser: requests.Session) -> None:
    text = browser.get(f"{site.url}/console/monitors").text
    first = text[text.index('class="app-spark"') :].split("</svg>")[0]
    says = "The last 40 looks: 6 failed, 1 worked badly, 1 cannot say, 32 good. It took 24\xa0ms to 480\xa0ms."
    assert f'role="img" aria-label="{says}"' in text
    assert first.count('class="app-look--failed"') == 6
    assert first.count('class="app-look--ok"') == 32
    assert set(re.findall(r'app-look--failed" x="\d+" y="(\d+)" width="3" height="(\d+)"', first)) == {("0", "32")}
    assert 'aria-label="It has not been looked at yet."' in text


def test_there_are_more_pages_when_there_are_more_monitors(
    site: Site, browser: requests.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "page=2" not in browser.get(f"{site.url}/console/monitors").text
    monkeypatch.setattr(monitor_pages, "EACH", 3)
    first, last = (browser.get(f"{site.url}/console/monitors?page={n}").text for n in (1, 3))
    assert first.count('class="app-monitor ') == 3
    assert 'href="/console/monitors?page=2"' in first
    assert 'data-live="/console/monitors/stream?page=3"' in last
    assert 'href="/console/monitors?page=4"' not in last
    assert browser.get(f"{site.url}/console/monitors?page=0").status_code == 404


def test_nothing_to_watch_is_said(site: Site, browser: requests.Session) -> None:
    site.wiring.monitors.views.clear()
    assert "Nothing is watched yet." in browser.get(f"{site.url}/console/monitors").text


def test_a_monitor_says_how_it_is_watched_and_never_a_secret(site: Site, browser: requests.Session) -> None:
    view = site.wiring.monitors.views["down"]
    policy = replace(watched.POLICY, release=Release.HOLD, hold=90, group="mail", remind_every=3600)
    watch = replace(view.watch, vantages=("leeds", "london"), quorum=2, control="192.0.2.1:53", policy=policy)
    site.wiring.monitors.views["down"] = replace(view, watch=watch)
    text = read(browser.get(f"{site.url}/console/monitors/down"))
    for words in (
        "every 60 seconds; an answer may take 10 seconds", "after 3 failed looks in a row",
        "after 5 good looks in a row, and 60 seconds without a failed one", "2 of 2 places that look have to see it",
        "192.0.2.1:53: when that cannot be reached either", "host smtp.example.nhs.uk", "port 587", "tls, verify yes",
        "password kept, and never shown",
        "Critical alert to everyone in the directory by SMS and Slack, and after 5 minutes by Web push to those not reached",
        "after 90 seconds, in which somebody can stop it", "with what else fails in “mail”", "every 1 hour until it is over",
        "leeds It holds Failed Last looks 6 failed in a row", "london It holds Failed Last looks 5 failed in a row",
        "Seen from leeds: failed (6 failed in a row); london: failed (5 failed in a row)", "Works → became Down",
    ):  # fmt: skip
        assert words in text, words


def test_the_chart_breaks_where_it_failed_and_is_a_table_as_well(site: Site, browser: requests.Session) -> None:
    text = browser.get(f"{site.url}/console/monitors/down").text
    wide = text[text.index("app-curve__drawing--wide") :].split("</svg>")[0]
    assert wide.count("<polyline") == 2
    assert wide.count("app-shape--failed") == 6
    assert "The last looks as a table" in text
    assert text.count('<th scope="row" class="nhsuk-table__cell">') == 20


def test_its_incidents_are_linked_from_it(site: Site, browser: requests.Session) -> None:
    text = browser.get(f"{site.url}/console/monitors/slow").text
    assert re.findall(r'href="/console/incidents/([^"]+)"', text) == ["asking"]


@pytest.mark.parametrize(("what", "uid"), [("look", "down"), ("pause", "down"), ("resume", "paused")])
def test_a_button_does_what_it_says_and_the_page_says_that_it_did(
    site: Site, browser: requests.Session, what: str, uid: str
) -> None:
    assert f'action="/console/monitors/{uid}/{what}"' in browser.get(f"{site.url}/console/monitors/{uid}").text
    answer = browser.post(f"{site.url}/console/monitors/{uid}/{what}")
    assert site.wiring.monitors.done == [(what, uid)]
    assert answer.url.endswith(f"/console/monitors/{uid}?done={what}")
    assert 'role="status"><p>' in answer.text


def test_what_is_paused_meanwhile_is_not_looked_at(site: Site, browser: requests.Session) -> None:
    answer = browser.post(f"{site.url}/console/monitors/paused/look")
    assert answer.url.endswith("/console/monitors/paused")
    assert site.wiring.monitors.done == []


@pytest.mark.parametrize("hours", [1, 4])
def test_maintenance_begins_with_a_reason(site: Site, browser: requests.Session, hours: int) -> None:
    form = {"hours": hours, "note": "  new\ncertificate "}
    answer = browser.post(f"{site.url}/console/monitors/down/maintenance", data=form)
    ((what, uid, until, note, by),) = site.wiring.monitors.done
    assert (what, uid, note, by) == ("maintenance", "down", "new certificate", "key-1")
    assert abs(until - now() - hours * 3_600_000) < 5_000
    assert "nothing is sent" in answer.text


@pytest.mark.parametrize(
    ("form", "status", "says"),
    [
        ({"hours": "1", "note": " "}, 422, "Enter why"), ({"hours": "1", "note": "x" * 201}, 422, "200 characters or fewer"),
        ({"hours": "9999", "note": "x"}, 422, "Choose one"), ({"note": "x"}, 404, "Check the address"),
    ],
)  # fmt: skip
def test_maintenance_without_a_reason_or_for_ever_is_refused(
    site: Site, browser: requests.Session, form: dict[str, str], status: int, says: str
) -> None:
    answer = browser.post(f"{site.url}/console/monitors/down/maintenance", data=form)
    assert answer.status_code == status
    assert says in answer.text
    assert site.wiring.monitors.done == []


def test_maintenance_is_shown_and_ended_but_not_that_of_all_monitors(site: Site, browser: requests.Session) -> None:
    begun, ends = now() - MINUTE, now() + 30 * MINUTE
    site.wiring.monitors.maintenance = [
        Window("mine", "down", None, begun, ends, HOSTILE),
        Window("later", "down", None, ends, ends + MINUTE, "second part"),
        Window("all", None, None, begun, ends, "the whole site"),
        Window("old", "down", None, begun - 9 * MINUTE, begun, "long past"),
        Window("others", "well", None, begun, ends, "of another"),
    ]
    answer = browser.get(f"{site.url}/console/monitors/down")
    text = read(answer)
    assert "(all monitors): the whole site" in text
    assert "Maintenance to come from" in text
    assert "long past" not in text
    assert "of another" not in text
    assert re.findall(r'maintenance/(\w+)/end"', answer.text) == ["mine", "later"]
    for uid in ("all", "others", "mine"):
        browser.post(f"{site.url}/console/monitors/down/maintenance/{uid}/end")
    assert site.wiring.monitors.done == [("end", "mine")]


FORMS = ["look", "pause", "resume", "maintenance", "maintenance/w1/end"]


@pytest.mark.parametrize("form", FORMS)
def test_who_may_only_read_changes_no_monitor_and_other_sites_neither(site: Site, form: str) -> None:
    url = f"{site.url}/console/monitors/down"
    data = {"hours": "1", "note": "x"}
    reader = signed_in(site, "key-2")
    assert '<form action="/console/monitors' not in reader.get(url).text
    assert reader.post(f"{url}/{form}", data=data).status_code == 403
    assert reader.get(f"{url}/maintenance").status_code == 403
    writer = signed_in(site, "key-1")
    writer.headers["Origin"] = "https://evil.example"
    assert writer.post(f"{url}/{form}", data=data).status_code == 403
    assert site.wiring.monitors.done == []


# ---- incidents -------------------------------------------------------------------------------------------------------

OUTLOOKS = {
    "waiting": ("This will be sent by itself at", "<strong>1 minute ", "If you do nothing, it is sent to those who belong "
                "to both the group “Clinicians” and people tagged “site: Northmoor”, by SMS and Slack",
                "If everything works again before then, nothing is sent."),
    "asking": ("Nobody is told until somebody decides", "Nothing is sent by itself, however long this lasts.",
               "<strong>DRILL</strong>"),
    "told": ("People were told at", "It is said again by itself every 30 minutes while it lasts, next at",
             "What else of “mail” fails meanwhile is added below. It is sent 10 minutes after the last message, at once if "
             "it is more severe.",
             "Once everything works again, everyone who may have got it is told so by itself.",
             "It came after people were told, and was not in that alert."),
    "sending": ("This is being sent now", "You have nothing to do here."),
    "fault": ("This could not be sent", "There is no group “Night staff”.", "It is tried again by itself at",
              "Nobody has been told. If it cannot wait, send an alert by hand."),
    "clearing": ("This is over since", "People are told so by itself in a moment"),
    "dismissed": ("Nobody is told", "Service desk decided not to send it. That holds for as long as this lasts"),
    "closed": ("This is over since", "Everyone who may have got the alert was told that it is over.",
               "Nothing more happens.", "Service desk decided to send it."),
    "untold": ("Nobody was told", "It was over before anything was sent.", "Nothing more happens."),
}  # fmt: skip


@pytest.mark.parametrize("uid", OUTLOOKS)
def test_an_incident_says_what_happens_by_itself_and_what_does_not(site: Site, browser: requests.Session, uid: str) -> None:
    answer = browser.get(f"{site.url}/console/incidents/{uid}")
    for words in OUTLOOKS[uid]:
        assert words in html.unescape(answer.text), words
    decides = "Send now" in answer.text
    assert decides == (uid in ("waiting", "asking"))
    assert ("What people would read" in answer.text) == decides
    assert ("live.js" in answer.text) == (uid not in ("closed", "untold"))


def test_without_all_clear_and_reminders_nothing_else_is_promised(site: Site, browser: requests.Session) -> None:
    site.wiring.incidents.views["told"] = watched.incident("told", now(), "told", told_at=now(), policy={"all_clear": False})
    text = read(browser.get(f"{site.url}/console/incidents/told"))
    assert "It is not said again by itself while it lasts." in text
    assert "Nobody is told: send word yourself." in text
    assert "added below" not in text


def test_the_list_has_what_waits_first_and_what_is_over_last(site: Site, browser: requests.Session) -> None:
    text = browser.get(f"{site.url}/console/incidents").text
    open_, over = text.split(">Over</h2>")
    assert re.findall(r'href="/console/incidents/(\w+)"', open_) == [
        "waiting", "asking", "fault", "hostile", "told", "sending", "clearing", "dismissed",
    ]  # fmt: skip
    assert re.findall(r'href="/console/incidents/(\w+)"', over) == ["closed", "untold"]
    assert "3 causes, 2 of them still down" in open_
    assert 'href="/console/incidents?cursor=17"' in over
    older = browser.get(f"{site.url}/console/incidents?cursor=1").text
    assert "live.js" not in older
    assert "Newest incidents" in older


def test_causes_lead_to_their_monitors_and_alerts_to_their_pages(site: Site, browser: requests.Session) -> None:
    text = browser.get(f"{site.url}/console/incidents/told").text
    assert 'href="/console/monitors/down"' in text
    assert 'href="/console/monitors/7"' not in text  # another system's: it has no page
    assert f'href="/console/alerts/{UID}"' in text
    assert "1,670 of 2,250 arrived, sending" in text
    assert "works again since" in text


def test_send_now_sends_and_says_who(site: Site, browser: requests.Session) -> None:
    answer = browser.post(f"{site.url}/console/incidents/asking/send")
    assert site.wiring.incidents.done == [("release", "asking", "key-1")]
    text = read(answer)
    assert "This is being sent now" in text
    assert "Service desk decided to send it." in text
    assert "Send now" not in text


def test_do_not_send_asks_first_and_says_that_the_clock_runs(site: Site, browser: requests.Session) -> None:
    text = read(browser.get(f"{site.url}/console/incidents/waiting/dismiss"))
    assert "Nothing is stopped yet." in text
    assert "it is still sent by itself at" in text
    assert site.wiring.incidents.done == []
    answer = browser.post(f"{site.url}/console/incidents/waiting/dismiss")
    assert site.wiring.incidents.done == [("dismiss", "waiting", "key-1")]
    assert "Service desk decided not to send it" in answer.text
    assert "still sent by itself" not in browser.get(f"{site.url}/console/incidents/asking/dismiss").text


@pytest.mark.parametrize("answer", ["send", "dismiss"])
def test_an_answer_that_comes_too_late_is_told_how_it_stands(site: Site, browser: requests.Session, answer: str) -> None:
    late = browser.post(f"{site.url}/console/incidents/told/{answer}")
    assert late.status_code == 409
    assert "Too late: this was decided already" in late.text
    assert "People were told at" in late.text
    assert browser.get(f"{site.url}/console/incidents/told/dismiss").url.endswith("/incidents/told")
    assert site.wiring.incidents.done == []


@pytest.mark.parametrize("answer", ["send", "dismiss"])
def test_who_may_not_send_may_not_decide(site: Site, answer: str) -> None:
    reader = signed_in(site, "key-2")
    text = reader.get(f"{site.url}/console/incidents/waiting").text
    assert "Your key may look, but not decide." in text
    assert "Send now" not in text
    assert reader.post(f"{site.url}/console/incidents/waiting/{answer}").status_code == 403
    assert reader.get(f"{site.url}/console/incidents/waiting/dismiss").status_code == 403
    forged = signed_in(site, "key-1")
    forged.headers["Origin"] = "https://evil.example"
    assert forged.post(f"{site.url}/console/incidents/waiting/{answer}").status_code == 403
    assert site.wiring.incidents.done == []


def test_a_test_key_does_not_decide_what_reaches_real_people(site: Site, browser: requests.Session) -> None:
    site.wiring.sandbox_only = False
    real = replace(site.wiring.incidents.views["asking"], sandbox=False)
    site.wiring.incidents.views["asking"] = real
    assert "Yours is a test key" in browser.get(f"{site.url}/console/incidents/asking").text
    assert browser.post(f"{site.url}/console/incidents/asking/send").status_code == 403
    assert browser.post(f"{site.url}/console/incidents/waiting/send").ok  # of the sandbox
    site.wiring.keys.test = False
    assert browser.post(f"{site.url}/console/incidents/asking/send").ok
    assert [uid for _, uid, _ in site.wiring.incidents.done] == ["waiting", "asking"]


# ---- alerts ----------------------------------------------------------------------------------------------------------


def test_an_alert_says_why_it_was_raised_and_what_of_that_is_over(site: Site, browser: requests.Session) -> None:
    answer = browser.get(f"{site.url}/console/alerts/{UID}")
    text = read(answer)
    assert "Why this was raised" in text
    assert "Sending mail is down The server refused the connection." in text
    assert "Reading mail (webmail) works again" in text
    assert 'href="/console/incidents/told"' in answer.text
    assert "Why this was said again" in browser.get(f"{site.url}/console/alerts/trouble").text
    assert "What is over" in browser.get(f"{site.url}/console/alerts/cancelled").text
    assert 'id="why"' not in browser.get(f"{site.url}/console/alerts/planning").text


# ---- live ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "part", "says"),
    [
        ("monitors", "monitors", "2 monitors down"), ("monitors/down", "state", "Down."),
        ("incidents", "open", "3 incidents wait for you."),
        ("incidents/waiting", "outlook", "This will be sent by itself at"),
        ("standing", "standing", "2 monitors down"),
    ],
)  # fmt: skip
def test_a_live_page_gets_all_its_parts_and_then_what_changes(
    site: Site, browser: requests.Session, monkeypatch: pytest.MonkeyPatch, path: str, part: str, says: str
) -> None:
    monkeypatch.setattr(monitor_pages, "INTERVAL", 0.02)
    monkeypatch.setattr(incident_pages, "TICK", 0.02)
    with browser.get(f"{site.url}/console/{path}/stream", stream=True, timeout=10) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        told = frames(answer)
        next(told)
        first = json.loads(next(told)["data"])
        assert first["says"].startswith(says)
        assert first["parts"][part]
        page = browser.get(f"{site.url}/console/{'alerts' if path == 'standing' else path}").text
        assert set(first["parts"]) == set(re.findall(r'data-part="(\w+)"', page))
        changed = site.wiring.monitors.views["down"]
        site.wiring.monitors.views["down"] = replace(changed, state="ok", reason="It is back.")
        waiting = site.wiring.incidents.views.pop("asking")
        site.wiring.incidents.views["waiting"] = replace(site.wiring.incidents.views["waiting"], state="told", told_at=now())
        assert waiting
        for event in told:
            if "data" in event and json.loads(event["data"])["says"] != first["says"]:
                break
        else:
            raise AssertionError("the stream ended")


def test_a_stream_ends_with_what_it_shows_and_with_the_session(
    site: Site, browser: requests.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(monitor_pages, "INTERVAL", 0.02)
    monkeypatch.setattr(stream, "HEARTBEAT", 0.05)

    def ends(path: str, change: Any) -> str:
        with browser.get(f"{site.url}/console/{path}/stream", stream=True, timeout=10) as answer:
            told = frames(answer)
            next(told), next(told)
            change()
            (last,) = [event["data"] for event in told if event.get("event") == "end"]
            return str(json.loads(last)["reason"])

    assert ends("monitors/down", lambda: site.wiring.monitors.views.pop("down")) == "not-found"
    assert browser.get(f"{site.url}/console/monitors/down/stream").status_code == 404
    assert browser.get(f"{site.url}/console/incidents/nothing/stream").status_code == 404
    assert ends("monitors", lambda: setattr(site.wiring.keys, "revoked", True)) == "unauthorized"
    assert browser.get(f"{site.url}/console/incidents/stream").status_code == 401


def test_hostile_words_in_the_streams_stay_words(site: Site, browser: requests.Session) -> None:
    for path in ("monitors", "monitors/hostile", "incidents", "incidents/hostile", "standing", "alerts/hostile"):
        with browser.get(f"{site.url}/console/{path}/stream", stream=True, timeout=10) as answer:
            told = frames(answer)
            next(told)
            data = json.loads(next(told)["data"])
            assert "<script" not in json.dumps(data["parts"])
            assert "<img" not in json.dumps(data["parts"])


@pytest.mark.parametrize("path", ["monitors", "monitors/down", "incidents", "incidents/waiting"])
def test_without_scripts_a_page_loads_itself_again_unless_told_not_to(
    site: Site, browser: requests.Session, path: str
) -> None:
    assert '<noscript><meta http-equiv="refresh"' in browser.get(f"{site.url}/console/{path}").text
    still = browser.get(f"{site.url}/console/{path}?refresh=off").text
    assert 'http-equiv="refresh"' not in still
    assert "This page stands still." in still
