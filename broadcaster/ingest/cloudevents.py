"""CloudEvents 1.0 over HTTP, one event a request. Its data is read as the format "generic" reads a body: same shape, same
options (pointers into the data). The event's source and subject are the key where the data has none.

Source: https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/http-protocol-binding.md (section 3): structured
mode has ``Content-Type: application/cloudevents+json`` and the whole event in its body, binary mode has the attributes in
``ce-`` headers and the data in its body.
"""

from base64 import b64decode
from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import unquote

from broadcaster.domain.signal import NotThisFormat, Post, Signal
from broadcaster.ingest.generic import Layout, read_one
from broadcaster.ingest.trees import Node, read_json

_ATTRIBUTES: Final = ("specversion", "id", "source", "type", "subject", "time")
_REQUIRED: Final = ("specversion", "id", "source", "type")


class CloudEvents:
    name: Final = "cloudevents"
    label: Final = "CloudEvents"

    def check(self, options: Mapping[str, str]) -> None:
        Layout.of(options)

    def read(self, post: Post, options: Mapping[str, str]) -> Sequence[Signal]:
        layout = Layout.of(options)
        attributes, data = _binary(post) if "ce-specversion" in post.headers else _structured(post)
        if attributes["specversion"] != "1.0":
            raise NotThisFormat("specversion: expected 1.0.")
        source, subject = attributes["source"], attributes["subject"]
        return [
            read_one(
                data,
                layout,
                key=f"{source} {subject}" if subject else "",
                at=attributes["time"],
                labels={"source": source, "subject": subject, "type": attributes["type"]},
            )
        ]


def _binary(post: Post) -> tuple[dict[str, str], Node]:
    attributes = {name: unquote(post.headers.get(f"ce-{name}", "")).strip() for name in _ATTRIBUTES}
    for name in _REQUIRED:
        if not attributes[name]:
            raise NotThisFormat(f"The header ce-{name}: missing.")
    return attributes, read_json(post.body)


def _structured(post: Post) -> tuple[dict[str, str], Node]:
    kind = post.headers.get("content-type", "").strip().lower()
    if kind.startswith("application/cloudevents-batch"):
        raise NotThisFormat("The header content-type: batches of events are not read.")
    event = read_json(post.body)
    attributes = {name: event[name].text().strip() for name in _ATTRIBUTES}
    for name in _REQUIRED:
        event[name].required()
    return attributes, _data(event)


def _data(event: Node) -> Node:
    encoded = event["data_base64"]
    if encoded.missing:
        return event["data"]
    try:
        body = b64decode(encoded.text(), validate=True)
    except ValueError:  # binascii.Error, or characters beyond ASCII
        raise encoded.fault("not base64") from None
    return Node(read_json(body).value, encoded.pointer)
