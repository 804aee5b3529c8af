"""A stand-in for Twilio's Messages resource (https://www.twilio.com/docs/messaging/api/message-resource).

Stricter than Twilio in one way: a parameter it does not know is an error here, not ignored. Errors and
misbehaving numbers are tables in `twilio_rules`; callbacks are made by `twilio_callbacks`.
"""

from __future__ import annotations

import asyncio
import base64
import hmac
import os
import random
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import format_datetime
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qsl, urlencode

from aiohttp import web

from broadcaster.sandbox import credentials
from broadcaster.sandbox import faults as fault_rules
from broadcaster.sandbox.faults import Faults
from broadcaster.sandbox.ledger import Entry, Ledger
from broadcaster.sandbox.outbox import Outbox
from broadcaster.sandbox.replies import json_reply
from broadcaster.sandbox.segments import count_segments
from broadcaster.sandbox.settings import SandboxConfig, Settings
from broadcaster.sandbox.twilio_callbacks import Callbacks
from broadcaster.sandbox.twilio_queue import MAX_QUEUE_SECONDS, SenderQueue
from broadcaster.sandbox.twilio_rules import (
    ERRORS,
    GOOD,
    NUMBERS,
    REASONS,
    NumberRule,
    TwilioError,
    check_create,
)

_API = "2010-04-01"
_LIST_PARAMETERS = frozenset({"To", "From", "DateSent", "DateSent<", "DateSent>", "PageSize", "Page", "PageToken"})
_MORE = "https://www.twilio.com/docs/errors/"


class Message:
    """One SMS. The text, the recipient and the status live in its ledger entry.

    `previous` is the message before it to the same number: cheaper than a list per number, of which there are
    millions.
    """

    __slots__ = (
        "callback",
        "created",
        "entry",
        "error",
        "number",
        "odd",
        "previous",
        "sender",
        "sent",
        "service",
        "validity",
    )

    def __init__(self, entry: Entry, number: int, form: dict[str, str], validity: int) -> None:
        self.entry = entry
        self.number = number
        self.sender = form.get("From")
        self.service = form.get("MessagingServiceSid")
        self.callback = form.get("StatusCallback")
        self.validity = validity
        self.created = entry.time
        self.previous: Message | None = None
        self.sent: float | None = None
        self.error: int | None = None
        self.odd: Mapping[str, float] = {}


class Twilio:
    """The Messages resource of one account."""

    def __init__(self, config: SandboxConfig, settings: Settings, ledger: Ledger, faults: Faults, outbox: Outbox) -> None:
        self._account = config.twilio_account_sid
        token = config.twilio_auth_token
        basic = base64.b64encode(f"{self._account}:{token}".encode())
        self._authorization = b"Basic " + basic
        self._settings = settings
        self._random = random.Random(config.seed)  # noqa: S311
        self._ledger = ledger
        self._faults = faults
        self._callbacks = Callbacks(self._account, token, settings, outbox)
        self._senders = frozenset({*credentials.SENDER_NUMBERS, credentials.SENDER_NAME})
        self._services = frozenset({credentials.MESSAGING_SERVICE_SID})
        self._root = f"/{_API}/Accounts/{self._account}/Messages"
        self._queues: dict[str, SenderQueue[Message]] = {}
        self.clear()

    def clear(self) -> None:
        """Forgets all messages and empties the queues."""
        for queue in self._queues.values():
            queue.clear()
        self._queues.clear()
        self._messages: list[Message] = []
        self._by_sid: dict[str, Message] = {}
        self._latest: dict[str, Message] = {}
        self._once: set[str] = set()

    def text_us(self, url: str, sender: str, to: str, body: str) -> str:
        """A phone texts one of our numbers: a signed webhook goes to `url`. Gives the message's sid."""
        return self._callbacks.inbound(url, sender, to, body)

    def routes(self) -> list[web.RouteDef]:
        """Under `/twilio`, exactly Twilio's paths."""
        root = f"/twilio/{_API}/Accounts/{{account}}/Messages"
        return [
            web.post(root + ".json", self.create),
            web.get(root + ".json", self.list_messages),
            web.get(root + "/{sid}.json", self.fetch),
        ]

    # -- the three operations

    async def create(self, request: web.Request) -> web.Response:
        """POST Messages.json: 201 with the message resource."""
        try:
            self._authenticate(request)
            form = await _read_form(request)
            validity = check_create(form, self._senders, self._services)
        except TwilioError as error:
            return self._refused(error, "send")
        to = form["To"]
        rule = NUMBERS.get(to, GOOD)

        async def take() -> web.Response:
            try:
                return await self._take(form, rule, validity)
            except TwilioError as error:
                return self._refused(error, "send")

        if rule is not GOOD:
            odd = await self._oddly(request, to, rule, take)
            if odd is not None:
                return odd
        response = await self._faults.answer(request, "twilio", "send", to, take, refuse)
        self._ledger.answered("twilio", "send", str(response.status))
        return response

    async def fetch(self, request: web.Request) -> web.Response:
        """GET Messages/{sid}.json."""
        try:
            self._authenticate(request)
        except TwilioError as error:
            return self._refused(error, "lookup")
        message = self._by_sid.get(request.match_info["sid"])

        async def take() -> web.Response:
            return refuse_code(20404) if message is None else json_reply(self._resource(message))

        to = "" if message is None else message.entry.tile.address
        return await self._look_up(request, to, take)

    async def list_messages(self, request: web.Request) -> web.Response:
        """GET Messages.json: newest first, paged as Twilio does, `list_lag` seconds behind."""
        try:
            self._authenticate(request)
            unknown = request.query.keys() - _LIST_PARAMETERS
            if unknown:
                raise TwilioError(20001, f"unknown parameter {min(unknown)}")
            page = self._page(dict(request.query))
        except TwilioError as error:
            return self._refused(error, "lookup")

        async def take() -> web.Response:
            return json_reply(page)

        return await self._look_up(request, request.query.get("To", ""), take)

    # -- creating

    def _authenticate(self, request: web.Request) -> None:
        given = request.headers.get("Authorization", "").encode()
        if not hmac.compare_digest(given, self._authorization) or request.match_info["account"] != self._account:
            raise TwilioError(20003)

    async def _oddly(self, request: web.Request, to: str, rule: NumberRule, take: fault_rules.Take) -> web.Response | None:
        """The answer for a number that misbehaves at submission, None when the message takes the normal
        way."""
        if rule.submit is not None:
            return self._refused(TwilioError(rule.submit), "send")
        if rule.oddity == "hang":
            return await fault_rules.hang(request, None)
        if rule.oddity in ("throttled_once", "error_after_taking_once") and to not in self._once:
            self._once.add(to)
            if rule.oddity == "throttled_once":
                response = self._refused(TwilioError(20429), "send")
                response.headers["Retry-After"] = "1"
                return response
            await take()
            self._ledger.answered("twilio", "send", "500")
            return refuse(500)
        return None

    async def _take(self, form: dict[str, str], rule: NumberRule, validity: int) -> web.Response:
        loop_now = asyncio.get_running_loop().time()
        rate = self._settings.sms_rate
        queue = self._queue(form)
        full = rate is not None and queue.backlog(loop_now) > MAX_QUEUE_SECONDS
        if full and "MessagingServiceSid" not in form:
            raise TwilioError(21611)
        message = self._book(form, validity)
        message.odd = self._faults.callbacks("twilio", form["To"])
        resource = self._resource(message)
        if message.service:
            # "For messages sent via a Messaging Service, num_segments is initially 0, since a sender hasn't
            # yet been assigned" (Message resource, num_segments)
            resource["num_segments"] = "0"
        if full:
            self._end(message, "failed", 30001)
        elif rate is None:
            self._leave(message)
        elif queue.backlog(loop_now) > validity:
            asyncio.get_running_loop().call_later(validity, self._expire, message)
        else:
            queue.join(message, count_segments(form["Body"]), rate, loop_now)
        if "callback_early" in message.odd and message.callback and rule.oddity != "silent":
            await self._callbacks.early(message.callback, self._fields(message))
        return json_reply(resource, status=201)

    def _book(self, form: dict[str, str], validity: int) -> Message:
        sid = "SM" + os.urandom(16).hex()
        to, body = form["To"], form["Body"]
        entry = self._ledger.take("sms", to, body, sid, body)
        entry.status = "accepted" if "MessagingServiceSid" in form else "queued"
        message = Message(entry, len(self._messages), form, validity)
        self._messages.append(message)
        self._by_sid[sid] = message
        message.previous = self._latest.get(to)
        self._latest[to] = message
        return message

    def _queue(self, form: dict[str, str]) -> SenderQueue[Message]:
        sender = form.get("From") or form["MessagingServiceSid"]
        queue = self._queues.get(sender)
        if queue is None:
            queue = self._queues[sender] = SenderQueue(self._leave)
        return queue

    # -- on its way

    def _leave(self, message: Message) -> None:
        """Out of the queue: sent now, the final status a moment later."""
        message.sent = time.time()
        rule = NUMBERS.get(message.entry.tile.address, GOOD)
        if rule.oddity != "silent":
            message.entry.status = "sent"
        asyncio.get_running_loop().call_later(self._settings.sms_delivery_seconds, self._arrive, message, rule)

    def _arrive(self, message: Message, rule: NumberRule) -> None:
        if self._by_sid.get(message.entry.provider_id) is not message:
            return  # the sandbox was reset meanwhile
        if rule.oddity == "silent":
            status = message.entry.status
            self._ledger.delivered(message.entry, status)
            return
        if self._random.random() < self._settings.sms_undelivered:
            self._end(message, "undelivered", 30008)
        else:
            self._end(message, rule.final, rule.error)

    def _expire(self, message: Message) -> None:
        if self._by_sid.get(message.entry.provider_id) is message:
            self._end(message, "failed", 30036)

    def _end(self, message: Message, status: str, error: int | None) -> None:
        message.error = error
        if status == "delivered":
            self._ledger.delivered(message.entry, status)
        else:
            self._ledger.failed(message.entry, status)
        if message.callback:
            earlier = ("queued", "sending", "sent") if message.sent is not None else ("queued",)
            self._callbacks.report(message.callback, self._fields(message), earlier, message.odd)
            message.callback = None

    def _fields(self, message: Message) -> dict[str, str]:
        """A callback's form fields, with the final status."""
        sid, entry = message.entry.provider_id, message.entry
        fields = {
            "MessageSid": sid,
            "SmsSid": sid,
            "MessageStatus": entry.status,
            "SmsStatus": entry.status,
            "To": entry.tile.address,
            "From": message.sender or credentials.SENDER_NUMBER,
            "AccountSid": self._account,
            "ApiVersion": _API,
        }
        if message.error is not None:
            fields["ErrorCode"] = str(message.error)
        if message.service:
            fields["MessagingServiceSid"] = message.service
        return fields

    # -- reading

    async def _look_up(self, request: web.Request, to: str, take: fault_rules.Take) -> web.Response:
        response = await self._faults.answer(request, "twilio", "lookup", to, take, refuse)
        self._ledger.answered("twilio", "lookup", str(response.status))
        return response

    def _page(self, query: dict[str, str]) -> dict[str, Any]:
        size = _page_size(query.get("PageSize", "50"))
        token = query.get("PageToken", "")
        last = self._by_sid.get(token.removeprefix("PA"))
        if token and last is None:
            raise TwilioError(20001, "PageToken")
        wanted = _date_filter(query)
        newest = time.time() - self._settings.list_lag
        sender = query.get("From")
        found: list[Message] = []
        for message in self._newest_first(query.get("To")):
            if (last is not None and message.number >= last.number) or message.created > newest:
                continue
            if (sender is None or sender == message.sender) and wanted(message.sent):
                found.append(message)
                if len(found) > size:
                    break
        return self._page_json(query, found, size, int(query.get("Page", "0") or 0) if token else 0)

    def _newest_first(self, to: str | None) -> Iterator[Message]:
        if to is None:
            yield from reversed(self._messages)
            return
        message = self._latest.get(to)
        while message is not None:
            yield message
            message = message.previous

    def _page_json(self, query: dict[str, str], found: list[Message], size: int, page: int) -> dict[str, Any]:
        shown = found[:size]
        base = {k: v for k, v in query.items() if k not in ("Page", "PageToken", "PageSize")}

        def link(number: int, token: str | None) -> str:
            extra = {"PageSize": str(size), "Page": str(number), **({"PageToken": token} if token else {})}
            return f"{self._root}.json?{urlencode(base | extra)}"

        more = len(found) > size
        return {
            "messages": [self._resource(message) for message in shown],
            "page": page,
            "page_size": size,
            "start": page * size,
            "end": page * size + max(0, len(shown) - 1),
            "first_page_uri": link(0, None),
            "previous_page_uri": None,
            "next_page_uri": link(page + 1, "PA" + shown[-1].entry.provider_id) if more else None,
            "uri": f"{self._root}.json?{urlencode(query)}",
        }

    def _resource(self, message: Message) -> dict[str, Any]:
        entry = message.entry
        uri = f"{self._root}/{entry.provider_id}"
        sender = message.sender or (credentials.SENDER_NUMBER if message.sent is not None else None)
        created = _rfc2822(int(message.created))
        return {
            "account_sid": self._account,
            "api_version": _API,
            "body": entry.text,
            "date_created": created,
            "date_sent": None if message.sent is None else _rfc2822(int(message.sent)),
            "date_updated": created if message.sent is None else _rfc2822(int(message.sent)),
            "direction": "outbound-api",
            "error_code": message.error,
            "error_message": None if message.error is None else REASONS.get(message.error),
            "from": sender,
            "messaging_service_sid": message.service,
            "num_media": "0",
            "num_segments": str(count_segments(entry.text or "")),
            "price": None,
            "price_unit": "GBP",
            "sid": entry.provider_id,
            "status": entry.status,
            "subresource_uris": {"media": f"{uri}/Media.json"},
            "to": entry.tile.address,
            "uri": f"{uri}.json",
        }

    def _refused(self, error: TwilioError, operation: str) -> web.Response:
        self._ledger.answered("twilio", operation, str(error.code))
        if operation == "send" and error.code not in (20003, 20429, 21611):
            self._ledger.rejected("sms")
        return refuse_code(error.code, error.detail)


def refuse_code(code: int, detail: str = "") -> web.Response:
    """Twilio's error body: {code, message, more_info, status}."""
    status, message = ERRORS[code]
    return _error(code, status, f"{message}: {detail}" if detail else message)


def refuse(status: int) -> web.Response:
    """An error by HTTP status; Twilio's codes for these are 20000 + status."""
    return _error(20000 + status, status, ERRORS.get(20000 + status, (0, "Error"))[1])


def _error(code: int, status: int, message: str) -> web.Response:
    headers = {"WWW-Authenticate": 'Basic realm="Twilio API"'} if status == 401 else None
    body = {"code": code, "message": message, "more_info": f"{_MORE}{code}", "status": status}
    return json_reply(body, status=status, headers=headers)


async def _read_form(request: web.Request) -> dict[str, str]:
    if request.content_type != "application/x-www-form-urlencoded":
        raise TwilioError(20001, "Content-Type must be application/x-www-form-urlencoded")
    try:
        pairs = parse_qsl((await request.read()).decode(), keep_blank_values=True, max_num_fields=40, errors="strict")
    except ValueError:
        raise TwilioError(20001, "the form cannot be read") from None
    form = dict(pairs)
    if len(form) != len(pairs):
        raise TwilioError(20001, "a parameter is given twice")
    return form


def _page_size(raw: str) -> int:
    if not raw.isascii() or not raw.isdigit() or len(raw) > 6 or int(raw) < 1:
        raise TwilioError(20001, "PageSize")
    return min(1000, int(raw))


def _date_filter(query: dict[str, str]) -> Any:
    """A test of `date_sent`, by whole days in UTC. A message that is not sent yet matches no date."""
    bounds = {name: _day(query[name]) for name in ("DateSent", "DateSent<", "DateSent>") if name in query}

    def wanted(sent: float | None) -> bool:
        if not bounds:
            return True
        if sent is None:
            return False
        day = datetime.fromtimestamp(sent, UTC).date().toordinal()
        return (
            bounds.get("DateSent", day) == day
            and day <= bounds.get("DateSent<", day)
            and day >= bounds.get("DateSent>", day)
        )

    return wanted


def _day(raw: str) -> int:
    try:
        return datetime.fromisoformat(raw).date().toordinal()
    except ValueError:
        raise TwilioError(20001, "DateSent") from None


@lru_cache(maxsize=4096)
def _rfc2822(second: int) -> str:
    return format_datetime(datetime.fromtimestamp(second, UTC))
