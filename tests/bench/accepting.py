"""How many alerts a second are accepted: POST /alerts, each to one person, durable when it is answered with 202."""

import json
import time
from typing import Any, Final

from tests.bench import load, running, words
from tests.bench.ground import Ground

ALERTS: Final = (4_000, 400)  # full, quick
CONCURRENCY: Final = 32
ALL_OUT_WITHIN: Final = 300.0  # s


def run(ground: Ground) -> dict[str, Any]:
    """{n, per_second, ms, statuses, all_out_seconds}: the last of them had left so long after the first was posted."""
    count = ground.options.pick(*ALERTS)
    with ground.crowded.up() as live:
        headers = {"Authorization": f"Bearer {live.product.key}", "Content-Type": "application/json"}
        requests = [
            (
                f"{live.api}/alerts",
                {**headers, "Idempotency-Key": f"bench-{n}"},
                json.dumps(words.alert({"tag": f"one:{n % 100}"}, ["sms"], "normal")),
            )
            for n in range(count)
        ]
        began = time.monotonic()
        found = load.post(ground, requests, CONCURRENCY)
        running.until(live.books.all_out, ALL_OUT_WITHIN, "every alert to be out", step=0.5)  # the next part is for itself
        all_out = round(time.monotonic() - began, 1)
    ground.say(
        f"alerts accepted: {found['per_second']:,.0f}/s, {found['statuses']}, {found['ms']}; all out after {all_out} s"
    )
    return {
        **found,
        "all_out_seconds": all_out,
        "includes": "an Idempotency-Key each; the workers plan and deliver them meanwhile, on the same cores",
    }
