"""Typed values out of JSON. What is wrong is named by its RFC 6901 pointer.

A missing member and ``null`` are the same here: senders use both for "not set".
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NoReturn
from urllib.parse import parse_qsl

from broadcaster.domain.signal import NotThisFormat
from broadcaster.ingest.texts import QUOTED, line

MAX_SIGNALS: Final = 1_000  # in one request
_MAX_FIELDS: Final = 100  # of a form
_MAX_BRACKETS: Final = 50_000  # a megabyte of "[]" costs half a second, a thousand alerts have some 5,000


@dataclass(frozen=True, slots=True)
class Node:
    """A value and where it stands."""

    value: Any
    pointer: str = ""

    @property
    def missing(self) -> bool:
        return self.value is None

    def __getitem__(self, name: str) -> "Node":
        """The member of this object; missing, if the object is."""
        return Node(self.members().get(name), f"{self.pointer}/{_escaped(name)}")

    def items(self, limit: int = MAX_SIGNALS) -> Sequence["Node"]:
        """The items of this array; none, if it is missing."""
        if self.missing:
            return ()
        if not isinstance(self.value, list):
            raise self.fault("expected an array")
        if len(self.value) > limit:
            raise self.fault(f"{len(self.value):,} items; at most {limit:,} are read in one request")
        return [Node(item, f"{self.pointer}/{i}") for i, item in enumerate(self.value)]

    def text(self) -> str:
        """This text; "" if it is missing."""
        if self.missing:
            return ""
        if not isinstance(self.value, str):
            raise self.fault("expected a text")
        return self.value

    def word(self) -> str:
        """This text, number or boolean as a text without blanks around it; "" if it is missing."""
        match self.value:
            case None:
                return ""
            case str():
                return self.value.strip()
            case bool():
                return "true" if self.value else "false"
            case int():
                return str(self.value)
            case float() if math.isfinite(self.value):  # 1e999 is infinite
                return str(self.value)
            case _:
                raise self.fault("expected a text, a number or a boolean")

    def truth(self) -> bool:
        """This boolean; False if it is missing."""
        if self.missing:
            return False
        if not isinstance(self.value, bool):
            raise self.fault("expected true or false")
        return self.value

    def members(self) -> Mapping[str, Any]:
        """The bare members of this object; none, if it is missing."""
        if self.missing:
            return {}
        if not isinstance(self.value, dict):
            raise self.fault("expected an object")
        return self.value

    def texts(self) -> dict[str, str]:
        """This object, whose members are all texts."""
        members = self.members()
        # A pointer costs more than the look: only what is wrong gets one.
        return {name: value if isinstance(value, str) else self[name].text() for name, value in members.items()}

    def words(self) -> dict[str, str]:
        """This object, whose members are all texts, numbers or booleans."""
        members = self.members()
        return {name: value if isinstance(value, str) else self[name].word() for name, value in members.items()}

    def required(self) -> "Node":
        """Itself, if it is neither missing nor an empty text."""
        if self.missing or (isinstance(self.value, str) and not self.value.strip()):
            raise self.fault("missing")
        return self

    def follow(self, steps: Sequence[str]) -> "Node":
        """Where this pointer (already split) leads; missing, if it leads nowhere."""
        value, pointer = self.value, self.pointer
        for step in steps:
            value = _step(value, step)
            pointer = f"{pointer}/{_escaped(step)}"
        return Node(value, pointer)

    def fault(self, what: str) -> NotThisFormat:
        """What is wrong here, to be raised."""
        return NotThisFormat(f"{self.pointer or 'The body'}: {what}.")


def read_json(body: bytes) -> Node:
    """The document. Raises NotThisFormat."""
    if body.count(b"[") + body.count(b"{") > _MAX_BRACKETS:  # those in texts too: to know them apart is to read it
        raise NotThisFormat(f"The body has more than {_MAX_BRACKETS:,} arrays and objects.")
    try:
        # strict=False: templates paste line breaks into texts. A name that comes twice: the last counts, as everywhere.
        return Node(json.loads(decoded(body), strict=False, parse_constant=_no_constant))
    except NotThisFormat:
        raise
    except json.JSONDecodeError as error:
        raise NotThisFormat(f"The body is not JSON: {error.msg} at character {error.pos}.") from None
    except RecursionError:
        raise NotThisFormat("The body is nested too deeply.") from None
    except ValueError:  # int() refuses more than 4,300 digits
        raise NotThisFormat("The body has a number that is too long.") from None


def read_form(body: bytes) -> Node:
    """The fields of an ``application/x-www-form-urlencoded`` body, as an object of texts. Raises NotThisFormat."""
    try:
        return Node(dict(parse_qsl(decoded(body), keep_blank_values=True, max_num_fields=_MAX_FIELDS)))
    except ValueError:
        raise NotThisFormat(f"The body has more than {_MAX_FIELDS} fields.") from None


def decoded(body: bytes) -> str:
    """UTF-8. Other bytes become lone surrogates, which ``texts`` replaces: a monitoring plug-in that prints Latin-1 costs a
    character, not the alert."""
    return body.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape")


def pointer(text: str) -> tuple[str, ...]:
    """The steps of an RFC 6901 pointer. Raises ValueError."""
    if text == "":
        return ()
    if not text.startswith("/") or "~" in text.replace("~0", "").replace("~1", ""):
        raise ValueError("not a JSON pointer (RFC 6901)")
    return tuple(step.replace("~1", "/").replace("~0", "~") for step in text[1:].split("/"))


def _step(value: Any, step: str) -> Any:
    match value:
        case dict():
            return value.get(step)
        case list() if step.isascii() and step.isdecimal() and len(step) < 8 and (step == "0" or step[0] != "0"):
            return value[int(step)] if int(step) < len(value) else None
        case _:
            return None


def _escaped(name: str) -> str:
    """As a step of a pointer; cut, because it may be a stranger's and stand in an error's text."""
    return line(name[: 4 * QUOTED], QUOTED).replace("~", "~0").replace("/", "~1")


def _no_constant(name: str) -> NoReturn:
    raise NotThisFormat(f"The body is not JSON: {name} is no number of JSON.")
