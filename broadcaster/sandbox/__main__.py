"""`python -m broadcaster.sandbox --port N`: one sandbox in the foreground."""

from __future__ import annotations

import argparse
from pathlib import Path

from broadcaster.sandbox.server import run
from broadcaster.sandbox.settings import SandboxConfig


def main() -> None:
    """Reads the command line and serves until stopped. Credentials are the fixed ones of `credentials`."""
    parser = argparse.ArgumentParser(prog="python -m broadcaster.sandbox", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--sms-rate", type=float, default=None, metavar="SEGMENTS", help="per second and sender")
    parser.add_argument("--seed", type=int, default=0, help="decides every random choice of the faults")
    parser.add_argument("--callback-host", action="append", default=[], help="besides loopback; may be repeated")
    parser.add_argument("--public-origin", default=None, help="how clients reach it, when not http://host:port")
    parser.add_argument("--state", type=Path, default=None, help="file that keeps simulated browsers")
    parser.add_argument("--notify-callback", default="", metavar="URL", help="where GOV.UK Notify's receipts go")
    args = parser.parse_args()
    run(
        SandboxConfig(
            host=args.host,
            port=args.port,
            sms_rate=args.sms_rate,
            seed=args.seed,
            callback_hosts=frozenset(args.callback_host),
            public_origin=args.public_origin,
            state_path=args.state,
            notify_callback_url=args.notify_callback,
        )
    )


if __name__ == "__main__":
    main()
