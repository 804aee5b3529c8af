"""The body is the template of the module's docstring, filled in as hc/integrations/webhook/transport.py does
(https://github.com/healthchecks/healthchecks): $NOW is ``isoformat()`` to the second, $TAGS is separated by spaces."""

from typing import Any, Final

import pytest

from broadcaster.domain.signal import Status
from tests.ingest.posts import changed, only, refusal

DOWN: Final[dict[str, Any]] = {
    "code": "6f6f3a2e-6a3c-4f0c-8b7a-1f2e3d4c5b6a",
    "status": "down",
    "name": 'Mail "round trip"',
    "now": "2026-10-12T07:31:00+00:00",
    "tags": "prod site=Northmoor team:mail",
}
UP: Final = DOWN | {"status": "up"}


def test_down_and_up_meet() -> None:
    down, up = only("healthchecks", DOWN), only("healthchecks", UP)
    assert down.key == up.key == DOWN["code"]
    assert (down.status, up.status) == (Status.FIRING, Status.RESOLVED)
    assert (down.title, up.title) == ('Mail "round trip" is down', 'Mail "round trip" is up')
    assert down.labels == {
        "check": 'Mail "round trip"',
        "tags": "prod site=Northmoor team:mail",
        "site": "Northmoor",
        "team": "mail",
    }
    assert down.at == 1_791_790_260
    assert down.severity is None


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("code", ..., "/code: missing."),
        ("code", 1, "/code: expected a text."),
        ("status", "$STATUS", '/status: expected down or up, not "$STATUS".'),
        ("status", ..., "/status: missing."),
        ("tags", ["a"], "/tags: expected a text."),
    ],
)
def test_what_is_wrong_is_told(name: str, value: Any, says: str) -> None:
    assert refusal("healthchecks", changed(DOWN, f"/{name}", value)) == says
