"""Runs last: no phone number, key or signed link stands in any log of the whole run."""

import re

import pytest

from tests.conftest import LIVE, LOGS

SECRETS = {
    "phone number": re.compile(r"\+44\s?7\d{9}|%2B447\d{9}"),
    "API key": re.compile(r"ab_(live|test)_[a-z0-9]{12}_[A-Za-z0-9_-]{20,}"),
    "signed link": re.compile(r"/(m|enrol|console/enter)/[0-9a-z]+\.[^\s\"…]+|[?&]d=[0-9a-z]+\.[0-9a-z]+\."),
    "secret address": re.compile(r"/(heartbeats|signals)/[A-Za-z0-9_-]{16,}"),
    "provider credential": re.compile(r"xoxb-sandbox-0|5a4db0c55a4db0c5"),
}


def test_no_log_of_this_run_holds_a_secret() -> None:
    logs = sorted([*LOGS.glob("*.log"), *(log for folder in LIVE for log in (folder / "logs").glob("*.log"))])
    if not logs:
        pytest.skip("no stack has run before this test")
    assert any("worker" in log.name for log in logs)
    found = [
        f"{log.name}:{n}: {what}"
        for log in logs
        for n, line in enumerate(log.read_text(errors="replace").splitlines(), 1)
        for what, pattern in SECRETS.items()
        if pattern.search(line)
    ]
    assert found == []
