"""Milliseconds inside, RFC 3339 in UTC at the edge."""

from datetime import UTC, datetime


def rfc3339(ms: int) -> str:
    """For example 2018-12-01T09:12:00.123Z."""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def optional(ms: int | None) -> str | None:
    return None if ms is None else rfc3339(ms)
