"""Requests from a process of its own, for the parts that ask how much the API takes."""

import json
from collections.abc import Iterable
from typing import Any, Final

from tests.bench import running
from tests.bench.ground import Ground

CONCURRENCY: Final = 64


def post(
    ground: Ground, requests: Iterable[tuple[str, dict[str, str], str]], concurrency: int = CONCURRENCY
) -> dict[str, Any]:
    """Posts each (url, headers, body) once: {n, seconds, per_second, statuses, ms: {p50, p95, p99, max}}."""
    path = ground.folder / "requests.jsonl"
    with path.open("w") as file:
        n = 0
        for url, headers, body in requests:
            file.write(json.dumps({"url": url, "headers": headers, "body": body}) + "\n")
            n += 1
    with running.runners("tests.bench.poster", [[str(path), str(concurrency)]], ground.folder / "poster.log") as (poster,):
        poster.go()
        found = poster.result()
    seconds = found.pop("seconds")
    return {"n": n, "seconds": round(seconds, 2), "per_second": round(n / seconds, 1), "concurrency": concurrency, **found}
