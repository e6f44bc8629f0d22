"""docs/ranking.svg: the tables of docs/ranking.md as a picture, on a light ground of its own."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from carom.benchmarks.transfer.ranking.names import TITLES, called
from carom.benchmarks.transfer.ranking.table import mark
from carom.common.report.values import rate

NAME, PLOT, MARGIN = 210, 400, 16  # widths in pixels: names, a panel, around all
ROW, HEAD, FOOT = 18, 46, 30  # heights: an attack, a panel's title, its axis
UP, BOX, DOWN = "M0-5L5 4H-5Z", "M-4-4h8v8h-8Z", "M0 5L5-4H-5Z"
DRAWN = {
    "▲": (UP, "#0a7d4b", "#0a7d4b"),
    "△": (UP, "#0a7d4b", "#ffffff"),
    "": (BOX, "#5a6472", "#5a6472"),
    "▽": (DOWN, "#b3392f", "#ffffff"),
    "▼": (DOWN, "#b3392f", "#b3392f"),
}
"""Mark -> its path, line and filling: hollow where the second half does not confirm the claim."""
SAYS = {"▲": "better than tuned DI-MI", "△": "unconfirmed", "": "not told apart", "▽": "unconfirmed", "▼": "worse"}
STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#1d2430}.title{font-weight:600;font-size:14px}.end{text-anchor:end}"
    ".middle{text-anchor:middle}.rule{stroke:#dfe3e8}.rival{stroke:#5a6472;stroke-dasharray:4 3}"
)


def chart(found: Mapping[str, Any]) -> str:
    """An SVG with a panel for every source: mean excess transfer of every tuned attack with its interval, best first, its
    mark after what was claimed of it beside DI-MI."""
    every = found["attacks"]
    panels = [
        (title, sorted((r for r in every if r["source"] == source), key=lambda r: -r["excess"]))
        for source, title in TITLES.items()
    ]
    most = math.ceil(10 * max(r["high"] for r in every)) / 10
    height = MARGIN + 2 * ROW + sum(HEAD + ROW * len(of) + FOOT for _, of in panels)
    parts, top = [_legend(found["gradients"])], float(MARGIN + 2 * ROW)
    for title, of in panels:
        parts.append(_panel(title, of, most, top))
        top += HEAD + ROW * len(of) + FOOT
    width = 2 * MARGIN + NAME + PLOT
    head = Markup(
        '<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{}" viewBox="0 0 {} {}" width="{}" height="{}">'
        '<style>{}</style><rect width="100%" height="100%" fill="#ffffff"/>'
    ).format(f"Excess transfer at {found['gradients']} gradients", width, height, width, height, Markup(STYLE))
    return str(head + Markup("").join(parts) + Markup("</svg>\n"))


def _panel(title: str, rows: Sequence[Mapping[str, Any]], most: float, top: float) -> Markup:
    left, floor = MARGIN + NAME, top + HEAD + ROW * len(rows)

    def x(value: float) -> float:
        return round(left + PLOT * max(value, 0.0) / most, 1)

    parts = [Markup('<text class="title" x="{}" y="{}">{}</text>').format(MARGIN, top + 20, title)]
    for tenth in range(round(10 * most) + 1):
        at = x(tenth / 10)
        parts.append(Markup('<path class="rule" d="M{} {}V{}"/>').format(at, top + HEAD - 12, floor))
        parts.append(Markup('<text class="middle" x="{}" y="{}">{}</text>').format(at, floor + 16, rate(tenth / 10)))
    rival = next(r["excess"] for r in rows if called(r["attack"]) == "DI-MI")
    parts.append(Markup('<path class="rival" d="M{} {}V{}"/>').format(x(rival), top + HEAD - 12, floor))
    parts += [_row(row, x, left, top + HEAD + ROW * number) for number, row in enumerate(rows)]
    return Markup("").join(parts)


def _row(row: Mapping[str, Any], x: Callable[[float], float], left: float, y: float) -> Markup:
    shown = mark(row["against"]["DI-MI"])
    text = Markup('<text class="end" x="{}" y="{}">{}</text><path d="M{} {}H{}" stroke="{}"/>').format(
        left - 8, y + 4, called(row["attack"]), x(row["low"]), y, x(row["high"]), DRAWN[shown][1]
    )
    return text + _shape(shown, x(row["excess"]), y, f"{row['spec']}: {rate(row['excess'])}")


def _shape(shown: str, x: float, y: float, title: str) -> Markup:
    path, line, filling = DRAWN[shown]
    return Markup('<path transform="translate({} {})" d="{}" stroke="{}" fill="{}"><title>{}</title></path>').format(
        x, y, path, line, filling, title
    )


def _legend(allowed: int) -> Markup:
    parts, at, low = [], float(MARGIN), MARGIN + ROW + 10
    what = f"Excess transfer of tuned attacks at {allowed} gradients per image, with 95 % interval. Dashed: DI-MI."
    parts.append(Markup('<text x="{}" y="{}">{}</text>').format(MARGIN, MARGIN + 6, what))
    for shown, says in SAYS.items():
        text = Markup('<text x="{}" y="{}">{}</text>').format(at + 16, low, says)
        parts += [_shape(shown, at + 5, low - 4, says), text]
        at += 32 + 6.4 * len(says)
    return Markup("").join(parts)
