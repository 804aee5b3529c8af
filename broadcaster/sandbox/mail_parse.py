"""IMAP's grammar (RFC 3501 §9), as far as the sandbox speaks it: one command, read from left to right."""

from __future__ import annotations

import re

_TAG = re.compile(r"[^(){ \x00-\x1f\x7f-\xff%*\"\\+]{1,64}")
_ATOM = re.compile(r"[^(){ \x00-\x1f\x7f-\xff%*\"\\\]]+")
_ASTRING_ATOM = re.compile(r"[^(){ \x00-\x1f\x7f-\xff%*\"\\]+")
_QUOTED = re.compile(r'"((?:[^"\\\r\n\x00\x80-\xff]|\\["\\])*)"')
_LITERAL = re.compile(r"\{(\d{1,9})\}\r\n")
_BASE64 = re.compile(r"[A-Za-z0-9+/]*={0,2}")
_FLAG = re.compile(r"\\?[^(){ \x00-\x1f\x7f-\xff%*\"\\\]]+")
_SET = re.compile(r"(?:\*|[1-9]\d{0,9})(?::(?:\*|[1-9]\d{0,9}))?(?:,(?:\*|[1-9]\d{0,9})(?::(?:\*|[1-9]\d{0,9}))?)*")
_ITEM = re.compile(r"[A-Za-z0-9.]+")
_AT_END = re.compile(rb"\{(\d{1,9})\}$")

Range = tuple[int | None, int | None]
"""(low, high), None for "*"; they may be the wrong way round."""


class Bad(Exception):
    """Not in the grammar, or not spoken here; the text follows BAD."""


def literal_at_end(line: bytes) -> int | None:
    """How many octets a line says will follow it."""
    found = _AT_END.search(line)
    return None if found is None else int(found[1])


class Parser:
    """What is left of a command. Each method takes one thing off its front, or raises Bad."""

    def __init__(self, raw: bytes) -> None:
        self._text = raw.decode("latin-1")
        self._at = 0

    @property
    def at_end(self) -> bool:
        """Whether nothing is left."""
        return self._at == len(self._text)

    def _take(self, pattern: re.Pattern[str], what: str) -> re.Match[str]:
        found = pattern.match(self._text, self._at)
        if found is None or not found[0]:
            raise Bad(f"{what} expected")
        self._at = found.end()
        return found

    def next_is(self, text: str) -> bool:
        """Whether this comes next; it is not taken."""
        return self._text.startswith(text, self._at)

    def skip(self, text: str) -> None:
        """Takes exactly this."""
        if not self.next_is(text):
            raise Bad(f"{text!r} expected")
        self._at += len(text)

    def space(self) -> None:
        """Exactly one."""
        self.skip(" ")

    def end(self) -> None:
        """Nothing may be left."""
        if not self.at_end:
            raise Bad("unexpected text at the end")

    def tag(self) -> str:
        """What the answer begins with."""
        return self._take(_TAG, "tag")[0]

    def atom(self) -> str:
        """A word."""
        return self._take(_ATOM, "atom")[0]

    def astring(self) -> str:
        """A word, a quoted string, or a literal, decoded."""
        if self.next_is('"'):
            return re.sub(r'\\(["\\])', r"\1", self._take(_QUOTED, "quoted string")[1])
        if not self.next_is("{"):
            return self._take(_ASTRING_ATOM, "string")[0]
        size = int(self._take(_LITERAL, "literal")[1])
        text = self._text[self._at : self._at + size]
        self._at += size
        return text.encode("latin-1").decode("utf-8", "replace")

    def base64(self) -> str:
        """An initial response (RFC 4959): "=" is an empty one."""
        return self._take(_BASE64, "base64")[0]

    def flags(self) -> list[str]:
        """One, several after each other, or a list in brackets that may be empty."""
        bracketed = self.next_is("(")
        if bracketed:
            self.skip("(")
        found = [] if bracketed and self.next_is(")") else self._words(_FLAG, "flag")
        if bracketed:
            self.skip(")")
        return found

    def _words(self, pattern: re.Pattern[str], what: str) -> list[str]:
        found = [self._take(pattern, what)[0]]
        while self.next_is(" "):
            self.space()
            found.append(self._take(pattern, what)[0])
        return found

    @property
    def starts_a_set(self) -> bool:
        """Whether a sequence set comes next."""
        return self._text[self._at : self._at + 1] in tuple("*0123456789")

    def item_name(self) -> str:
        """The name of a data item, up to its bracket."""
        return self._take(_ITEM, "data item")[0]

    def names(self) -> list[str]:
        """Header names in brackets."""
        self.skip("(")
        found = [self.astring()]
        while self.next_is(" "):
            self.space()
            found.append(self.astring())
        self.skip(")")
        return found

    def sequence_set(self) -> list[Range]:
        """For example 2,4:7,9:*."""
        text = self._take(_SET, "sequence set")[0]
        ends = [part.partition(":") for part in text.split(",")]
        return [(_number(low), _number(high) if colon else _number(low)) for low, colon, high in ends]


def _number(text: str) -> int | None:
    return None if text == "*" else int(text)
