"""What recipients open, over real HTTP: enrolling, a message's page, the worker and the manifest."""

import json
import re
from collections.abc import Iterator

import pytest
import requests

from broadcaster.pwa import pages
from tests.pages.site import Site, example, serve


@pytest.fixture(scope="module")
def server() -> Iterator[Site]:
    with serve(example()) as running:
        yield running


@pytest.fixture
def site(server: Site) -> Site:
    server.use(example())
    return server


PAGES = ["enrol/good.token-1", "enrol/hostile", "enrol/unknown", "enrol", "m/live", "m/drill", "m/hostile", "m/unknown"]


@pytest.mark.parametrize("path", PAGES)
def test_every_page_keeps_others_out(site: Site, path: str) -> None:
    answer = requests.get(f"{site.url}/{path}")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    assert "set-cookie" not in answer.headers
    assert not re.search(r"<[^>]+\s(?:style|onclick|onload)=\"", answer.text)


@pytest.mark.parametrize("path", PAGES)
def test_every_page_can_be_read_by_anybody(site: Site, path: str) -> None:
    text = requests.get(f"{site.url}/{path}").text
    assert '<html lang="en-GB"' in text
    assert re.search(r"<title>[^<]+ – Staff alerts</title>", text)
    assert len(re.findall(r"<h1[ >]", text)) == 1
    assert "<script>alert" not in text
    assert "<img src=x" not in text


def test_enrolling_greets_and_has_words_for_every_obstacle(site: Site) -> None:
    text = requests.get(f"{site.url}/enrol/good.token-1").text
    for words in (
        "Get alerts on this computer or phone", "Hello Asha Patel.", "Turn on alerts", "This browser will get alerts",
        "Turn off", "Add to Home Screen", "Your browser does not allow notifications", "This browser cannot show alerts",
        "This page is not secure", "JavaScript is switched off",
    ):  # fmt: skip
        assert words in text
    assert 'rel="manifest" href="/manifest.webmanifest?enrolment=good.token-1"' in text


@pytest.mark.parametrize("token", ["unknown", "%3Cb%3E", "x" * 300])
def test_an_unknown_link_is_explained(site: Site, token: str) -> None:
    for kind in ("enrol", "m"):
        answer = requests.get(f"{site.url}/{kind}/{token}")
        assert answer.status_code == 404
        assert "This link does not work" in answer.text


def test_a_message_says_what_who_and_when(site: Site) -> None:
    text = requests.get(f"{site.url}/m/live").text
    for words in (
        "Email is down across the trust",
        "Do not try your password again",
        "Trust IT",
        "Critical",
        "<time datetime=",
    ):
        assert words in text
    assert "DRILL" not in text
    assert "cancelled" not in text


def test_a_cancelled_drill_says_both(site: Site) -> None:
    text = requests.get(f"{site.url}/m/drill").text
    assert "<title>Cancelled: Drill: Email is down" in text
    assert "<strong>DRILL</strong>" in text
    assert "This alert has been cancelled" in text


def test_the_worker_is_at_the_root_and_never_stale(site: Site) -> None:
    answer = requests.get(f"{site.url}/sw.js")
    assert answer.headers["content-type"].startswith("text/javascript")
    assert answer.headers["service-worker-allowed"] == "/"
    assert answer.headers["cache-control"] == "no-cache"


def test_the_manifest_starts_at_the_persons_own_page(site: Site) -> None:
    answer = requests.get(f"{site.url}/manifest.webmanifest?enrolment=good.token-1")
    assert answer.headers["content-type"] == "application/manifest+json"
    manifest = answer.json()
    assert (manifest["start_url"], manifest["display"]) == ("/enrol/good.token-1", "standalone")
    for icon in manifest["icons"]:
        assert requests.get(site.url + icon["src"]).content.startswith(b"\x89PNG")
    hostile = requests.get(f"{site.url}/manifest.webmanifest", params={"enrolment": "//evil.example/"}).json()
    assert hostile["start_url"] == "/enrol"


def test_pages_are_readable_without_the_design_system(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "_DESIGN_SYSTEM", pages.STATIC / "not-there.css")
    text = requests.get(f"{site.url}/m/live").text
    assert "/static/pwa/plain.css" in text
    assert "vendor" not in text
    assert requests.get(f"{site.url}/static/pwa/plain.css").ok


def test_static_files_are_checked_and_stay_in_their_folder(site: Site) -> None:
    answer = requests.get(f"{site.url}/static/pwa/enrol.js")
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert requests.get(f"{site.url}/static/pwa/..%2fpages.py").status_code == 404
    assert json.loads(requests.get(f"{site.url}/manifest.webmanifest").text)["scope"] == "/"


def test_a_message_of_an_outage_says_how_it_stands_now(site: Site) -> None:
    text = requests.get(f"{site.url}/m/live").text
    now = text[text.index('id="now"') :]
    assert now.index("Sending mail") < now.index("Queue of mail relay 2") < now.index("Reading mail (webmail)")
    assert now.count(">Down</strong>") == 2
    assert now.count(">Works again</strong>") == 1
    assert "refused the connection" not in text  # what only the console's readers need to know
    assert "This is over" not in text


def test_once_it_is_over_a_message_says_so_first(site: Site) -> None:
    text = requests.get(f"{site.url}/m/over").text
    assert "<title>Over: Email is down" in text
    assert re.search(r"This is over since \d{1,2}:\d\d[ap]m", text)
    assert text.index("This is over since") < text.index("<article>")
    assert "has been cancelled" not in text
    assert 'id="now"' not in text


def test_an_all_clear_says_by_itself_that_it_is_over(site: Site) -> None:
    text = requests.get(f"{site.url}/m/all-clear").text
    assert "It works again" in text
    assert "This is over" not in text


def test_a_strangers_names_stay_words_in_how_it_stands(site: Site) -> None:
    text = requests.get(f"{site.url}/m/hostile").text
    assert "&lt;script&gt;alert(1)" in text[text.index('id="now"') :]
    assert "<script>alert" not in text
