"""Rubbish at every route of the OpenAPI document, against the real system: no 5xx, and no answer that is not documented.

Schemathesis runs as its own command: its pytest plugin does not know pytest 9's subtests. The event stream is among the
routes: no invented id is an alert's, so it answers 404 and never begins; the request timeout bounds it all the same.
"""

import subprocess
import sys
from pathlib import Path
from typing import Final

from tests.conftest import running

CONFIG: Final = Path(__file__).with_name("schemathesis.toml")
SECONDS: Final = 150


def test_every_answer_to_rubbish_is_documented(tmp_path: Path) -> None:
    with running("rubbish") as stack:  # a system of its own: its directory is torn to pieces
        command = [
            sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIG),
            "run", f"{stack.api}/api/v1/openapi.json", "--header", f"Authorization: Bearer {stack.key}",
            # One worker: two threads that parse at once trip over Python's own parser (python/cpython#106905).
            "--phases", "examples,coverage,fuzzing", "--workers", "1",
            "--request-timeout", "10", "--no-color",
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2_000:]
