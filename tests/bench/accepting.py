"""How many alerts a second are accepted: POST /alerts, each to one person, durable when it is answered with 202."""

import json
from typing import Any, Final

from tests.bench import load, words
from tests.bench.ground import Ground

ALERTS: Final = (4_000, 400)  # full, quick
CONCURRENCY: Final = 32


def run(ground: Ground) -> dict[str, Any]:
    """{n, per_second, ms, statuses}."""
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
        found = load.post(ground, requests, CONCURRENCY)
    ground.say(f"alerts accepted: {found['per_second']:,.0f}/s, {found['statuses']}, {found['ms']}")
    return {**found, "includes": "an Idempotency-Key each; the workers plan and deliver them meanwhile, on the same cores"}
