"""Where the provider is the limit: how near to its rate we come and stay, and how soon a Retry-After stops everybody.

By the watching sink's own clock and count: an SMS weighs its segments.
"""

import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from broadcaster.domain import gsm
from tests.bench import figures, words
from tests.bench.ground import Ground
from tests.bench.product import Live, Product
from tests.bench.sink import Sink

#: (segments a second, people): some 10 to 20 s each.
RATES: Final = (((10, 200), (100, 2_000), (1_000, 10_000)), ((100, 1_000),))  # full, quick
WORKERS: Final = ((1, 2, 4), (2,))
SLACK: Final = ((50, 1_000), (50, 200))  # messages a second, people
RETRY_AFTER: Final = 3.0  # s; above 5 the next route would be taken
RETRY_RATES: Final = ((100, 1_000), (100,))
PEOPLE: Final = 10_000
SHORT: Final = "Use the phone list."  # one segment
_CRITICAL_AT: Final = 3.0  # s after the broadcast began
_QUIET: Final = 0.9  # share of the Retry-After in which nothing may come


def run(ground: Ground) -> dict[str, Any]:
    """{sms: {"<rate>/s, <workers> workers": …}, slack, retry_after, least_share, most_in_a_second}."""
    quick = ground.options.quick
    people = 2_000 if quick else PEOPLE
    made = ground.product("provider", count=people, phones=people, slack=1_000)
    product = replace(made, sandbox_url=f"{ground.sink.watched}/watched")
    found: dict[str, Any] = {"sms": {}}
    for workers in WORKERS[quick]:
        for rate, count in RATES[quick]:
            with product.up(workers, rate) as live:
                name = f"{rate}/s, {workers} workers"
                found["sms"][name] = _paced(ground.sink, live, rate, count)
            ground.say(f"{name}: {found['sms'][name]}")
    found["slack"] = _slack(ground, product)
    found["retry_after"] = _retry_after(ground, product)
    runs = [*found["sms"].values(), found["slack"]]
    return {
        **found,
        "least_share": min(r["share"] for r in runs),
        "most_in_a_second": max(r["most_in_a_second_less_one"] for r in runs),
        "includes": "arrivals at the sink; a window a hair longer than the spacing holds one more, so one is taken off",
    }


def _paced(sink: Sink, live: Live, rate: int, count: int) -> dict[str, Any]:
    """One broadcast, and one critical alert while it is under way."""
    sink.arrivals()
    live.post(_alert({"tag": f"size:{count}"}, ["sms"]))
    time.sleep(_CRITICAL_AT)
    critical = time.monotonic()
    live.post({**_alert({"tag": "one:1"}, ["sms"], "critical"), "title": "Email is down K1K"})
    taken = _all(sink, count + 1, count / rate)
    arrived = next((a["at"] for a in taken if f"{words.TITLE} K1K" in a["text"]), None)  # a link may hold any letters
    return {
        **_pace([(a["at"], float(gsm.segments(a["text"]))) for a in taken], rate),
        "critical_ms": None if arrived is None else round((arrived - critical) * 1000, 1),
        "people": count,
        "arrived": len(taken),
    }


def _pace(arrivals: Sequence[tuple[float, float]], rate: float) -> dict[str, Any]:
    """The share of the allowed rate between the first and the last arrival, and the fullest second."""
    ordered = sorted(arrivals)
    span = ordered[-1][0] - ordered[0][0]
    weight = sum(w for _, w in ordered)
    most = figures.most_in_a_window(ordered, 1.0)
    return {
        "share": round((weight - ordered[-1][1]) / (span * rate), 4),
        "most_in_a_second": round(most / rate, 4),
        "most_in_a_second_less_one": round((most - 1) / rate, 4),
        "seconds": round(span, 2),
    }


def _slack(ground: Ground, product: Product) -> dict[str, Any]:
    rate, count = SLACK[ground.options.quick]
    with product.up(2, 2 * rate) as live:  # the sandbox's Slack takes half of its rate
        ground.sink.arrivals()
        audience = {"tag": f"size:{count}"}
        live.post(_alert(audience, ["slack"]))
        taken = _all(ground.sink, count, count / rate)
    found = {**_pace([(a["at"], 1.0) for a in taken], rate), "people": count, "arrived": len(taken), "rate": rate}
    ground.say(f"Slack: {found}")
    return found


def _retry_after(ground: Ground, product: Product) -> dict[str, Any]:
    """While a broadcast runs, the provider says 429 to everything for ``RETRY_AFTER`` s."""
    workers = WORKERS[ground.options.quick][-1]
    found: dict[str, Any] = {"workers": workers, "runs": {}}
    for rate in RETRY_RATES[ground.options.quick]:
        with product.up(workers, rate) as live:
            ground.sink.arrivals()
            count = min(ground.options.pick(PEOPLE, 1_000), rate * 10)
            live.post(_alert({"tag": f"size:{count}"}, ["sms"]))
            time.sleep(2.0)
            ground.sink.refuse(RETRY_AFTER, RETRY_AFTER)
            threading.Event().wait(RETRY_AFTER + 2.0)
            found["runs"][f"{rate}/s"] = _stop(ground.sink.arrivals())
        ground.say(f"Retry-After at {rate}/s, {workers} workers: {found['runs'][f'{rate}/s']}")
    found["worst_stop_ms"] = max(r["stop_ms"] for r in found["runs"].values())
    return found


def _stop(arrivals: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """ms from the first 429 to the last request before the wait was over, how many came, and when it went on."""
    told = min(a["at"] for a in arrivals if a["kind"] == "refused")
    late = [a["at"] - told for a in arrivals if told < a["at"] < told + RETRY_AFTER * _QUIET]
    after = [a["at"] - told for a in arrivals if a["at"] >= told + RETRY_AFTER * _QUIET]
    return {
        "stop_ms": round(max(late, default=0.0) * 1000, 1),
        "after_it": len(late),
        "went_on_after_s": round(min(after), 2) if after else None,
    }


def _alert(audience: dict[str, Any], channels: list[str], severity: str = "high") -> dict[str, Any]:
    return {**words.alert(audience, channels, severity), "body": SHORT}


def _all(sink: Sink, count: int, expected: float) -> list[dict[str, Any]]:
    """What arrives until all is there, or twice the expected time and 10 s are over."""
    taken: list[dict[str, Any]] = []
    deadline = time.monotonic() + 2 * expected + 10
    while len(taken) < count and time.monotonic() < deadline:
        time.sleep(0.2)
        taken += [a for a in sink.arrivals() if a["kind"] in ("sms", "slack")]
    return taken
