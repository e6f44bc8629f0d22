"""What the report says of each modality: heat maps, white-box success and what to be wary of.

The measures are those of `carom.common.study.outcome`. What is said across modalities is in `report_families`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from carom.common.measure.cells import Cell, cell_of
from carom.common.measure.rates import LEAST_EXAMPLES, LEAST_WHITE_BOX, Rate
from carom.common.report.charts import Point, Series, line_chart
from carom.common.report.costs import curve_view
from carom.common.report.families import family_order, heat_map_groups, mean, mean_of
from carom.common.report.values import DASH, amount, interval, listing, plural, rate, shade, short, span

MEASURES = (
    ("excess", "Excess E"),
    ("transfer", "Transfer T"),
    ("control", "Control N"),
    ("relative", "Relative R"),
)

SPENT = ("forward", "backward", "queries", "seconds")

Row = Mapping[str, Any]
"""A part of a study as its JSON has it: a model, the points of a curve."""

Key = tuple[str, str, str, str]
"""Modality, source, target and attack: a cell of a heat map and its examples."""


class Numbers:
    """A number for each key: what ties a cell of a heat map to its examples, whatever their names hold."""

    def __init__(self) -> None:
        self.known: dict[Key, int] = {}

    def __call__(self, modality: str, source: str, target: str, attack: str) -> int:
        return self.known.setdefault((modality, source, target, attack), len(self.known))


def modality_view(name: str, part: Row, number: Numbers) -> dict[str, Any]:
    cells = [cell_of(row) for row in part.get("cells", [])]
    matched = part.get("matched") or {}
    models = {m["name"]: m for m in part.get("models", [])}
    runs = _runs(cells)
    maps = [_heat_map(name, group, models, runs, number) for group in heat_map_groups(cells)]
    between = [(gain, c) for c in cells if not c.own and (gain := c.rates.excess.value) is not None]
    told = Counter((text, c.source) for c in cells for text in c.warnings)
    return {
        "name": name,
        "title": name[:1].upper() + name[1:],
        "part": part,
        "curve": curve_view(part),
        "sizes": _sizes(runs),
        "metrics": [m for m in part.get("metrics", []) if m["missing"] is None],
        "denominators": part.get("denominators") or {},
        "denominator_heads": [(name, f"Transfer over {of}") for name, of in (part.get("denominators") or {}).items()],
        "flips": sum(any(of.flips for of in c.denominators.values()) for c in cells),
        "metric_heads": [(m["label"], m["summary"]) for m in part.get("metrics", []) if m["missing"] is None],
        "missing": [m for m in part.get("metrics", []) if m["missing"] is not None],
        "models": sorted(models.values(), key=lambda m: family_order(m["family"])),
        "runs": runs,
        "maps": maps,
        "cells": cells,
        "matched": [cell_of(row) for row in matched.get("cells", [])],
        "sources": _distinct(c.source for c in cells),
        "targets": _distinct(c.target for c in cells),
        "attacks": _distinct(c.attack for c in cells),
        "threats": _distinct(c.terms.threat for c in cells),
        "between": len(between),
        "best": max(between, key=lambda pair: pair[0], default=(None, None))[1],
        "cautions": [
            *_cautions(runs, cells),
            *(f"{m['name']} {m['facts']['resizes']}." for m in models.values() if m.get("facts", {}).get("resizes")),
        ],
        "queries": _queries(part.get("queries") or []),
        "told": [(text, source, n) for (text, source), n in told.items()],
        "failures": part.get("failures") or [],
        "skipped": part.get("skipped") or [],
        "left_out": part.get("left_out") or [],
        "warnings": part.get("warnings") or [],
        "targeted": any(c.rates.targeted.value is not None for c in cells),
    }


def _queries(curves: Sequence[Row]) -> list[tuple[str, Any]]:
    """For each source, a chart of success against queries, a line an attack (and seed, where there are several)."""
    seeds = len({c["seed"] for c in curves}) > 1
    charts = []
    for source in _distinct(c["source"] for c in curves):
        series = [
            Series(
                f"{c['attack']}, seed {c['seed']}" if seeds else c["attack"],
                [Point(p["queries"], p["success"], p["low"], p["high"]) for p in c["points"]],
            )
            for c in curves
            if c["source"] == source
        ]
        title = f"Success on {source} within a number of queries"
        charts.append((source, line_chart(series, title=title, x_label="queries", y_label="success", log=True)))
    return charts


def _distinct(values: Iterable[Any]) -> list[Any]:
    return list(dict.fromkeys(values))


@dataclass(frozen=True)
class CraftedSet:
    """What one attack made on one source, with a seed and within a threat: its white-box success, what is wrong with it."""

    cell: Cell  # the first of its cells: what is said of source and attack is the same in all
    n: int | None  # examples the source gets right, where it is a target too
    flags: tuple[str, ...]

    @property
    def white_box(self) -> Rate:
        return self.cell.rates.white_box

    @property
    def control(self) -> Rate:
        return self.cell.rates.white_box_control

    @property
    def key(self) -> tuple[str, str, str]:
        return self.cell.source, self.cell.attack, self.cell.terms.threat


def _runs(cells: Sequence[Cell]) -> list[CraftedSet]:
    """One crafted set for each source, attack, threat and seed."""
    groups: dict[tuple[Any, ...], list[Cell]] = {}
    for c in cells:
        groups.setdefault((c.source, c.attack, c.terms.threat, c.seed), []).append(c)
    runs = []
    for of in groups.values():
        first = of[0]
        n = next((c.rates.n for c in of if c.own), None)
        success = first.rates.white_box.value
        flags = []
        if success is None:
            flags.append("not measured")
        elif success < LEAST_WHITE_BOX:
            flags.append("low success")
        if first.high_control:
            flags.append("high control")
        if n is not None and n < LEAST_EXAMPLES:
            flags.append(f"n = {n}")
        runs.append(CraftedSet(first, n, tuple(flags)))
    return runs


def _sizes(runs: Sequence[CraftedSet]) -> list[dict[str, Any]]:
    """For each crafted set: {metric: (median, mean)} over the examples that were changed."""
    return [
        {
            "cell": r.cell,
            "changed": r.cell.size["changed"],
            "values": {name: (v["median"], v["mean"]) for name, v in r.cell.size.items() if isinstance(v, Mapping)},
        }
        for r in runs
        if r.cell.size
    ]


NAMED = 8
"""Sources and attacks that a caution names one by one; of more it gives the number and the worst."""


def _cautions(runs: Sequence[CraftedSet], cells: Sequence[Cell]) -> list[str]:
    """In plain words, what keeps the numbers from being taken at face value."""

    def named(of: Sequence[CraftedSet], measure: Callable[[CraftedSet], Rate], high: bool = False) -> str:
        def value(r: CraftedSet) -> float:
            return measure(r).value or 0.0

        names = _distinct(f"{r.cell.source} ({r.cell.attack}, {rate(value(r))})" for r in of)
        if len(names) <= NAMED:
            return listing(names)
        worst = sorted(of, key=lambda r: -value(r) if high else value(r))
        few = _distinct(f"{r.cell.source} ({r.cell.attack}, {rate(value(r))})" for r in worst)[:3]
        return f"{len(of)} of {len(runs)} crafted sets, worst {listing(few)}"

    said = []
    if low := [r for r in runs if "low success" in r.flags]:
        said.append(
            f"White-box success is below {rate(LEAST_WHITE_BOX)} on {named(low, lambda r: r.white_box)}: "
            "where such a row transfers little, the attack may be what failed."
        )
    if high := [r for r in runs if "high control" in r.flags]:
        said.append(
            f"Random perturbations of the same budget already fool {named(high, lambda r: r.control, high=True)}: "
            "much of that success is owed to the budget, not to the attack."
        )
    if unknown := [r for r in runs if "not measured" in r.flags]:
        said.append(f"White-box success was not measured on {listing(_distinct(r.cell.source for r in unknown))}.")
    if few := [c.rates.n for c in cells if c.rates.n < LEAST_EXAMPLES]:
        said.append(
            f"{plural(len(few), 'cell')} of {len(cells)} rest{'s' if len(few) == 1 else ''} on fewer than "
            f"{LEAST_EXAMPLES} examples (as few as {min(few)}): the intervals are wide."
        )
    return said


HIGH, TOP, GAP = 54, 60, 8  # pixels: a row, the labels above the columns, the space between families
LETTER, SMALL = 6.9, 5.6  # pixels: the width of a letter of a model's name and of what stands beneath it


def _places(names: Sequence[str], family: Mapping[str, str], start: int, step: int) -> list[tuple[str, int]]:
    """Each name and its offset, sorted by family with a gap between families."""
    placed: list[tuple[str, int]] = []
    for name in sorted(names, key=lambda n: family_order(family[n])):
        if placed:
            start += step + (GAP if family[placed[-1][0]] != family[name] else 0)
        placed.append((name, start))
    return placed


def _between(least: int, most: int, widths: Iterable[float]) -> int:
    return min(most, max(least, *(math.ceil(w) for w in widths)))


def _heat_map(
    modality: str, cells: Sequence[Cell], models: Mapping[str, Row], runs: Sequence[CraftedSet], number: Numbers
) -> dict[str, Any]:
    ends = [end for c in cells for end in ((c.source, c.source_family), (c.target, c.target_family))]
    family, attack = dict(ends), {c.source: c.attack for c in cells}
    attacks, threat = _distinct(attack.values()), cells[0].terms.threat
    rows = _places(list(attack), family, TOP, HIGH)
    kinds = {name: family[name] + (f", {attack[name]}" if len(attacks) > 1 else "") for name in attack}
    left = _between(96, 180, [LETTER * len(n) for n in kinds] + [SMALL * len(k) for k in kinds.values()])
    targets = _distinct(c.target for c in cells)
    wide = _between(88, 130, [LETTER * len(n) for n in targets])
    columns = _places(targets, family, left + 10, wide)
    grid: dict[tuple[str, str], list[Cell]] = {}
    for c in cells:
        grid.setdefault((c.source, c.target), []).append(c)

    def source(name: str) -> dict[str, Any]:
        own = [r for r in runs if r.key == (name, attack[name], threat)]
        return {
            "name": name,
            "short": short(name, int(left / LETTER)),
            "kind": kinds[name],
            "short_kind": short(kinds[name], int(left / SMALL)),
            "white_box": span(r.white_box.value for r in own),
            "flagged": any(r.flags for r in own),
        }

    def target(name: str) -> dict[str, Any]:
        clean = rate(models.get(name, {}).get("clean_accuracy"))
        return {"name": name, "short": short(name, int(wide / LETTER)), "kind": family[name], "clean": clean}

    def square(row: int, column: int) -> dict[str, Any]:
        (s, y), (t, x) = rows[row], columns[column]
        of = grid.get((s, t), [])
        measured = [mean_of(of, name) for name, _ in MEASURES]
        return {
            "row": row,
            "column": column,
            "x": x,
            "y": y,
            "source": s,
            "target": t,
            "number": number(modality, s, t, attack[s]),
            "attack": attack[s],
            "white_box": s == t,
            "empty": not of,
            "n": span_of_counts(c.rates.n for c in of),
            "few": any(c.rates.n < LEAST_EXAMPLES for c in of),
            "measured": [
                (name, words, shade(found.value), rate(found.value), interval(found.low, found.high))
                for (name, words), found in zip(MEASURES, measured, strict=True)
            ],
            "cost": [(name, amount(mean(getattr(c.spent, name) for c in of))) for name in SPENT],
        }

    return {
        "modality": modality,
        "attacks": attacks,
        "threat": threat,
        "seeds": sorted({c.seed for c in cells}),
        "cells": cells,
        "rows": [(source(n), y) for n, y in rows],
        "columns": [(target(n), x) for n, x in columns],
        "squares": [square(r, c) for r in range(len(rows)) for c in range(len(columns))],
        "left": left,
        "cell": wide - 2,
        "width": columns[-1][1] + wide + 6,
        "height": rows[-1][1] + HIGH + 6,
    }


def span_of_counts(values: Iterable[int]) -> str:
    known = sorted(set(values))
    return DASH if not known else str(known[0]) if len(known) == 1 else f"{known[0]} to {known[-1]}"
