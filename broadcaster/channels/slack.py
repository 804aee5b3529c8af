"""Slack messages (https://docs.slack.dev/reference/methods/chat.postMessage) with the official SDK.

What lives here: user and channel ids, blocks, sending, look-ups. What does not: the meaning of error strings
(``slack_codes``), transport faults (``wire``), buttons (the link leads to our own page: nothing inbound is needed).
"""

import re
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, Final
from zoneinfo import ZoneInfo

import aiohttp
import structlog
from slack_sdk.errors import SlackApiError
from slack_sdk.web.async_client import AsyncWebClient

from broadcaster.channels import wire
from broadcaster.channels.dispatch import dispatch
from broadcaster.channels.slack_codes import SLACK_CODES
from broadcaster.domain.channel import AttemptId, Lane, Traits
from broadcaster.domain.messages import Address, Content, Cost, Envelope, InvalidAddress, Message
from broadcaster.domain.outcomes import (
    Absent,
    Accepted,
    Ambiguous,
    Finding,
    Found,
    Outcome,
    Rejected,
    Scope,
    Throttled,
    Unknown,
)

log = structlog.get_logger()

API: Final = "https://slack.com/api/"
EVENT_TYPE: Final = "alert_delivery"
#: Characters that Slack takes (https://docs.slack.dev/reference/block-kit/blocks): header, section.
HEADER: Final = 150
SECTION: Final = 3000
#: Look-ups read at most this many pages of 200.
PAGES: Final = 10

_ID: Final = re.compile(r"[UWCG][A-Z0-9]{2,20}")


@dataclass(frozen=True, slots=True, kw_only=True)
class SlackConfig:
    """One workspace's bot."""

    token: str
    base_url: str = API  # the sandbox's "<origin>/slack/api/"
    team: str = "default"  # names the workspace's route and limits
    lookup_rate: float = 0.8  # look-ups a second
    rate: float = 4.0  # messages a second for the workspace ("several hundred a minute")
    destination_rate: float = 1.0  # messages a second for one channel or person
    timezone: str = "Europe/London"


class SlackMessages:
    """Channel and LooksUp. Slack has no receipts: accepted is final."""

    def __init__(self, config: SlackConfig) -> None:
        self._config = config
        self._zone = ZoneInfo(config.timezone)
        self._fixed = lru_cache(maxsize=256)(self._fixed_uncached)
        self._client = AsyncWebClient()
        self._session: aiohttp.ClientSession | None = None

    @property
    def traits(self) -> Traits:
        return Traits(
            name="slack",
            label="Slack",
            chunk=20,
            rate=self._config.rate,
            duplicates_collapse=False,
            gives_receipts=False,
        )

    @property
    def route(self) -> str:
        return f"slack:{self._config.team}"

    async def open(self) -> None:
        self._session = wire.session()
        self._client = AsyncWebClient(
            self._config.token,
            base_url=self._config.base_url,
            timeout=int(wire.TOTAL),
            session=self._session,
            retry_handlers=[],  # the default one posts again after a lost answer (FACTS)
        )
        self._client.proxy = None  # the SDK takes one from the environment

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def check(self) -> str | None:
        try:
            await self._client.auth_test()
        except SlackApiError as error:
            known = SLACK_CODES.get(_answer(error)[1])
            return f"{known.reason}." if isinstance(known, Rejected) else "Slack answered with an error."
        except Exception as error:  # noqa: BLE001  # the sentence is for the operator, whatever the fault
            log.warning("slack.check_failed", error=type(error).__name__)
            return "Slack could not be reached."
        return None

    # Addresses

    def parse_address(self, raw: str) -> Address:
        """A user id (U…, W…) or a channel id (C…, G…); names change, ids do not."""
        value = raw.strip()
        if not _ID.fullmatch(value):
            raise InvalidAddress("This is not a Slack user or channel id (U…, W…, C… or G…)")
        return Address(value, value, f"{value[0]}…{value[-3:]}")

    # Text

    def render(self, message: Message, to: Envelope) -> Content:
        """Blocks: what is wrong, what to do, who says it and when, the page. The drill marker first."""
        text, header, body, context = self._fixed(message)
        link = to.link.translate(_LINK)
        blocks: list[dict[str, Any]] = [header, *body]
        blocks.append(_section(f"<{link}|Open this alert and confirm that you have seen it>"))
        blocks.append({"type": "context", "elements": [{"type": "mrkdwn", "text": f"{context} · Ref {to.reference}"}]})
        return Content(text, blocks)

    def _fixed_uncached(self, message: Message) -> tuple[str, dict[str, Any], tuple[dict[str, Any], ...], str]:
        at = datetime.fromtimestamp(message.sent_at / 1000, self._zone).strftime("%H:%M")
        drill = "DRILL: " if message.drill else ""
        title = f"{drill}{message.severity.value.capitalize()}: {' '.join(message.title.split())}"
        header = {"type": "header", "text": {"type": "plain_text", "text": _cut(title, HEADER), "emoji": False}}
        body = (_section(_escaped(message.body, SECTION)),) if message.body.strip() else ()
        context = f"{_escaped(message.source, 300)} · {at}"
        text = _escaped(f"{title}. {message.body}", SECTION)
        return text, header, body, context

    def quote(self, content: Content) -> Cost:  # noqa: ARG002
        return Cost()

    def lanes(self, to: Envelope, cost: Cost) -> Sequence[Lane]:
        """The workspace's, and one message a second to each channel (https://docs.slack.dev/apis/web-api/rate-limits)."""
        return (
            Lane(self.route, self._config.rate, cost.units),
            Lane(f"{self.route}:{to.address}", self._config.destination_rate, cost.units),
        )

    # Sending

    def send(
        self,
        message: Message,  # noqa: ARG002
        chunk: Sequence[tuple[Envelope, Content]],
    ) -> AsyncIterator[tuple[AttemptId, Outcome]]:
        return dispatch(chunk, self._send)

    async def _send(self, to: Envelope, content: Content) -> Outcome:
        blocks: Any = content.payload
        payload = {"delivery_id": to.delivery, "attempt": to.attempt}
        try:
            posted = await self._client.chat_postMessage(
                channel=to.address,
                text=content.text,
                blocks=blocks,
                metadata={"event_type": EVENT_TYPE, "event_payload": payload},
                unfurl_links=False,
                unfurl_media=False,
            )
        except SlackApiError as error:
            return classify(*_answer(error))
        except AttributeError:
            # The SDK asks a text/plain body for a key. A 200 that is no JSON may be a proxy's, or may be Slack's.
            return Ambiguous("unreadable_answer", "Slack's answer could not be read")
        channel, ts = posted.get("channel"), posted.get("ts")
        if not channel or not ts:
            return Ambiguous("unreadable_answer", "Slack's answer has no message id")
        return Accepted(f"{channel}:{ts}")

    # Look-ups

    @property
    def lookup_rate(self) -> float:
        """conversations.history is of tier 3: 50 calls a minute (https://docs.slack.dev/apis/web-api/rate-limits)."""
        return self._config.lookup_rate

    async def look_up(self, to: Envelope, content: Content, sent_at: int) -> Finding:  # noqa: ARG002
        """Opens the conversation, then reads its history for our metadata.

        Needs the scopes im:write, im:history (people), channels:history, groups:history (channels).
        """
        try:
            channel = await self._conversation(to.address)
            cursor = ""
            for _ in range(PAGES):
                page = await self._client.conversations_history(
                    channel=channel,
                    cursor=cursor or None,
                    oldest=f"{sent_at / 1000 - 60:.6f}",  # the clocks differ
                    latest=f"{time.time() + 60:.6f}",
                    include_all_metadata=True,
                    limit=200,
                )
                for found in page.get("messages") or ():
                    if _is_ours(found, to.delivery):
                        return Found(f"{channel}:{found['ts']}", "accepted")
                cursor = (page.get("response_metadata") or {}).get("next_cursor") or ""
                if not cursor:
                    return Unknown("Slack did not say that this was all") if page.get("has_more") else Absent()
        except Exception as error:  # noqa: BLE001  # a look-up never raises for a provider's fault
            reason = _answer(error)[1] if isinstance(error, SlackApiError) else type(error).__name__
            log.info("slack.lookup_failed", error=reason)
            return Unknown(f"Slack's history could not be read ({reason})")
        return Unknown("Too many messages in the conversation to read them all")

    async def _conversation(self, address: str) -> str:
        if address[0] not in "UW":
            return address
        opened = await self._client.conversations_open(users=address)
        channel: dict[str, Any] = opened.get("channel") or {}
        return str(channel["id"])


def classify(status: int, code: str, retry_after: str | None) -> Outcome:
    """An error answer to chat.postMessage, from HTTP status, Slack's error string and the Retry-After header."""
    known = SLACK_CODES.get(code)
    if isinstance(known, Throttled) or status == 429:
        wait, name = (known.retry_after, known.code) if isinstance(known, Throttled) else (30.0, "429")
        return Throttled(wire.retry_after(retry_after, wait), name)
    if known is not None:
        return known
    if status == 401:
        return Rejected(Scope.CHANNEL, code or "401", "Slack refuses our token")
    if status >= 500:
        return Ambiguous(code or str(status), f"Slack answered {status}")
    if status == 200 and not code:
        return Ambiguous("unreadable_answer", "Slack's answer could not be read")
    log.error("slack.unknown_code", status=status, code=code)
    return Ambiguous(code or str(status), f"Slack answered {status} with an error that we do not know")


def _answer(error: SlackApiError) -> tuple[int, str, str | None]:
    """(HTTP status, Slack's error string or "", Retry-After). ``data`` may be a str, or the answer aiohttp's own."""
    response: Any = error.response
    status: Any = getattr(response, "status_code", None) or getattr(response, "status", 0)
    data = getattr(response, "data", None)
    code = data.get("error") if isinstance(data, Mapping) else None
    headers = getattr(response, "headers", {})
    retry_after = headers.get("Retry-After") or headers.get("retry-after")
    return int(status), code[:80] if isinstance(code, str) else "", retry_after


def _is_ours(found: Mapping[str, Any], delivery: int) -> bool:
    metadata = found.get("metadata") or {}
    payload = metadata.get("event_payload") or {}
    return metadata.get("event_type") == EVENT_TYPE and str(payload.get("delivery_id")) == str(delivery)


def _section(text: str) -> dict[str, Any]:
    return {"type": "section", "text": {"type": "mrkdwn", "text": text}}


#: https://docs.slack.dev/messaging/formatting-message-text#escaping: these three, and no others.
_ESCAPES: Final = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})
_LINK: Final = str.maketrans({"&": "&amp;", "<": "%3C", ">": "%3E", "|": "%7C"})


def _escaped(text: str, longest: int) -> str:
    """Escaped, and at most ``longest`` characters after that; never cut inside an entity."""
    kept = text.strip()
    escaped = kept.translate(_ESCAPES)
    while len(escaped) > longest:
        kept = kept[: len(kept) - max(1, (len(escaped) - longest) // 5)]
        escaped = kept.rstrip().translate(_ESCAPES) + "…"
    return escaped


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 1].rstrip() + "…"
