"""GOV.UK Notify's errors, statuses and alphabet, read by one question: could the message have been taken? Data only.

Sources: https://docs.notifications.service.gov.uk/rest-api.html (error tables, text message statuses, limits) and
Notify's own code (github.com/alphagov/notifications-api, notifications-utils). Notify asks clients not to rely on the
words of an error. A 400, however, is one class for a bad number, a deleted template and a long text: words narrow it
down here, and where they are new the answer stays what its status and class say.
"""

import unicodedata
from dataclasses import dataclass
from typing import Final

from broadcaster.domain import gsm
from broadcaster.domain.outcomes import Deferred, Outcome, Rejected, Scope, Throttled


@dataclass(frozen=True, slots=True)
class Rule:
    """An error answer to a create: status, class, a part of its words, and what it means."""

    status: int
    error: str
    words: str
    outcome: Rejected | Deferred | Throttled

    def fits(self, status: int, error: str, message: str) -> bool:
        return (status, error) == (self.status, self.error) and self.words in message


def _rejected(status: int, error: str, scope: Scope, reasons: dict[str, str]) -> tuple[Rule, ...]:
    return tuple(Rule(status, error, words, Rejected(scope, error, reason)) for words, reason in reasons.items())


_NO_NUMBER: Final = {
    "Too many digits": "Not a valid number",
    "Not enough digits": "Not a valid number",
    "Must not contain letters or symbols": "Not a valid number",
    "Number is not valid": "Not a valid number",
}
#: A number that Notify does not send to may be reached by another provider, so it is not disabled.
_NO_ROUTE: Final = {
    "Not a UK mobile number": "Notify does not send to this kind of number",
    "Not a valid country prefix": "Notify does not send to this country",
}

#: In order: the first that fits one of the answer's errors. The wait of a Throttled holds where there is no Retry-After.
RULES: Final[tuple[Rule, ...]] = (
    *_rejected(401, "AuthError", Scope.CHANNEL, {"": "Notify refuses our API key"}),
    *_rejected(
        403,
        "AuthError",
        Scope.CHANNEL,
        {
            "system clock": "Our clock is more than 30 seconds from Notify's",
            "": "Notify refuses our API key",
        },
    ),
    *_rejected(
        400,
        "ValidationError",
        Scope.CHANNEL,
        {
            "template_id": "The template id is not valid",
            "sms_sender_id": "The sender id is not valid",
            "Additional properties": "Notify does not know a field of our requests",
        },
    ),
    *_rejected(
        400,
        "BadRequestError",
        Scope.CHANNEL,
        {
            "Template not found": "The template does not exist",
            "Template has been deleted": "The template has been deleted",
            "template is not suitable": "The template is not one for text messages",
            "Missing personalisation": "The template asks for more than our one field",
            "does not exist in database": "The sender id does not exist",
            "team-only API key": "The API key is for the service's team only",
            "trial mode": "The service is in trial mode",
            "Service is not allowed": "The service may not send text messages",
        },
    ),
    *_rejected(400, "ValidationError", Scope.ADDRESS, _NO_NUMBER),
    *_rejected(400, "InvalidPhoneError", Scope.ADDRESS, _NO_NUMBER),
    *_rejected(400, "ValidationError", Scope.MESSAGE, _NO_ROUTE),
    *_rejected(400, "InvalidPhoneError", Scope.MESSAGE, _NO_ROUTE),
    *_rejected(
        400,
        "BadRequestError",
        Scope.MESSAGE,
        {
            "international mobile numbers": "The service may not send to other countries",
            "message is too long": "The message is longer than 918 characters",
            "message is empty": "The message has no text",
        },
    ),
    # The one daily limit that says nothing about the other messages: 100 to other countries, unless more is agreed.
    *_rejected(429, "TooManyRequestsError", Scope.MESSAGE, {"international_sms": "The daily limit abroad is reached"}),
    Rule(429, "RateLimitError", "", Throttled(1.0, "RateLimitError")),
    Rule(429, "TooManyRequestsError", "", Throttled(3600.0, "TooManyRequestsError")),  # until midnight UTC
    # Notify stores a message only after all these checks: new words for an old class still mean "not taken".
    *(
        Rule(400, error, "", Deferred(error, "Notify refuses the request, for a reason that we do not know"))
        for error in ("BadRequestError", "ValidationError", "InvalidPhoneError")
    ),
)


@dataclass(frozen=True, slots=True)
class Fate:
    """What a status proves."""

    state: str
    reason: str | None = None
    of_route: bool = False  # another provider may reach the number


#: A text message's status → what it proves. None: still inside Notify, nothing new.
#:
#: No status disables the number. permanent-failure is "the phone number was wrong or the network operator rejects the
#: message", and Notify's code maps "Sender id not registered" and "System error" to it as well: a number that is wrongly
#: disabled misses every later alert, a dead one costs one message an alert. It is not of the route either: a list
#: with many dead numbers would open the breaker of a route that works.
STATUSES: Final[dict[str, Fate | None]] = {
    "created": None,
    "sending": None,
    "pending": None,
    "sent": Fate("accepted"),  # to another country, and nothing more will be known
    "delivered": Fate("delivered"),
    "permanent-failure": Fate("failed", "The number is wrong, or the network operator rejects the message"),
    "temporary-failure": Fate("failed", "The phone is off, out of reach or full"),
    "technical-failure": Fate("failed", "A problem between Notify and its provider", of_route=True),
}

#: What Notify keeps besides the GSM alphabet; a letter of these that GSM lacks makes the message UCS-2.
_WELSH: Final = frozenset("àèìòùẁỳÀÈÌÒÙẀỲáéíóúẃýÁÉÍÓÚẂÝäëïöüẅÿÄËÏÖÜẄŸâêîôûŵŷÂÊÎÔÛŴŶ")
_KEPT: Final = (gsm.ALPHABET | _WELSH) - {"\f"}
#: Beyond those that ``gsm.normalise`` has replaced already.
_TWINS: Final = {"Ł": "L", "ł": "l", "\u180e": "", "\u200c": "", "\u200d": ""}


def as_sent(text: str) -> str:
    """The text as Notify passes it on: accents are dropped, what is left outside its alphabet becomes "?".

    https://www.notifications.service.gov.uk/pricing/text-messages (accents and special characters)
    """
    return text if _KEPT.issuperset(text) else "".join(map(_one, text))


def lost(text: str) -> tuple[str, ...]:
    """The characters that arrive as "?", each once, in order of appearance."""
    return tuple(dict.fromkeys(char for char in text if char != "?" and _one(char) == "?"))


def _one(char: str) -> str:
    if char in _KEPT:
        return char
    if char in _TWINS:
        return _TWINS[char]
    base = unicodedata.decomposition(char).split(" ")[0]  # "0061 0301" is a with an acute accent
    letter = chr(int(base, 16)) if base and not base.startswith("<") else ""
    return letter if letter in _KEPT else "?"


def known(status: int, errors: list[tuple[str, str]]) -> Outcome | None:
    """The outcome of the first rule that fits."""
    return next((rule.outcome for rule in RULES for error in errors if rule.fits(status, *error)), None)
