"""Healthchecks' integration "Webhook". Its body is a template that you write; it must be this one, for down and for up::

    {"code": "$CODE", "status": "$STATUS", "name": $NAME_JSON, "now": "$NOW", "tags": "$TAGS"}

$NAME_JSON has its own quotation marks. ``"name": "$NAME"`` works too, but for names with a quotation mark in them.
The placeholders are explained on the integration's own page (https://healthchecks.io/integrations/webhook/). Its button
"Test" sends a check named TEST that is down; nothing else tells it from a real one.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from broadcaster.domain.signal import Post, Signal, Status
from broadcaster.ingest.signals import signal
from broadcaster.ingest.texts import quoted
from broadcaster.ingest.times import moment
from broadcaster.ingest.trees import Node, read_json

#: $STATUS.
STATUSES: Final[Mapping[str, Status]] = {"down": Status.FIRING, "up": Status.RESOLVED}


class Healthchecks:
    name: Final = "healthchecks"
    label: Final = "Healthchecks"

    def read(self, post: Post, options: Mapping[str, str]) -> Sequence[Signal]:  # noqa: ARG002
        check = read_json(post.body)
        word, name, tags = _status(check["status"]), check["name"].text(), check["tags"].text()
        return [
            signal(
                check["code"].required().text().strip(),
                STATUSES[word],
                titles=(f"{name} is {word}" if name else "",),
                labels={"check": name, "tags": tags} | _labels(tags),
                at=moment(check["now"].text()),
            )
        ]


def _status(node: Node) -> str:
    word = node.required().text().strip()
    if word.lower() not in STATUSES:
        raise node.fault(f"expected down or up, not {quoted(word)}")
    return word.lower()


def _labels(tags: str) -> dict[str, str]:
    """ "site=northmoor" and "site:northmoor" are labels; tags are separated by spaces."""
    pairs = (tag.replace("=", ":", 1).partition(":") for tag in tags.split())
    return {name: value for name, _, value in pairs if name and value}
