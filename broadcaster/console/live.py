"""What the pages show of an alert: counts as words, bars and rows. Pure functions from the service's views."""

from dataclasses import dataclass
from typing import Final

from broadcaster.console import words
from broadcaster.domain.lifecycle import OPEN, State
from broadcaster.services.progress import AlertView, ChannelView, RouteTrouble

#: Above it, people are not counted one by one while the alert is running (a scan of its deliveries).
COUNT_PEOPLE_UP_TO: Final = 5_000
_BAR: Final = 1000  # the bar's width in its own units


@dataclass(frozen=True, slots=True)
class Segment:
    tone: str
    x: int
    width: int


@dataclass(frozen=True, slots=True)
class Bar:
    """One channel, or all: a stacked bar and the sentence that says the same."""

    name: str
    label: str
    reached: str
    targeted: str
    percent: str
    segments: tuple[Segment, ...]
    says: str


@dataclass(frozen=True, slots=True)
class Row:
    """One state: its count for each channel and the sum."""

    state: str
    word: words.Word
    counts: tuple[str, ...]
    total: str
    empty: bool


@dataclass(frozen=True, slots=True)
class Number:
    value: str
    unit: str
    label: str


@dataclass(frozen=True, slots=True)
class Live:
    """Everything on the live page that changes."""

    uid: str
    state: str
    state_word: tuple[str, str]
    complete: bool
    numbers: tuple[Number, ...]
    total: Bar
    bars: tuple[Bar, ...]
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    unreached: int
    trouble: tuple[str, ...]
    unreachable: int
    stopped: int
    says: str  # one sentence, for screen readers and the page's title


def is_complete(view: AlertView) -> bool:
    """Nothing will change any more but by late evidence."""
    if view.state == "cancelled":
        return not any(c.counts[s] for c in view.channels for s in OPEN)
    return view.state == "completed" or view.completed_at is not None


def counts_people_exactly(view: AlertView) -> bool:
    """Whether each reachable person has one delivery, so that counting deliveries counts people."""
    return view.people is not None and view.targeted <= view.people - (view.unreachable or 0)


def live(view: AlertView, people_reached: int | None, zone: str) -> Live:
    """``people_reached`` is None where it is not known; the page then counts messages."""
    total = sum(c.targeted for c in view.channels)
    sums = {s: sum(c.counts[s] for c in view.channels) for s in State}
    taken = sum(c.counts[State.ACCEPTED] for c in view.channels if final_when_taken(c))
    return Live(
        uid=view.uid,
        state=view.state,
        state_word=words.ALERT_STATES[view.state],
        complete=is_complete(view),
        numbers=_numbers(view, people_reached),
        total=_bar("all", "All channels", total, view.reached, sums, taken),
        bars=tuple(
            _bar(
                c.name, c.label, c.targeted, c.reached, _by_state(c), c.counts[State.ACCEPTED] if final_when_taken(c) else 0
            )
            for c in view.channels
        ),
        columns=tuple(c.label for c in view.channels),
        rows=tuple(_row(state, view) for state in words.STATES),
        unreached=max(total - view.reached, 0),
        trouble=tuple(_trouble(view, t, zone) for t in view.routes),
        unreachable=view.unreachable or 0,
        stopped=sums[State.CANCELLED],
        says=_sentence(view, people_reached),
    )


def final_when_taken(channel: ChannelView) -> bool:
    """Whether the service counts what this channel's provider took as reached: it gives no receipts."""
    return channel.counts[State.ACCEPTED] > 0 and channel.reached > channel.counts[State.DELIVERED]


def _trouble(view: AlertView, route: RouteTrouble, zone: str) -> str:
    label = next((c.label for c in view.channels if route.name.startswith(f"{c.name}:")), "")
    reason = route.reason.rstrip(".") or "paused"
    return f"{label or 'Route'}: {reason}. Next try {words.moment(route.until_ms, zone)}. (Route {route.name})"


def _numbers(view: AlertView, people: int | None) -> tuple[Number, ...]:
    if view.state == "planning" and not view.targeted:
        reach = Number("–", "still counting", "people reached")
    elif people is not None and view.people is not None:
        reach = Number(words.count(people), f"of {words.count(view.people)}", "people reached")
    else:
        reach = Number(words.count(view.reached), f"of {words.count(view.targeted)}", "messages arrived")
    first, last = (None if at is None else at - view.created_at for at in (view.first_reached_at, view.last_reached_at))
    everyone = view.targeted > 0 and view.reached >= view.targeted and view.state != "planning"
    return (
        reach,
        Number(*_clock(first), "until the first arrived"),
        Number(*_clock(last), "until everyone had it" if everyone else "until the latest arrived"),
    )


def _clock(ms: int | None) -> tuple[str, str]:
    if ms is None:
        return "–", "not yet"
    if ms < 600_000:
        return words.seconds(ms), "seconds"
    return words.count(ms // 60_000), "minutes"


def _bar(name: str, label: str, targeted: int, reached: int, counts: dict[State, int], taken_for_good: int) -> Bar:
    tones: dict[str, int] = {}
    for state, word in words.STATES.items():
        tones[word.tone] = tones.get(word.tone, 0) + counts[state]
    tones["arrived"] += taken_for_good
    tones["taken"] -= taken_for_good
    segments, x, seen = [], 0, 0
    for tone, n in tones.items():
        seen += n
        end = _BAR * seen // targeted if targeted else 0
        segments.append(Segment(tone, x, end - x))
        x = end
    says = ", ".join(f"{words.count(counts[s])} {w.label.lower()}" for s, w in words.STATES.items() if counts[s])
    return Bar(
        name, label, words.count(reached), words.count(targeted), words.percent(reached, targeted), tuple(segments),
        says or "no messages yet",
    )  # fmt: skip


def _row(state: State, view: AlertView) -> Row:
    numbers = [c.counts[state] for c in view.channels]
    word = words.STATES[state]
    if state is State.ACCEPTED and view.channels and all(final_when_taken(c) or not c.counts[state] for c in view.channels):
        word = words.TAKEN_FOR_GOOD if any(numbers) else word
    return Row(state.value, word, tuple(map(words.count, numbers)), words.count(sum(numbers)), not any(numbers))


def _sentence(view: AlertView, people: int | None) -> str:
    state = words.ALERT_STATES[view.state][0]
    if view.state == "planning":
        return f"{state}."
    if people is not None and view.people is not None:
        return f"{state}. {words.count(people)} of {words.count(view.people)} people reached."
    return f"{state}. {words.count(view.reached)} of {words.count(view.targeted)} messages arrived."


def _by_state(channel: ChannelView) -> dict[State, int]:
    return {State(name): n for name, n in channel.counts.items()}
