"""What every SMS provider shares: telephone numbers, the words of an SMS, and what they cost. No provider, no I/O."""

import re
from collections.abc import Callable
from datetime import datetime
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo

import phonenumbers
from phonenumbers import PhoneNumberType

from broadcaster.domain import gsm
from broadcaster.domain.messages import Address, Cost, Envelope, InvalidAddress, Message

_MOBILE: Final = frozenset({PhoneNumberType.MOBILE, PhoneNumberType.FIXED_LINE_OR_MOBILE})
_PLAIN_LENGTH: Final = 32  # with blanks; the library takes no more than 250


class Numbers:
    """Reads telephone numbers; ``allow_drama`` takes numbers that nobody has, for the sandbox."""

    def __init__(self, region: str, allow_drama: bool) -> None:
        self._region = region
        self._allow_drama = allow_drama
        self._code = f"+{phonenumbers.country_code_for_region(region)}"
        self._plain = _plain_mobiles(region, allow_drama)

    def parse(self, raw: str) -> Address:
        """E.164. Mobile numbers only, or types that may be mobile; Jersey, Guernsey and Man share +44 7."""
        plain = self._plain.fullmatch(raw.replace(" ", "")) if len(raw) <= _PLAIN_LENGTH else None
        if plain is not None:
            return _address(f"{self._code}{plain[1]}")
        try:
            number = phonenumbers.parse(raw, self._region)
        except phonenumbers.NumberParseException:
            raise InvalidAddress("This is not a telephone number") from None
        text = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
        if self._allow_drama and _is_drama(text) and not number.extension:
            return _address(text)
        kind = phonenumbers.number_type(number)  # unknown where it is not valid; ``is_valid_number`` would do it all again
        if number.extension or kind == PhoneNumberType.UNKNOWN:
            raise InvalidAddress("This is not a valid telephone number")
        if kind not in _MOBILE:
            raise InvalidAddress("This is not a mobile number")
        return _address(text)


class Wording:
    """Says a message as an SMS of at most ``longest`` characters and ``max_segments``, as ``segments`` counts them."""

    def __init__(
        self, *, timezone: str, longest: int, max_segments: int, segments: Callable[[str], int] = gsm.segments
    ) -> None:
        self._zone = ZoneInfo(timezone)
        self._longest = longest
        self._max_segments = max_segments
        self._segments = segments
        self._head = lru_cache(maxsize=256)(self._head_uncached)
        self._quote = lru_cache(maxsize=256)(self._quote_uncached)

    def text(self, message: Message, to: Envelope) -> str:
        """Source, what happened and what to do, time, reference, link; the drill marker first.

        "DRILL:" and no brackets: those cost two septets each in GSM-7.
        """
        tail = f"{mark(to)} {to.link}"
        return f"{self._head(message, len(tail), gsm.encoding(tail))} {tail}"

    def quoted(self, message: Message, to: Envelope, price_per_segment_micros: int) -> tuple[str, Cost]:
        """The text and what it costs, which is the same for everybody whose own part is as long and plain."""
        tail = f"{mark(to)} {to.link}"
        code = gsm.encoding(tail)
        head = self._head(message, len(tail), code)
        text = f"{head} {tail}"
        if code != gsm.GSM_7 or not gsm.EXTENSION.isdisjoint(tail):
            return text, quote(text, price_per_segment_micros)
        return text, self._quote(head, len(tail), price_per_segment_micros)

    def _quote_uncached(self, head: str, tail: int, price_per_segment_micros: int) -> Cost:
        return quote(f"{head} {'x' * tail}", price_per_segment_micros)

    def _head_uncached(self, message: Message, tail: int, tail_encoding: str) -> str:
        at = datetime.fromtimestamp(message.sent_at / 1000, self._zone).strftime("%H:%M")
        drill = "DRILL: " if message.drill else ""
        start = gsm.normalise(f"{drill}{_line(message.source)}: {_sentence(message.title)}")
        body = gsm.normalise(_sentence(message.body))

        def whole(part: str) -> str:
            return f"{start} {part} {at}" if part else f"{start} {at}"

        # Any tail of this length and alphabet costs the same, so that recipients share the work.
        filler = ("x" if tail_encoding == gsm.GSM_7 else "\u0100") * (tail + 1)

        def fits(part: str) -> bool:
            text = whole(part) + filler
            return len(text) <= self._longest and self._segments(text) <= self._max_segments

        return whole(body if fits(body) else _shorten(body, fits))


def mark(to: Envelope) -> str:
    """The delivery's own reference, as it stands in the text."""
    return f"Ref {to.reference}"


def quote(text: str, price_per_segment_micros: int) -> Cost:
    """Segments and money, and what the operator could save."""
    segments, code = gsm.segments(text), gsm.encoding(text)
    warnings = []
    if code == gsm.UCS_2:
        shown = " ".join(gsm.culprits(text)[:5])
        warnings.append(f"These characters make each SMS part hold 67 instead of 153: {shown}")
    if segments > 2:
        warnings.append(f"The text takes {segments} SMS parts; aim for 2")
    return Cost(segments, segments * price_per_segment_micros, code, tuple(warnings))


def _plain_mobiles(region: str, allow_drama: bool) -> "re.Pattern[str]":
    """The region's own mobile numbers as most people write them, +447… or 07…; the group is what follows these.

    A short cut, made of the library's own patterns: it takes 25 µs a number, this 1 µs. What may be of another kind does
    not match, nor does anything where a region's rules are not as simple as this takes them to be: the library reads that.
    """
    code = phonenumbers.country_code_for_region(region)
    known = phonenumbers.PhoneMetadata.metadata_for_region(region)
    if (
        known is None
        or known.general_desc is None
        or known.mobile is None
        or not known.mobile.possible_length
        or known.same_mobile_and_fixed_line_pattern
        or known.national_prefix != "0"
        or known.national_prefix_transform_rule is not None
        or known.leading_digits is not None
        or phonenumbers.region_code_for_country_code(code) != region  # another one is asked first
    ):
        return re.compile("(?!)")
    asked_first = (
        known.premium_rate, known.toll_free, known.shared_cost, known.voip, known.personal_number, known.pager, known.uan,
        known.voicemail,
    )  # fmt: skip
    others = "|".join(kind.national_number_pattern for kind in asked_first if kind and kind.national_number_pattern)
    lengths = "|".join(rf"\d{{{n}}}" for n in known.mobile.possible_length)
    mobile = rf"(?=(?:{lengths})\Z)(?=(?:{known.general_desc.national_number_pattern})\Z)(?!(?:{others or '(?!)'})\Z)"
    mobile += rf"(?:{known.mobile.national_number_pattern})"
    # A prefix that says more than "a call within the country" (Colombia's, of its carriers) is the library's to take off.
    prefix = rf"(?:\+{code}|0)" if known.national_prefix_for_parsing in (None, "0") else rf"\+{code}"
    drama = r"|77009\d{5}" if allow_drama and region == "GB" else ""
    return re.compile(rf"{prefix}((?!{known.national_prefix_for_parsing or '0'})(?:{mobile}{drama}))", re.ASCII)


def _is_drama(number: str) -> bool:
    """Ofcom's drama range 07700 900000-900999, widened to 07700 9xxxxx so that a sandbox can hold a hospital.

    https://www.ofcom.org.uk/phones-and-broadband/phone-numbers/numbers-for-drama
    """
    return len(number) == 13 and number.startswith("+4477009")


def _address(number: str) -> Address:
    return Address(number, number, f"{number[:3]}…{number[-3:]}")


def _line(text: str) -> str:
    return " ".join(text.split())


def _sentence(text: str) -> str:
    """One line that ends like a sentence, so that the next part reads on."""
    line = _line(text)
    return line if not line or line.endswith((".", "!", "?", "…", ":", ";")) else line + "."


def _shorten(text: str, fits: Callable[[str], bool]) -> str:
    """The longest beginning that fits, cut at a word, with "..." (three septets; "…" would force UCS-2)."""
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        if fits(text[:middle].rstrip() + "..."):
            low = middle
        else:
            high = middle - 1
    kept = text[:low]
    if " " in kept:
        kept = kept.rsplit(" ", 1)[0]
    return kept.rstrip(" .,;:") + "..." if kept else ""
