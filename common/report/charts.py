"""Line charts as inline SVG: rates against a cost, each with the band of its interval.

Lines differ in colour, in dash and in the shape of their marks, so that none of the three has to be seen. The colours
are the style sheet's (`.line0` to `.line7`), for a light and a dark page.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from carom.common.report.values import amount, interval, rate

WIDTH, HEIGHT = 620, 260  # of the plotting area with its axes, in pixels
LEFT, RIGHT, TOP, BOTTOM = 52, 16, 12, 44
ROW = 19  # a line of the legend
STYLES = 8  # of lines, before they repeat
LETTER, APART = 6.5, 8  # of an axis' numbers: the width of a digit and the least space between two
MARKED = 24  # with more points than this, a line has no marks

DASHES = ("", "6 3", "2 3", "9 3 2 3")
SHAPES = ("M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0Z", "M-3.5-3.5h7v7h-7Z", "M0-4.5L4.5 3.5H-4.5Z", "M0-5L5 0L0 5L-5 0Z")


@dataclass(frozen=True)
class Point:
    """A value at a place, with its interval where there is one. A value that is not defined breaks the line."""

    x: float
    y: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Series:
    """One line of a chart."""

    name: str
    points: Sequence[Point]


def line_chart(
    series: Sequence[Series],
    *,
    title: str,
    x_label: str,
    y_label: str,
    log: bool = False,
    ticks: Sequence[float] | None = None,
    bottom: float = 0.0,
    top: float = 1.0,
) -> Markup:
    """An `<svg>` of the series, empty where no series has a defined point.

    `log` spaces x by its logarithm, from 1. `ticks` are the marks of the x axis; by default every x that occurs, or
    round ones where those are many. The y axis runs at least from `bottom` to `top`. Names are escaped.
    """
    known = [p for s in series for p in s.points if p.y is not None]
    if not known:
        return Markup("")
    xs = sorted({p.x for s in series for p in s.points})
    place = _scale(xs[0], xs[-1], log)
    heights = [v for p in known for v in (p.y, p.low, p.high) if v is not None]
    low, high = min(bottom, *heights), max(top, *heights)

    def x(value: float) -> float:
        return round(LEFT + (WIDTH - LEFT - RIGHT) * place(value), 1)

    def y(value: float) -> float:
        return round(TOP + (HEIGHT - TOP - BOTTOM) * (high - value) / (high - low), 1)

    parts = [_grid(x, y, _legible(ticks or _ticks(xs, log), x), _steps(low, high), x_label, y_label)]
    parts += [_line(number, one, x, y) for number, one in enumerate(series)]
    parts += [_entry(number, one) for number, one in enumerate(series)]
    whole = HEIGHT + ROW * len(series) + 4
    head = Markup('<svg class="chart" role="img" aria-label="{}" viewBox="0 0 {} {}" width="{}" height="{}">')
    return head.format(title, WIDTH, whole, WIDTH, whole) + Markup("").join(parts) + Markup("</svg>")


def _scale(first: float, last: float, log: bool) -> Callable[[float], float]:
    """From values to places of 0 to 1."""

    def at(value: float) -> float:
        return math.log(max(value, 1.0)) if log else value

    start, length = at(first), at(last) - at(first)
    return lambda value: 0.5 if not length else (at(value) - start) / length


def _ticks(xs: Sequence[float], log: bool) -> list[float]:
    """Places to mark: what occurs, or round numbers within where that is more than the axis can hold."""
    if len(xs) <= 10:
        return list(xs)
    if log:
        powers = [10.0**k for k in range(10) if xs[0] <= 10.0**k <= xs[-1]]
        return powers if len(powers) > 1 else [xs[0], xs[-1]]
    return _steps(xs[0], xs[-1])


def _legible(ticks: Sequence[float], x: Callable[[float], float]) -> list[float]:
    """The marks without those whose numbers would stand in the next one's; the last is kept."""
    kept: list[float] = []
    for value in reversed(ticks):
        if not kept or x(kept[-1]) - x(value) >= LETTER * (len(amount(value)) + len(amount(kept[-1]))) / 2 + APART:
            kept.append(value)
    return kept[::-1]


def _steps(low: float, high: float) -> list[float]:
    """Round numbers from low to high, about five."""
    rough = (high - low) / 5 or 1.0
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * k for k in (1, 2, 2.5, 5, 10) if unit * k >= rough * 0.999)
    return [step * k for k in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def _grid(
    x: Callable[[float], float],
    y: Callable[[float], float],
    across: Iterable[float],
    up: Iterable[float],
    x_label: str,
    y_label: str,
) -> Markup:
    floor = HEIGHT - BOTTOM
    parts = [
        Markup('<path class="{}" d="M{} {}H{}"/><text class="end" x="{}" y="{}">{}</text>').format(
            "axis" if abs(value) < 1e-9 else "rule", LEFT, y(value), WIDTH - RIGHT, LEFT - 7, y(value) + 4, rate(value)
        )
        for value in up
    ]
    parts += [
        Markup('<path class="axis" d="M{} {}v5"/><text class="middle" x="{}" y="{}">{}</text>').format(
            x(value), floor, x(value), floor + 18, amount(value)
        )
        for value in across
    ]
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(Markup('<text class="middle" x="{}" y="{}">{}</text>').format(middle, HEIGHT - 8, x_label))
    turned = (TOP + floor) / 2
    parts.append(
        Markup('<text class="middle" transform="translate(13 {}) rotate(-90)">{}</text>').format(turned, y_label)
    )
    return Markup("").join(parts)


def _dash(number: int) -> Markup:
    dash = DASHES[number // 2 % len(DASHES)]
    return Markup(' stroke-dasharray="{}"').format(dash) if dash else Markup("")


def _line(number: int, one: Series, x: Callable[[float], float], y: Callable[[float], float]) -> Markup:
    """Band, line and marks of one series; a gap where it is not defined."""
    stretches: list[list[Point]] = [[]]
    for point in sorted(one.points, key=lambda p: p.x):
        if point.y is None:
            stretches.append([])
        else:
            stretches[-1].append(point)
    parts = []
    for stretch in filter(None, stretches):
        bounded = [p for p in stretch if p.low is not None and p.high is not None]
        if len(bounded) > 1:
            above = [f"{x(p.x)} {y(p.high)}" for p in bounded if p.high is not None]
            below = [f"{x(p.x)} {y(p.low)}" for p in bounded if p.low is not None]
            parts.append(Markup('<path class="band" d="M{}Z"/>').format("L".join(above + below[::-1])))
        path = "L".join(f"{x(p.x)} {y(p.y)}" for p in stretch if p.y is not None)
        parts.append(Markup('<path class="line" d="M{}"{}/>').format(path, _dash(number)))
    if len(one.points) <= MARKED:
        parts += [_mark(number, one.name, p, x(p.x), y(p.y)) for p in one.points if p.y is not None]
    return Markup('<g class="line{}">{}</g>').format(number % STYLES, Markup("").join(parts))


def _mark(number: int, name: str, point: Point, x: float, y: float) -> Markup:
    shape = SHAPES[number % len(SHAPES)]
    said = f"{name}: {rate(point.y)} {interval(point.low, point.high)} at {amount(point.x)}"
    return Markup('<path class="mark" transform="translate({} {})" d="{}"><title>{}</title></path>').format(
        x, y, shape, said
    )


def _entry(number: int, one: Series) -> Markup:
    """A line of the legend."""
    y = HEIGHT + ROW * number + 8
    shape, dash = SHAPES[number % len(SHAPES)], _dash(number)
    sample = Markup('<path class="line" d="M{} {}h34"{}/>').format(LEFT, y, dash)
    sample += Markup('<path class="mark" transform="translate({} {})" d="{}"/>').format(LEFT + 17, y, shape)
    name = Markup('<text x="{}" y="{}">{}</text>').format(LEFT + 44, y + 4, one.name)
    return Markup('<g class="line{}">{}</g>').format(number % STYLES, sample) + name
