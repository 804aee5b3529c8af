"""What IMAP clients ask of messages: the keys of SEARCH and the items of FETCH (RFC 3501 §6.4.4, §6.4.5)."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import UTC, date, datetime

from broadcaster.sandbox.mail_parse import Bad, Parser, Range
from broadcaster.sandbox.mail_post import Message

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DEEPEST = 20
"""Keys within keys."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One message by its number. `last`: what "*" stands for, as a number and as a UID."""

    number: int
    message: Message
    last: tuple[int, int]


Key = Callable[[Candidate], bool]
"""Whether a message is wanted."""


class BadCharset(Exception):
    """SEARCH in a character set that we do not know."""


def within(number: int, ranges: Collection[Range], last: int) -> bool:
    """Whether a sequence set has this number in it. "*" is the last one, and 5:* has it in any case (§6.4.8)."""
    for low, high in ranges:
        ends = sorted((last if low is None else low, last if high is None else high))
        if ends[0] <= number <= ends[1]:
            return True
    return False


# ---- SEARCH


def program(parser: Parser) -> Key:
    """All keys together, to the command's end. Raises Bad, BadCharset."""
    if parser.next_is("CHARSET ") or parser.next_is("charset "):
        parser.atom()
        parser.space()
        if parser.astring().upper() not in ("US-ASCII", "UTF-8"):
            raise BadCharset
        parser.space()
    key = _keys(parser, 0)
    parser.end()
    return key


def _keys(parser: Parser, depth: int) -> Key:
    keys = [_key(parser, depth)]
    while parser.next_is(" "):
        parser.space()
        keys.append(_key(parser, depth))
    return lambda c: all(key(c) for key in keys)


def _key(parser: Parser, depth: int) -> Key:
    if depth > _DEEPEST:
        raise Bad("too many keys within keys")
    if parser.next_is("("):
        parser.skip("(")
        inner = _keys(parser, depth + 1)
        parser.skip(")")
        return inner
    if parser.starts_a_set:
        numbers = parser.sequence_set()
        return lambda c: within(c.number, numbers, c.last[0])
    name = parser.atom().upper()
    if name in ("NOT", "OR"):
        return _combined(parser, name, depth)
    if name in _PLAIN:
        return _PLAIN[name]
    return _with_argument(parser, name)


def _combined(parser: Parser, name: str, depth: int) -> Key:
    parser.space()
    first = _key(parser, depth + 1)
    if name == "NOT":
        return lambda c: not first(c)
    parser.space()
    second = _key(parser, depth + 1)
    return lambda c: first(c) or second(c)


def _flagged(flag: str, *, there: bool = True) -> Key:
    return lambda c: (flag in c.message.flags) is there


_PLAIN: dict[str, Key] = {
    "ALL": lambda _c: True,
    "ANSWERED": _flagged("\\Answered"),
    "DELETED": _flagged("\\Deleted"),
    "DRAFT": _flagged("\\Draft"),
    "FLAGGED": _flagged("\\Flagged"),
    "SEEN": _flagged("\\Seen"),
    "UNANSWERED": _flagged("\\Answered", there=False),
    "UNDELETED": _flagged("\\Deleted", there=False),
    "UNDRAFT": _flagged("\\Draft", there=False),
    "UNFLAGGED": _flagged("\\Flagged", there=False),
    "UNSEEN": _flagged("\\Seen", there=False),
}
_FIELDS = ("BCC", "CC", "FROM", "SUBJECT", "TO")


def _with_argument(parser: Parser, name: str) -> Key:
    if name == "UID":
        parser.space()
        uids = parser.sequence_set()
        return lambda c: within(c.message.uid, uids, c.last[1])
    if name in ("BEFORE", "ON", "SINCE"):
        parser.space()
        return _dated(name, _date(parser.astring()))
    if name in _FIELDS:
        return _holds(name, _string(parser))
    if name == "HEADER":
        field = _string(parser)
        return _holds(field, _string(parser))
    if name in ("TEXT", "BODY"):
        wanted = _string(parser).encode().lower()
        return lambda c: wanted in c.message.raw[len(c.message.header) if name == "BODY" else 0 :].lower()
    raise Bad(f"unknown search key {name}")


def _string(parser: Parser) -> str:
    parser.space()
    return parser.astring()


def _holds(field: str, text: str) -> Key:
    """Whether a field of this name has the text in it, in any case; empty: whether there is such a field."""
    wanted = text.lower()
    return lambda c: any(wanted in value.lower() for value in c.message.values(field))


def _date(text: str) -> date:
    """ "1-Feb-1994". Raises Bad."""
    try:
        day, month, year = text.split("-")
        if len(day) > 2 or len(year) != 4 or not (day + year).isdigit():
            raise ValueError
        return date(int(year), _MONTHS.index(month.lower()) + 1, int(day))
    except ValueError:
        raise Bad("date expected, as 1-Feb-1994") from None


def _dated(name: str, wanted: date) -> Key:
    """By the day on which it arrived, in UTC."""

    def key(candidate: Candidate) -> bool:
        day = datetime.fromtimestamp(candidate.message.at, UTC).date()
        return day < wanted if name == "BEFORE" else day == wanted if name == "ON" else day >= wanted

    return key


# ---- FETCH


@dataclass(frozen=True, slots=True)
class Item:
    """One thing to give of a message. `label`: how the answer names it."""

    name: str
    label: str = ""
    fields: tuple[str, ...] = ()
    marks_seen: bool = False

    def of(self, message: Message) -> bytes:
        """The octets of a section."""
        if self.name == "HEADER":
            return message.header
        if self.name == "TEXT":
            return message.raw[len(message.header) :]
        if self.name == "HEADER.FIELDS":
            wanted = {field.lower() for field in self.fields}
            return b"".join(raw for name, raw in message.fields() if name in wanted) + b"\r\n"
        return message.raw


_SIMPLE = ("UID", "FLAGS", "INTERNALDATE", "RFC822.SIZE")


def items(parser: Parser) -> list[Item]:
    """One item, or several in brackets. Raises Bad."""
    if not parser.next_is("("):
        return [_item(parser)]
    parser.skip("(")
    found = [_item(parser)]
    while parser.next_is(" "):
        parser.space()
        found.append(_item(parser))
    parser.skip(")")
    return found


def _item(parser: Parser) -> Item:
    name = parser.item_name().upper()
    if name in _SIMPLE:
        return Item(name)
    if name not in ("BODY", "BODY.PEEK") or not parser.next_is("["):
        raise Bad(f"unknown data item {name}")
    parser.skip("[")
    section = "" if parser.next_is("]") else parser.atom().upper()
    fields: tuple[str, ...] = ()
    if section == "HEADER.FIELDS":
        parser.space()
        fields = tuple(parser.names())
    elif section not in ("", "HEADER", "TEXT"):
        raise Bad(f"unknown section {section}")
    parser.skip("]")
    shown = f"{section} ({' '.join(fields)})" if fields else section
    return Item(section, f"BODY[{shown}]", fields, marks_seen=name == "BODY")
