"""A stand-in for Slack's Web API under `/slack/api/` (https://docs.slack.dev/reference/methods).

Arguments come as JSON, as a form, or in the query, as the SDK likes it; the token as a bearer header or a
form field. A message is delivered once it is posted: Slack has no receipts.
"""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qsl

from aiohttp import web

from broadcaster.sandbox.faults import Faults
from broadcaster.sandbox.ledger import Ledger
from broadcaster.sandbox.replies import json_reply
from broadcaster.sandbox.settings import SandboxConfig, Settings
from broadcaster.sandbox.slack_directory import BOT_ID, BOT_USER, TEAM_ID, Conversation, Directory, Post
from broadcaster.sandbox.slack_rules import SlackError, check_arguments, check_message

Arguments = dict[str, Any]
_ERROR = web.ResponseKey("slack error", str)
Handler = Callable[[Arguments], Awaitable[web.Response]]


class Slack:
    """One workspace with one bot."""

    def __init__(self, config: SandboxConfig, settings: Settings, ledger: Ledger, faults: Faults) -> None:
        self._token = config.slack_token
        self._settings = settings
        self._ledger = ledger
        self._faults = faults
        self.directory = Directory()
        self._last_ts = 0
        self._workspace_free_at = 0.0
        self._methods: dict[str, Handler] = {
            "auth.test": self._auth_test,
            "chat.postMessage": self._post_message,
            "chat.update": self._update,
            "chat.delete": self._delete,
            "conversations.open": self._open,
            "conversations.history": self._history,
            "users.list": self._users_list,
            "users.lookupByEmail": self._lookup_by_email,
        }

    def clear(self) -> None:
        """Forgets what was posted."""
        self.directory.clear_posts()
        self._workspace_free_at = 0.0

    def routes(self) -> list[web.RouteDef]:
        """`/slack/api/{method}` by GET and POST."""
        path = "/slack/api/{method}"
        return [web.post(path, self.call), web.get(path, self.call, allow_head=False)]

    async def call(self, request: web.Request) -> web.Response:
        """Any method: 200 with `ok` true or false, or 429."""
        method = request.match_info["method"]
        operation = "send" if method == "chat.postMessage" else "lookup"
        try:
            arguments = await _read_arguments(request)
            self._authenticate(request, arguments)
            handler = self._methods.get(method)
            if handler is None:
                raise SlackError("unknown_method")
            check_arguments(method, arguments)
            address = _address(arguments)

            async def take() -> web.Response:
                try:
                    return await handler(arguments)
                except SlackError as error:
                    return self._refused(error, method)

            response = await self._faults.answer(request, "slack", operation, address, take, refuse)
        except SlackError as error:
            response = self._refused(error, method)
        self._ledger.answered("slack", method, str(response.get(_ERROR, response.status)))
        return response

    def _refused(self, error: SlackError, method: str) -> web.Response:
        if method == "chat.postMessage" and error.error not in ("not_authed", "invalid_auth"):
            self._ledger.rejected("slack")
        body: dict[str, Any] = {"ok": False, "error": error.error}
        if error.messages:
            body["response_metadata"] = {"messages": list(error.messages)}
        response = json_reply(body)
        response[_ERROR] = error.error  # for the count of answers; not sent
        return response

    def _authenticate(self, request: web.Request, arguments: Arguments) -> None:
        in_body = arguments.pop("token", None)
        header = request.headers.get("Authorization", "")
        token = header.removeprefix("Bearer ") if header.startswith("Bearer ") else in_body
        if not token:
            raise SlackError("not_authed")
        if token != self._token:
            raise SlackError("invalid_auth")

    # -- methods

    async def _auth_test(self, _arguments: Arguments) -> web.Response:
        names = {"url": "https://sandbox.invalid/", "team": "Sandbox", "user": "broadcaster"}
        return json_reply({"ok": True, **names, "team_id": TEAM_ID, "user_id": BOT_USER, "bot_id": BOT_ID})

    async def _post_message(self, arguments: Arguments) -> web.Response:
        check_arguments("chat.postMessage", arguments, required=("channel",))
        text, blocks, metadata = check_message(arguments)
        conversation = self.directory.resolve(str(arguments["channel"]))
        wait = self._reserve(conversation)
        if wait > 0:
            # https://docs.slack.dev/apis/web-api/rate-limits: HTTP 429, Retry-After in whole seconds
            headers = {"Retry-After": str(int(wait) + 1)}
            return json_reply({"ok": False, "error": "ratelimited"}, status=429, headers=headers)
        ts = self._next_ts()
        shown = text or _blocks_text(blocks)
        payload = metadata["event_payload"] if metadata else {}
        key = str(payload.get("delivery_id") or shown)
        entry = self._ledger.take("slack", conversation.address, key, ts, shown)
        self._ledger.delivered(entry, "delivered")
        post = Post(ts, text, blocks, metadata, entry)
        conversation.posts.append(post)
        return json_reply({"ok": True, "channel": conversation.id, "ts": ts, "message": post.as_json(True)})

    async def _update(self, arguments: Arguments) -> web.Response:
        check_arguments("chat.update", arguments, required=("channel", "ts"))
        text, blocks, metadata = check_message(arguments)
        conversation = self.directory.resolve(str(arguments["channel"]))
        post = conversation.posts[conversation.find(str(arguments["ts"]))]
        post.text, post.blocks, post.metadata = text, blocks, metadata or post.metadata
        post.entry.text = text or _blocks_text(blocks)
        answer = {"ok": True, "channel": conversation.id, "ts": post.ts, "text": text}
        return json_reply({**answer, "message": post.as_json(True)})

    async def _delete(self, arguments: Arguments) -> web.Response:
        check_arguments("chat.delete", arguments, required=("channel", "ts"))
        conversation = self.directory.resolve(str(arguments["channel"]))
        post = conversation.posts.pop(conversation.find(str(arguments["ts"])))
        post.entry.status = "deleted"
        return json_reply({"ok": True, "channel": conversation.id, "ts": post.ts})

    async def _open(self, arguments: Arguments) -> web.Response:
        users = str(arguments.get("users") or "")
        if arguments.get("channel"):
            conversation = self.directory.resolve(str(arguments["channel"]))
        elif not users:
            raise SlackError("users_list_not_supplied")
        elif "," in users:
            raise SlackError("invalid_arguments", "[ERROR] group messages are not simulated")
        else:
            conversation = self.directory.open(users)
        channel: dict[str, Any] = {"id": conversation.id}
        if _truth(arguments.get("return_im")):
            channel |= {"is_im": True, "user": conversation.address, "is_open": True}
        return json_reply({"ok": True, "channel": channel})

    async def _history(self, arguments: Arguments) -> web.Response:
        check_arguments("conversations.history", arguments, required=("channel",))
        conversation = self.directory.resolve(str(arguments["channel"]))
        limit = _limit(arguments.get("limit", 100), 999)
        oldest, latest = str(arguments.get("oldest", "0")), str(arguments.get("latest") or "9" * 12)
        inclusive = _truth(arguments.get("inclusive"))
        before = _cursor(arguments.get("cursor"), "next_ts:")
        found = [
            post
            for post in reversed(conversation.posts)
            if (not before or post.ts < before) and _within(post.ts, oldest, latest, inclusive)
        ]
        with_metadata = _truth(arguments.get("include_all_metadata"))
        page = found[:limit]
        body: dict[str, Any] = {"ok": True, "messages": [post.as_json(with_metadata) for post in page]}
        body["has_more"] = len(found) > limit
        if body["has_more"]:
            body["response_metadata"] = {"next_cursor": "next_ts:" + page[-1].ts}
        return json_reply(body)

    async def _users_list(self, arguments: Arguments) -> web.Response:
        limit = _limit(arguments.get("limit", 0), 1000) if arguments.get("limit") else 1000
        start = _cursor(arguments.get("cursor"), "user:") or "0"
        if not start.isdigit():
            raise SlackError("invalid_cursor")
        users = list(self.directory.users.values())
        page = users[int(start) : int(start) + limit]
        more = int(start) + limit < len(users)
        cursor = f"user:{int(start) + limit}" if more else ""
        return json_reply({"ok": True, "members": page, "response_metadata": {"next_cursor": cursor}})

    async def _lookup_by_email(self, arguments: Arguments) -> web.Response:
        check_arguments("users.lookupByEmail", arguments, required=("email",))
        return json_reply({"ok": True, "user": self.directory.by_email(str(arguments["email"]))})

    # -- helpers

    def _next_ts(self) -> str:
        """`seconds.microseconds`, unique and rising: Slack's name of a message within its channel."""
        self._last_ts = max(self._last_ts + 1, int(time.time() * 1_000_000))
        return f"{self._last_ts // 1_000_000}.{self._last_ts % 1_000_000:06d}"

    def _reserve(self, conversation: Conversation) -> float:
        """Takes a place under both limits; seconds to wait when there is none (nothing is taken then)."""
        set_ = self._settings
        now = time.monotonic()
        rate = set_.slack_dm_rate if conversation.id.startswith("D") else set_.slack_channel_rate
        here = _wait(conversation.free_at, now, rate, set_.slack_channel_burst)
        whole = _wait(self._workspace_free_at, now, set_.slack_workspace_rate, set_.slack_workspace_burst)
        if max(here, whole) > 0:
            return max(here, whole)
        if rate is not None:
            conversation.free_at = max(now, conversation.free_at) + 1 / rate
        if set_.slack_workspace_rate is not None:
            self._workspace_free_at = max(now, self._workspace_free_at) + 1 / set_.slack_workspace_rate
        return 0.0


def refuse(status: int) -> web.Response:
    """An error by HTTP status: 429 has Slack's shape; a 5xx is often no JSON at all, which clients must
    bear."""
    if status == 429:
        return json_reply({"ok": False, "error": "ratelimited"}, status=429)
    if status >= 500:
        return web.Response(text="<html>upstream error</html>", content_type="text/html", status=status)
    return json_reply({"ok": False, "error": "fatal_error"}, status=status)


def _wait(free_at: float, now: float, rate: float | None, burst: int) -> float:
    """A token bucket as a moment (GCRA): how long until the next one fits in, 0 when it does now."""
    return 0.0 if rate is None else max(0.0, free_at + 1 / rate - now - burst / rate)


async def _read_arguments(request: web.Request) -> Arguments:
    arguments: Arguments = dict(request.query)
    raw = await request.read()
    if not raw:
        return arguments
    if request.content_type == "application/json":
        try:
            value = json.loads(raw)
        except ValueError:
            raise SlackError("invalid_json") from None
        if not isinstance(value, dict):
            raise SlackError("json_not_object")
        return arguments | value
    if request.content_type == "application/x-www-form-urlencoded":
        try:
            return arguments | dict(parse_qsl(raw.decode(), keep_blank_values=True, errors="strict"))
        except ValueError:
            raise SlackError("invalid_form_data") from None
    raise SlackError("invalid_post_type")


def _address(arguments: Arguments) -> str:
    return str(arguments.get("channel") or arguments.get("users") or arguments.get("email") or "")


def _truth(raw: Any) -> bool:
    return raw in (True, 1, "1", "true", "True")


def _limit(raw: Any, most: int) -> int:
    if not str(raw).isdigit() or not 1 <= int(raw) <= most:
        raise SlackError("invalid_limit")
    return int(raw)


def _cursor(raw: Any, prefix: str) -> str:
    if not raw:
        return ""
    if not str(raw).startswith(prefix):
        raise SlackError("invalid_cursor")
    return str(raw).removeprefix(prefix)


def _within(ts: str, oldest: str, latest: str, inclusive: bool) -> bool:
    try:
        at, low, high = float(ts), float(oldest), float(latest)
    except ValueError:
        raise SlackError("invalid_ts_latest") from None
    return low <= at <= high if inclusive else low < at < high


def _blocks_text(blocks: list[Any] | None) -> str:
    """What a person would read of blocks that came without a text."""
    parts = [b["text"]["text"] for b in blocks or [] if isinstance(b.get("text"), dict) and "text" in b["text"]]
    return "\n".join(parts)
