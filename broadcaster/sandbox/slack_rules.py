"""What Slack's methods take, the ids that misbehave on purpose, and the checks of a message. Data first.

Methods: https://docs.slack.dev/reference/methods. Block Kit:
https://docs.slack.dev/reference/block-kit/blocks. Metadata:
https://docs.slack.dev/messaging/message-metadata.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

_POST = frozenset(
    [
        "channel",
        "text",
        "as_user",
        "attachments",
        "blocks",
        "thread_ts",
        "reply_broadcast",
        "unfurl_links",
        "unfurl_media",
        "container_id",
        "icon_emoji",
        "icon_url",
        "mrkdwn",
        "link_names",
        "username",
        "parse",
        "metadata",
        "markdown_text",
    ]
)
ARGUMENTS: dict[str, frozenset[str]] = {
    "auth.test": frozenset(),
    "chat.postMessage": _POST,
    "chat.update": frozenset(
        [
            "channel",
            "ts",
            "text",
            "as_user",
            "attachments",
            "blocks",
            "file_ids",
            "link_names",
            "parse",
            "reply_broadcast",
            "metadata",
            "markdown_text",
        ]
    ),
    "chat.delete": frozenset({"channel", "ts", "as_user"}),
    "conversations.open": frozenset({"channel", "users", "return_im", "prevent_creation"}),
    "conversations.history": frozenset(
        ["channel", "cursor", "inclusive", "include_all_metadata", "latest", "limit", "oldest"]
    ),
    "users.list": frozenset({"cursor", "include_locale", "limit", "team_id"}),
    "users.lookupByEmail": frozenset({"email"}),
}
"""Every other argument is `invalid_arguments`: stricter than Slack, which ignores some."""

USER_ERRORS = {
    "U0DISABLED1": "user_disabled",
    "U0NOTFOUND1": "user_not_found",
    "U0BOTUSER01": "cannot_dm_bot",
}
CHANNEL_ERRORS = {
    "C0NOTFOUND1": "channel_not_found",
    "C0ARCHIVED1": "is_archived",
    "C0NOTMEMBER": "not_in_channel",
    "C0RESTRICT1": "restricted_action",
}
"""Ids that are refused with this error; every other well-formed one exists."""

USER_ID = re.compile(r"[UW][A-Z0-9]{8,}")
CHANNEL_ID = re.compile(r"[CG][A-Z0-9]{8,}")
DM_ID = re.compile(r"D[A-Z0-9]{8,}")

MAX_TEXT = 40_000
"""chat.postMessage truncates beyond 40,000 characters; the sandbox refuses (`msg_too_long`)."""
MAX_BLOCKS, MAX_SECTION, MAX_HEADER, MAX_FIELDS, MAX_ELEMENTS = 50, 3000, 150, 10, 25
MAX_METADATA = 8000
"""Characters of metadata JSON. Not in Slack's documentation in this form: a bound of ours."""


class SlackError(Exception):
    """An `"ok": false` answer: Slack's error word, and messages for people."""

    def __init__(self, error: str, *messages: str) -> None:
        super().__init__(error)
        self.error = error
        self.messages = messages


def check_arguments(method: str, arguments: Mapping[str, Any], required: tuple[str, ...] = ()) -> None:
    """Refuses arguments the method does not have, and missing ones."""
    unknown = arguments.keys() - ARGUMENTS[method]
    if unknown:
        raise SlackError("invalid_arguments", f"[ERROR] unknown argument: {min(unknown)}")
    for name in required:
        if not arguments.get(name):
            raise SlackError("invalid_arguments", f"[ERROR] missing required field: {name}")


def check_message(arguments: Mapping[str, Any]) -> tuple[str, list[Any] | None, dict[str, Any] | None]:
    """The text, blocks and metadata of a message, checked."""
    text = arguments.get("text") or arguments.get("markdown_text") or ""
    if not isinstance(text, str):
        raise SlackError("invalid_arguments", "[ERROR] text must be a string")
    if len(text) > MAX_TEXT:
        raise SlackError("msg_too_long")
    blocks = _json_argument(arguments.get("blocks"), "invalid_blocks_format")
    if blocks is not None:
        check_blocks(blocks)
    if not text and not blocks and not arguments.get("attachments"):
        raise SlackError("no_text")
    metadata = _json_argument(arguments.get("metadata"), "invalid_metadata_format")
    if metadata is not None:
        _check_metadata(metadata)
    return text, blocks, metadata


def _json_argument(raw: Any, error: str) -> Any:
    """Objects come as such in a JSON body, and as JSON text in a form."""
    if isinstance(raw, str):
        try:
            return json.loads(raw)
        except ValueError:
            raise SlackError(error) from None
    return raw


def _check_metadata(metadata: Any) -> None:
    if not isinstance(metadata, dict) or set(metadata) != {"event_type", "event_payload"}:
        raise SlackError("invalid_metadata_format")
    if not isinstance(metadata["event_type"], str) or not re.fullmatch(r"[A-Za-z0-9_.-]{1,255}", metadata["event_type"]):
        raise SlackError("invalid_metadata_format")
    if not isinstance(metadata["event_payload"], dict):
        raise SlackError("invalid_metadata_format")
    if len(json.dumps(metadata)) > MAX_METADATA:
        raise SlackError("metadata_too_large")


def _bad_block(where: str, why: str) -> SlackError:
    return SlackError("invalid_blocks", f"[ERROR] {why} [json-pointer:{where}]")


def check_blocks(blocks: Any) -> None:
    """Basic Block Kit rules; `invalid_blocks` with a JSON pointer, as Slack gives it."""
    if not isinstance(blocks, list):
        raise SlackError("invalid_blocks_format")
    if len(blocks) > MAX_BLOCKS:
        raise _bad_block("/blocks", f"no more than {MAX_BLOCKS} items allowed")
    for number, block in enumerate(blocks):
        where = f"/blocks/{number}"
        kind = block.get("type") if isinstance(block, dict) else None
        if kind not in _BLOCKS:
            raise _bad_block(f"{where}/type", f"unsupported type: {kind}")
        unknown = block.keys() - _BLOCKS[kind] - {"type", "block_id"}
        if unknown:
            raise _bad_block(where, f"additional property not allowed: {min(unknown)}")
        _check_block(kind, block, where)


_BLOCKS: dict[str, frozenset[str]] = {
    "section": frozenset({"text", "fields", "accessory", "expand"}),
    "header": frozenset({"text"}),
    "divider": frozenset(),
    "context": frozenset({"elements"}),
    "actions": frozenset({"elements"}),
    "image": frozenset({"image_url", "alt_text", "title", "slack_file"}),
    "rich_text": frozenset({"elements"}),
    "markdown": frozenset({"text"}),
    "input": frozenset({"label", "element", "hint", "optional", "dispatch_action"}),
}
_ELEMENTS = frozenset({"button", "overflow", "static_select", "datepicker", "checkboxes", "radio_buttons"})


def _check_block(kind: str, block: dict[str, Any], where: str) -> None:
    if kind == "header":
        _check_text(block.get("text"), f"{where}/text", MAX_HEADER, plain_only=True)
    elif kind == "section":
        if "text" not in block and not block.get("fields"):
            raise _bad_block(where, "missing required field: text")
        if "text" in block:
            _check_text(block["text"], f"{where}/text", MAX_SECTION)
        for number, field in enumerate(_listed(block.get("fields", []), f"{where}/fields", MAX_FIELDS)):
            _check_text(field, f"{where}/fields/{number}", 2000)
    elif kind == "context":
        for number, element in enumerate(_listed(block.get("elements"), f"{where}/elements", 10)):
            if not (isinstance(element, dict) and element.get("type") == "image"):
                _check_text(element, f"{where}/elements/{number}", MAX_SECTION)
    elif kind == "actions":
        for number, element in enumerate(_listed(block.get("elements"), f"{where}/elements", MAX_ELEMENTS)):
            _check_element(element, f"{where}/elements/{number}")
    elif kind == "image" and not (block.get("image_url") and block.get("alt_text")):
        raise _bad_block(where, "missing required field: image_url or alt_text")


def _listed(raw: Any, where: str, most: int) -> list[Any]:
    if not isinstance(raw, list) or len(raw) > most:
        raise _bad_block(where, f"must be a list of at most {most}")
    return raw


def _check_text(raw: Any, where: str, most: int, plain_only: bool = False) -> None:
    kinds = ("plain_text",) if plain_only else ("plain_text", "mrkdwn")
    if not isinstance(raw, dict) or raw.get("type") not in kinds or not isinstance(raw.get("text"), str):
        raise _bad_block(where, f"must be a {' or '.join(kinds)} object")
    if not raw["text"]:
        raise _bad_block(f"{where}/text", "must be more than 0 characters")
    if len(raw["text"]) > most:
        raise _bad_block(f"{where}/text", f"must be less than {most + 1} characters")
    if raw.keys() - {"type", "text", "emoji", "verbatim"}:
        raise _bad_block(where, "additional property not allowed")


def _check_element(raw: Any, where: str) -> None:
    if not isinstance(raw, dict) or raw.get("type") not in _ELEMENTS:
        raise _bad_block(f"{where}/type", "unsupported element")
    if raw["type"] == "button":
        _check_text(raw.get("text"), f"{where}/text", 75, plain_only=True)
        if len(str(raw.get("value", ""))) > 2000 or len(str(raw.get("url", ""))) > 3000:
            raise _bad_block(where, "value or url too long")
        if raw.get("style", "primary") not in ("primary", "danger"):
            raise _bad_block(f"{where}/style", "must be primary or danger")
