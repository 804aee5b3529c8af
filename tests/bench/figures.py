"""Numbers: medians, percentiles, and the bars that the figures are held to. Pure."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final


def percentile(values: Sequence[float], share: float) -> float:
    """The value that ``share`` of all are at or below (nearest rank). Raises ValueError for none."""
    if not values:
        raise ValueError("no values")
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, round(share * len(ordered) + 0.4999) - 1))]


def spread(values: Sequence[float], digits: int = 1) -> dict[str, Any]:
    """{median, min, max, all} of the rounds of one figure."""
    return {
        "median": round(statistics.median(values), digits),
        "min": round(min(values), digits),
        "max": round(max(values), digits),
        "all": [round(v, digits) for v in values],
    }


def quantiles(values: Sequence[float], digits: int = 1) -> dict[str, Any]:
    """{n, p50, p95, p99, max}; only n where there are none."""
    if not values:
        return {"n": 0}
    shares = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
    found: dict[str, Any] = {name: round(percentile(values, share), digits) for name, share in shares.items()}
    return {"n": len(values), **found, "max": round(max(values), digits)}


def most_in_a_window(arrivals: Sequence[tuple[float, float]], seconds: float) -> float:
    """The largest weight that arrived within any window of that length. ``arrivals``: (time, weight), any order."""
    ordered = sorted(arrivals)
    most = inside = 0.0
    first = 0
    for at, weight in ordered:
        inside += weight
        while ordered[first][0] <= at - seconds:
            inside -= ordered[first][1]
            first += 1
        most = max(most, inside)
    return most


@dataclass(frozen=True, slots=True)
class Bar:
    """What a figure must reach. ``path`` is its place in the results; ``needs`` a place whose value must be at least so
    much for the bar to be judged at all (a small run says nothing about a large one)."""

    name: str
    path: str
    bar: float
    at_least: bool = True
    needs: tuple[str, float] | None = None


BARS: Final = (
    Bar("push, share of the blast limit", "rounds.push.of_blast.median", 0.70),
    Bar("push, times naive Celery", "rounds.push.of_naive.median", 13),
    Bar("SMS, share of the blast limit", "rounds.sms.of_blast.median", 0.65),
    Bar("SMS, times naive Celery", "rounds.sms.of_naive.median", 11),
    Bar("Slack, share of its rate limit", "provider.slack.share", 0.97),
    Bar("whole service: first message out, s", "whole.first_out_seconds", 1.0, False, ("whole.people", 1_500_000)),
    Bar("whole service: all recorded, s", "whole.seconds", 300, False, ("whole.people", 1_500_000)),
    Bar("whole service: largest process, MB", "whole.memory.largest_rss_mb", 300, False, ("whole.people", 1_500_000)),
    Bar("whole service: counts page, slowest, ms", "whole.counts_page_ms.max", 50, False, ("whole.people", 1_500_000)),
    Bar("whole service: audit exit code", "whole.audit.exit", 0, False),
    Bar("critical alert, idle, p50 ms", "latency.idle.p50", 15, False),
    Bar("critical alert, idle, p99 ms", "latency.idle.p99", 60, False),
    Bar("critical alert during a broadcast, p99 ms", "latency.during.p99", 250, False),
    Bar("critical alert during the whole service, p99 ms", "whole.critical_ms.p99", 250, False, ("whole.people", 1_500_000)),
    Bar("push receipts a second, durable", "receipts.push.per_second", 3_000),
    Bar("push receipts, p99 ms", "receipts.push.ms.p99", 250, False),
    Bar("SMS receipts a second, durable", "receipts.sms.per_second", 3_000),
    Bar("SMS receipts, p99 ms", "receipts.sms.ms.p99", 250, False),
    Bar("alerts accepted a second, durable", "accepting.per_second", 500),
    Bar("import of 1,000,000 people, s", "import.seconds", 60, False, ("import.people", 1_000_000)),
    Bar("cost of a delivery, largest crowd against the one before", "scale.dearest", 1.15, False),
    Bar("rate limit: least share of the allowed rate", "provider.least_share", 0.97),
    Bar("rate limit: most in any 1 s, of the allowed", "provider.most_in_a_second", 1.05, False),
    Bar("500 monitors at 10 s: cores", "watching.cores", 0.25, False, ("watching.monitors", 500)),
    Bar("500 monitors at 10 s: looks recorded twice", "watching.twice", 0, False),
    Bar("500 monitors at 10 s: late by at p99, ms", "watching.late_ms.p99", 2_000, False, ("watching.monitors", 500)),
    Bar("Retry-After: last request after it, ms", "provider.retry_after.worst_stop_ms", 100, False),
)


def look_up(results: dict[str, Any], path: str) -> Any:
    """The value at a dotted path, or None."""
    found: Any = results
    for part in path.split("."):
        if not isinstance(found, dict) or part not in found:
            return None
        found = found[part]
    return found


def most_others(results: Any) -> float:
    """The most cores that others used beside any figure in the results."""
    if not isinstance(results, dict | list):
        return 0.0
    within = results.values() if isinstance(results, dict) else results
    most = max((most_others(value) for value in within), default=0.0)
    own = results.get("others_cores", 0.0) if isinstance(results, dict) else 0.0
    return max(most, own) if isinstance(own, float) else max([most, *(n for values in own.values() for n in values)])


def bars(results: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """{name: {value, bar, holds}} for every bar whose figure was measured."""
    judged = {}
    for bar in BARS:
        value = look_up(results, bar.path)
        if value is None or (bar.needs is not None and (look_up(results, bar.needs[0]) or 0) < bar.needs[1]):
            continue
        holds = value >= bar.bar if bar.at_least else value <= bar.bar
        judged[bar.name] = {"value": value, "bar": bar.bar, "holds": bool(holds)}
    return judged
