"""The look through every stack's logs finds what must not be there."""

from pathlib import Path

import pytest

from tests.secrets_in_logs import SECRETS, found_in

LINES = {
    "phone number": "POST /Messages.json To=%2B447400000123",
    "API key": f"Authorization: Bearer ab_live_{'a' * 12}_{'b' * 43}",
    "signed link": "GET /m/9ix.cGxhY2Vob2xkZXI",
    "secret address": f"POST /api/v1/signals/{'t' * 32}",
    "provider credential": "token=xoxb-sandbox-0",
}


@pytest.mark.parametrize("what", SECRETS)
def test_a_secret_in_a_log_is_found_and_not_repeated(what: str, tmp_path: Path) -> None:
    log = tmp_path / "api.log"
    log.write_text(f"all is well\n{LINES[what]}\n")
    assert found_in([log]) == [f"api.log:2: {what}"]


def test_what_is_masked_is_no_secret(tmp_path: Path) -> None:
    log = tmp_path / "worker.log"
    log.write_text("delivering.sent address=+44•••••123 link=/m/… key=ab_live_aaaa…\n")
    assert found_in([log]) == []
