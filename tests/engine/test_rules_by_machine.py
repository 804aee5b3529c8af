"""Any order of anything: workers that hang, die and come back, answers, receipts, cancelling, time. The rules always hold.

The machine knows the truth (what each provider really took) and its own copy of the design's table of states. After every
step the books must agree with both. That the machine would notice is shown by breaking two of the engine's safeguards.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random
from typing import Final
from unittest import mock

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test

from broadcaster.domain.channel import Traits
from broadcaster.domain.messages import Envelope, Severity
from broadcaster.domain.outcomes import (
    Absent,
    Accepted,
    Ambiguous,
    Deferred,
    Finding,
    Found,
    Outcome,
    Rejected,
    Scope,
    Throttled,
    Unknown,
)
from broadcaster.services import outcomes
from broadcaster.services.auditing import audit
from broadcaster.store import batches
from tests.engine.rig import NAME, Engine
from tests.engine.stepping import Died, Worker

#: DESIGN.md, section 4, written down a second time.
TABLE: Final = {
    "queued": {"sending", "skipped", "cancelled", "expired", "unconfirmed"},
    "retrying": {"sending", "skipped", "cancelled", "expired", "unconfirmed"},
    "sending": {"accepted", "retrying", "failed", "queued", "uncertain", "unconfirmed"},
    "uncertain": {"retrying", "unconfirmed"},
    "accepted": {"unconfirmed", "retrying"},
}
RANK: Final = {"accepted": 1, "failed": 2, "delivered": 3}
OPEN: Final = {"queued", "retrying", "sending", "uncertain"}
NOT_SENT: Final = {"failed", "cancelled", "expired", "skipped"}

#: Hypothesis chooses what happens; how it turns out is left to dice, which it would load towards the first choice.
SEEDS: Final = st.integers(0, 2**32)
SPELLS: Final = (1, 3, 6, 17, 31, 65, 200)
EXPIRES: Final = 600
RECEIPT_DEADLINE: Final = 300.0
TABLES: Final = ("delivery_events", "attempts", "deliveries", "batches", "alert_steps", "alert_samples", "routes",
                 "route_health", "alerts")  # fmt: skip


@dataclass
class Message:
    """One attempt as its provider has it. ``taken``: it will be, or was, on the recipient's screen unless ``dead``."""

    delivery: int
    attempt: int
    route: str
    at: float
    taken: bool
    dead: bool = False
    delivered: bool = False

    @property
    def live(self) -> bool:
        return self.taken and not self.dead

    @property
    def id(self) -> str:
        return f"p{self.delivery}-{self.attempt}"


class Machine(RuleBasedStateMachine):
    """Three workers on one alert. ``engine`` is shared by all examples, which empty its tables."""

    engine: Engine

    @initialize(
        collapsing=st.booleans(), receipts=st.booleans(), searchable=st.booleans(), routes=st.integers(1, 2),
        severity=st.sampled_from([Severity.CRITICAL, Severity.HIGH]), again=st.sampled_from([None, 90]), seed=SEEDS,
    )  # fmt: skip
    def begin(
        self,
        collapsing: bool,
        receipts: bool,
        searchable: bool,
        routes: int,
        severity: Severity,
        again: int | None,
        seed: int,
    ) -> None:
        e = self.engine
        self.dice = Random(seed)
        e.write(*(f"DELETE FROM {t}" for t in TABLES), "UPDATE contacts SET disabled_at = NULL")
        e.clock.set(0)
        traits = Traits(NAME, "Bleep", 2, None, collapsing, receipts, receipt_deadline=RECEIPT_DEADLINE)
        e.connect(traits, routes=routes, searchable=searchable)
        for provider in e.providers:
            provider.decide, provider.find = self.decide, self.find
        self.collapsing, self.receipts = collapsing, receipts
        self.messages: dict[tuple[int, int], Message] = {}
        self.stands: dict[int, str] = {}
        self.marks: dict[int, int] = {}
        self.seen = 0
        self.broken: list[str] = []
        self.proved: object = None
        self.kind = True  # to messages, at first and in the end
        self.dead: list[str] = []
        self.births = 0
        self.workers = [self.born() for _ in range(3)]
        self.uid = e.alert(severity, expires_in=EXPIRES, again_after=again)
        self.plan()

    # ---- what may happen, in any order -------------------------------------------------------------------------

    @rule()
    def plan(self) -> None:
        self.engine.planner.run_one(lowest=3)

    @rule(k=st.integers(0, 2), seed=SEEDS)
    def work(self, k: int, seed: int) -> None:
        """On to a later stop; not going on is hanging, and going on after its lease was lost is being a zombie."""
        self.dice = Random(f"{seed} {self.engine.clock.ahead} {len(self.messages)} {sorted(self.stands.values())}")
        self.kind = self.dice.random() < 0.3
        for _ in range(self.dice.randint(1, 7)):
            self.workers[k].go()

    @rule(k=st.integers(0, 2), seed=SEEDS, seconds=st.sampled_from(SPELLS))
    def work_a_while_later(self, k: int, seed: int, seconds: int) -> None:
        self.time_passes(seconds)
        self.work(k, seed)

    @precondition(lambda self: any(w.busy for w in self.workers))
    @rule(k=st.integers(0, 2))
    def kill(self, k: int) -> None:
        if not self.workers[k].busy:
            return
        self.workers[k].die()
        self.dead.append(self.workers[k].owner)
        self.workers[k] = self.born()

    @precondition(lambda self: self.dead)
    @rule()
    def release_the_dead(self) -> None:
        with self.engine.database.write() as connection:
            for owner in self.dead:
                batches.release_owner(connection, owner)
        self.dead.clear()

    @rule(k=st.integers(0, 2))
    def renew(self, k: int) -> None:
        self.workers[k].renew()

    @rule(seconds=st.sampled_from(SPELLS))
    def time_passes(self, seconds: int) -> None:
        self.engine.clock.turn(seconds)

    @precondition(lambda self: any(m.taken for m in self.messages.values()))
    @rule(pick=st.integers(0, 99), state=st.sampled_from(["accepted", "delivered", "failed"]), of_route=st.booleans(),
          disables=st.booleans())  # fmt: skip
    def receipt(self, pick: int, state: str, of_route: bool, disables: bool) -> None:
        """Early, late, for an attempt long gone, again: but a provider never takes its last word back."""
        taken = [m for m in self.messages.values() if m.taken]
        m = taken[pick % len(taken)]
        if state != "accepted":
            state = "delivered" if m.delivered else "failed" if m.dead else state
            m.delivered, m.dead = state == "delivered", state == "failed"
        of_route, disables = state == "failed" and of_route, state == "failed" and disables and not of_route
        self.engine.receipt(
            m.route, delivery=m.delivery, attempt=m.attempt, state=state, provider_id=m.id, code="30008" if m.dead else None,
            of_route=of_route, disables_address=disables,
        )  # fmt: skip
        if state == "delivered":
            now = self.engine.rows(f"SELECT state FROM deliveries WHERE id = {m.delivery}")[0][0]
            assert now == "delivered", f"a receipt for attempt {m.attempt} was lost: {now}"

    @precondition(lambda self: len(self.messages) > 2)
    @rule()
    def cancel(self) -> None:
        self.engine.alerts.cancel(self.uid, "somebody")

    @precondition(lambda self: len(self.messages) > 2)
    @rule(pick=st.integers(0, 99))
    def disable_an_address(self, pick: int) -> None:
        ids = [row[0] for row in self.engine.rows("SELECT id FROM contacts ORDER BY id")]
        self.engine.write(f"UPDATE contacts SET disabled_at = 1, disabled_reason = 'gone' WHERE id = {ids[pick % len(ids)]}")

    # ---- the providers -----------------------------------------------------------------------------------------

    def decide(self, route: str, to: Envelope) -> Outcome:
        """What becomes of an envelope that is handed over now. Says the truth, or that it does not know."""
        key = (to.delivery, to.attempt)
        if key in self.messages:
            self.broken.append(f"attempt {key} was handed over twice")
        live = [m for m in self.messages.values() if m.delivery == to.delivery and m.live]
        if live and not self.collapsing and len(live) > self.declared(to.delivery):
            self.broken.append(f"{key} is handed over, and so was {live[0].attempt}, which was taken")
        pick = 0 if self.kind else self.dice.randint(1, 11)
        taken = pick in (0, 1, 2, 3, 4)
        self.messages[key] = message = Message(*key, route, self.engine.clock.boottime(), taken)
        match pick:
            case 0 | 1 | 2:
                return Accepted(message.id, 7)
            case 3 | 5:
                return Ambiguous("silence", "no answer")
            case 4:
                raise Died("after it was taken")
            case 6:
                return Rejected(Scope.MESSAGE, "bad", "not like this")
            case 7:
                return Rejected(Scope.ADDRESS, "gone", "nobody there")
            case 8:
                return Rejected(Scope.CHANNEL, "credentials", "who are you")
            case 9:
                return Throttled(1, "slower")
            case 10:
                return Throttled(20, "much slower")
        return Deferred("busy", "try again")

    def find(self, route: str, to: Envelope) -> Finding:
        """The list lags: what was taken may be missing in it for some seconds."""
        pick = self.dice.randint(0, 11)
        m = self.messages.get((to.delivery, to.attempt))
        if pick == 11:
            return Unknown("the look-up failed")
        if m is None or not m.taken or (pick % 2 and self.engine.clock.boottime() - m.at < 8):
            return Absent()
        if pick == 10 and not m.delivered:
            m.dead = True
        state = "delivered" if m.delivered else "failed" if m.dead else "accepted"
        return Found(m.id, state, "30008" if m.dead else None, of_route=m.dead and pick % 4 == 2)

    # ---- what must hold after every step -----------------------------------------------------------------------

    @invariant()
    def the_rules_hold(self) -> None:
        if not hasattr(self, "uid"):
            return
        assert not self.broken, self.broken
        self.follow_the_events()
        rows = self.engine.rows("SELECT id, state, attempt, provider_id, batch_id, reason FROM deliveries ORDER BY id")
        for delivery, state, attempt, provider_id, _, reason in rows:
            assert state == self.stands.get(delivery, state if state in ("queued", "skipped") else None)
            assert attempt == self.marks.get(delivery, 0)
            assert provider_id in (None, f"p{delivery}-{attempt}"), "an id of another attempt"
            live = [m.attempt for m in self.messages.values() if m.delivery == delivery and m.live]
            assert not (live and state in NOT_SENT), f"{delivery} is {state} ({reason}), but {live} was taken"
        for delivery, n, provider_id in self.engine.rows("SELECT delivery_id, n, provider_id FROM attempts"):
            assert provider_id in (None, f"p{delivery}-{n}"), "an id of another attempt"
        sums = self.engine.rows("SELECT * FROM batches")
        for batch in sums:
            states = {name[2:]: n for name, n in batch._mapping.items() if name.startswith("n_") and n}
            mine = [state for _, state, _, _, number, _ in rows if number == batch.id]
            assert batch.size == sum(states.values()) == len(mine)
            assert states == {s: mine.count(s) for s in mine}
        if (rows, sums) == self.proved:
            return  # nothing was written
        self.proved = (rows, sums)
        books = audit(self.engine.database)
        assert books.right, [f for f in books.findings if f.wrong]

    def follow_the_events(self) -> None:
        sql = f"SELECT id, delivery_id, attempt, old, new FROM delivery_events WHERE id > {self.seen} ORDER BY id"
        for number, delivery, attempt, old, new in self.engine.rows(sql):
            self.seen = number
            assert old == self.stands.get(delivery, "queued")
            rises = RANK.get(new, 0) > RANK.get(old, 0)
            assert new in TABLE.get(old, ()) or (new in RANK and rises), f"{old} to {new}"
            assert rises or RANK.get(old, 0) < 2, f"the rank fell: {old} to {new}"
            self.stands[delivery] = new
            if new == "sending":
                self.marks[delivery] = self.marks.get(delivery, 0) + 1
            assert attempt == self.marks[delivery] if delivery in self.marks else attempt == 0

    def teardown(self) -> None:
        """Whatever has happened: in the end everything has an end."""
        if not hasattr(self, "uid"):
            return
        for worker in self.workers:
            worker.die()
        if any(worker.fault for worker in self.workers) or self.broken:
            return
        self.kind = True
        for seconds in (60, 600, 60, 2 * RECEIPT_DEADLINE):
            self.engine.clock.turn(seconds)
            self.engine.planner.run_one(lowest=3)
            last = self.born()
            for _ in range(200):
                last.go()
                if not last.busy and not self.engine.rows("SELECT 1 FROM batches WHERE owner IS NOT NULL"):
                    break
            last.die()
        self.the_rules_hold()
        waiting = OPEN | ({"accepted"} if self.receipts else set())
        assert not [(d, s) for d, s in self.engine.rows("SELECT id, state FROM deliveries") if s in waiting]

    def born(self) -> Worker:
        self.births += 1
        return Worker(self.engine, f"worker-{self.births}")

    def declared(self, delivery: int) -> int:
        mine = f"delivery_id = {delivery} AND code = 'resent_unconfirmed' AND new = 'retrying'"
        return int(self.engine.rows(f"SELECT count(*) FROM delivery_events WHERE {mine}")[0][0])


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    make: Callable[[], str] | None = request.getfixturevalue("postgres_url") if request.param == "postgresql" else None
    engine = Engine(make() if make else f"sqlite:///{tmp_path_factory.mktemp('machine')}/x.db")
    with engine.clock.ticking():
        yield engine
    engine.close()


def run(engine: Engine, examples: int, steps: int = 30) -> None:
    bound = type("Bound", (Machine,), {"engine": engine})
    profile = settings(
        max_examples=examples, stateful_step_count=steps, derandomize=True, database=None, deadline=None,
        phases=[Phase.generate], suppress_health_check=list(HealthCheck), report_multiple_bugs=False,
    )  # fmt: skip
    run_state_machine_as_test(bound, settings=profile)


def test_the_rules_hold_in_any_order_of_events(engine: Engine) -> None:
    run(engine, 12)


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
def test_mutation_a_batch_that_is_not_fenced_breaks_them(engine: Engine) -> None:
    """Whoever had the lease once goes on writing: the books no longer say who is sending."""
    not_fenced = "id = ? AND coalesce(?, ?) IS NOT NULL"
    with mock.patch.object(batches, "_MINE", not_fenced), pytest.raises(AssertionError):
        run(engine, 500)


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
def test_mutation_evidence_of_a_lower_rank_breaks_them(engine: Engine) -> None:
    """The last receipt wins: what was delivered becomes accepted again, which the store refuses to write."""
    with (
        mock.patch.object(outcomes, "raised", lambda old, evidence: evidence),
        pytest.raises(ValueError, match="no way from"),
    ):
        run(engine, 500)
