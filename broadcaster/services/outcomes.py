"""What an outcome, a finding or a passed deadline does to a delivery. Pure decisions; ``delivering`` writes them.

Everything is a function of the row as it is locked *now*, so evidence that came in early is never overwritten.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, assert_never

from broadcaster.domain import breaking, retrying
from broadcaster.domain.channel import Traits
from broadcaster.domain.lifecycle import State, raised
from broadcaster.domain.outcomes import (
    OURS,
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

#: The code of the event that orders a declared resend.
DECLARED: Final = "resent_unconfirmed"

#: The code of an attempt that was repeated because the provider did not list it.
ABSENT: Final = "absent"
_OUR_DEED: Final = ("lease_expired", "internal_error")  # that says nothing of the provider

_KEEP: Final = "*"  # leave ``avoid`` as it is

#: ``DeliveryRow.doubt``: what earlier attempts leave behind.
NO_DOUBT: Final = 0
MAY_HAVE_LEFT: Final = 1
WAS_DECLARED: Final = 2


@dataclass(frozen=True, slots=True)
class Context:
    """What the decision needs besides the row. Times in ms since the epoch.

    ``routes``: the channel's routes in order; ``usable``: those of them that are neither paused nor broken.
    """

    traits: Traits
    now: int
    expires_at: int
    critical: bool
    jitter: float = 0.5
    routes: tuple[str, ...] = ()
    usable: tuple[str, ...] = ()


def after_outcome(row: DeliveryRow, attempt: int, outcome: Outcome, ctx: Context) -> Change | None:
    """The change an outcome of attempt number ``attempt`` makes; None where it changes nothing.

    A row that has gone on to another attempt, or whose receipt came before this answer, keeps its state.
    """
    mine = row.attempt == attempt and row.state in (State.SENDING, State.UNCERTAIN)
    match outcome:
        case Accepted(provider_id, cost):
            if attempt <= row.void:
                return None  # its final receipt was here before this answer
            if attempt != row.attempt:  # its id and cost belong to that attempt, which is kept elsewhere
                provider_id = cost = None
            return _evidence(row, State.ACCEPTED, ctx, provider_id=provider_id, cost=cost)
        case Rejected(Scope.CHANNEL, code, reason) if mine:
            if row.state is State.UNCERTAIN:
                return _again(row, ctx.now, code, reason, spent=False)
            return _change(row, State.QUEUED, ctx.now, code=code, reason=reason)
        case Rejected(Scope.MESSAGE, code, reason) if mine and _untried(row, ctx.routes):
            # What this provider cannot carry (a country, a length) the next one may.
            wait = 0.0 if _others(row, ctx) else retrying.backoff(row.tries + 1, ctx.jitter)
            if wait is None:
                return _ended(row, State.FAILED, code, reason)
            return _again(row, ctx.now + int(wait * 1000), code, reason, spent=True, avoid=_avoiding(row))
        case Rejected(_, code, reason) if mine:
            return _ended(row, State.FAILED, code, reason)
        case Deferred(code, reason) if mine and code in OURS:
            return _again(row, ctx.now, code, reason, spent=False)
        case Deferred(code, reason) if mine:
            wait = retrying.backoff(row.tries + 1, ctx.jitter)
            if wait is None:
                return _ended(row, State.FAILED, code, reason)
            if _others(row, ctx):
                return _again(row, ctx.now, code, reason, spent=True, avoid=_avoiding(row))
            return _again(row, min(ctx.now + int(wait * 1000), ctx.expires_at), code, reason, spent=True, avoid=None)
        case Throttled(retry_after, code) if mine:
            # A long pause is not waited for where there is another route; the choice of it knows of the pause.
            elsewhere = _others(row, ctx) and (ctx.critical or retry_after * 1000 > breaking.BRIEF)
            due = ctx.now if elsewhere else min(ctx.now + int(retry_after * 1000), ctx.expires_at)
            return _again(row, due, code, "told to slow down", spent=False)
        case Ambiguous(code, reason) if mine and row.state is State.SENDING:
            return doubt(row, ctx, code, reason)
        case Rejected() | Deferred() | Throttled() | Ambiguous():
            return None
        case _:
            assert_never(outcome)


def doubt(row: DeliveryRow, ctx: Context, code: str, reason: str) -> Change:
    """It may have been sent. A channel whose repeats collapse is simply asked again, the others are looked up."""
    sent_at = row.sent_at or ctx.now
    if ctx.traits.duplicates_collapse:
        wait = retrying.collapsing_wait(row.tries)
    else:
        wait = retrying.lookup_wait(0, critical=ctx.critical)
    due = max(ctx.now, sent_at + int(wait * 1000))
    return _change(row, State.UNCERTAIN, due, code=code, reason=reason, lookups=0, absences=0)


def after_finding(row: DeliveryRow, finding: Finding, ctx: Context, repeats: int = 0) -> Change | None:
    """What a look-up of an uncertain row tells. ``repeats``: attempts before this one that ended as ``ABSENT``."""
    if row.state is not State.UNCERTAIN:
        return None
    sent_at = row.sent_at or ctx.now
    match finding:
        case Found(provider_id, state, code, of_route):
            if of_route and state == State.FAILED:
                return _undelivered(row, ctx, code, "not delivered", provider_id)
            return _evidence(row, State(state), ctx, provider_id=provider_id, cost=None, code=code)
        case Absent():
            # Where its route has been given up meanwhile it takes the next one at once.
            patience = 0.0 if _given_up(row, ctx) else retrying.patience(repeats, critical=ctx.critical)
            certain = sent_at + int((retrying.certain_after(critical=ctx.critical) + patience) * 1000)
            if row.absences + 1 >= retrying.ABSENCES_NEEDED and ctx.now >= certain:
                code = row.code if row.code in _OUR_DEED else ABSENT
                return _again(row, ctx.now, code, "looked up twice, not at the provider", spent=True)
            return _look_again(row, ctx, absences=row.absences + 1, certain=certain)
        case Unknown():
            return _look_again(row, ctx, absences=row.absences, certain=sent_at)
        case _:
            assert_never(finding)


def without_look_up(row: DeliveryRow, ctx: Context) -> Change | None:
    """An uncertain row of a channel that cannot look up, or before a look-up: does time decide?"""
    if ctx.now >= ctx.expires_at:
        return _change(row, State.UNCONFIRMED, None, code=row.code, reason="no certainty before its time ran out")
    if ctx.traits.duplicates_collapse:
        reason = "sent again; it replaces the first on the screen"
        return _again(row, ctx.now, "repeat_collapses", reason, spent=True, doubt=max(row.doubt, MAY_HAVE_LEFT))
    age = ctx.now - (row.sent_at or ctx.now)
    if ctx.critical and age >= int(retrying.RESEND_UNCONFIRMED_AFTER * 1000):
        if row.doubt == WAS_DECLARED:
            return None  # declared once, never twice
        reason = "fate unknown for a minute: declared resend"
        return _again(row, ctx.now, DECLARED, reason, spent=True, doubt=WAS_DECLARED, avoid=_avoiding(row))
    return None


def postponed(row: DeliveryRow, due: int) -> Change:
    """Nothing but its time has changed."""
    return _change(row, row.state, due, code=row.code, reason=row.reason)


def no_receipt(row: DeliveryRow) -> Change:
    """An accepted row whose receipt did not come by its deadline."""
    return _change(row, State.UNCONFIRMED, None, code="no_receipt", reason="taken by the provider; no receipt came")


def unsent(row: DeliveryRow, new: State, code: str, reason: str) -> Change | None:
    """A row that has not left, and will not: cancelled, expired or skipped."""
    return _ended(row, new, code, reason)


def mark(row: DeliveryRow, route: str, now: int) -> Change:
    """The next attempt begins. Committed before anything is written to a socket."""
    return Change(
        row, State.SENDING, None, attempt=row.attempt + 1, tries=row.tries, doubt=row.doubt, void=row.void,
        avoid=row.avoid, route=route, sent_at=now,
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
    of_route: bool = False,
) -> Change | None:
    """What a callback about one attempt does. A failure concerns its own attempt only; success concerns the delivery.

    ``of_route``: it failed for a reason of the route's, so another route may reach the recipient.
    """
    if state is State.FAILED:
        if attempt != row.attempt or attempt <= row.void or raised(row.state, state) is None:
            return None
        if of_route:
            return _undelivered(row, ctx, code, reason, provider_id)
        if row.doubt:
            return _ended(row, State.FAILED, code, reason, provider_id=provider_id)
    if state is State.ACCEPTED and attempt <= row.void:
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


def _undelivered(
    row: DeliveryRow, ctx: Context, code: str | None, reason: str | None, provider_id: str | None
) -> Change | None:
    """The route took it and then gave it up: it moves to the next route, if one is usable and there is time."""
    if row.state in (State.QUEUED, State.RETRYING):
        return None  # it is sent again already
    moves = row.state in (State.SENDING, State.UNCERTAIN, State.ACCEPTED) and _others(row, ctx)
    if row.doubt or not moves or ctx.now >= ctx.expires_at:
        return _ended(row, State.FAILED, code, reason, provider_id=provider_id)
    avoid = _avoiding(row)
    return _again(row, ctx.now, code, reason, spent=True, avoid=avoid, void=row.attempt, provider_id=provider_id)


def _ended(
    row: DeliveryRow, new: State, code: str | None, reason: str | None, *, provider_id: str | None = None
) -> Change | None:
    """It will not be sent again. Where an earlier attempt may have arrived, that is all that can be said."""
    if not row.doubt:
        return _change(row, new, None, code=code, reason=reason, provider_id=provider_id)
    if row.state is State.UNCONFIRMED:
        return None
    reason = f"an earlier attempt may have arrived; the last: {reason}" if reason else "an earlier attempt may have arrived"
    return _change(row, State.UNCONFIRMED, None, code=code, reason=reason, provider_id=provider_id)


def _others(row: DeliveryRow, ctx: Context) -> bool:
    """Whether there is a usable route on which it was not yet tried in vain."""
    return _untried(row, ctx.usable)


def _untried(row: DeliveryRow, names: Sequence[str]) -> bool:
    tried = {*(row.avoid or "").split(","), row.route}
    return any(name not in tried for name in names)


def _avoiding(row: DeliveryRow) -> str:
    return ",".join(dict.fromkeys([*(row.avoid or "").split(","), row.route or ""])).strip(",")


def _again(
    row: DeliveryRow,
    due: int,
    code: str | None,
    reason: str | None,
    *,
    spent: bool,
    doubt: int | None = None,
    void: int | None = None,
    avoid: str | None = _KEEP,
    provider_id: str | None = None,
) -> Change:
    change = _change(row, State.RETRYING, due, code=code, reason=reason, tries=row.tries + spent, provider_id=provider_id)
    return replace(
        change,
        doubt=row.doubt if doubt is None else doubt,
        void=row.void if void is None else void,
        avoid=row.avoid if avoid is _KEEP else avoid,
    )


def _given_up(row: DeliveryRow, ctx: Context) -> bool:
    return bool(ctx.usable) and row.route not in ctx.usable


def _look_again(row: DeliveryRow, ctx: Context, *, absences: int, certain: int) -> Change:
    """``certain``: before then no absence is the last one needed (ms since the epoch)."""
    lookups = row.lookups + 1
    sent_at = row.sent_at or ctx.now
    due = max(sent_at + int(retrying.lookup_wait(lookups, critical=ctx.critical) * 1000), ctx.now + 1000)
    if absences > row.absences:  # the next one may settle it
        due = min(due, max(certain, ctx.now + int(retrying.BETWEEN_ABSENCES * 1000)))
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
    return Change(
        row,
        new,
        due,
        attempt=row.attempt,
        tries=row.tries if tries is None else tries,
        lookups=row.lookups if lookups is None else lookups,
        absences=row.absences if absences is None else absences,
        doubt=row.doubt,
        void=row.void,
        avoid=row.avoid,
        route=row.route,
        provider_id=provider_id,
        cost=cost,
        code=code,
        reason=reason,
        sent_at=row.sent_at,
    )
