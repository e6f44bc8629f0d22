"""docs/ranking.svg: the tables of docs/ranking.md at fifty gradients as a picture, on a light ground of its own."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from carom.benchmarks.transfer.ranking_table import TITLES, called, settings, verdict
from carom.common.report.values import rate

NAME, PLOT, MARGIN = 210, 400, 16  # widths in pixels: names, a panel, around all
ROW, HEAD, FOOT = 18, 46, 30  # heights: an attack, a panel's title, its axis
COLOURS = {"▲": "#0a7d4b", "": "#5a6472", "▼": "#b3392f"}
SHAPES = {"▲": "M0-5L5 4H-5Z", "": "M-4-4h8v8h-8Z", "▼": "M0 5L5-4H-5Z"}
SAYS = {"▲": "better than DI-MI on the same images", "": "not to be told apart", "▼": "worse"}
STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#1d2430}.title{font-weight:600;font-size:14px}.end{text-anchor:end}"
    ".middle{text-anchor:middle}.rule{stroke:#dfe3e8}.rival{stroke:#5a6472;stroke-dasharray:4 3}"
)


def chart(rows: Sequence[Mapping[str, Any]], allowed: int) -> str:
    """An SVG with a panel for every kind of source at one allowance: mean excess transfer of every attack with its
    interval, best first, its mark after the paired comparison with DI-MI."""
    panels = [
        (TITLES[sources], sorted(of, key=lambda r: -r["excess"]))
        for amount, sources in settings(rows)
        if amount == allowed and (of := [r for r in rows if (r["allowed"], r["sources"]) == (amount, sources)])
    ]
    most = math.ceil(10 * max(r["high"] for _, of in panels for r in of)) / 10
    height = MARGIN + 2 * ROW + sum(HEAD + ROW * len(of) + FOOT for _, of in panels)
    parts, top = [_legend(allowed)], float(MARGIN + 2 * ROW)
    for title, of in panels:
        parts.append(_panel(title, of, most, top))
        top += HEAD + ROW * len(of) + FOOT
    width = 2 * MARGIN + NAME + PLOT
    head = Markup(
        '<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{}" viewBox="0 0 {} {}" width="{}" height="{}">'
        '<style>{}</style><rect width="100%" height="100%" fill="#ffffff"/>'
    ).format(f"Excess transfer at {allowed} gradients", width, height, width, height, Markup(STYLE))
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


def _row(row: Mapping[str, Any], x: Any, left: float, y: float) -> Markup:
    mark = verdict(row["against"]["DI-MI"])
    return Markup(
        '<text class="end" x="{}" y="{}">{}</text><path d="M{} {}H{}" stroke="{}"/>'
        '<path transform="translate({} {})" d="{}" fill="{}"><title>{}</title></path>'
    ).format(
        left - 8,
        y + 4,
        called(row["attack"]),
        x(row["low"]),
        y,
        x(row["high"]),
        COLOURS[mark],
        x(row["excess"]),
        y,
        SHAPES[mark],
        COLOURS[mark],
        f"{row['attack']}: {rate(row['excess'])}",
    )


def _legend(allowed: int) -> Markup:
    parts, at, low = [], float(MARGIN), MARGIN + ROW + 10
    what = f"Excess transfer at {allowed} gradients per image, and its 95 % interval over images. Dashed: DI-MI."
    parts.append(Markup('<text x="{}" y="{}">{}</text>').format(MARGIN, MARGIN + 6, what))
    for mark, says in SAYS.items():
        shape = Markup('<path transform="translate({} {})" d="{}" fill="{}"/>').format(
            at + 5, low - 4, SHAPES[mark], COLOURS[mark]
        )
        parts.append(shape + Markup('<text x="{}" y="{}">{}</text>').format(at + 16, low, says))
        at += 32 + 6.4 * len(says)
    return Markup("").join(parts)
