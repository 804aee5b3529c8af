"""SMS through Twilio (https://www.twilio.com/docs/messaging/api/message-resource) with the official SDK.

What lives here: sending, status callbacks, look-ups. What does not: numbers and the text of an SMS (``sms_text``), the
meaning of error codes (``twilio_codes``), transport faults (``wire``).
"""

import base64
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import parse_qsl

import aiohttp
import structlog
from twilio.base.exceptions import (  # type: ignore[import-untyped]
    TwilioException,
    TwilioRestException,
    TwilioServiceException,
)
from twilio.http import AsyncHttpClient  # type: ignore[import-untyped]
from twilio.http.response import Response  # type: ignore[import-untyped]
from twilio.request_validator import RequestValidator  # type: ignore[import-untyped]
from twilio.rest import Client  # type: ignore[import-untyped]
from yarl import URL

from broadcaster.channels import sms_text, wire
from broadcaster.channels.dispatch import dispatch
from broadcaster.channels.twilio_codes import DELIVERY_CODES, STATUSES, TWILIO_CODES, Failure
from broadcaster.domain import tokens
from broadcaster.domain.channel import AttemptId, Callback, CallbackRefused, Lane, Receipt, Traits
from broadcaster.domain.messages import Address, Content, Cost, Envelope, Message
from broadcaster.domain.outcomes import (
    Absent,
    Accepted,
    Ambiguous,
    Deferred,
    Finding,
    Found,
    Outcome,
    Rejected,
    Scope,
    Throttled,
    Unknown,
)

log = structlog.get_logger()

API: Final = "https://api.twilio.com"
#: Longest text that Twilio takes (error 21617).
LONGEST: Final = 1600
#: Seconds a message may wait in Twilio's queue (ValidityPeriod).
VALIDITY: Final = (1, 36_000)
#: Look-ups read at most this many pages of 100.
PAGES: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class TwilioConfig:
    """One Twilio account and sender. Give ``sender``, ``messaging_service_sid``, or a sender of the service's."""

    account_sid: str
    auth_token: str  # also the key of callback signatures, with API keys too
    token_secret: bytes  # signs our own receipt tokens (domain.tokens, purpose "receipt")
    sender: str = ""  # E.164, short code or up to 11 letters and digits
    messaging_service_sid: str = ""
    api_key_sid: str = ""
    api_key_secret: str = ""
    base_url: str = API  # the sandbox's "<origin>/twilio"
    lookup_rate: float = 20.0  # look-ups a second
    rate: float = 10.0  # segments a second (long code and alphanumeric 10, short code 100)
    price_per_segment_micros: int = 24_000
    currency: str = "GBP"
    timezone: str = "Europe/London"
    default_region: str = "GB"
    allow_drama_numbers: bool = False  # sandbox only
    max_segments: int = 4  # a longer body is shortened; the link has all of it


class TwilioSms:
    """Channel, SendsReceipts and LooksUp. ``clock`` gives seconds since the epoch."""

    def __init__(self, config: TwilioConfig, clock: Callable[[], float] = time.time) -> None:
        if not (config.sender or config.messaging_service_sid):
            raise ValueError("give a sender or a messaging service")
        self._config = config
        self._clock = clock
        self._validator = RequestValidator(config.auth_token)
        self._sender = config.messaging_service_sid or config.sender
        senders = {"messaging_service_sid": config.messaging_service_sid, "from_": config.sender}
        self._from = {name: sender for name, sender in senders.items() if sender}
        self._numbers = sms_text.Numbers(config.default_region, config.allow_drama_numbers)
        self._wording = sms_text.Wording(timezone=config.timezone, longest=LONGEST, max_segments=config.max_segments)
        self._client: Any = None
        self._session: aiohttp.ClientSession | None = None

    @property
    def traits(self) -> Traits:
        return Traits(
            name="sms",
            label="SMS",
            chunk=64,  # all at once: none waits, marked, for another's answer
            rate=self._config.rate,
            duplicates_collapse=False,
            gives_receipts=True,
            queue_seconds=36_000.0,
            currency=self._config.currency,
        )

    @property
    def route(self) -> str:
        return f"sms:twilio:{self._sender}"

    async def open(self) -> None:
        self._session = wire.session(follows=False)
        self._client = _client(self._config, self._session)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def check(self) -> str | None:
        """A list of one message: cheaper than fetching the account, and it needs no more rights than look-ups do."""
        try:
            await self._client.messages.page_async(page_size=1)
        except TwilioException as error:
            answer = error.args[1] if len(error.args) > 1 else None  # the SDK's Page puts it there
            if getattr(answer, "status_code", None) == 401:
                return "Twilio refuses our account SID, auth token or API key."
            return "Twilio answered with an error; see its status page and the account's log."
        except Exception as error:  # noqa: BLE001  # the sentence is for the operator, whatever the fault
            log.warning("sms.check_failed", error=type(error).__name__)
            return "Twilio could not be reached."
        return None

    # Numbers and text

    def parse_address(self, raw: str) -> Address:
        return self._numbers.parse(raw)

    def render(self, message: Message, to: Envelope) -> Content:
        return Content(*self._wording.quoted(message, to, self._config.price_per_segment_micros))

    def quote(self, content: Content) -> Cost:
        if isinstance(content.payload, Cost):
            return content.payload
        return sms_text.quote(content.text, self._config.price_per_segment_micros)

    def lanes(self, to: Envelope, cost: Cost) -> Sequence[Lane]:  # noqa: ARG002
        return (Lane(self.route, self._config.rate, cost.units),)

    # Sending

    def send(self, message: Message, chunk: Sequence[tuple[Envelope, Content]]) -> AsyncIterator[tuple[AttemptId, Outcome]]:
        async def one(to: Envelope, content: Content) -> Outcome:
            return await self._send(message, to, content)

        return dispatch(chunk, one)

    async def _send(self, message: Message, to: Envelope, content: Content) -> Outcome:
        useful = int(message.expires_at / 1000 - self._clock())
        try:
            created = await self._client.messages.create_async(
                to=to.address,
                body=content.text,
                status_callback=to.receipt_url,
                validity_period=min(max(useful, VALIDITY[0]), VALIDITY[1]),
                **self._from,
            )
        except (TwilioRestException, TwilioServiceException) as error:
            current = wire.flight.get()
            return classify(error.status, _number(error.code), current.retry_after if current else None)
        except ValueError:  # a 2xx whose body is no JSON
            return Ambiguous("unreadable_answer", "Twilio's answer could not be read")
        if not created.sid:
            return Ambiguous("unreadable_answer", "Twilio's answer has no message id")
        return Accepted(created.sid)

    # Status callbacks

    def read_receipt(self, callback: Callback) -> Receipt | None:
        """HMAC-SHA-1 over public URL and form (https://www.twilio.com/docs/usage/security#validating-requests)."""
        try:
            form = _Form(parse_qsl(callback.body.decode(), keep_blank_values=True, max_num_fields=100))
        except ValueError:
            raise CallbackRefused("The form cannot be read") from None
        signature = callback.headers.get("x-twilio-signature", "")
        if not signature or not self._validator.validate(callback.url, form, signature):
            raise CallbackRefused("The signature does not hold")
        attempt = tokens.verify(self._config.token_secret, "receipt", callback.query.get("d", ""))
        if attempt is None or len(attempt) != 2:
            raise CallbackRefused("The token does not hold")
        status = form.get("MessageStatus", form.get("SmsStatus", ""))
        if status not in STATUSES:
            log.warning("sms.unknown_status", status=status[:40])
            return None
        state = STATUSES[status]
        return None if state is None else _receipt((attempt[0], attempt[1]), state, form)

    # Look-ups

    @property
    def lookup_rate(self) -> float:
        return self._config.lookup_rate

    async def look_up(self, to: Envelope, content: Content, sent_at: int) -> Finding:  # noqa: ARG002
        """Lists messages by number, newest first, and looks for the delivery's own reference.

        No date filter: DateSent is empty until a message leaves the queue, so a queued one would be missed.
        """
        oldest = datetime.fromtimestamp(sent_at / 1000, UTC) - timedelta(minutes=10)
        mark = f"{sms_text.mark(to)} "
        try:
            page = await self._client.messages.page_async(to=to.address, page_size=100)
            for _ in range(PAGES):
                last = None
                for last in page:
                    if mark in f"{last.body or ''} " and last.sid not in to.earlier:
                        return _found(last)
                if last is None or not page.next_page_url or (last.date_created and last.date_created < oldest):
                    return Absent()
                page = await self._client.messages.get_page_async(page.next_page_url)
        except Exception as error:  # noqa: BLE001  # a look-up never raises for a provider's fault
            log.info("sms.lookup_failed", error=type(error).__name__)
            return Unknown(f"Twilio's list could not be read ({type(error).__name__})")
        return Unknown("Too many messages to this number to read them all")


def classify(status: int, code: int | None, retry_after: str | None) -> Outcome:
    """An error answer to a create, from HTTP status, Twilio's code and the Retry-After header."""
    known = TWILIO_CODES.get(code) if code is not None else None
    if isinstance(known, Throttled) or status == 429:
        wait, name = (known.retry_after, known.code) if isinstance(known, Throttled) else (1.0, str(code or 429))
        return Throttled(wire.retry_after(retry_after, wait), name)
    if isinstance(known, Rejected | Deferred):
        return known
    if status in (307, 308):
        return wire.fault(wire.Redirected(status), written=True)
    if status == 401:
        return Rejected(Scope.CHANNEL, str(code or status), "Twilio refuses our credentials")
    if status >= 500:
        return Ambiguous(str(code or status), f"Twilio answered {status}")
    log.error("sms.unknown_code", status=status, code=code)
    return Ambiguous(str(code or status), f"Twilio answered {status} with a code that we do not know")


class _HttpClient(AsyncHttpClient):  # type: ignore[misc]
    """The SDK's seam for transport, over our session.

    The SDK's own asynchronous client ignores its timeout and, without pooling, mixes up concurrent responses (FACTS).
    """

    def __init__(self, session: aiohttp.ClientSession, base_url: str, user: str, password: str) -> None:
        super().__init__(logging.getLogger("twilio"), True, wire.TOTAL)
        self._session = session
        self._base_url = base_url.rstrip("/")
        self._authorization = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()

    async def request(
        self,
        method: str,
        uri: str,
        params: dict[str, object] | None = None,
        data: dict[str, object] | None = None,
        headers: dict[str, str] | None = None,
        auth: object = None,  # noqa: ARG002  # ours is made once
        timeout: float | None = None,  # noqa: ARG002  # the session's
        allow_redirects: bool = False,  # noqa: ARG002  # never
    ) -> Any:
        body = form(data).encode() if data else None
        if params:
            uri = f"{uri}?{form(params)}"
        sent = {**(headers or {}), "Authorization": self._authorization}
        url = self._base_url + uri.removeprefix(API)
        async with self._session.request(method, url, data=body, headers=sent, allow_redirects=False) as response:
            wire.refuse_redirect(response)
            if response.status >= 400 and (current := wire.flight.get()) is not None:
                current.retry_after = response.headers.get("Retry-After")
            return Response(response.status, await response.text(encoding="utf-8", errors="replace"), response.headers)


def form(fields: "dict[str, object]") -> str:
    """application/x-www-form-urlencoded. By yarl: ``urllib.parse.urlencode`` takes five times as long for a text."""
    plain = {k: [str(x) for x in v] if isinstance(v, list | tuple) else str(v) for k, v in fields.items()}
    return URL.build(query=plain).raw_query_string


class _Client(Client):  # type: ignore[misc]
    """The SDK asks the operating system for its name for every request's User-Agent; once is enough."""

    _constant: dict[str, str] | None = None

    def get_headers(self, method: str, headers: dict[str, str] | None) -> dict[str, str]:  # noqa: ARG002
        if self._constant is None:
            self._constant = super().get_headers("GET", None)
        return {**self._constant, **(headers or {})}


def _client(config: TwilioConfig, session: aiohttp.ClientSession) -> Any:
    user, password = config.api_key_sid or config.account_sid, config.api_key_secret or config.auth_token
    http_client = _HttpClient(session, config.base_url, user, password)
    # An environment of our own: the SDK would read TWILIO_REGION and TWILIO_EDGE and change the host.
    client = _Client(user, password, config.account_sid, http_client=http_client, environment={"": ""})
    assert client.messages  # its modules are loaded now, for 50 ms, and not while the first messages wait
    return client


class _Form(dict[str, str]):
    """A form for the SDK's validator, which asks for ``getlist`` where a name may come twice."""

    def __init__(self, pairs: list[tuple[str, str]]) -> None:
        super().__init__(pairs)
        self._pairs = pairs

    def getlist(self, name: str) -> list[str]:
        return [value for key, value in self._pairs if key == name]


def _receipt(attempt: tuple[int, int], state: str, form: _Form) -> Receipt:
    sid = form.get("MessageSid") or form.get("SmsSid")
    if state != "failed":
        return Receipt(*attempt, state, provider_id=sid)
    code = form.get("ErrorCode") or None
    failure = DELIVERY_CODES.get(_number(code) or 0)
    if failure is None:
        log.warning("sms.unknown_delivery_code", code=code)
        failure = Failure("Not delivered, for a reason that we do not know")
    return Receipt(*attempt, state, code, failure.reason, sid, failure.of_address, failure.of_route)


def _found(record: Any) -> Finding:
    state = STATUSES.get(str(record.status)) or "accepted"
    code = str(record.error_code) if record.error_code else None
    failure = DELIVERY_CODES.get(_number(code) or 0)
    return Found(record.sid, state, code, of_route=failure is not None and failure.of_route)


def _number(code: object) -> int | None:
    text = str(code)
    return int(text) if text.isascii() and text.isdigit() else None
