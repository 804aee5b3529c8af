"""SMS through GOV.UK Notify (https://docs.notifications.service.gov.uk/rest-api.html): a second way for the same texts.

The service needs one SMS template whose whole text is ``((message))``, and one callback URL for delivery receipts:
``<public URL>/api/v1/receipts/sms`` with a bearer token of your choice. Notify carries our signed receipt token as the
message's ``reference``: receipts bring it back, and a look-up by it finds exactly one attempt.

What lives here: sending, receipts, look-ups, the meaning of errors. What does not: numbers and text (``sms_text``).
"""

import hmac
import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import aiohttp
import jwt
import structlog

from broadcaster.channels import sms_text, wire
from broadcaster.channels.dispatch import dispatch
from broadcaster.domain import tokens
from broadcaster.domain.channel import AttemptId, Callback, CallbackRefused, Lane, Receipt, Traits
from broadcaster.domain.messages import Address, Content, Cost, Envelope, Message
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

API: Final = "https://api.notifications.service.gov.uk"
#: Longest text that Notify takes.
LONGEST: Final = 918
#: A token's ``iat`` may be 30 s old; ours is made anew well before.
TOKEN_SECONDS: Final = 10.0
#: The day's allowance is used up: it is worth asking again in an hour, not in a second.
DAY_LIMIT_WAIT: Final = 3600.0
RATE_WAIT: Final = 5.0

#: Status -> evidence. ``sent`` is the last word for numbers abroad. Source: "Status - text messages".
STATUSES: Final[dict[str, str | None]] = {
    "created": None,
    "sending": None,
    "pending": None,
    "sent": "accepted",
    "delivered": "delivered",
    "permanent-failure": "failed",
    "temporary-failure": "failed",
    "technical-failure": "failed",
}
_REASONS: Final = {
    "permanent-failure": "The number is wrong, or its network refuses the message",
    "temporary-failure": "The phone is off or out of reach",
    "technical-failure": "Notify or its provider had a fault",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class NotifyConfig:
    """One Notify service. ``api_key`` is <name>-<service id>-<secret>, both UUIDs."""

    api_key: str
    template_id: str
    callback_token: str  # the bearer token that Notify's receipts carry
    token_secret: bytes  # signs our own receipt tokens (domain.tokens, purpose "receipt")
    base_url: str = API  # the sandbox's "<origin>/notify"
    rate: float = 50.0  # messages a second: 3,000 a minute for one type of key
    lookup_rate: float = 10.0  # look-ups a second
    price_per_segment_micros: int = 24_000
    currency: str = "GBP"
    timezone: str = "Europe/London"
    default_region: str = "GB"
    allow_drama_numbers: bool = False  # sandbox only
    max_segments: int = 4

    @property
    def service_id(self) -> str:
        return self.api_key[-73:-37]

    @property
    def secret(self) -> str:
        return self.api_key[-36:]


class NotifySms:
    """Channel, SendsReceipts and LooksUp. ``clock`` gives seconds since the epoch."""

    def __init__(self, config: NotifyConfig, clock: Callable[[], float] = time.time) -> None:
        if len(config.api_key) < 74:
            raise ValueError("the API key must be <name>-<service id>-<secret>")
        self._config = config
        self._clock = clock
        self._numbers = sms_text.Numbers(config.default_region, config.allow_drama_numbers)
        self._wording = sms_text.Wording(timezone=config.timezone, longest=LONGEST, max_segments=config.max_segments)
        self._session: aiohttp.ClientSession | None = None
        self._token = ("", 0.0)

    @property
    def traits(self) -> Traits:
        return Traits(
            name="sms",
            label="SMS",
            chunk=50,
            rate=self._config.rate,
            duplicates_collapse=False,
            gives_receipts=True,
            currency=self._config.currency,
        )

    @property
    def route(self) -> str:
        return f"sms:notify:{self._config.service_id}"

    async def open(self) -> None:
        self._session = wire.session()

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def check(self) -> str | None:
        try:
            status, _, _ = await self._call("GET", "/v2/notifications", params={"template_type": "sms"})
        except Exception as error:  # noqa: BLE001  # the sentence is for the operator, whatever the fault
            log.warning("notify.check_failed", error=type(error).__name__)
            return "GOV.UK Notify could not be reached."
        if status == 403:
            return "GOV.UK Notify refuses our API key, or this machine's clock is wrong."
        return None if status == 200 else f"GOV.UK Notify answered {status}."

    # Numbers and text

    def parse_address(self, raw: str) -> Address:
        return self._numbers.parse(raw)

    def render(self, message: Message, to: Envelope) -> Content:
        return Content(self._wording.text(message, to))

    def quote(self, content: Content) -> Cost:
        return sms_text.quote(content.text, self._config.price_per_segment_micros)

    def lanes(self, to: Envelope, cost: Cost) -> Sequence[Lane]:  # noqa: ARG002
        """Notify counts requests, not segments."""
        return (Lane(self.route, self._config.rate, 1),)

    # Sending

    def send(
        self,
        message: Message,  # noqa: ARG002
        chunk: Sequence[tuple[Envelope, Content]],
    ) -> AsyncIterator[tuple[AttemptId, Outcome]]:
        return dispatch(chunk, self._send)

    async def _send(self, to: Envelope, content: Content) -> Outcome:
        body = {
            "phone_number": to.address,
            "template_id": self._config.template_id,
            "personalisation": {"message": content.text},
            "reference": self._reference(to),
        }
        status, answer, retry_after = await self._call("POST", "/v2/notifications/sms", body=body)
        if status == 201:
            provider_id = answer.get("id")
            return Accepted(provider_id) if isinstance(provider_id, str) else _UNREADABLE
        return classify(status, answer, retry_after)

    # Receipts

    def read_receipt(self, callback: Callback) -> Receipt | None:
        """Bearer token and ``reference`` ("Delivery receipts" in Notify's documentation)."""
        bearer = callback.headers.get("authorization", "")
        if not hmac.compare_digest(bearer.encode(), f"Bearer {self._config.callback_token}".encode()):
            raise CallbackRefused("The bearer token does not hold")
        try:
            document = json.loads(callback.body)
        except ValueError:
            raise CallbackRefused("The receipt is no JSON") from None
        if not isinstance(document, dict):
            raise CallbackRefused("The receipt is no object")
        attempt = tokens.verify(self._config.token_secret, "receipt", str(document.get("reference") or ""))
        if attempt is None or len(attempt) != 2:
            raise CallbackRefused("The reference does not hold")
        status, provider_id = str(document.get("status")), document.get("id")
        if status not in STATUSES:
            log.warning("notify.unknown_status", status=status[:40])
            return None
        state = STATUSES[status]
        if state is None:
            return None
        of_route = status == "technical-failure"
        code = status if state == "failed" else None
        known = provider_id if isinstance(provider_id, str) else None
        return Receipt(attempt[0], attempt[1], state, code, _REASONS.get(status), known, of_route=of_route)

    # Look-ups

    @property
    def lookup_rate(self) -> float:
        return self._config.lookup_rate

    async def look_up(self, to: Envelope, content: Content, sent_at: int) -> Finding:  # noqa: ARG002
        """By this attempt's own reference: nobody else's message and no other attempt has it."""
        params = {"template_type": "sms", "reference": self._reference(to)}
        try:
            status, answer, _ = await self._call("GET", "/v2/notifications", params=params)
        except Exception as error:  # noqa: BLE001  # a look-up never raises for a provider's fault
            log.info("notify.lookup_failed", error=type(error).__name__)
            return Unknown(f"Notify's list could not be read ({type(error).__name__})")
        found = answer.get("notifications")
        if status != 200 or not isinstance(found, list):
            return Unknown(f"Notify answered {status}")
        if not found:
            return Absent()
        status_there = str(found[0].get("status"))
        state = STATUSES.get(status_there) or "accepted"
        code = status_there if state == "failed" else None
        return Found(str(found[0].get("id")), state, code, of_route=status_there == "technical-failure")

    def _reference(self, to: Envelope) -> str:
        return tokens.sign(self._config.token_secret, "receipt", to.delivery, to.attempt)

    async def _call(
        self, method: str, path: str, *, body: dict[str, Any] | None = None, params: dict[str, str] | None = None
    ) -> tuple[int, dict[str, Any], str | None]:
        """Status, document (empty where it cannot be read) and Retry-After."""
        assert self._session is not None
        headers = {"Authorization": f"Bearer {self._bearer()}"}
        url = self._config.base_url.rstrip("/") + path
        async with self._session.request(
            method, url, json=body, params=params, headers=headers, allow_redirects=False
        ) as response:
            text = await response.text(encoding="utf-8", errors="replace")
            try:
                document = json.loads(text)
            except ValueError:
                document = {}
            return response.status, document if isinstance(document, dict) else {}, response.headers.get("Retry-After")

    def _bearer(self) -> str:
        token, made = self._token
        now = self._clock()
        if not 0 <= now - made < TOKEN_SECONDS:
            token = jwt.encode({"iss": self._config.service_id, "iat": int(now)}, self._config.secret, "HS256")
            self._token = (token, now)
        return token


_UNREADABLE: Final = Ambiguous("unreadable_answer", "Notify's answer could not be read")


def classify(status: int, answer: dict[str, Any], retry_after: str | None) -> Outcome:
    """An error answer to a create, from its status and the first of its ``errors``. Notify checks before it takes."""
    errors = answer.get("errors")
    first = errors[0] if isinstance(errors, list) and errors and isinstance(errors[0], dict) else {}
    error, text = str(first.get("error", "")), str(first.get("message", ""))
    code = error or str(status)
    if status == 429:
        wait = DAY_LIMIT_WAIT if error == "TooManyRequestsError" else RATE_WAIT
        return Throttled(wire.retry_after(retry_after, wait), code)
    if status == 403:
        return Rejected(Scope.CHANNEL, code, "Notify refuses our API key, or this machine's clock is wrong")
    if error == "ValidationError":
        if text.startswith("phone_number"):
            return Rejected(Scope.ADDRESS, code, "Not a number that Notify can send to")
        return Rejected(Scope.MESSAGE, code, "Notify does not accept a field")
    if error == "BadRequestError":
        if "character count" in text:
            return Rejected(Scope.MESSAGE, code, "The message is too long for Notify")
        return Rejected(Scope.CHANNEL, code, "The template or the service is not set up for this")
    if status >= 500:
        return Ambiguous(code, f"Notify answered {status}")
    log.error("notify.unknown_error", status=status, error=error[:40])
    return Ambiguous(code, f"Notify answered {status} with an error that we do not know")
