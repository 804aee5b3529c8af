"""Rubbish at the monitors' routes, with kinds that take some of it: as in tests/api/test_rubbish.py, which has the rest."""

import subprocess
import sys
from pathlib import Path
from typing import Final

from tests.api.test_rubbish import CONFIG, SECONDS
from tests.monitoring.rig import desk

ROUTES: Final = "/api/v1/(monitors|monitor-kinds|maintenance|incidents|heartbeats)"


def test_every_answer_to_rubbish_is_documented(tmp_path: Path) -> None:
    with desk(tmp_path) as made:
        made.down()
        command = [
            sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIG),
            "run", f"{made.api}/api/v1/openapi.json", "--header", f"Authorization: Bearer {made.key}",
            "--phases", "examples,coverage,fuzzing", "--workers", "1", "--include-path-regex", ROUTES,
            "--request-timeout", "10", "--no-color",
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, cwd=tmp_path, check=False)
        assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2_000:]
        assert "api.bug" not in made.log.read_text()
