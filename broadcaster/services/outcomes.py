"""What an outcome, a finding or a passed deadline does to a delivery. Pure decisions; ``delivering`` writes them.

Everything is a function of the row as it is locked *now*, so evidence that came in early is never overwritten.
"""

from dataclasses import dataclass
from typing import Final, assert_never

from broadcaster.domain import retrying
from broadcaster.domain.channel import Traits
from broadcaster.domain.lifecycle import State, raised
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
from broadcaster.store.deliveries import Change, DeliveryRow

#: The code of a delivery whose one declared resend has been ordered.
DECLARED: Final = "resent_unconfirmed"


@dataclass(frozen=True, slots=True)
class Context:
    """What the decision needs besides the row. Times in ms since the epoch."""

    traits: Traits
    now: int
    expires_at: int
    critical: bool
    jitter: float = 0.5


def after_outcome(row: DeliveryRow, attempt: int, outcome: Outcome, ctx: Context) -> Change | None:
    """The change an outcome of attempt number ``attempt`` makes; None where it changes nothing.

    A row that has gone on to another attempt, or whose receipt came before this answer, keeps its state.
    """
    mine = row.attempt == attempt and row.state in (State.SENDING, State.UNCERTAIN)
    match outcome:
        case Accepted(provider_id, cost):
            return _evidence(row, State.ACCEPTED, ctx, provider_id=provider_id, cost=cost)
        case Rejected(Scope.CHANNEL, code, reason) if mine:
            if row.state is State.UNCERTAIN:
                return _again(row, ctx.now, code, reason, spent=False)
            return _change(row, State.QUEUED, ctx.now, code=code, reason=reason)
        case Rejected(_, code, reason) if mine:
            return _change(row, State.FAILED, None, code=code, reason=reason)
        case Deferred(code, reason) if mine:
            wait = retrying.backoff(row.tries + 1, ctx.jitter)
            if wait is None:
                return _change(row, State.FAILED, None, code=code, reason=reason, tries=row.tries + 1)
            return _again(row, min(ctx.now + int(wait * 1000), ctx.expires_at), code, reason, spent=True)
        case Throttled(retry_after, code) if mine:
            return _again(
                row, min(ctx.now + int(retry_after * 1000), ctx.expires_at), code, "told to slow down", spent=False
            )
        case Ambiguous(code, reason) if mine and row.state is State.SENDING:
            return doubt(row, ctx, code, reason)
        case Rejected() | Deferred() | Throttled() | Ambiguous():
            return None
        case _:
            assert_never(outcome)


def doubt(row: DeliveryRow, ctx: Context, code: str, reason: str) -> Change:
    """It may have been sent. A channel whose repeats collapse is simply asked again, the others are looked up."""
    sent_at = row.sent_at or ctx.now
    wait = retrying.BACKOFF[0] if ctx.traits.duplicates_collapse else retrying.lookup_wait(0)
    due = max(ctx.now, sent_at + int(wait * 1000))
    return _change(row, State.UNCERTAIN, due, code=code, reason=reason, lookups=0, absences=0)


def after_finding(row: DeliveryRow, finding: Finding, ctx: Context) -> Change | None:
    """What a look-up of an uncertain row tells."""
    if row.state is not State.UNCERTAIN:
        return None
    sent_at = row.sent_at or ctx.now
    match finding:
        case Found(provider_id, state, code):
            return _evidence(row, State(state), ctx, provider_id=provider_id, cost=None, code=code)
        case Absent():
            late_enough = ctx.now - sent_at >= int(retrying.LOOKUPS[1] * 1000)
            if row.absences + 1 >= retrying.ABSENCES_NEEDED and late_enough:
                return _again(row, ctx.now, "absent", "looked up twice, not at the provider", spent=True)
            return _look_again(row, ctx, absences=row.absences + 1)
        case Unknown():
            return _look_again(row, ctx, absences=row.absences)
        case _:
            assert_never(finding)


def without_look_up(row: DeliveryRow, ctx: Context) -> Change | None:
    """An uncertain row of a channel that cannot look up, or before a look-up: does time decide?"""
    if ctx.now >= ctx.expires_at:
        return _change(row, State.UNCONFIRMED, None, code=row.code, reason="no certainty before its time ran out")
    if ctx.traits.duplicates_collapse:
        return _again(row, ctx.now, "repeat_collapses", "sent again; it replaces the first on the screen", spent=True)
    age = ctx.now - (row.sent_at or ctx.now)
    if ctx.critical and age >= int(retrying.RESEND_UNCONFIRMED_AFTER * 1000):
        if row.code == DECLARED:
            return None  # declared once, never twice
        return _again(row, ctx.now, DECLARED, "fate unknown for a minute: declared resend", spent=True)
    return None


def no_receipt(row: DeliveryRow) -> Change:
    """An accepted row whose receipt did not come by its deadline."""
    return _change(row, State.UNCONFIRMED, None, code="no_receipt", reason="taken by the provider; no receipt came")


def unsent(row: DeliveryRow, new: State, code: str, reason: str) -> Change:
    """A row that has not left, and will not: cancelled, expired or skipped."""
    return _change(row, new, None, code=code, reason=reason)


def mark(row: DeliveryRow, route: str, now: int) -> Change:
    """The next attempt begins. Committed before anything is written to a socket."""
    return Change(
        row, State.SENDING, None, attempt=row.attempt + 1, tries=row.tries, route=route, sent_at=now,
        code=row.code if row.code == DECLARED else None,
    )  # fmt: skip


def receipt(
    row: DeliveryRow,
    attempt: int,
    state: State,
    ctx: Context,
    *,
    code: str | None,
    reason: str | None,
    provider_id: str | None = None,
) -> Change | None:
    """What a callback about one attempt does. A failure concerns its own attempt only; success concerns the delivery."""
    if state is State.FAILED and attempt != row.attempt:
        return None
    return _evidence(
        row, state, ctx, provider_id=provider_id if attempt == row.attempt else None, cost=None, code=code, reason=reason
    )


def _evidence(
    row: DeliveryRow,
    state: State,
    ctx: Context,
    *,
    provider_id: str | None,
    cost: int | None,
    code: str | None = None,
    reason: str | None = None,
) -> Change | None:
    new = raised(row.state, state)
    if new is None:
        if provider_id is None or row.provider_id is not None:
            return None
        return _change(row, row.state, row.next_at, code=row.code, reason=row.reason, provider_id=provider_id, cost=cost)
    due = None
    if new is State.ACCEPTED and ctx.traits.gives_receipts:
        due = ctx.now + int(ctx.traits.receipt_deadline * 1000)
    return _change(row, new, due, code=code, reason=reason, provider_id=provider_id, cost=cost)


def _again(row: DeliveryRow, due: int, code: str, reason: str, *, spent: bool) -> Change:
    return _change(row, State.RETRYING, due, code=code, reason=reason, tries=row.tries + spent)


def _look_again(row: DeliveryRow, ctx: Context, *, absences: int) -> Change:
    lookups = row.lookups + 1
    due = max((row.sent_at or ctx.now) + int(retrying.lookup_wait(lookups) * 1000), ctx.now + 1000)
    if ctx.critical:
        due = min(due, max(ctx.now + 1000, (row.sent_at or ctx.now) + int(retrying.RESEND_UNCONFIRMED_AFTER * 1000)))
    due = min(due, max(ctx.expires_at, ctx.now + 1000))
    return _change(row, row.state, due, code=row.code, reason=row.reason, lookups=lookups, absences=absences)


def _change(
    row: DeliveryRow,
    new: State,
    due: int | None,
    *,
    code: str | None,
    reason: str | None,
    tries: int | None = None,
    lookups: int | None = None,
    absences: int | None = None,
    provider_id: str | None = None,
    cost: int | None = None,
) -> Change:
    if row.code == DECLARED and new in (State.QUEUED, State.RETRYING, State.UNCERTAIN):
        code = DECLARED  # whatever happens to the resend, it is declared once
    return Change(
        row,
        new,
        due,
        attempt=row.attempt,
        tries=row.tries if tries is None else tries,
        lookups=row.lookups if lookups is None else lookups,
        absences=row.absences if absences is None else absences,
        route=row.route,
        provider_id=provider_id,
        cost=cost,
        code=code,
        reason=reason,
        sent_at=row.sent_at,
    )
