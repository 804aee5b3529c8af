"""What the pages show of a monitor: states as words, marks and drawings. Pure functions from the service's views."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from broadcaster.console import readings, words
from broadcaster.domain.monitor import Kind
from broadcaster.domain.policy import Policy
from broadcaster.services import incidents, monitors
from broadcaster.services.monitors import Changed, MonitorView, Seen, VantageView, Window

#: What is not kept of a value that is far too long for a line.
_LONGEST: Final = 300


@dataclass(frozen=True, slots=True)
class Shown:
    """A monitor, ready to print. ``lately``: for how long it is so; ``trouble``: what is wrong with the watching itself."""

    uid: str
    name: str
    kind: str
    mark: words.Mark
    lately: str
    reason: str
    looked: str
    paused: bool
    maintenance: bool
    quiet: bool  # raises nothing
    trouble: tuple[str, ...]
    spark: readings.Spark


@dataclass(frozen=True, slots=True)
class Place:
    """A vantage: what it holds, and its looks in a row."""

    name: str
    mark: words.Mark | None
    in_a_row: str
    last: str
    following: str
    late: bool


@dataclass(frozen=True, slots=True)
class Step:
    """A change of state. ``evidence``: one line for each vantage."""

    at: str
    old: words.Mark
    new: words.Mark
    reason: str
    evidence: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Quiet:
    """A maintenance. ``mine``: of this monitor alone, so that it can be ended from its page."""

    uid: str
    note: str
    when: str
    mine: bool
    now: bool


@dataclass(frozen=True, slots=True)
class Standing:
    """The line with counts. ``links``: (words, address); ``tone``: trouble, waiting or well; ``says`` is all of it."""

    tone: str
    links: tuple[tuple[str, str], ...]
    says: str


def shown(view: MonitorView, kinds: Mapping[str, Kind], now: int, zone: str) -> Shown:
    """``now``: ms since the epoch."""
    last = view.recent[-1] if view.recent else None
    paused = view.paused_at is not None
    mark, since = _mark(view)
    return Shown(
        uid=view.uid,
        name=view.watch.name,
        kind=label(view.watch.kind, kinds),
        mark=mark,
        lately=words.since(since, now, zone),
        reason=_reason(view),
        looked=_looked(last, now, zone),
        paused=paused,
        maintenance=view.in_maintenance,
        quiet=view.watch.policy is None,
        trouble=() if paused else tuple(_late(v, now, zone) for v in view.vantages if v.late),
        spark=readings.spark(view.recent),
    )


def label(kind: str, kinds: Mapping[str, Kind]) -> str:
    return kinds[kind].label if kind in kinds else kind


def _mark(view: MonitorView) -> tuple[words.Mark, int]:
    """And since when. What a monitor last said is no state of its target once nobody looks."""
    if view.paused_at is not None:
        return words.PAUSED, view.paused_at
    if _unwatched(view):
        return words.UNWATCHED, max(v.last_at or view.created_at for v in view.vantages)
    return words.MONITOR_STATES[view.state], view.state_since


def _unwatched(view: MonitorView) -> bool:
    return bool(view.vantages) and all(v.late for v in view.vantages)


def _looked(last: Seen | None, now: int, zone: str) -> str:
    if last is None:
        return "No look yet"
    took = f", took {words.latency(last.latency_ms)}" if last.latency_ms is not None else ""
    return f"Last look {words.exact(last.at, now, zone)}{took}"


def _reason(view: MonitorView) -> str:
    if view.paused_at is not None or _unwatched(view):
        return f"Before that: {words.MONITOR_STATES[view.state].label.lower()}. {view.reason or ''}".strip()
    return view.reason or ("It has not been looked at yet." if not view.recent else "")


def _late(vantage: VantageView, now: int, zone: str) -> str:
    last = (
        "has never looked" if vantage.last_at is None else f"has not looked since {words.clock(vantage.last_at, now, zone)}"
    )
    return f"“{vantage.name}” {last}: no worker seems to run there."


# ---- the line with counts ------------------------------------------------------------------------------------------------


def standing(watched: monitors.Tally | None, open_: incidents.Tally) -> Standing | None:
    """``watched`` None: not for this caller. None where there is nothing to say."""
    links, tone = [], "well"
    if open_.undecided:
        verb = "waits" if open_.undecided == 1 else "wait"
        links.append((f"{open_.undecided} {words.plural(open_.undecided, 'incident')} {verb} for you", "/console/incidents"))
        tone = "waiting"
    elif open_.open:
        links.append((f"{open_.open} {words.plural(open_.open, 'incident')} open", "/console/incidents"))
    if watched is not None:
        found = [text for text in _counts(watched) if text]
        links = [*((text, "/console/monitors") for text in found), *links]
        if watched.down or watched.degraded or watched.unwatched or watched.unknown:
            tone = "trouble" if watched.down else "waiting"
        elif watched.ok:
            verb = "works" if watched.ok == 1 else "all work"
            links.append((f"{watched.ok} {words.plural(watched.ok, 'monitor')}: {verb}", "/console/monitors"))
    return Standing(tone, tuple(links), ", ".join(text for text, _ in links) + ".") if links else None


def _counts(watched: monitors.Tally) -> Iterator[str]:
    for n, what in ((watched.down, "down"), (watched.degraded, "working badly"), (watched.unknown, "not known")):
        yield f"{n} {words.plural(n, 'monitor')} {what}" if n else ""
    n = watched.unwatched
    yield f"{n} {words.plural(n, 'monitor')} not looked at by anybody" if n else ""


# ---- one monitor ---------------------------------------------------------------------------------------------------------


def place(vantage: VantageView, now: int, zone: str) -> Place:
    return Place(
        name=vantage.name,
        mark=None if vantage.holds is None else words.VERDICTS[vantage.holds],
        in_a_row=_in_a_row(vantage.in_a_row) or "no look yet",
        last="never" if vantage.last_at is None else words.exact(vantage.last_at, now, zone),
        following="paused" if vantage.next_at is None else words.exact(vantage.next_at, now, zone),
        late=vantage.late,
    )


def step(change: Changed, now: int, zone: str) -> Step:
    return Step(
        at=words.exact(change.at, now, zone),
        old=words.MONITOR_STATES[change.old],
        new=words.MONITOR_STATES[change.new],
        reason=change.reason or "",
        evidence=tuple(_evidence(name, held) for name, held in change.evidence.items()),
    )


def _evidence(name: str, held: Mapping[str, Any]) -> str:
    """``held``: a streak's fields that are not empty."""
    mark = words.VERDICTS.get(str(held.get("holds")))
    row = _in_a_row(held)
    return f"{name}: {mark.label.lower() if mark else 'nothing yet'}{f' ({row})' if row else ''}"


def _in_a_row(held: Mapping[str, Any]) -> str:
    names = {"failed": "failed", "degraded": "bad", "ok": "good", "unknown": "without an answer"}
    row = [f"{words.count(held[name])} {said}" for name, said in names.items() if held.get(name)]
    return f"{', '.join(row)} in a row" if row else ""


def settings(view: MonitorView) -> list[tuple[str, str]]:
    """Its config as (name, value), and of what is secret only that it is there."""
    found = [(_name(pointer), _value(value)) for pointer, value in _leaves(view.watch.config, "")]
    return [*found, *((_name(pointer) if pointer else "secrets", "kept, and never shown") for pointer in view.secrets)]


def _leaves(value: Any, pointer: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for name, part in value.items():
            yield from _leaves(part, f"{pointer}/{name}")
    else:
        yield pointer, value


def _name(pointer: str) -> str:
    return ", ".join(part.replace("_", " ") for part in pointer.split("/")[1:])


def _value(value: Any) -> str:
    match value:
        case None | "" | []:
            return "–"
        case bool():
            return "yes" if value else "no"
        case list() if all(isinstance(part, str | int | float) for part in value):
            said = ", ".join(map(str, value))
        case str() | int() | float():
            said = str(value)
        case _:
            said = json.dumps(value)
    return said if len(said) <= _LONGEST else f"{said[:_LONGEST]}…"


def rules(view: MonitorView) -> list[tuple[str, str]]:
    """When it looks and what it makes of it, in sentences."""
    w = view.watch
    found = [
        ("Looks", f"every {words.span(w.interval)}; an answer may take {words.span(w.timeout)}"),
        ("Down", f"after {w.failures} failed {words.plural(w.failures, 'look')} in a row"),
        ("Works again", f"after {w.successes} good {words.plural(w.successes, 'look')} in a row{_hold_down(w.hold_down)}"),
    ]
    if len(w.vantages) > 1:
        found.append(("Agreement", f"{w.quorum} of {len(w.vantages)} places that look have to see it"))
    if w.control:
        found.append(("Cross-check", f"{w.control}: when that cannot be reached either, the fault is taken for our own"))
    return found


def _hold_down(seconds: float) -> str:
    return f", and {words.span(seconds)} without a failed one" if seconds else ""


def consequence(policy: Policy | None, labels: Mapping[str, str]) -> list[tuple[str, str]]:
    """What happens when it is down, in sentences."""
    if policy is None:
        return [("Then", "nothing is sent: it only watches")]
    told = told_how(policy, labels)
    found = [("Then", f"{words.SEVERITIES[policy.severity][0]} alert to {words.audience(policy.audience)} by {told}")]
    found.append(("It is sent", words.RELEASES[policy.release].format(hold=words.span(policy.hold))))
    if policy.group:
        found.append(("Told together", f"with what else fails in “{policy.group}”"))
    if policy.on_degraded:
        found.append(("Also", "when it works badly"))
    if policy.remind_every:
        found.append(("Said again", f"every {words.span(policy.remind_every)} until it is over"))
    over = "everyone who may have got the alert is told so" if policy.all_clear else "nobody is told so"
    return [*found, ("When it is over", over), *([("Drill", "its alerts are marked as a drill")] if policy.drill else [])]


def told_how(policy: Policy, labels: Mapping[str, str]) -> str:
    """SMS and Slack, and after 10 minutes by web push to those not reached."""
    steps = [(words.listed([labels.get(name, name) for name in names]), after) for names, after in policy.steps]
    later = [f", and after {words.span(after)} by {names} to those not reached" for names, after in steps[1:]]
    return steps[0][0] + "".join(later)


def window(of: Window, now: int, zone: str) -> Quiet:
    begun = of.from_at <= now
    when = f"until {words.clock(of.until_at, now, zone)}"
    when = when if begun else f"from {words.clock(of.from_at, now, zone)} {when}"
    return Quiet(of.uid, of.note, when, of.monitor is not None, begun)


def windows_of(uid: str, windows: Sequence[Window], now: int) -> list[Window]:
    """Maintenance of this monitor that is or will be, and of all monitors."""
    return sorted((w for w in windows if w.until_at > now and w.monitor in (uid, None)), key=lambda w: w.from_at)
