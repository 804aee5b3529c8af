"""Rubbish at every route of the OpenAPI document, against the real system: no 5xx, and no answer that is not documented."""

from collections.abc import Iterator
from typing import Any, Final

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis import CheckFunction
from schemathesis.checks import load_all_checks
from schemathesis.specs.openapi import checks

from tests.conftest import Stack, running

#: Routes whose schema cannot say all of what they ask for: a number that exists, a group that is there, a signed token.
ASKS_FOR_MORE: Final = ("POST", "PATCH", "PUT", "DELETE")
#: Open by setting in tests (the fixture reads it to know that workers are there); test_keys_and_errors has the rule.
OPEN: Final = "/metrics"

load_all_checks()


@pytest.fixture(scope="module")
def rubbish() -> Iterator[Stack]:
    """A system of its own: its directory is torn to pieces."""
    with running("rubbish") as made:
        yield made


@pytest.fixture(scope="module")
def api_schema(rubbish: Stack) -> Any:
    return schemathesis.openapi.from_url(f"{rubbish.api}/api/v1/openapi.json")


schema = schemathesis.pytest.from_fixture("api_schema")


@schema.parametrize()
@settings(max_examples=15, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
def test_every_answer_to_rubbish_is_documented(case: schemathesis.Case, rubbish: Stack) -> None:
    excluded: list[CheckFunction] = []
    if case.operation.method.upper() in ASKS_FOR_MORE:
        excluded.append(checks.positive_data_acceptance)
    if case.operation.path == OPEN:
        excluded.append(checks.ignored_auth)
    # The event stream is among them: no invented id is an alert's, so it answers 404 and never begins. The timeout bounds it.
    case.call_and_validate(headers={"Authorization": f"Bearer {rubbish.key}"}, excluded_checks=excluded, timeout=10)
