"""Twilio's error codes, read by one question: could the message have been taken? Data only.

Source: https://www.twilio.com/docs/api/errors/<code>. A code that is not here counts as ambiguous and is logged.
"""

from dataclasses import dataclass
from typing import Final

from broadcaster.domain.outcomes import Deferred, Rejected, Scope, Throttled


def _rejected(scope: Scope, reasons: dict[int, str]) -> dict[int, Rejected]:
    return {code: Rejected(scope, str(code), reason) for code, reason in reasons.items()}


#: Answers to a create. The wait of a Throttled holds where the answer has no Retry-After.
TWILIO_CODES: Final[dict[int, Rejected | Deferred | Throttled]] = {
    **_rejected(
        Scope.CHANNEL,
        {
            20003: "Twilio refuses our credentials",
            20404: "Twilio does not know our account",
            21212: "The sender is not valid",
            21603: "No sender was given",
            21606: "The sender is not ours or cannot send SMS",
            21609: "Our receipt address is not a public URL",
            21659: "The sender is not a number of ours",
            21701: "The messaging service does not exist",
            21702: "The messaging service is not set up",
            21703: "The messaging service has no sender",
            21704: "The messaging service has no sender for this",
            21705: "The messaging service is not valid",
            30002: "The Twilio account is suspended",
            30034: "The sender is not registered with the carriers",
        },
    ),
    **_rejected(
        Scope.ADDRESS,
        {
            21211: "Not a valid number",
            21610: "The recipient has replied STOP",
            21614: "Not a mobile number",
            30004: "The recipient or carrier blocks the message",
            30005: "The number is unknown",
            30006: "A landline, or a carrier that cannot be reached",
        },
    ),
    **_rejected(
        Scope.MESSAGE,
        {
            20001: "Twilio does not accept a parameter",
            21408: "Sending to this country is not enabled",
            21602: "The message has no text",
            21604: "The message has no number",
            21612: "This sender cannot reach this number",
            21617: "The message is longer than 1600 characters",
            21624: "The validity period is not valid",
            30007: "A carrier filters the message",
        },
    ),
    20429: Throttled(1.0, "20429"),
    21611: Throttled(60.0, "21611"),  # the sender's queue is full
    63017: Throttled(60.0, "63017"),
    63038: Throttled(3600.0, "63038"),  # the account's cap for 24 hours
    30001: Deferred("30001", "Twilio's queue overflowed"),
    30003: Deferred("30003", "The handset cannot be reached now"),
    30008: Deferred("30008", "Unknown error at the carrier"),
    30017: Deferred("30017", "The carrier's network is congested"),
    30036: Deferred("30036", "The validity period ended in the queue"),
    30410: Deferred("30410", "The carrier did not answer in time"),
}


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a taken message did not arrive. Of neither address nor route: of the content."""

    reason: str
    of_address: bool = False  # disable the number
    of_route: bool = False  # another provider or sender may reach it


#: ErrorCode of a message that is finally undelivered or failed.
DELIVERY_CODES: Final[dict[int, Failure]] = {
    30001: Failure("Twilio's queue overflowed", of_route=True),
    30002: Failure("The Twilio account is suspended", of_route=True),
    30003: Failure("The handset is off or out of reach"),
    30004: Failure("The recipient or carrier blocks the message", of_address=True),
    30005: Failure("The number is unknown", of_address=True),
    30006: Failure("A landline, or a carrier that cannot be reached", of_address=True),
    30007: Failure("A carrier filtered the message"),
    30008: Failure("Unknown error at the carrier", of_route=True),
    30017: Failure("The carrier's network is congested", of_route=True),
    30034: Failure("The sender is not registered with the carriers", of_route=True),
    30036: Failure("The validity period ended in the queue", of_route=True),
    30410: Failure("The carrier did not answer in time", of_route=True),
    21610: Failure("The recipient has replied STOP", of_address=True),
    63038: Failure("The account's daily cap is reached", of_route=True),
}

#: MessageStatus → what it proves (https://www.twilio.com/docs/messaging/api/message-resource#message-status-values).
#: None: still inside Twilio, nothing new.
STATUSES: Final[dict[str, str | None]] = {
    "accepted": None,
    "scheduled": None,
    "queued": None,
    "sending": None,
    "sent": "accepted",
    "delivered": "delivered",
    "read": "delivered",
    "undelivered": "failed",
    "failed": "failed",
    "canceled": "failed",
}
