"""Zabbix's media type "Webhook", with these parameters::

    event_id              {EVENT.ID}               event_nseverity   {EVENT.NSEVERITY}
    event_value           {EVENT.VALUE}            event_name        {EVENT.NAME}
    event_update_status   {EVENT.UPDATE.STATUS}    host              {HOST.NAME}
    event_ack_status      {EVENT.ACK.STATUS}       message           {ALERT.MESSAGE}
    trigger_id            {TRIGGER.ID}             event_tags_json   {EVENT.TAGSJSON}
    trigger_url           {TRIGGER.URL}            url               the source's address

and this script::

    var p = JSON.parse(value), r = new HttpRequest(), url = p.url;
    r.addHeader('Content-Type: application/json');
    delete p.url;
    var answer = r.post(url, JSON.stringify(p));
    if (r.getStatus() < 200 || r.getStatus() > 299) throw 'HTTP ' + r.getStatus() + ': ' + answer;
    return 'OK';

``trigger_name`` and ``trigger_severity`` or ``event_severity`` (the words) are read where the others are not there. In the
action, recovery and update operations must notify too. Macros:
https://www.zabbix.com/documentation/current/en/manual/appendix/macros/supported_by_location. A macro that Zabbix does not
know there stays as it is written; it counts as missing, so that the button "Test" makes no signals.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from broadcaster.domain.messages import Severity
from broadcaster.domain.signal import NotThisFormat, Post, Signal, Status
from broadcaster.ingest.signals import severity, signal
from broadcaster.ingest.texts import quoted
from broadcaster.ingest.trees import Node, read_json

#: {EVENT.NSEVERITY} and {EVENT.SEVERITY}. "Not classified" says nothing.
SEVERITIES: Final[Mapping[str, Severity]] = {
    "5": Severity.CRITICAL,
    "disaster": Severity.CRITICAL,
    "4": Severity.HIGH,
    "high": Severity.HIGH,
    "3": Severity.NORMAL,
    "average": Severity.NORMAL,
    "2": Severity.NORMAL,
    "warning": Severity.NORMAL,
    "1": Severity.LOW,
    "information": Severity.LOW,
}

_SEVERITY_NAMES: Final = ("event_nseverity", "event_severity", "trigger_nseverity", "trigger_severity")


class Zabbix:
    name: Final = "zabbix"
    label: Final = "Zabbix"

    def read(self, post: Post, options: Mapping[str, str]) -> Sequence[Signal]:  # noqa: ARG002
        event = read_json(post.body)
        key = _word(event["event_id"].required())
        if not key:
            return []  # "Test"
        named = next((word for name in _SEVERITY_NAMES if (word := _word(event[name]))), "")
        host, trigger = _word(event["host"]), _word(event["trigger_id"])
        return [
            signal(
                key,  # of the problem, in its recovery and its updates too
                _status(event),
                titles=(_word(event["event_name"]), _word(event["trigger_name"]), _word(event["message"])),
                body=_word(event["message"]),
                severity=severity(SEVERITIES, named),
                labels={"host": host, "trigger": trigger} | _tags(_word(event["event_tags_json"])),
                url=_word(event["trigger_url"]),
            )
        ]


def _status(event: Node) -> Status:
    """{EVENT.VALUE} is 0 once it is over. An update of a problem says whether somebody has it in hand."""
    value = _word(event["event_value"].required())
    if value not in ("0", "1"):
        raise event["event_value"].fault(f"expected 0 or 1, not {quoted(value)}")
    if value == "0":
        return Status.RESOLVED
    is_update = _word(event["event_update_status"]) == "1"
    acknowledged = _word(event["event_ack_status"]).lower() in ("yes", "1")
    return Status.ACKNOWLEDGED if is_update and acknowledged else Status.FIRING


def _tags(text: str) -> dict[str, str]:
    """{EVENT.TAGSJSON}: a text with ``[{"tag": …, "value": …}, …]`` in it. Tags that cannot be read cost no alert."""
    if not text:
        return {}
    try:
        tags = read_json(text.encode("utf-8", "surrogatepass"))
        return {tag["tag"].text(): tag["value"].text() for tag in tags.items()}
    except NotThisFormat:
        return {}


def _word(node: Node) -> str:
    word = node.word()
    unresolved = word == "*UNKNOWN*" or (word.startswith("{") and word.endswith("}") and not word.startswith('{"'))
    return "" if unresolved else word
