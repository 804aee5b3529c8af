r"""Nagios and Icinga: what a notification command tells. They have no webhook of their own, so the body is ours::

    {"type": "PROBLEM", "host": "mail01", "service": "SMTP", "state": "CRITICAL", "output": "Refused", "time": 1791790260}

``service`` is left out (or empty) for a host; ``time`` is seconds since the epoch or RFC 3339. The same names are taken as
a form, which curl writes by itself and in which no quotation mark in a plug-in's output can do harm. For Nagios, one line in
commands.cfg (for hosts: "$HOSTSTATE$", "$HOSTOUTPUT$", no service)::

    define command {
      command_name  broadcast-service
      command_line  curl -fsS -m 8 --retry 2 --data-urlencode "type=$NOTIFICATIONTYPE$" \
    --data-urlencode "host=$HOSTNAME$" --data-urlencode "service=$SERVICEDESC$" --data-urlencode "state=$SERVICESTATE$" \
    --data-urlencode "output=$SERVICEOUTPUT$" --data-urlencode "time=$TIMET$" ADDRESS
    }

Nagios runs it in a shell: leave ``illegal_macro_output_chars=`~$&|'"<>`` as it is in nagios.cfg. Icinga 2 runs no shell::

    object NotificationCommand "broadcast-service" {
      command = [ "curl", "-fsS", "-m", "8", "--retry", "2",
        "--data-urlencode", "type=$notification.type$", "--data-urlencode", "host=$host.name$",
        "--data-urlencode", "service=$service.name$", "--data-urlencode", "state=$service.state$",
        "--data-urlencode", "output=$service.output$", "--data-urlencode", "time=$icinga.timet$", "ADDRESS" ]
    }

Macros: https://assets.nagios.com/downloads/nagioscore/docs/nagioscore/4/en/macrolist.html and
https://icinga.com/docs/icinga-2/latest/doc/03-monitoring-basics/#runtime-macros.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from broadcaster.domain.messages import Severity
from broadcaster.domain.signal import Post, Signal, Status
from broadcaster.ingest.signals import severity, signal
from broadcaster.ingest.texts import quoted
from broadcaster.ingest.times import moment, unix
from broadcaster.ingest.trees import Node, read_form, read_json

SEVERITIES: Final[Mapping[str, Severity]] = {
    "down": Severity.CRITICAL,
    "critical": Severity.CRITICAL,
    "unreachable": Severity.HIGH,
    "warning": Severity.NORMAL,
    "unknown": Severity.NORMAL,
}

_WELL: Final = frozenset({"OK", "UP"})

#: $NOTIFICATIONTYPE$ → what it says while the state is (bad, well); None: nothing. While something flaps, neither PROBLEM
#: nor RECOVERY is sent for it, so the end of the flapping may be the only news of its recovery.
TYPES: Final[Mapping[str, tuple[Status | None, Status | None]]] = {
    "PROBLEM": (Status.FIRING, Status.FIRING),
    "RECOVERY": (Status.RESOLVED, Status.RESOLVED),
    "ACKNOWLEDGEMENT": (Status.ACKNOWLEDGED, Status.ACKNOWLEDGED),
    "FLAPPINGSTART": (Status.FIRING, None),
    "FLAPPINGSTOP": (Status.FIRING, Status.RESOLVED),  # Nagios
    "FLAPPINGEND": (Status.FIRING, Status.RESOLVED),  # Icinga 2
    "FLAPPINGDISABLED": (Status.FIRING, Status.RESOLVED),
    "DOWNTIMESTART": (None, None),
    "DOWNTIMEEND": (None, None),
    "DOWNTIMECANCELLED": (None, None),  # Nagios
    "DOWNTIMEREMOVED": (None, None),  # Icinga 2
    "CUSTOM": (None, None),
}


class Nagios:
    name: Final = "nagios"
    label: Final = "Nagios and Icinga"

    def read(self, post: Post, options: Mapping[str, str]) -> Sequence[Signal]:  # noqa: ARG002
        is_form = post.headers.get("content-type", "").strip().lower().startswith("application/x-www-form-urlencoded")
        note = read_form(post.body) if is_form else read_json(post.body)
        host, service = note["host"].required().text().strip(), note["service"].text().strip()
        state = note["state"].text().strip().upper()
        status = _status(note["type"], state)
        if status is None:
            return []
        what, time = f"{service} on {host}" if service else host, note["time"].word()
        return [
            signal(
                f"{host}!{service}" if service else host,  # as Icinga names them; no host's name has "!"
                status,
                titles=(f"{what} is {state}" if state else what,),
                body=note["output"].text(),
                severity=severity(SEVERITIES, state),
                labels={"host": host, "service": service, "state": state},
                at=unix(time) or moment(time),
            )
        ]


def _status(node: Node, state: str) -> Status | None:
    word = node.required().text().strip().upper()
    if word not in TYPES:
        raise node.fault(f"no type of notification: {quoted(word)}")
    bad, well = TYPES[word]
    return well if state in _WELL else bad
