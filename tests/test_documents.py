"""What the README says of settings is true, and the sandbox's credentials are the wiring's."""

import re
from pathlib import Path

from broadcaster import wiring
from broadcaster.sandbox import credentials
from broadcaster.settings import Settings

README = (Path(__file__).parent.parent / "README.md").read_text()


def test_every_setting_stands_in_the_readme_with_its_description() -> None:
    for name, field in Settings.model_fields.items():
        row = next((line for line in README.splitlines() if line.startswith(f"| `BROADCASTER_{name.upper()}` |")), None)
        assert row is not None, name
        assert field.description
        assert field.description in row, name


def test_the_readme_names_no_setting_that_is_not_there() -> None:
    known = {f"BROADCASTER_{name.upper()}" for name in Settings.model_fields} | {"BROADCASTER_API_KEY"}
    named = set(re.findall(r"BROADCASTER_[A-Z0-9_]+", README))
    assert named <= known


def test_the_wirings_sandbox_credentials_are_the_sandboxs() -> None:
    assert credentials.ACCOUNT_SID == wiring.SANDBOX_ACCOUNT_SID
    assert credentials.AUTH_TOKEN == wiring.SANDBOX_AUTH_TOKEN
    assert credentials.SLACK_TOKEN == wiring.SANDBOX_SLACK_TOKEN
    assert credentials.MESSAGING_SERVICE_SID == wiring.SANDBOX_MESSAGING_SERVICE_SID
    assert credentials.NOTIFY_API_KEY == wiring.SANDBOX_NOTIFY_API_KEY
    assert credentials.NOTIFY_TEMPLATE_ID == wiring.SANDBOX_NOTIFY_TEMPLATE_ID
    assert credentials.NOTIFY_CALLBACK_TOKEN == wiring.SANDBOX_NOTIFY_CALLBACK_TOKEN
