import json

import pytest
from aiohttp import web

from broadcaster.channels.slack_codes import SLACK_CODES
from broadcaster.domain.messages import Envelope, InvalidAddress, Severity
from broadcaster.domain.outcomes import Accepted, Ambiguous, Rejected, Scope, Throttled
from tests.channels.rig import SLACK, answering, json_reply, message, provider, run, send_one, slack

CHANNEL = slack("http://127.0.0.1:1")
TO = Envelope(5, 1, "U000000005", "7K2M9QX", "https://al.example/m/x1?a=1&b=2", "https://al.example/r")


@pytest.mark.parametrize("code", SLACK_CODES)
@pytest.mark.parametrize("status", [200, 400])
def test_every_known_error_has_its_outcome(code: str, status: int) -> None:
    async def main() -> None:
        error = answering(lambda seen: json_reply({"ok": False, "error": code}, status))
        async with provider(error) as there, SLACK.open(there.origin) as channel:
            assert await send_one(channel, SLACK.envelope(there.origin)) == SLACK_CODES[code]

    run(main())


def test_the_table_says_what_the_facts_say() -> None:
    by_scope = {s: {c for c, o in SLACK_CODES.items() if isinstance(o, Rejected) and o.scope is s} for s in Scope}
    facts = "invalid_auth not_authed token_revoked token_expired account_inactive missing_scope org_login_required"
    assert set(facts.split()) <= by_scope[Scope.CHANNEL]
    facts = "channel_not_found is_archived not_in_channel user_not_found user_disabled restricted_action cannot_dm_bot"
    assert set(facts.split()) == by_scope[Scope.ADDRESS]
    assert {"msg_too_long", "msg_blocks_too_long", "no_text", "invalid_blocks"} <= by_scope[Scope.MESSAGE]


def test_an_unknown_error_is_ambiguous_and_logged(capsys: pytest.CaptureFixture[str]) -> None:
    async def main() -> None:
        error = answering(lambda seen: json_reply({"ok": False, "error": "brand_new"}))
        async with provider(error) as there, SLACK.open(there.origin) as channel:
            outcome = await send_one(channel, SLACK.envelope(there.origin))
            assert isinstance(outcome, Ambiguous)
            assert outcome.code == "brand_new"
            assert "slack.unknown_code" in capsys.readouterr().out

    run(main())


@pytest.mark.parametrize(("text", "kind"), [("<html>", "text/html"), ("busy", "text/plain"), ("{", "application/json")])
def test_a_throttle_without_json_keeps_retry_after(text: str, kind: str) -> None:
    async def main() -> None:
        busy = web.Response
        answer = answering(lambda seen: busy(status=429, text=text, content_type=kind, headers={"Retry-After": "12"}))
        async with provider(answer) as there, SLACK.open(there.origin) as channel:
            assert await send_one(channel, SLACK.envelope(there.origin)) == Throttled(12.0, "429")

    run(main())


def test_it_posts_what_slack_wants() -> None:
    async def main() -> None:
        async with provider(answering(SLACK.accept)) as there, SLACK.open(there.origin) as channel:
            outcome = await send_one(channel, SLACK.envelope(there.origin, 7, attempt=2))
            assert outcome == Accepted("D000000007:1700000007.000100")
            posted = json.loads(there.posts[0].body)
            assert there.posts[0].path == "/slack/api/chat.postMessage"
            assert there.posts[0].headers["Authorization"] == "Bearer xoxb-test"
            assert posted["channel"] == "U000000007"
            assert posted["metadata"] == {
                "event_type": "alert_delivery",
                "event_payload": {"delivery_id": 7, "attempt": 2},
            }
            assert posted["unfurl_links"] is posted["unfurl_media"] is False
            assert posted["text"].startswith("Critical: Email is down")

    run(main())


def test_the_blocks_have_their_parts_in_order() -> None:
    what = message(drill=True, title="A <b> & c", body="Call <!channel> & wait", sent_at=1_700_000_000_000)
    content = CHANNEL.render(what, TO)
    header, body, link, context = json.loads(json.dumps(content.payload))
    assert header["text"] == {"type": "plain_text", "text": "DRILL: Critical: A <b> & c", "emoji": False}
    assert body["text"]["text"] == "Call &lt;!channel&gt; &amp; wait"
    assert link["text"]["text"].startswith("<https://al.example/m/x1?a=1&amp;b=2|")
    assert context["elements"][0]["text"] == "Northmoor IT · 22:13 · Ref 7K2M9QX"
    assert content.text == "DRILL: Critical: A &lt;b&gt; &amp; c. Call &lt;!channel&gt; &amp; wait"


@pytest.mark.parametrize("char", ["x", "&", "é "])
def test_long_texts_stay_within_slacks_limits(char: str) -> None:
    blocks = json.loads(json.dumps(CHANNEL.render(message(title=char * 400, body=char * 9000), TO).payload))
    assert len(blocks[0]["text"]["text"]) <= 150
    text = blocks[1]["text"]["text"]
    assert 2900 < len(text) <= 3000
    assert text.endswith("…")
    assert text.count("&") == text.count("&amp;")


def test_an_empty_body_has_no_block() -> None:
    assert len(json.loads(json.dumps(CHANNEL.render(message(body=" "), TO).payload))) == 3


@pytest.mark.parametrize("severity", Severity)
def test_the_severity_is_said(severity: Severity) -> None:
    assert CHANNEL.render(message(severity=severity), TO).text.startswith(severity.value.capitalize() + ": ")


@pytest.mark.parametrize("raw", ["U012AB3CD", "W012AB3CD", " C012AB3CD ", "G012AB3CD"])
def test_it_takes_ids(raw: str) -> None:
    assert CHANNEL.parse_address(raw).value == raw.strip()
    assert CHANNEL.parse_address(raw).masked == f"{raw.strip()[0]}…3CD"


@pytest.mark.parametrize("raw", ["", "U", "D012AB3CD", "u012ab3cd", "#general", "@ann", "U012AB3CD/x", "U012AB3CD\nX"])
def test_it_refuses_the_rest(raw: str) -> None:
    with pytest.raises(InvalidAddress):
        CHANNEL.parse_address(raw)


def test_it_has_a_lane_for_the_workspace_and_one_for_the_destination() -> None:
    workspace, destination = CHANNEL.lanes(TO, CHANNEL.quote(CHANNEL.render(message(), TO)))
    assert (workspace.key, workspace.rate) == ("slack:default", 4.0)
    assert (destination.key, destination.rate) == ("slack:default:U000000005", 1.0)
