"""What the report says of excess transfer against cost: a chart for each pair of families, or each family of sources,
and the table behind it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from carom.common.measure.cells import Cell, cell_of
from carom.common.report.charts import Point, Series, line_chart
from carom.common.report.families import family_order, mean_of
from carom.common.report.values import amount, interval, rate


def curve_view(part: Mapping[str, Any]) -> dict[str, Any] | None:
    """Charts and table of one modality's comparison at equal cost; None where there is none."""
    curve = part.get("curve")
    if not curve:
        return None
    between = [cell for cell in map(cell_of, curve["cells"]) if not cell.own]
    return {
        "unit": curve["unit"],
        "amounts": [amount(a) for a in curve["amounts"]],
        "examples": curve["examples"],
        "left_out": curve["left_out"],
        "charts": _charts(between, curve["unit"]),
        "rows": [_row(key, cells, curve["amounts"]) for key, cells in _by(between, _whole).items()],
    }


def _whole(cell: Cell) -> tuple[str, ...]:
    return cell.source_family, cell.target_family, cell.attack


def _by(cells: Sequence[Cell], key: Callable[[Cell], tuple[str, ...]]) -> dict[tuple[str, ...], list[Cell]]:
    """The cells grouped, families in their usual order."""
    groups: dict[tuple[str, ...], list[Cell]] = {}
    for cell in cells:
        groups.setdefault(key(cell), []).append(cell)
    return {k: groups[k] for k in sorted(groups, key=lambda k: [family_order(name) for name in k[:2]])}


def _charts(cells: Sequence[Cell], unit: str) -> list[tuple[str, Markup]]:
    """(title, chart): a chart a family of sources with a line a family of targets; where several attacks were run on
    these sources, a chart a pair of families with a line an attack."""
    drawn = []
    for (source,), of in _by(cells, lambda c: (c.source_family,)).items():
        if len({c.attack for c in of}) == 1:
            lines = _by(of, lambda c: (c.target_family,))
            drawn.append((f"from {source}", [Series(f"to {name}", _points(part)) for (name,), part in lines.items()]))
            continue
        for (target,), pairs in _by(of, lambda c: (c.target_family,)).items():
            attacks = _by(pairs, lambda c: (c.attack,))
            series = [Series(name, _points(part)) for (name,), part in attacks.items()]
            drawn.append((f"{source} → {target}", series))
    charts = [(title, _chart(title, series, unit)) for title, series in drawn]
    return [(title, chart) for title, chart in charts if chart]


def _chart(title: str, series: Sequence[Series], unit: str) -> Markup:
    whole = f"Excess transfer {title} against {unit}"
    return line_chart(series, title=whole, x_label=f"{unit} per example", y_label="excess transfer E", log=True)


def _points(cells: Sequence[Cell]) -> list[Point]:
    by_amount: dict[int, list[Cell]] = {}
    for cell in cells:
        by_amount.setdefault(cell.terms.allowed or 0, []).append(cell)
    gains = [(at, mean_of(of, "excess")) for at, of in sorted(by_amount.items())]
    return [Point(at, gain.value, gain.low, gain.high) for at, gain in gains]


def _row(key: tuple[str, ...], cells: Sequence[Cell], amounts: Sequence[int]) -> dict[str, Any]:
    """One line of the table: E and white-box success at each allowance, averaged over the pairs of these families."""
    entries: list[dict[str, str] | None] = []
    for at in amounts:
        of = [c for c in cells if c.terms.allowed == at]
        gain, success = mean_of(of, "excess"), mean_of(of, "white_box")
        found = {"excess": rate(gain.value), "ci": interval(gain.low, gain.high), "white_box": rate(success.value)}
        entries.append(found if of else None)
    return {"source": key[0], "target": key[1], "attack": key[2], "entries": entries}
