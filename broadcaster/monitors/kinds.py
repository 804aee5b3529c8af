"""Every kind of monitor, by name. A new one is one module and one line here."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from broadcaster.domain.monitor import Kind
from broadcaster.monitors.canary import Canary
from broadcaster.monitors.dns import Dns
from broadcaster.monitors.heartbeat import Heartbeat
from broadcaster.monitors.http import Http
from broadcaster.monitors.imap import Imap
from broadcaster.monitors.mail_round_trip import MailRoundTrip
from broadcaster.monitors.microsoft365 import Microsoft365
from broadcaster.monitors.smtp import Smtp
from broadcaster.monitors.tcp import Tcp

_ALL: Final[tuple[Kind, ...]] = (
    MailRoundTrip(),
    Smtp(),
    Imap(),
    Http(),
    Tcp(),
    Dns(),
    Heartbeat(),
    Microsoft365(),
    Canary(),
)

KINDS: Final[Mapping[str, Kind]] = MappingProxyType({kind.name: kind for kind in _ALL})
