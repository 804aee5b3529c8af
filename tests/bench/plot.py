"""One picture of a run, as SVG: rates side by side, the whole service over time, the cost of a delivery by size."""

from collections.abc import Sequence
from html import escape
from math import log10
from pathlib import Path
from typing import Any, Final

WIDTH: Final = 420  # of a panel
HEIGHT: Final = 260
LEFT: Final = 64
TOP: Final = 36
RIGHT: Final = 12
BOTTOM: Final = 36
COLOURS: Final = {"blast": "#768692", "product": "#005eb8", "naive": "#da291c", "postgresql": "#005eb8", "sqlite": "#007f3b"}

Points = Sequence[tuple[float, float]]


def write(results: dict[str, Any], path: Path) -> None:
    """Draws what was measured; nothing for what was not."""
    panels = [panel for panel in (_rates(results), _whole(results), _scale(results)) if panel]
    body = "".join(f'<g transform="translate({n * WIDTH},0)">{panel}</g>' for n, panel in enumerate(panels))
    width = max(1, len(panels)) * WIDTH
    path.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {HEIGHT}" width="{width}" height="{HEIGHT}" '
        f'font-family="sans-serif" font-size="11"><rect width="{width}" height="{HEIGHT}" fill="#fff"/>{body}</svg>\n'
    )


def _rates(results: dict[str, Any]) -> str:
    rounds = results.get("rounds")
    if not rounds:
        return ""
    bars = [(kind, name, found[name]) for kind, found in rounds.items() for name in ("blast", "product", "naive")]
    most = max(spread["max"] for _, _, spread in bars)
    step = (WIDTH - LEFT - RIGHT) / len(bars)
    drawn = []
    for n, (kind, name, spread) in enumerate(bars):
        x, y = LEFT + n * step, _y(spread["median"], most)
        middle = x + step / 2
        drawn.append(f'<rect x="{x + 6:.1f}" y="{y:.1f}" width="{step - 12:.1f}" height="{_y(0, most) - y:.1f}" '
                     f'fill="{COLOURS[name]}"/>')  # fmt: skip
        low, high = _y(spread["min"], most), _y(spread["max"], most)
        drawn.append(f'<path d="M{middle:.1f} {low:.1f}V{high:.1f}" stroke="#212b32"/>')
        drawn.append(_text(middle, HEIGHT - 20, name, "middle") + _text(middle, HEIGHT - 7, kind, "middle"))
        drawn.append(_text(middle, y - 4, f"{spread['median']:,.0f}", "middle"))
    return _frame("Deliveries a second", most) + "".join(drawn)


def _whole(results: dict[str, Any]) -> str:
    whole = results.get("whole")
    if not whole:
        return ""
    title = f"{whole['done']:,} pushes recorded over {whole['seconds']:.0f} s"
    longest, most = whole["curve"][-1][0], whole["people"]
    line = _line([(_x(at / longest), _y(done, most)) for at, done in whole["curve"]], COLOURS["product"])
    return _frame(title, most) + line + _text(WIDTH - RIGHT, HEIGHT - 20, f"{longest:.0f} s", "end")


def _scale(results: dict[str, Any]) -> str:
    scale = results.get("scale")
    if not scale:
        return ""
    curves = {(db, w): runs for db in ("postgresql", "sqlite") for w, runs in scale[db].items()}
    most = max(run["cost_us"] for runs in curves.values() for run in runs.values())
    sizes = sorted({int(size) for runs in curves.values() for size in runs})
    low, high = log10(sizes[0]), max(log10(sizes[-1]), log10(sizes[0]) + 1)
    drawn = [
        _text(_x((log10(s) - low) / (high - low)), HEIGHT - 20, f"{s:,}", "end" if s == sizes[-1] else "middle")
        for s in sizes
    ]
    for n, ((database, workers), runs) in enumerate(curves.items()):
        points = [(_x((log10(int(s)) - low) / (high - low)), _y(run["cost_us"], most)) for s, run in runs.items()]
        drawn.append(_line(points, COLOURS[database], dashed=workers == "1"))
        y = _y(0, most) - 8 - 14 * n
        drawn.append(_line([(WIDTH - 160, y - 4), (WIDTH - 130, y - 4)], COLOURS[database], dashed=workers == "1"))
        drawn.append(_text(WIDTH - 124, y, f"{database}, {workers} at work", "start"))
    return _frame("µs of CPU a delivery, by people", most) + "".join(drawn)


def _frame(title: str, most: float) -> str:
    top, bottom = _y(most, most), _y(0, most)
    axes = f'<path d="M{LEFT} {top}V{bottom}H{WIDTH - RIGHT}" fill="none" stroke="#768692"/>'
    marks = _text(LEFT - 5, top + 4, f"{most:,.0f}", "end") + _text(LEFT - 5, bottom, "0", "end")
    return f'<text x="{LEFT}" y="18" font-weight="bold" font-size="13">{escape(title)}</text>{axes}{marks}'


def _line(points: Points, colour: str, *, dashed: bool = False) -> str:
    path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    dashes = ' stroke-dasharray="5 4"' if dashed else ""
    return f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="2"{dashes}/>'


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _x(share: float) -> float:
    return LEFT + share * (WIDTH - LEFT - RIGHT)


def _y(value: float, most: float) -> float:
    return HEIGHT - BOTTOM - value / (most or 1) * (HEIGHT - TOP - BOTTOM)
