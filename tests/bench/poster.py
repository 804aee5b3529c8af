"""Many requests at one server: ``python -m tests.bench.poster FILE CONCURRENCY``.

FILE has a request a line: {url, headers, body}. Each is posted once, so many at a time. A process of its own, on uvloop, so
that it takes little of the machine and nothing of the bench's own process.
"""

import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import aiohttp
import uvloop
from yarl import URL

from tests.bench.figures import quantiles
from tests.bench.running import ready_then_go


async def post(requests: Sequence[dict[str, Any]], concurrency: int) -> dict[str, Any]:
    """{seconds, statuses, ms: {p50, …}}."""
    prepared = [(URL(r["url"], encoded=True), r["headers"], r["body"].encode()) for r in requests]
    took: list[float] = []
    statuses: Counter[str] = Counter()
    waiting = iter(prepared)
    connector = aiohttp.TCPConnector(limit=concurrency)
    async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as session:

        async def work() -> None:
            for url, headers, body in waiting:
                began = time.monotonic()
                async with session.post(url, data=body, headers=headers) as answer:
                    await answer.read()
                took.append((time.monotonic() - began) * 1000)
                statuses[str(answer.status)] += 1

        ready_then_go()
        began = time.monotonic()
        await asyncio.gather(*(work() for _ in range(concurrency)))
        seconds = time.monotonic() - began
    return {"seconds": seconds, "statuses": dict(statuses), "ms": quantiles(took)}


def main() -> None:
    path, concurrency = sys.argv[1:]
    requests = [json.loads(line) for line in Path(path).read_text().splitlines()]
    print(json.dumps(uvloop.run(post(requests, int(concurrency)))), flush=True)


if __name__ == "__main__":
    main()
