"""The stand-in for Slack, through Slack's own SDK."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

import pytest
from slack_sdk.errors import SlackApiError

from broadcaster.sandbox import credentials
from tests.sandbox.sandbox_world import World, play

USER = "U0ABCDEFGH1"
META = {"event_type": "alert", "event_payload": {"delivery_id": "d-1"}}


async def refused(call: Awaitable[Any]) -> str:
    with pytest.raises(SlackApiError) as caught:
        await call
    return str(caught.value.response["error"])


def section(text: str) -> dict[str, Any]:
    return {"type": "section", "text": {"type": "mrkdwn", "text": text}}


def test_a_direct_message_opens_a_conversation_and_can_be_found_again() -> None:
    async def scene(world: World) -> None:
        slack = world.slack()
        assert (await slack.auth_test())["ok"]
        opened = await slack.conversations_open(users=USER, return_im=True)
        posted = await slack.chat_postMessage(channel=USER, text="Mail is down", metadata=META)
        assert posted["channel"] == opened["channel"]["id"]
        assert posted["channel"].startswith("D")
        found = await slack.conversations_history(channel=posted["channel"], include_all_metadata=True, limit=1)
        assert found["messages"][0]["metadata"] == META
        plain = await slack.conversations_history(channel=posted["channel"])
        assert "metadata" not in plain["messages"][0]
        item = (await world.ask("ledger?channel=slack"))["items"][0]
        assert (item["address"], item["key"], item["text"]) == (USER, "d-1", "Mail is down")

    play(scene)


def test_a_message_can_be_changed_and_taken_back() -> None:
    async def scene(world: World) -> None:
        slack = world.slack()
        posted = await slack.chat_postMessage(channel="C0ABCDEFGH1", text="one")
        where = {"channel": posted["channel"], "ts": posted["ts"]}
        assert (await slack.chat_update(**where, text="two"))["text"] == "two"
        await slack.chat_delete(**where)
        assert await refused(slack.chat_delete(**where)) == "message_not_found"
        assert await refused(slack.chat_update(**where, text="three")) == "message_not_found"
        assert (await world.counts("slack"))["taken"] == 1

    play(scene)


def test_a_repeat_with_the_same_delivery_is_a_duplicate() -> None:
    async def scene(world: World) -> None:
        for text in ("one", "the same, said otherwise"):
            await world.slack().chat_postMessage(channel=USER, text=text, metadata=META)
        assert (await world.counts("slack"))["duplicates"] == 1

    play(scene)


def test_history_is_paged_and_bounded() -> None:
    async def scene(world: World) -> None:
        slack = world.slack()
        posted = [await slack.chat_postMessage(channel=USER, text=str(n)) for n in range(5)]
        channel = posted[0]["channel"]
        page = await slack.conversations_history(channel=channel, limit=3)
        assert [m["text"] for m in page["messages"]] == ["4", "3", "2"]
        assert page["has_more"]
        rest = await slack.conversations_history(channel=channel, limit=3, cursor=page["response_metadata"]["next_cursor"])
        assert [m["text"] for m in rest["messages"]] == ["1", "0"]
        bounds = {"oldest": posted[1]["ts"], "latest": posted[3]["ts"]}
        inner = await slack.conversations_history(channel=channel, **bounds)
        assert [m["text"] for m in inner["messages"]] == ["2"]
        outer = await slack.conversations_history(channel=channel, inclusive=True, **bounds)
        assert [m["text"] for m in outer["messages"]] == ["3", "2", "1"]

    play(scene)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"channel": "nonsense", "text": "x"}, "channel_not_found"),
        ({"channel": "D0NEVEROPEN", "text": "x"}, "channel_not_found"),
        ({"channel": "C0ARCHIVED1", "text": "x"}, "is_archived"),
        ({"channel": "C0NOTMEMBER", "text": "x"}, "not_in_channel"),
        ({"channel": "C0RESTRICT1", "text": "x"}, "restricted_action"),
        ({"channel": "U0DISABLED1", "text": "x"}, "user_disabled"),
        ({"channel": "U0NOTFOUND1", "text": "x"}, "channel_not_found"),
        ({"channel": USER}, "no_text"),
        ({"channel": USER, "text": "x" * 40_001}, "msg_too_long"),
        ({"channel": USER, "text": "x", "blocks": [{"type": "marquee"}]}, "invalid_blocks"),
        ({"channel": USER, "text": "x", "blocks": [section("x" * 3001)]}, "invalid_blocks"),
        ({"channel": USER, "text": "x", "blocks": [section("")]}, "invalid_blocks"),
        ({"channel": USER, "text": "x", "blocks": [section("x")] * 51}, "invalid_blocks"),
        ({"channel": USER, "text": "x", "blocks": [section("x") | {"size": 3}]}, "invalid_blocks"),
        (
            {
                "channel": USER,
                "text": "x",
                "blocks": [{"type": "header", "text": {"type": "mrkdwn", "text": "x"}}],
            },
            "invalid_blocks",
        ),
        ({"channel": USER, "text": "x", "metadata": {"event_type": "x"}}, "invalid_metadata_format"),
        ({"channel": USER, "text": "x", "colour": "red"}, "invalid_arguments"),
        ({"channel": "", "text": "x"}, "invalid_arguments"),
    ],
)
def test_it_refuses_what_slack_refuses(arguments: dict[str, Any], error: str) -> None:
    async def scene(world: World) -> None:
        slack = world.slack()
        assert await refused(slack.api_call("chat.postMessage", json=arguments)) == error
        counts = await world.counts("slack")
        assert (counts["taken"], counts["rejected"]) == (0, 1)

    play(scene)


def test_good_blocks_are_taken() -> None:
    blocks = [
        {"type": "header", "text": {"type": "plain_text", "text": "Mail is down"}},
        section("Use *Slack*"),
        {"type": "divider"},
        {
            "type": "actions",
            "elements": [{"type": "button", "text": {"type": "plain_text", "text": "Got it"}, "action_id": "ack"}],
        },
    ]

    async def scene(world: World) -> None:
        await world.slack().api_call("chat.postMessage", json={"channel": USER, "blocks": blocks})
        assert (await world.ask("ledger"))["items"][0]["text"] == "Mail is down\nUse *Slack*"

    play(scene)


def test_the_token_may_come_as_header_or_field_and_must_be_right() -> None:
    async def scene(world: World) -> None:
        assert await refused(world.slack(None).auth_test()) == "not_authed"
        assert await refused(world.slack("xoxb-other").auth_test()) == "invalid_auth"
        url = world.origin + "/slack/api/chat.postMessage"
        form = {"token": credentials.SLACK_TOKEN, "channel": USER, "text": "x", "metadata": "{"}
        async with world.http.post(url, data=form) as r:
            assert (await r.json())["error"] == "invalid_metadata_format"
        async with world.http.post(url, data=form | {"metadata": ""}) as r:
            assert (await r.json())["error"] == "invalid_metadata_format"
        del form["metadata"]
        async with world.http.post(url, data=form) as r:
            assert (await r.json())["ok"]

    play(scene)


def test_a_channel_has_a_limit_and_says_how_long_to_wait() -> None:
    async def scene(world: World) -> None:
        await world.tell("settings", {"slack_channel_rate": 0.5, "slack_channel_burst": 2}, 200)
        slack = world.slack()
        for _ in range(2):
            await slack.chat_postMessage(channel="C0ABCDEFGH1", text="x")
        with pytest.raises(SlackApiError) as caught:
            await slack.chat_postMessage(channel="C0ABCDEFGH1", text="x")
        assert (caught.value.response.status_code, caught.value.response["error"]) == (429, "ratelimited")
        assert caught.value.response.headers["Retry-After"] == "2"
        await slack.chat_postMessage(channel="C0ABCDEFGH2", text="x")
        await world.tell("settings", {"slack_workspace_rate": 0.5, "slack_workspace_burst": 1}, 200)
        await slack.chat_postMessage(channel=USER, text="x")
        with pytest.raises(SlackApiError):
            await slack.chat_postMessage(channel=USER, text="x")

    play(scene)


def test_the_directory_can_be_filled_and_read() -> None:
    async def scene(world: World) -> None:
        people = [{"name": f"Nurse {n}", "email": f"n{n}@ward.example"} for n in range(5)]
        ids = (await world.tell("slack/users", {"users": people}, 200))["ids"]
        slack = world.slack()
        assert (await slack.users_lookupByEmail(email="N3@ward.example"))["user"]["id"] == ids[3]
        assert await refused(slack.users_lookupByEmail(email="x@ward.example")) == "users_not_found"
        seen: list[str] = []
        cursor: str | None = None
        while cursor != "":
            page = await slack.users_list(limit=2, cursor=cursor)
            seen += [user["id"] for user in page["members"]]
            cursor = page["response_metadata"]["next_cursor"]
        assert seen == ids
        made = (await world.tell("slack/channels", {"channels": [{"name": "ward-7"}]}, 200))["ids"]
        assert (await slack.chat_postMessage(channel="#ward-7", text="x"))["channel"] == made[0]
        assert await refused(slack.chat_postMessage(channel="#ward-8", text="x")) == "channel_not_found"
        assert await refused(slack.conversations_open(users="U0NOTFOUND1")) == "user_not_found"
        assert await refused(slack.api_call("chat.shout")) == "unknown_method"

    play(scene)
