"""Every kind of monitor, by name. A new one is its module and one line here."""

from collections.abc import Mapping
from typing import Final

from broadcaster.domain.monitor import Kind

KINDS: Final[Mapping[str, Kind]] = {}
