"""A small, guarded XML reader. Documents with a DTD are refused before anything of it is read, so that there are no
entities to expand or to fetch; neither expansion bombs nor external entities can exist."""

from dataclasses import dataclass, field
from typing import Final
from xml.parsers import expat  # the guard is below

from broadcaster.domain.signal import NotThisFormat

MAX_DEPTH: Final = 32
MAX_ELEMENTS: Final = 50_000


@dataclass(slots=True)
class Element:
    """``name``: "<namespace> <local name>", as expat writes it."""

    name: str
    children: list["Element"] = field(default_factory=list)
    pieces: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "".join(self.pieces).strip()

    def all(self, local: str) -> list["Element"]:
        """The children of this name, in this element's own namespace."""
        wanted = f"{self.name.partition(' ')[0]} {local}"
        return [child for child in self.children if child.name == wanted]

    def first(self, local: str) -> str:
        """The text of the first child of this name; "" if there is none."""
        found = self.all(local)
        return found[0].text if found else ""

    def required(self, local: str) -> str:
        """The text of the first child of this name, which must be there. To be asked of the root only."""
        text = self.first(local)
        if not text:
            raise NotThisFormat(f"/{self.name.rpartition(' ')[2]}/{local}: missing.")
        return text


def read_xml(body: bytes, root: str) -> Element:
    """The root element, which must be ``root`` ("<namespace> <local name>"). Raises NotThisFormat."""
    builder = _Builder(root)
    # UTF-8 (UTF-16 with its mark) whatever the document says, or Python would load a codec by a name of the stranger's.
    parser = expat.ParserCreate("utf-8", " ")
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = _refuse
    parser.EntityDeclHandler = _refuse
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.characters
    try:
        parser.Parse(body, True)
    except expat.ExpatError as error:
        message = expat.ErrorString(error.code)
        raise NotThisFormat(f"The body is not XML: {message} in line {error.lineno}.") from None
    assert builder.root is not None  # expat takes no document without one
    return builder.root


class _Builder:
    def __init__(self, root: str) -> None:
        self.root: Element | None = None
        self._wanted = root
        self._open: list[Element] = []
        self._count = 0

    def start(self, name: str, _attributes: dict[str, str]) -> None:
        self._count += 1
        if self._count > MAX_ELEMENTS:
            raise NotThisFormat(f"The body has more than {MAX_ELEMENTS:,} elements.")
        if len(self._open) >= MAX_DEPTH:
            raise NotThisFormat(f"The body is nested deeper than {MAX_DEPTH} elements.")
        element = Element(name)
        if self._open:
            self._open[-1].children.append(element)
        elif name == self._wanted:
            self.root = element
        else:
            raise NotThisFormat(
                f"The root element is not {self._wanted.rpartition(' ')[2]} of {self._wanted.partition(' ')[0]}."
            )
        self._open.append(element)

    def end(self, _name: str) -> None:
        self._open.pop()

    def characters(self, text: str) -> None:
        self._open[-1].pieces.append(text)


def _refuse(*_declaration: object) -> None:
    raise NotThisFormat("The body declares a document type or an entity; neither is read.")
