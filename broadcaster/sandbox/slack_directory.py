"""Who and what exists in the stand-in workspace: users, channels, conversations and what was posted there."""

from __future__ import annotations

import base64
import hashlib
from bisect import bisect_left
from typing import Any

from broadcaster.sandbox.ledger import Entry
from broadcaster.sandbox.slack_rules import (
    CHANNEL_ERRORS,
    CHANNEL_ID,
    DM_ID,
    USER_ERRORS,
    USER_ID,
    SlackError,
)

TEAM_ID = "T0SANDBOX1"
BOT_USER = "U0SANDBOXBOT"
BOT_ID = "B0SANDBOX01"


class Post:
    """One message in a conversation."""

    __slots__ = ("blocks", "entry", "metadata", "text", "ts")

    def __init__(self, ts: str, text: str, blocks: list[Any] | None, metadata: dict[str, Any] | None, entry: Entry) -> None:
        self.ts = ts
        self.text = text
        self.blocks = blocks
        self.metadata = metadata
        self.entry = entry

    def as_json(self, with_metadata: bool) -> dict[str, Any]:
        """The message object of chat.postMessage and conversations.history."""
        message: dict[str, Any] = {
            "type": "message",
            "user": BOT_USER,
            "bot_id": BOT_ID,
            "team": TEAM_ID,
            "text": self.text,
            "ts": self.ts,
        }
        if self.blocks is not None:
            message["blocks"] = self.blocks
        if with_metadata and self.metadata is not None:
            message["metadata"] = self.metadata
        return message


class Conversation:
    """A channel or a direct message, with its history in the order of time."""

    __slots__ = ("address", "free_at", "id", "posts")

    def __init__(self, conversation_id: str, address: str) -> None:
        self.id = conversation_id
        self.address = address
        self.posts: list[Post] = []
        self.free_at = 0.0

    def find(self, ts: str) -> int:
        """The position of the message with this ts; `message_not_found`."""
        position = bisect_left(self.posts, ts, key=lambda post: post.ts)
        if position == len(self.posts) or self.posts[position].ts != ts:
            raise SlackError("message_not_found")
        return position


class Directory:
    """Users and conversations. Any well-formed id exists unless it is one of the documented refusals."""

    def __init__(self) -> None:
        self.users: dict[str, dict[str, Any]] = {}
        self._emails: dict[str, str] = {}
        self._names: dict[str, str] = {}
        self._conversations: dict[str, Conversation] = {}

    def clear_posts(self) -> None:
        """Forgets every conversation; users and channels that were added stay."""
        self._conversations.clear()

    def add_user(self, name: str, email: str | None, user_id: str | None) -> str:
        """Adds a user, gives the id."""
        found = user_id or "U" + _digest(f"user {name} {email} {len(self.users)}")
        self.users[found] = {
            "id": found,
            "team_id": TEAM_ID,
            "name": name.lower().replace(" ", "."),
            "real_name": name,
            "deleted": USER_ERRORS.get(found) == "user_disabled",
            "is_bot": USER_ERRORS.get(found) == "cannot_dm_bot",
            "profile": {"real_name": name, "display_name": name, **({"email": email} if email else {})},
        }
        if email:
            self._emails[email.lower()] = found
        return found

    def add_channel(self, name: str, channel_id: str | None) -> str:
        """Adds a channel, gives the id; it can then be posted to as `#name`, too."""
        found = channel_id or "C" + _digest(f"channel {name}")
        self._names[name.lstrip("#")] = found
        return found

    def by_email(self, email: str) -> dict[str, Any]:
        """The user with this address; `users_not_found`
        (https://docs.slack.dev/reference/methods/users.lookupByEmail)."""
        found = self._emails.get(email.lower())
        if found is None:
            raise SlackError("users_not_found")
        return self.users[found]

    def open(self, user: str) -> Conversation:
        """The direct message with a user."""
        if not USER_ID.fullmatch(user):
            raise SlackError("user_not_found")
        if user in USER_ERRORS:
            raise SlackError(USER_ERRORS[user])
        return self._conversation("D" + _digest(user), user)

    def resolve(self, channel: str) -> Conversation:
        """The conversation a `channel` argument means: a channel id, `#name`, an opened D… id, or a user
        id."""
        if USER_ID.fullmatch(channel):
            if USER_ERRORS.get(channel) == "user_not_found":
                raise SlackError("channel_not_found")  # chat.postMessage has no user_not_found of its own
            return self.open(channel)
        channel = self._names.get(channel.removeprefix("#"), channel)
        if channel in CHANNEL_ERRORS:
            raise SlackError(CHANNEL_ERRORS[channel])
        if CHANNEL_ID.fullmatch(channel):
            return self._conversation(channel, channel)
        if DM_ID.fullmatch(channel) and channel in self._conversations:
            return self._conversations[channel]
        raise SlackError("channel_not_found")

    def _conversation(self, conversation_id: str, address: str) -> Conversation:
        found = self._conversations.get(conversation_id)
        if found is None:
            found = self._conversations[conversation_id] = Conversation(conversation_id, address)
        return found


def _digest(text: str) -> str:
    """Ten characters that stay the same for the same text, so that a restarted sandbox gives the same ids."""
    return base64.b32encode(hashlib.sha256(text.encode()).digest())[:10].decode()
