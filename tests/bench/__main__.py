"""`make bench`, or `python -m tests.bench [--json]`. Progress and tables on stderr; the last line of stdout is the path of
the JSON, or the JSON itself.

QUICK=1: two minutes, without import, scale and provider unless ONLY names them.
ONLY=push,sms,latency,receipts,accepting,import,scale,provider,whole: these parts alone.
ROUNDS of blast, naive and product. COUNT: people in the whole-service run, 1,000 at least. LIMIT: seconds after which one
broadcast is given up.
"""

import json
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

import structlog
from rich.console import Console

from tests.bench import (
    accepting,
    figures,
    importing,
    latency,
    machine,
    plot,
    provider,
    receipts,
    report,
    rounds,
    scale,
    watching,
    whole,
)
from tests.bench.ground import PARTS, QUICK_PARTS, Ground, Options, ground


def main() -> int:
    options = _options(os.environ)
    quiet = structlog.make_filtering_bound_logger(logging.ERROR)  # stdout is for the result
    structlog.configure(wrapper_class=quiet, logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that everything is stopped and removed then too
    began = time.monotonic()

    def say(text: str) -> None:
        print(f"[{time.monotonic() - began:6.1f} s] {text}", file=sys.stderr, flush=True)

    results: dict[str, Any] = {
        "cores": machine.cores(), "quick": options.quick, "load_before": machine.load(), "versions": machine.versions(),
    }  # fmt: skip
    with ground(options, say) as made:
        results["versions"] |= {"postgresql": f"{made.postgres.version} ({made.postgres.name})", "sink": made.sink.name}
        say(f"{results['cores']} cores, PostgreSQL {results['versions']['postgresql']}, sink {made.sink.name}")
        for name, part in _parts(options):
            say(f"{name} …")
            results[name] = part(made)
            results["bars"] = figures.bars(results)
            path = report.write(results)  # what is known so far outlives a run that is broken off
    results["others_cores"] = figures.most_others(results)
    results["seconds"] = round(time.monotonic() - began, 1)
    path = report.write(results)
    plot.write(results, path.with_suffix(".svg"))
    report.table(results, Console(stderr=True, width=150))
    print(json.dumps(results) if "--json" in sys.argv[1:] else path, flush=True)
    return 0


def _parts(options: Options) -> list[tuple[str, Callable[[Ground], dict[str, Any]]]]:
    """Those that were asked for, in their order."""
    kinds: list[str] = [kind for kind in ("push", "sms") if kind in options.only]
    found: list[tuple[str, Callable[[Ground], dict[str, Any]]]] = []
    if kinds:
        found.append(("rounds", lambda made: rounds.run(made, kinds)))
    further = {
        "latency": latency.run, "receipts": receipts.run, "accepting": accepting.run, "import": importing.run,
        "scale": scale.run, "provider": provider.run, "watching": watching.run, "whole": whole.run,
    }  # fmt: skip
    found += [(part, run) for part, run in further.items() if part in options.only]
    return found


def _options(environment: "os._Environ[str]") -> Options:
    quick = environment.get("QUICK") == "1"
    only = frozenset(part.strip() for part in environment.get("ONLY", "").split(",") if part.strip())
    if unknown := only - {*PARTS}:
        raise SystemExit(f"ONLY knows {', '.join(PARTS)}; not {', '.join(sorted(unknown))}")
    return Options(
        quick=quick,
        only=only or frozenset(QUICK_PARTS if quick else PARTS),
        rounds=int(environment.get("ROUNDS") or (1 if quick else 3)),
        count=max(1_000, int(environment.get("COUNT") or (10_000 if quick else 1_500_000))),
        limit=float(environment.get("LIMIT") or (60 if quick else 600)),
    )


if __name__ == "__main__":
    sys.exit(main())
