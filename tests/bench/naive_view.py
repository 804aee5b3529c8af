"""The view that tells everybody the naive way: ``python -m tests.bench.naive_view push|sms ORIGIN FOLDER COUNT``."""

import json
import sys
import time
from pathlib import Path

from tests.bench import naive
from tests.bench.people import Pool, phone
from tests.bench.running import ready_then_go
from tests.bench.words import PAYLOAD, TEXT


def main() -> None:
    kind, origin, folder, count = sys.argv[1:]
    pool = Pool.load(Path(folder) / "pool.json")
    people = [(json.loads(pool.subscription(origin, n)[0]), phone(n)) for n in range(int(count))]
    ready_then_go()
    began = time.monotonic()
    for n, (subscription, number) in enumerate(people):
        if kind == "push":
            naive.send_push.delay(subscription, PAYLOAD.decode())
        else:
            naive.send_sms.delay(number, TEXT, f"https://alerts.example.nhs.uk/receipts/{n}")
    print(json.dumps({"n": len(people), "published_seconds": time.monotonic() - began}), flush=True)


if __name__ == "__main__":
    main()
