"""A setting that cannot be is refused in one plain sentence, before anything is begun, and without repeating a secret."""

import os
import subprocess
import sys

import pytest

from broadcaster.settings import Settings


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("BROADCASTER_DATABASE_URL", "mysql://user:hunter22@host/db"),
        ("BROADCASTER_PUBLIC_URL", "alerts.example.nhs.uk"),
        ("BROADCASTER_SMS_ROUTES", "twilio,pigeon"),
        ("BROADCASTER_SECRET_KEY", "hunter22"),
    ],
)
def test_it_says_which_and_ends_with_2(name: str, value: str) -> None:
    command = [sys.executable, "-m", "broadcaster.cli", "audit"]
    done = subprocess.run(command, env={**os.environ, name: value}, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert name in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert "hunter22" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    "url", ["", "/srv/alerts.db", "sqlite:///alerts.db", "postgres://host/db", "postgresql+psycopg://host/db"]
)
def test_databases_that_are_known(url: str) -> None:
    assert Settings(database_url=url).database_url == url
