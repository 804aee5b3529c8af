"""Twilio's errors, the numbers that misbehave on purpose, and the checks of a message's parameters. All of it
data.

Codes: https://www.twilio.com/docs/api/errors. Test numbers: https://www.twilio.com/docs/iam/test-credentials.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

ERRORS: dict[int, tuple[int, str]] = {
    # code: (HTTP status, message)
    20001: (400, "Parameter is not valid"),
    20003: (401, "Authenticate"),
    20004: (405, "Method not allowed"),
    20404: (404, "The requested resource was not found"),
    20429: (429, "Too Many Requests"),
    20500: (500, "An internal server error has occurred"),
    21211: (400, "Invalid 'To' Phone Number"),
    21212: (400, "Invalid From Number (caller ID)"),
    21408: (
        400,
        "Permission to send an SMS has not been enabled for the region indicated by the 'To' number",
    ),
    21602: (400, "Message body is required."),
    21603: (400, "A 'From' phone number is required."),
    21604: (400, "A 'To' phone number is required."),
    21606: (400, "The 'From' phone number provided is not a valid message-capable Twilio phone number"),
    21609: (400, "The 'StatusCallback' URL is not a valid URL."),
    21610: (400, "Attempt to send to unsubscribed recipient"),
    21611: (429, "This 'From' number has exceeded the maximum number of queued messages"),
    21612: (400, "The 'To' phone number is not currently reachable using the 'From' phone number"),
    21614: (400, "'To' number is not a valid mobile number"),
    21617: (400, "The concatenated message body exceeds the 1600 character limit."),
    21624: (400, "Invalid validity period value"),
    21701: (400, "The Messaging Service does not exist"),
    39999: (400, "An error that is in no list"),
}

REASONS: dict[int, str] = {
    30001: "Queue overflow",
    30003: "Unreachable destination handset",
    30005: "Unknown destination handset",
    30007: "Message filtered",
    30036: "Validity Period Expired",
}
"""The `error_message` of a message that failed after it was taken."""


@dataclass(frozen=True, slots=True)
class NumberRule:
    """What happens to a message to one number.

    `submit`: the create is refused with this code. `final`/`error`: the last status and its code.
    `oddity`: throttled_once (429 with Retry-After, then fine), error_after_taking_once (taken, answered 500,
    then fine), hang (no answer, not taken), silent (taken and delivered, but no status ever comes).
    """

    submit: int | None = None
    final: str = "delivered"
    error: int | None = None
    oddity: str | None = None


GOOD = NumberRule()

NUMBERS: dict[str, NumberRule] = {
    # Twilio's own test numbers
    "+15005550001": NumberRule(submit=21211),
    "+15005550002": NumberRule(submit=21612),
    "+15005550003": NumberRule(submit=21408),
    "+15005550004": NumberRule(submit=21610),
    "+15005550009": NumberRule(submit=21614),
    # Ours, inside Ofcom's range for drama (07700 900000–900999); every other number there is good
    "+447700900901": NumberRule(submit=21211),
    "+447700900902": NumberRule(submit=21614),
    "+447700900903": NumberRule(submit=21610),
    "+447700900904": NumberRule(final="undelivered", error=30003),
    "+447700900905": NumberRule(final="undelivered", error=30005),
    "+447700900906": NumberRule(final="undelivered", error=30007),
    "+447700900907": NumberRule(oddity="throttled_once"),
    "+447700900908": NumberRule(oddity="error_after_taking_once"),
    "+447700900909": NumberRule(oddity="hang"),
    "+447700900910": NumberRule(submit=39999),
    "+447700900911": NumberRule(oddity="silent"),
}

SENDER_ERRORS = {"+15005550001": 21212, "+15005550007": 21606, "+15005550008": 21611}
"""Twilio's test senders that are refused."""

SUPPORTED = frozenset(
    [
        "To",
        "From",
        "MessagingServiceSid",
        "Body",
        "StatusCallback",
        "ValidityPeriod",
        "ProvideFeedback",
        "Attempt",
        "MaxPrice",
        "ForceDelivery",
        "ContentRetention",
        "AddressRetention",
        "RiskCheck",
        "ShortenUrls",
        "TrafficType",
    ]
)
"""Parameters of a create. Twilio has more (media, templates, scheduling, SmartEncoded): not simulated, so
refused."""

_E164 = re.compile(r"\+[1-9][0-9]{6,14}")
MAX_BODY = 1600
MAX_VALIDITY = 36_000


class TwilioError(Exception):
    """A refusal: Twilio's code, and what to add to its message."""

    def __init__(self, code: int, detail: str = "") -> None:
        super().__init__(code, detail)
        self.code = code
        self.detail = detail


def check_create(form: Mapping[str, str], senders: frozenset[str], services: frozenset[str]) -> int:
    """Checks a create's parameters; gives the validity period in seconds. `TwilioError` when refused."""
    unknown = form.keys() - SUPPORTED
    if unknown:
        raise TwilioError(20001, f"unknown or unsupported parameter {min(unknown)}")
    to = form.get("To", "")
    if not to:
        raise TwilioError(21604)
    if not _E164.fullmatch(to):
        raise TwilioError(21211, "not in E.164 format")
    _check_sender(form, senders, services)
    body = form.get("Body", "")
    if not body:
        raise TwilioError(21602)
    if len(body) > MAX_BODY:
        raise TwilioError(21617)
    callback = form.get("StatusCallback")
    if callback is not None:
        _check_url(callback)
    return _validity(form.get("ValidityPeriod"))


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
    except ValueError:
        raise TwilioError(21609) from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise TwilioError(21609)


def _check_sender(form: Mapping[str, str], senders: frozenset[str], services: frozenset[str]) -> None:
    service, sender = form.get("MessagingServiceSid"), form.get("From")
    if not service and not sender:
        raise TwilioError(21603)
    if service and service not in services:
        raise TwilioError(21701)
    if sender and sender not in senders:
        raise TwilioError(SENDER_ERRORS.get(sender, 21606))


def _validity(raw: str | None) -> int:
    if raw is None:
        return MAX_VALIDITY
    if not raw.isascii() or not raw.isdigit() or len(raw) > 6 or not 1 <= int(raw) <= MAX_VALIDITY:
        # https://www.twilio.com/docs/api/errors/21624: whole seconds between 1 and 36,000
        raise TwilioError(21624)
    return int(raw)
