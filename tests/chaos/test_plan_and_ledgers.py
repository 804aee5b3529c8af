"""The chaos run itself can be trusted: its plan is the seed's, and its comparison sees what it must see."""

import pytest

from tests.chaos import plan
from tests.chaos.ledgers import Comparison, Entry, Key, Row, compare
from tests.chaos.posting import Posted

SMS, PUSH = ("sms", "+447700910000"), ("push", "http://127.0.0.1/push/1")


def compared(address: tuple[str, str], rows: list[Row], entries: list[Entry]) -> Comparison:
    posted = [Posted("CHX00001", "uid", False, True, frozenset([address]), 0.0, 0.0)]
    key: Key = ("CHX00001", *address)
    return compare(posted, {key: rows} if rows else {}, {key: entries} if entries else {}, lambda _: None)


def row(state: str, *, declared: bool = False, last: str | None = None) -> Row:
    return Row(1, state, declared, last or state)


def taken(*statuses: str) -> list[Entry]:
    return [Entry(status, float(n)) for n, status in enumerate(statuses)]


def test_the_seed_decides_the_plan() -> None:
    assert plan.make(7, 60, "postgres") == plan.make(7, 60, "postgres")
    assert plan.make(7, 60, "postgres") != plan.make(8, 60, "postgres")


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("seconds", [20.0, 60.0, 600.0])
def test_every_kind_comes_and_all_of_it_ends_in_time(seed: int, seconds: float) -> None:
    acts = plan.make(seed, seconds, "postgres")
    assert max(act.at + act.duration for act in acts) <= 0.951 * seconds
    assert min(act.at for act in acts) >= 0
    assert {(act.what, act.which) for act in acts} >= {("kill", which) for which in plan.KILLS}
    assert {(act.what, act.which) for act in acts} >= {("freeze", which) for which in plan.FREEZES}
    assert len({act.which for act in acts if act.what == "fault"}) == 39


def test_providers_answer_late_before_a_sender_dies() -> None:
    acts = plan.make(7, 60, "postgres")
    for death in (act for act in acts if act.what == "kill" and act.which in plan.SENDERS):
        late = [a for a in acts if a.which == "twilio:dying" and a.at < death.at < a.at + a.duration]
        assert late


def test_with_providers_kept_well_only_our_own_parts_suffer() -> None:
    acts = plan.make(7, 60, "sqlite", providers_well=True)
    assert {act.what for act in acts if not act.which.endswith(":dying")} == {"kill", "freeze"}


@pytest.mark.parametrize(
    ("address", "rows", "entries", "found"),
    [
        (SMS, [row("delivered")], taken("delivered"), []),
        (SMS, [row("accepted")], taken("sent"), []),
        (SMS, [row("delivered")], taken("undelivered", "delivered"), []),
        (SMS, [row("delivered", declared=True)], taken("delivered", "delivered"), []),
        (PUSH, [row("delivered")], taken("shown", "replaced"), []),
        (SMS, [row("failed")], [], ["lost"]),
        (SMS, [row("accepted")], [], ["lost", "unexplained"]),
        (SMS, [], [], ["lost", "unexplained"]),
        (SMS, [row("delivered")], taken("delivered", "delivered"), ["duplicate"]),
        (SMS, [row("delivered", declared=True)], taken("delivered", "delivered", "delivered"), ["duplicate"]),
        (PUSH, [row("delivered")], taken("shown", "shown"), ["duplicate"]),
        (SMS, [row("uncertain")], taken("delivered"), ["unexplained"]),
        (SMS, [row("failed")], taken("delivered"), ["unexplained"]),
        (SMS, [row("delivered")], taken("sent"), ["unexplained"]),
        (SMS, [row("delivered", last="accepted")], taken("delivered"), ["unexplained"]),
        (SMS, [row("delivered"), row("delivered")], taken("delivered"), ["unexplained"]),
    ],
)
def test_the_comparison_sees_it(address: tuple[str, str], rows: list[Row], entries: list[Entry], found: list[str]) -> None:
    assert [finding.kind for finding in compared(address, rows, entries).findings] == found


def test_what_nobody_asked_for_is_unexplained() -> None:
    stray: Key = ("?", "sms", "+447700910001")
    result = compare([], {}, {stray: taken("delivered")}, lambda _: None)
    assert [finding.kind for finding in result.findings] == ["unexplained"]
