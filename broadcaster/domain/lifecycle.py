"""The states of a delivery and the only ways between them (the table is data).

What lives here: states, ranks, the transition table, and what evidence does to a state.
What does not: SQL (``store.deliveries``) and who calls it when (``services``).
"""

from enum import StrEnum
from typing import Final


class State(StrEnum):
    """Where one delivery stands. Each value is a column ``n_<state>`` of its batch."""

    QUEUED = "queued"  # planned, not yet picked up
    SENDING = "sending"  # marked and committed; the provider may be reading it right now
    RETRYING = "retrying"  # certainly not sent; due again at next_at
    UNCERTAIN = "uncertain"  # may have been sent; must be found out before anything is sent again
    ACCEPTED = "accepted"  # the provider took it
    DELIVERED = "delivered"  # a receipt says it arrived
    FAILED = "failed"  # refused for good
    SKIPPED = "skipped"  # not wanted: opted out, address disabled
    CANCELLED = "cancelled"  # stopped by an operator before it left
    EXPIRED = "expired"  # its time ran out before it left
    UNCONFIRMED = "unconfirmed"  # may have arrived; no proof by its deadline


STATES: Final = tuple(State)

#: A delivery in one of these may still leave, or has left and may still change without new evidence.
OPEN: Final = frozenset({State.QUEUED, State.SENDING, State.RETRYING, State.UNCERTAIN})

#: Nothing has left for these: cancelling and expiry may take them.
UNSENT: Final = frozenset({State.QUEUED, State.RETRYING})

#: Whoever is in one of these may have the message: an all-clear goes to them.
MAY_HAVE_IT: Final = frozenset({State.SENDING, State.UNCERTAIN, State.ACCEPTED, State.UNCONFIRMED, State.DELIVERED})

#: Evidence only ever raises the rank. States that are not named rank below all evidence.
RANK: Final[dict[State, int]] = {State.ACCEPTED: 1, State.FAILED: 2, State.DELIVERED: 3}

_EVIDENCE: Final = {State.ACCEPTED: "accepted", State.FAILED: "failed", State.DELIVERED: "delivered"}

#: from -> {to: why}. Evidence edges are added below for every state.
TRANSITIONS: Final[dict[State, dict[State, str]]] = {
    State.QUEUED: {
        State.SENDING: "chunk marked, committed before the wire",
        State.SKIPPED: "the address was disabled after planning",
        State.CANCELLED: "operator or resolution",
        State.EXPIRED: "past expires_at",
        State.UNCONFIRMED: "it will not be sent again, and an earlier attempt may have arrived",
    },
    State.RETRYING: {
        State.SENDING: "chunk marked, committed before the wire",
        State.SKIPPED: "the address was disabled after planning",
        State.CANCELLED: "operator or resolution",
        State.EXPIRED: "past expires_at",
        State.UNCONFIRMED: "it will not be sent again, and an earlier attempt may have arrived",
    },
    State.SENDING: {
        State.ACCEPTED: "the provider took it",
        State.RETRYING: "certainly not sent: deferred or throttled",
        State.FAILED: "refused for good, or attempts spent",
        State.QUEUED: "the channel itself is refused; route paused",
        State.UNCERTAIN: "may have been sent, or the lease ran out",
        State.UNCONFIRMED: "its repeat was refused, and an earlier attempt may have arrived",
    },
    State.UNCERTAIN: {
        State.RETRYING: "looked up twice and absent, a repeat collapses, or declared resend",
        State.UNCONFIRMED: "still unknown at expires_at",
    },
    State.ACCEPTED: {
        State.UNCONFIRMED: "no receipt by its deadline",
        State.RETRYING: "finally undelivered for a reason of the route's; another route is open",
    },
    State.UNCONFIRMED: {},
    State.DELIVERED: {},
    State.FAILED: {},
    State.SKIPPED: {},
    State.CANCELLED: {},
    State.EXPIRED: {},
}


def rank(state: State) -> int:
    """How strong the evidence behind ``state`` is; 0 where there is none."""
    return RANK.get(state, 0)


def allowed(old: State, new: State) -> bool:
    """Whether the table, or evidence of a higher rank, leads from ``old`` to ``new``."""
    return new in TRANSITIONS[old] or (new in _EVIDENCE and rank(new) > rank(old))


def raised(old: State, evidence: State) -> State | None:
    """The state after ``evidence`` (accepted, failed or delivered), or None when it proves nothing new.

    Late evidence counts against final states too: a receipt after expiry still means that it arrived.
    """
    if evidence not in _EVIDENCE:
        raise ValueError(f"{evidence} is no evidence")
    return evidence if rank(evidence) > rank(old) else None


def is_final(state: State, *, gives_receipts: bool) -> bool:
    """Whether nothing but late evidence will change it. ``accepted`` is final where no receipts come."""
    if state is State.ACCEPTED:
        return not gives_receipts
    return state not in OPEN
