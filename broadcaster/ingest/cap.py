"""The Common Alerting Protocol 1.2: warnings of weather, civil protection and health authorities.

Source: http://docs.oasis-open.org/emergency/cap/v1.2/CAP-v1.2-os.html (element names and values: section 3.2).

An Update or a Cancel names the messages before it in ``references``; the one that was sent first gives the key, so that they
meet their Alert. A message that references only its last forerunner, and not the Alert, cannot be known for the same thing:
we keep nothing here that could tell. Section 3.2.1 asks senders for all of them.
"""

from collections.abc import Mapping, Sequence
from typing import Final, TypeVar

from broadcaster.domain.messages import Severity
from broadcaster.domain.signal import NotThisFormat, Post, Signal, Status
from broadcaster.ingest.elements import Element, read_xml
from broadcaster.ingest.signals import severity, signal
from broadcaster.ingest.texts import quoted
from broadcaster.ingest.times import moment

T = TypeVar("T")

NAMESPACE: Final = "urn:oasis:names:tc:emergency:cap:1.2"

#: info/severity. "Unknown" says nothing.
SEVERITIES: Final[Mapping[str, Severity]] = {
    "extreme": Severity.CRITICAL,
    "severe": Severity.HIGH,
    "moderate": Severity.NORMAL,
    "minor": Severity.LOW,
}

#: msgType. None: about a message and its arrival, not about the world.
TYPES: Final[Mapping[str, Status | None]] = {
    "Alert": Status.FIRING,
    "Update": Status.FIRING,
    "Cancel": Status.RESOLVED,
    "Ack": None,
    "Error": None,
}

#: status → is it meant for people?
STATUSES: Final[Mapping[str, bool]] = {
    "Actual": True,
    "Exercise": True,  # labelled as one
    "System": False,
    "Test": False,
    "Draft": False,
}

_INFO_LABELS: Final = ("event", "category", "urgency", "certainty", "senderName")


class Cap:
    name: Final = "cap"
    label: Final = "Common Alerting Protocol 1.2"

    def read(self, post: Post, options: Mapping[str, str]) -> Sequence[Signal]:  # noqa: ARG002
        alert = read_xml(post.body, f"{NAMESPACE} alert")
        for_people, kind = _one_of(alert, "status", STATUSES), _one_of(alert, "msgType", TYPES)
        identifier = alert.required("identifier")
        if not for_people or kind is None:
            return []
        infos = alert.all("info")
        info = _in_english(infos)
        return [
            signal(
                _first_of_chain(alert) or identifier,
                Status.RESOLVED if _all_clear(infos) else kind,
                titles=(info.first("headline"), info.first("event"), alert.first("note")),
                body="\n".join(filter(None, (info.first("description"), info.first("instruction")))),
                severity=severity(SEVERITIES, info.first("severity")),
                labels=_labels(alert, info),
                at=moment(alert.first("sent")),
                url=info.first("web"),
            )
        ]


def _one_of(alert: Element, name: str, table: Mapping[str, T]) -> T:
    word = alert.required(name)
    if word not in table:
        raise NotThisFormat(f"/alert/{name}: expected {', '.join(table)}, not {quoted(word)}.")
    return table[word]


def _first_of_chain(alert: Element) -> str:
    """The identifier that was sent first, of "sender,identifier,sent sender,identifier,sent …"; "" if there are none. An
    Alert begins a chain, whatever it refers to."""
    if alert.first("msgType") == "Alert":
        return ""
    found: list[tuple[float, str]] = []
    for reference in alert.first("references").split():
        parts = reference.split(",")
        if len(parts) != 3 or not parts[1]:
            raise NotThisFormat(f"/alert/references: expected sender,identifier,sent, not {quoted(reference)}.")
        found.append((moment(parts[2]) or float("inf"), parts[1]))
    return min(found, key=lambda pair: pair[0])[1] if found else ""


def _in_english(infos: Sequence[Element]) -> Element:
    """The first block in English, else the first. A block that names no language is in en-US (section 3.2.2)."""
    english = (info for info in infos if (info.first("language") or "en-US").lower().startswith("en"))
    return next(english, infos[0] if infos else Element(""))


def _all_clear(infos: Sequence[Element]) -> bool:
    """Only if every block says so: a message can end a warning for one place and keep it for another."""
    return bool(infos) and all(any(kind.text == "AllClear" for kind in info.all("responseType")) for info in infos)


def _labels(alert: Element, info: Element) -> dict[str, str]:
    labels = {"sender": alert.first("sender"), "scope": alert.first("scope")}
    labels |= {name: info.first(name) for name in _INFO_LABELS}
    labels["area"] = ", ".join(filter(None, (area.first("areaDesc") for area in info.all("area"))))
    return labels | ({"exercise": "true"} if alert.first("status") == "Exercise" else {})
