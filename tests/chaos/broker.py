"""Redis there, gone and hung: how fast alerts are accepted and delivered. ``python -m tests.chaos.broker``.

Each time a stack of its own, Redis in its state from before the start to after the last delivery: one alert to
``PEOPLE`` people, then ``POSTS`` alerts to one person each, one after another. Last line: JSON.
"""

import csv
import io
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import requests

from broadcaster.cli import embedded
from tests.conftest import Stack, running
from tests.ports import free_port

PEOPLE: Final = int(os.environ.get("PEOPLE", "5000"))
POSTS: Final = int(os.environ.get("POSTS", "300"))


@contextmanager
def redis(state: str) -> Iterator[str]:
    """The URL of a Redis that is ``there``, ``gone`` or ``hung`` (takes connections and never answers)."""
    port = free_port()
    url = f"redis://127.0.0.1:{port}/0"
    if state == "there":
        command = [embedded.redis_binary(), "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            yield url
        finally:
            server.terminate()
            server.wait(10)
    elif state == "hung":
        with socket.create_server(("127.0.0.1", port), backlog=4096):
            yield url
    else:
        yield url


def measure(state: str) -> dict[str, Any]:
    with redis(state) as url, running(f"broker-{state}", redis_url=url, ready=state == "there") as stack:
        requests.post(f"{stack.sandbox}/_sandbox/settings", json={"sms_rate": None}, timeout=10).raise_for_status()
        rows = [[f"P{n}", f"P{n}", f"+44770091{n:04d}", "crowd"] for n in range(PEOPLE)]
        text = io.StringIO()
        csv.writer(text).writerows([["name", "external_id", "phone", "who"], *rows, _ONE])
        stack.call("POST", "recipients/import", 200, data=text.getvalue(), headers={"Content-Type": "text/csv"})
        started = time.monotonic()
        alert = stack.json("POST", "alerts", 202, json=_alert("crowd", "high"))["id"]
        stack.until(lambda: _reached(stack, alert) == PEOPLE, 300)
        seconds = time.monotonic() - started
        got = [len(stack.messages("sms", row[2])) for row in rows[:: max(1, PEOPLE // 200)]]
        took = []
        for _ in range(POSTS):
            before = time.monotonic()
            stack.json("POST", "alerts", 202, json=_alert("one", "normal"))
            took.append((time.monotonic() - before) * 1000)
        took.sort()
        return {
            "deliveries_per_second": round(PEOPLE / seconds, 1),
            "seconds": round(seconds, 2),
            "delivered_once_of_a_sample": [sum(n == 1 for n in got), len(got)],
            "post_ms": {"p50": round(took[len(took) // 2], 1), "p99": round(took[int(len(took) * 0.99)], 1)},
        }


_ONE: Final = ["One", "one", "+447700929999", "one"]


def _alert(who: str, severity: str) -> dict[str, Any]:
    return {
        "title": "Email is down", "body": "Use the phone list.", "severity": severity, "channels": ["sms"],
        "audience": {"tag": f"who:{who}"},
    }  # fmt: skip


def _reached(stack: Stack, alert: str) -> int:
    view = stack.json("GET", f"alerts/{alert}", 200)
    if sys.stderr.isatty():
        print(f"\r{view['reached']} of {PEOPLE} ", end="", file=sys.stderr)
    return sum(c["counts"]["delivered"] for c in view["channels"])


def main() -> int:
    found = {state: measure(state) for state in ("there", "gone", "hung")}
    usual = found["there"]["deliveries_per_second"]
    ok = all(found[s]["deliveries_per_second"] >= usual / 2 and found[s]["post_ms"]["p99"] <= 100 for s in ("gone", "hung"))
    print(json.dumps({"people": PEOPLE, "posts": POSTS, "cores": os.cpu_count(), "holds": ok, **found}))
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
