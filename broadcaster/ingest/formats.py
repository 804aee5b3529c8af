"""All the formats, by the name that they have in the URL. A new one is a module and a line here."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from broadcaster.domain.signal import Format
from broadcaster.ingest.alertmanager import Alertmanager
from broadcaster.ingest.azure import Azure
from broadcaster.ingest.cap import Cap
from broadcaster.ingest.cloudevents import CloudEvents
from broadcaster.ingest.generic import Generic
from broadcaster.ingest.grafana import Grafana
from broadcaster.ingest.healthchecks import Healthchecks
from broadcaster.ingest.nagios import Nagios
from broadcaster.ingest.pagerduty import PagerDuty
from broadcaster.ingest.statuspage import Statuspage
from broadcaster.ingest.uptime_kuma import UptimeKuma
from broadcaster.ingest.zabbix import Zabbix

_ALL: Final[tuple[Format, ...]] = (
    Alertmanager(),
    Grafana(),
    PagerDuty(),
    UptimeKuma(),
    Healthchecks(),
    Nagios(),
    Zabbix(),
    Azure(),
    Statuspage(),
    Cap(),
    CloudEvents(),
    Generic(),
)

FORMATS: Final[Mapping[str, Format]] = MappingProxyType({known.name: known for known in _ALL})
