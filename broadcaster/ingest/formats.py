"""Every foreign format, by name."""

from collections.abc import Mapping
from typing import Final

from broadcaster.domain.signal import Format

FORMATS: Final[Mapping[str, Format]] = {}
