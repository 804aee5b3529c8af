"""SMS through GOV.UK Notify (https://docs.notifications.service.gov.uk/rest-api.html): a second way for the same texts.

The service needs one SMS template whose whole text is ``((message))``, and one callback URL for delivery receipts:
``<public URL>/api/v1/receipts/sms`` with a bearer token of your choice. Notify carries our signed receipt token as the
message's ``reference``: receipts bring it back, and a look-up by it finds exactly one attempt.

Notify has no validity period: its provider tries for up to 72 hours, so a late SMS tells its age by the time in it.

What lives here: sending, receipts, look-ups. What does not: numbers and text (``sms_text``), the meaning of errors and
statuses (``notify_codes``).
"""

import hmac
import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import aiohttp
import jwt
import structlog

from broadcaster.channels import notify_codes, sms_text, wire
from broadcaster.channels.dispatch import dispatch
from broadcaster.domain import gsm, tokens
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

API: Final = "https://api.notifications.service.gov.uk"
#: Longest text that Notify takes.
LONGEST: Final = 918
#: A token's ``iat`` may be 30 s old; ours is made anew well before.
TOKEN_SECONDS: Final = 10.0


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
        try:
            UUID(config.service_id), UUID(config.secret)
        except ValueError:
            raise ValueError("the API key must be <name>-<service id>-<secret>") from None
        self._config = config
        self._clock = clock
        self._numbers = sms_text.Numbers(config.default_region, config.allow_drama_numbers)
        self._wording = sms_text.Wording(
            timezone=config.timezone,
            longest=LONGEST,
            max_segments=config.max_segments,
            segments=lambda text: gsm.segments(notify_codes.as_sent(text)),
        )
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
        """Fetches the template: one without our field would be sent as it stands, and Notify would not object."""
        try:
            status, answer, _ = await self._call("GET", f"/v2/template/{self._config.template_id}")
        except Exception as error:  # noqa: BLE001  # the sentence is for the operator, whatever the fault
            log.warning("notify.check_failed", error=type(error).__name__)
            return "GOV.UK Notify could not be reached."
        if status in (401, 403):
            return "GOV.UK Notify refuses our API key, or this machine's clock is wrong."
        if status in (400, 404):
            return "GOV.UK Notify does not know our template."
        if status != 200:
            return f"GOV.UK Notify answered {status}."
        if answer.get("type") != "sms" or list(answer.get("personalisation") or ()) != ["message"]:
            return "The template at GOV.UK Notify must be a text message with one field, ((message))."
        return None

    # Numbers and text

    def parse_address(self, raw: str) -> Address:
        return self._numbers.parse(raw)

    def render(self, message: Message, to: Envelope) -> Content:
        """The payload is what we post; the text is what Notify makes of it."""
        words = self._wording.text(message, to)
        return Content(notify_codes.as_sent(words), words)

    def quote(self, content: Content) -> Cost:
        cost = sms_text.quote(content.text, self._config.price_per_segment_micros)
        if not (lost := notify_codes.lost(str(content.payload))):
            return cost
        warning = f"GOV.UK Notify sends these characters as ?: {' '.join(lost[:5])}"
        return Cost(cost.units, cost.money, cost.encoding, (warning, *cost.warnings))

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
            "personalisation": {"message": content.payload},
            "reference": self._reference(to),
        }
        status, answer, retry_after = await self._call("POST", "/v2/notifications/sms", body=body)
        if status < 300:  # redirects never get here (wire)
            provider_id = answer.get("id")
            return Accepted(provider_id) if isinstance(provider_id, str) else _UNREADABLE
        return classify(status, answer, retry_after)

    # Receipts

    def read_receipt(self, callback: Callback) -> Receipt | None:
        """Bearer token and ``reference`` ("Delivery receipts" in Notify's documentation)."""
        bearer, token = callback.headers.get("authorization", ""), self._config.callback_token
        if not token or not hmac.compare_digest(bearer.encode(), f"Bearer {token}".encode()):
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
        if status not in notify_codes.STATUSES:
            log.warning("notify.unknown_status", status=status[:40])
            return None
        fate = notify_codes.STATUSES[status]
        if fate is None:
            return None
        code = status if fate.state == "failed" else None
        known = provider_id if isinstance(provider_id, str) else None
        return Receipt(attempt[0], attempt[1], fate.state, code, fate.reason, known, of_route=fate.of_route)

    # Look-ups

    @property
    def lookup_rate(self) -> float:
        return self._config.lookup_rate

    async def look_up(self, to: Envelope, content: Content, sent_at: int) -> Finding:  # noqa: ARG002
        """By this attempt's own reference: nobody else's message and no other attempt has it.

        Notify lists what was sent with keys of the same type (test, team, live), and for days (7 unless set otherwise).
        """
        reference = self._reference(to)
        params = {"template_type": "sms", "reference": reference}
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
        ours = next((n for n in found if isinstance(n, dict) and n.get("reference") == reference), None)
        if ours is None:
            return Unknown("Notify's list has what was not asked for")
        status_there, provider_id = str(ours.get("status")), str(ours.get("id"))
        fate = notify_codes.STATUSES.get(status_there)
        if fate is None:
            return Found(provider_id, "accepted")
        code = status_there if fate.state == "failed" else None
        return Found(provider_id, fate.state, code, of_route=fate.of_route)

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
    """An error answer to a create, from its status, its ``errors`` and the Retry-After header."""
    listed = answer.get("errors")
    errors = [
        (str(error.get("error")), str(error.get("message")))
        for error in (listed if isinstance(listed, list) else ())
        if isinstance(error, dict)
    ]
    outcome = notify_codes.known(status, errors)
    if isinstance(outcome, Throttled) or (status == 429 and outcome is None):
        wait, code = (outcome.retry_after, outcome.code) if isinstance(outcome, Throttled) else (1.0, "429")
        return Throttled(wire.retry_after(retry_after, wait), code)
    if isinstance(outcome, Deferred):
        log.error("notify.unknown_error", status=status, error=outcome.code)
    if outcome is not None:
        return outcome
    code = errors[0][0][:40] if errors else str(status)
    if status == 401:
        return Rejected(Scope.CHANNEL, code, "Notify refuses our API key")
    if status >= 500:
        return Ambiguous(str(status), f"Notify answered {status}")
    log.error("notify.unknown_error", status=status, error=code)
    return Ambiguous(code, f"Notify answered {status} with an error that we do not know")
