"""Times as other systems write them, as seconds since the epoch. What cannot be read is None: no alert is lost for it."""

from datetime import UTC, datetime
from typing import Final

_LATEST: Final = 253_402_300_799  # 9999-12-31T23:59:59Z


def moment(text: str) -> float | None:
    """RFC 3339 or another form of ISO 8601; UTC where it names no zone. Years before 1970 mean "not set": Go's zero time,
    0001-01-01T00:00:00Z, is how Alertmanager says that an alert is still open."""
    try:
        when = datetime.fromisoformat(text[:40].strip())
    except ValueError:
        return None
    seconds = (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
    return seconds if 0 < seconds <= _LATEST else None


def unix(text: str) -> float | None:
    """Seconds since the epoch, written as digits."""
    if not (text.isascii() and text.isdecimal() and len(text) <= 12):
        return None
    seconds = int(text)
    return float(seconds) if 0 < seconds <= _LATEST else None
