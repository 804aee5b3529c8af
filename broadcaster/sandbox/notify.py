"""A stand-in for GOV.UK Notify's text messages (https://docs.notifications.service.gov.uk/rest-api.html).

Stricter than Notify in one way: a field it does not know is an error (Notify says the same of unknown fields). Receipts
go to one URL, as with Notify: `notify_callback_url` in the settings; empty, none is sent.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from itertools import islice
from typing import Any

import jwt
from aiohttp import web

from broadcaster.sandbox import credentials
from broadcaster.sandbox import faults as fault_rules
from broadcaster.sandbox.faults import Faults
from broadcaster.sandbox.ledger import Entry, Ledger
from broadcaster.sandbox.outbox import Outbox
from broadcaster.sandbox.replies import json_reply
from broadcaster.sandbox.settings import Settings
from broadcaster.sandbox.twilio_rules import GOOD, NUMBERS, NumberRule

_FIELDS = {"phone_number", "template_id", "personalisation", "reference", "sms_sender_id"}
_LIST_PARAMETERS = frozenset({"template_type", "reference", "status", "older_than", "include_jobs"})
_NUMBER = re.compile(r"\+?[0-9][0-9 ()-]{6,20}")
_MOST = 918
_PAGE = 250
_CLOCK_SECONDS = 30


class NotifyError(Exception):
    """An error answer in Notify's shape."""

    def __init__(self, status: int, error: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.error = error
        self.message = message

    def reply(self) -> web.Response:
        return json_reply(
            {"status_code": self.status, "errors": [{"error": self.error, "message": self.message}]}, self.status
        )


class Sms:
    """One text message. The recipient, the text and the status live in its ledger entry."""

    __slots__ = ("completed", "created", "entry", "odd", "reference")

    def __init__(self, entry: Entry, reference: str | None) -> None:
        self.entry = entry
        self.reference = reference
        self.created = time.time()
        self.completed: float | None = None
        self.odd: Mapping[str, float] = {}


class Notify:
    """The notifications of one service."""

    def __init__(self, settings: Settings, ledger: Ledger, faults: Faults, outbox: Outbox, seed: int) -> None:
        self._settings = settings
        self._ledger = ledger
        self._faults = faults
        self._outbox = outbox
        self._seed = seed
        self.clear()

    def clear(self) -> None:
        """Forgets all messages."""
        self._messages: dict[str, Sms] = {}
        self._by_reference: dict[str, list[Sms]] = {}
        self._minute: tuple[int, int] = (0, 0)
        self._random = random.Random(self._seed)  # noqa: S311
        self._once: set[str] = set()

    def routes(self) -> list[web.RouteDef]:
        """Under `/notify`, exactly Notify's paths."""
        return [
            web.post("/notify/v2/notifications/sms", self.create),
            web.get("/notify/v2/notifications", self.list_messages),
            web.get("/notify/v2/notifications/{id}", self.fetch),
            web.get("/notify/v2/template/{id}", self.template),
        ]

    async def create(self, request: web.Request) -> web.Response:
        """POST sms: 201 with id, content and template."""
        try:
            self._authenticate(request)
            self._count()
            fields = await _read(request)
            number, text = _check(fields)
        except NotifyError as error:
            self._ledger.answered("notify", "send", str(error.status))
            if error.status == 400:
                self._ledger.rejected("sms")
            return error.reply()

        async def take() -> web.Response:
            return self._take(number, text, fields.get("reference"))

        odd = await self._oddly(request, number, NUMBERS.get(number, GOOD), take)
        if odd is not None:
            self._ledger.answered("notify", "send", str(odd.status))
            return odd
        response = await self._faults.answer(request, "notify", "send", number, take, _refuse)
        self._ledger.answered("notify", "send", str(response.status))
        return response

    async def _oddly(
        self, request: web.Request, number: str, rule: NumberRule, take: Callable[[], Awaitable[web.Response]]
    ) -> web.Response | None:
        """The answer for a number that misbehaves at submission as it does at Twilio; None: the normal way."""
        if rule.submit == 39999:
            return NotifyError(400, "NewError", "An error that is in no list").reply()
        if rule.oddity == "hang":
            return await fault_rules.hang(request, None)
        if rule.oddity not in ("throttled_once", "error_after_taking_once") or number in self._once:
            return None
        self._once.add(number)
        if rule.oddity == "throttled_once":
            return _refuse(429)
        await take()
        return _refuse(500)

    async def list_messages(self, request: web.Request) -> web.Response:
        """GET notifications: newest first, at most 250; `reference` finds one attempt's."""
        try:
            self._authenticate(request)
            if unknown := request.query.keys() - _LIST_PARAMETERS:
                raise NotifyError(400, "ValidationError", f"Additional properties are not allowed ({min(unknown)})")
        except NotifyError as error:
            return error.reply()
        reference = request.query.get("reference")
        found = reversed(self._messages.values() if reference is None else self._by_reference.get(reference, []))
        newest = time.time() - self._settings.list_lag
        items = [self._resource(m) for m in islice((m for m in found if m.created <= newest), _PAGE)]

        async def take() -> web.Response:
            return json_reply({"notifications": items, "links": {"current": str(request.url)}})

        return await self._look_up(request, take)

    async def fetch(self, request: web.Request) -> web.Response:
        """GET notifications/{id}."""
        try:
            self._authenticate(request)
        except NotifyError as error:
            return error.reply()
        message = self._messages.get(request.match_info["id"])

        async def take() -> web.Response:
            if message is None:
                return NotifyError(404, "NoResultFound", "No result found").reply()
            return json_reply(self._resource(message))

        return await self._look_up(request, take)

    async def template(self, request: web.Request) -> web.Response:
        """GET template/{id}: how a client finds out that its template has its field."""
        try:
            self._authenticate(request)
            _uuid("id", request.match_info["id"])
        except NotifyError as error:
            return error.reply()
        if request.match_info["id"] != credentials.NOTIFY_TEMPLATE_ID:
            return NotifyError(404, "NoResultFound", "No result found").reply()
        template = {
            "id": credentials.NOTIFY_TEMPLATE_ID, "type": "sms", "name": "Alert", "version": 1, "subject": None,
            "body": "((message))", "personalisation": {"message": {"required": True}},
        }  # fmt: skip

        async def take() -> web.Response:
            return json_reply(template)

        return await self._look_up(request, take)

    async def _look_up(self, request: web.Request, take: Any) -> web.Response:
        response = await self._faults.answer(request, "notify", "lookup", "", take, _refuse)
        self._ledger.answered("notify", "lookup", str(response.status))
        return response

    # -- checking

    def _authenticate(self, request: web.Request) -> None:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme != "Bearer":
            raise NotifyError(401, "AuthError", "Unauthorized: authentication token must be provided")
        try:
            required: Any = {"require": ["iss", "iat"], "verify_iat": False}
            claims = jwt.decode(token, credentials.NOTIFY_SECRET, algorithms=["HS256"], options=required)
        except jwt.PyJWTError:
            raise NotifyError(403, "AuthError", "Invalid token: signature, api token is not valid") from None
        if claims["iss"] != credentials.NOTIFY_SERVICE_ID:
            raise NotifyError(403, "AuthError", "Invalid token: service not found")
        if abs(time.time() - claims["iat"]) > _CLOCK_SECONDS:
            raise NotifyError(403, "AuthError", "Error: Your system clock must be accurate to within 30 seconds")

    def _count(self) -> None:
        limit = self._settings.notify_rate_per_minute
        minute, n = int(time.time() // 60), 1
        if self._minute[0] == minute:
            n = self._minute[1] + 1
        self._minute = (minute, n)
        if limit is not None and n > limit:
            raise NotifyError(
                429, "RateLimitError", f"Exceeded rate limit for key type LIVE of {limit} requests per 60 seconds"
            )

    # -- on its way

    def _take(self, number: str, text: str, reference: str | None) -> web.Response:
        entry = self._ledger.take("sms", number, text, str(uuid.uuid4()), text)
        entry.status = "sending"
        message = Sms(entry, reference)
        message.odd = self._faults.callbacks("notify", number)
        self._messages[entry.provider_id] = message
        if reference:
            self._by_reference.setdefault(reference, []).append(message)
        asyncio.get_running_loop().call_later(self._settings.sms_delivery_seconds, self._arrive, message)
        body = {
            "id": entry.provider_id,
            "reference": reference,
            "content": {"body": text, "from_number": "GOVUK"},
            "uri": f"/v2/notifications/{entry.provider_id}",
            "template": {"id": credentials.NOTIFY_TEMPLATE_ID, "version": 1, "uri": "/v2/template/sandbox"},
        }
        return json_reply(body, status=201)

    def _arrive(self, message: Sms) -> None:
        entry = message.entry
        if self._messages.get(entry.provider_id) is not message:
            return  # the sandbox was reset meanwhile
        message.completed = time.time()
        rule = NUMBERS.get(entry.tile.address, GOOD)
        if rule.oddity == "silent":
            self._ledger.delivered(entry, entry.status)
            return
        status = "delivered"
        if self._random.random() < self._settings.notify_undelivered:
            status = "technical-failure"
        elif rule.final != "delivered":
            status = "temporary-failure" if rule.error == 30003 else "permanent-failure"
        if status == "delivered":
            self._ledger.delivered(entry, status)
        else:
            self._ledger.failed(entry, status)
        self._report(message)

    def _report(self, message: Sms) -> None:
        """The delivery receipt, with the oddities of `faults`."""
        url = self._settings.notify_callback_url
        if not url or "callback_lost" in message.odd:
            return
        entry = message.entry
        token = "forged" if "callback_forged" in message.odd else credentials.NOTIFY_CALLBACK_TOKEN
        body = {
            "id": entry.provider_id, "reference": message.reference, "to": entry.tile.address, "status": entry.status,
            "created_at": _iso(message.created), "completed_at": _iso(message.completed), "sent_at": _iso(message.created),
            "notification_type": "sms", "template_id": credentials.NOTIFY_TEMPLATE_ID, "template_version": 1,
        }  # fmt: skip
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}

        async def job() -> None:
            for _ in range(2 if "callback_twice" in message.odd else 1):
                await self._outbox.post(url, json.dumps(body).encode(), headers, retries=1)

        self._outbox.put(job, message.odd.get("callback_late", 0.0))

    def _resource(self, message: Sms) -> dict[str, Any]:
        entry = message.entry
        return {
            "id": entry.provider_id,
            "reference": message.reference,
            "phone_number": entry.tile.address,
            "type": "sms",
            "status": entry.status,
            "body": entry.text,
            "created_at": _iso(message.created),
            "completed_at": _iso(message.completed),
        }


async def _read(request: web.Request) -> dict[str, Any]:
    try:
        fields = json.loads(await request.read())
    except ValueError:
        raise NotifyError(400, "BadRequestError", "Invalid JSON supplied in POST data") from None
    if not isinstance(fields, dict):
        raise NotifyError(400, "BadRequestError", "Invalid JSON supplied in POST data")
    return fields


def _check(fields: dict[str, Any]) -> tuple[str, str]:
    """The number and the text, or Notify's own words about what is wrong."""
    if unknown := fields.keys() - _FIELDS:
        raise NotifyError(400, "ValidationError", f"Additional properties are not allowed ({min(unknown)} was unexpected)")
    for name in ("phone_number", "template_id"):
        if not isinstance(fields.get(name), str):
            raise NotifyError(400, "ValidationError", f"{name} is a required property")
    number = fields["phone_number"]
    rule = NUMBERS.get(number, GOOD)
    if not _NUMBER.fullmatch(number) or rule.submit == 21211:
        words = "Number is not valid – double check the phone number you entered"
        raise NotifyError(400, "ValidationError", f"phone_number {words}")
    if rule.submit == 21614:
        raise NotifyError(400, "InvalidPhoneError", "Not a UK mobile number")
    _uuid("template_id", fields["template_id"])
    if fields["template_id"] != credentials.NOTIFY_TEMPLATE_ID:
        raise NotifyError(400, "BadRequestError", "Template not found")
    values = fields.get("personalisation", {})
    if not isinstance(values, dict):
        raise NotifyError(400, "ValidationError", "personalisation is not of type object")
    if not isinstance(values.get("message"), str):
        raise NotifyError(400, "BadRequestError", "Missing personalisation: message")
    if (length := len(values["message"])) > _MOST:
        words = f"Text messages cannot be longer than {_MOST} characters. Your message is {length} characters long."
        raise NotifyError(400, "BadRequestError", f"Your message is too long. {words}")
    return number, values["message"]


def _uuid(name: str, text: str) -> None:
    try:
        uuid.UUID(text)
    except ValueError:
        raise NotifyError(400, "ValidationError", f"{name} is not a valid UUID") from None


def _refuse(status: int) -> web.Response:
    names = {403: "AuthError", 429: "RateLimitError"}
    return NotifyError(status, names.get(status, "Exception"), "Internal server error").reply()


def _iso(at: float | None) -> str | None:
    return None if at is None else datetime.fromtimestamp(at, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
