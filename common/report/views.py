"""What the report says of each modality: heat maps, white-box success and what to be wary of.

The measures are those of `carom.common.study.outcome`. What is said across modalities is in `report_families`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from carom.common.measure.rates import LEAST_EXAMPLES, LEAST_WHITE_BOX, MOST_CONTROL
from carom.common.report.charts import Point, Series, line_chart
from carom.common.report.costs import curve_view
from carom.common.report.families import Row, family_order, heat_map_groups, mean_of
from carom.common.report.values import DASH, amount, interval, listing, plural, rate, shade, short, span

MEASURES = (
    ("excess", "Excess E"),
    ("transfer", "Transfer T"),
    ("control", "Control N"),
    ("relative", "Relative R"),
)

Key = tuple[str, str, str, str]
"""Modality, source, target and attack: a cell of a heat map and its examples."""


class Numbers:
    """A number for each key: what ties a cell of a heat map to its examples, whatever their names hold."""

    def __init__(self) -> None:
        self.known: dict[Key, int] = {}

    def __call__(self, modality: str, source: str, target: str, attack: str) -> int:
        return self.known.setdefault((modality, source, target, attack), len(self.known))


def modality_view(name: str, part: Row, number: Numbers) -> dict[str, Any]:
    cells = part.get("cells", [])
    models = {m["name"]: m for m in part.get("models", [])}
    runs = _runs(name, cells)
    maps = [_heat_map(name, group, models, runs, number) for group in heat_map_groups(cells)]
    between = [c for c in cells if c["source"] != c["target"] and c["excess"] is not None]
    told = Counter((text, c["source"]) for c in cells for text in c.get("warnings") or [])
    return {
        "name": name,
        "title": name[:1].upper() + name[1:],
        "part": part,
        "curve": curve_view(part),
        "sizes": _sizes(runs),
        "metrics": [m for m in part.get("metrics", []) if m["missing"] is None],
        "metric_heads": [(m["label"], m["summary"]) for m in part.get("metrics", []) if m["missing"] is None],
        "missing": [m for m in part.get("metrics", []) if m["missing"] is not None],
        "models": sorted(models.values(), key=lambda m: family_order(m["family"])),
        "runs": runs,
        "maps": maps,
        "cells": cells,
        "sources": _distinct(c["source"] for c in cells),
        "targets": _distinct(c["target"] for c in cells),
        "attacks": _distinct(c["attack"] for c in cells),
        "threats": _distinct(str(c["threat"]) for c in cells),
        "between": len(between),
        "best": max(between, key=lambda c: c["excess"], default=None),
        "cautions": [
            *_cautions(runs, cells),
            *(f"{m['name']} {m['facts']['resizes']}." for m in models.values() if m.get("facts", {}).get("resizes")),
        ],
        "queries": _queries(part.get("queries") or []),
        "told": [(text, source, n) for (text, source), n in told.items()],
        "failures": part.get("failures") or [],
        "skipped": part.get("skipped") or [],
        "left_out": part.get("left_out") or [],
        "targeted": any(c.get("targeted") is not None for c in cells),
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


def _runs(modality: str, cells: Sequence[Row]) -> list[dict[str, Any]]:
    """White-box success of each source, attack, threat and seed, with what is wrong with it."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for c in cells:
        groups.setdefault((c["source"], c["attack"], c["threat"], c["seed"]), []).append(c)
    runs = []
    for of in groups.values():
        first = of[0]
        own = next((c for c in of if c["target"] == c["source"]), None)
        success, control = first.get("white_box"), first.get("white_box_control")
        flags = []
        if success is None:
            flags.append("not measured")
        elif success < LEAST_WHITE_BOX:
            flags.append("low success")
        # Random words are only as many as the attack changed, so they are compared with the attack.
        most = (success or 0) / 2 if modality == "text" else MOST_CONTROL
        if control is not None and control > most:
            flags.append("high control")
        if own is not None and own["n"] < LEAST_EXAMPLES:
            flags.append(f"n = {own['n']}")
        runs.append({**first, "own_n": own and own["n"], "flags": flags})
    return runs


def _sizes(runs: Sequence[Row]) -> list[dict[str, Any]]:
    """For each source, attack, threat and seed: {metric: (median, mean)} over the examples that were changed."""
    return [
        {
            **{name: r[name] for name in ("source", "attack", "threat", "seed", "white_box")},
            "changed": r["size"]["changed"],
            "values": {name: (v["median"], v["mean"]) for name, v in r["size"].items() if isinstance(v, Mapping)},
        }
        for r in runs
        if r.get("size")
    ]


NAMED = 8
"""Sources and attacks that a caution names one by one; of more it gives the number and the worst."""


def _cautions(runs: Sequence[Row], cells: Sequence[Row]) -> list[str]:
    """In plain words, what keeps the numbers from being taken at face value."""

    def named(of: Sequence[Row], measure: str, high: bool = False) -> str:
        names = _distinct(f"{r['source']} ({r['attack']}, {rate(r[measure])})" for r in of)
        if len(names) <= NAMED:
            return listing(names)
        worst = sorted(of, key=lambda r: -r[measure] if high else r[measure])
        few = _distinct(f"{r['source']} ({r['attack']}, {rate(r[measure])})" for r in worst)[:3]
        return f"{len(of)} of {len(runs)} crafted sets, worst {listing(few)}"

    said = []
    if low := [r for r in runs if "low success" in r["flags"]]:
        said.append(
            f"White-box success is below {rate(LEAST_WHITE_BOX)} on {named(low, 'white_box')}: "
            "where such a row transfers little, the attack may be what failed."
        )
    if high := [r for r in runs if "high control" in r["flags"]]:
        said.append(
            f"Random perturbations of the same budget already fool {named(high, 'white_box_control', high=True)}: "
            "much of that success is owed to the budget, not to the attack."
        )
    if unknown := [r for r in runs if "not measured" in r["flags"]]:
        said.append(f"White-box success was not measured on {listing(_distinct(r['source'] for r in unknown))}.")
    if few := [c for c in cells if c["n"] < LEAST_EXAMPLES]:
        said.append(
            f"{plural(len(few), 'cell')} of {len(cells)} rest{'s' if len(few) == 1 else ''} on fewer than "
            f"{LEAST_EXAMPLES} examples (as few as {min(c['n'] for c in few)}): the intervals are wide."
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
    modality: str, cells: Sequence[Row], models: Mapping[str, Row], runs: Sequence[Row], number: Numbers
) -> dict[str, Any]:
    family = {c[end]: c[f"{end}_family"] for c in cells for end in ("source", "target")}
    attack = {c["source"]: c["attack"] for c in cells}
    attacks, threat = _distinct(attack.values()), cells[0]["threat"]
    rows = _places(list(attack), family, TOP, HIGH)
    kinds = {name: family[name] + (f", {attack[name]}" if len(attacks) > 1 else "") for name in attack}
    left = _between(96, 180, [LETTER * len(n) for n in kinds] + [SMALL * len(k) for k in kinds.values()])
    targets = _distinct(c["target"] for c in cells)
    wide = _between(88, 130, [LETTER * len(n) for n in targets])
    columns = _places(targets, family, left + 10, wide)
    grid: dict[tuple[str, str], list[Row]] = {}
    for c in cells:
        grid.setdefault((c["source"], c["target"]), []).append(c)

    def source(name: str) -> dict[str, Any]:
        own = [r for r in runs if (r["source"], r["attack"], r["threat"]) == (name, attack[name], threat)]
        return {
            "name": name,
            "short": short(name, int(left / LETTER)),
            "kind": kinds[name],
            "short_kind": short(kinds[name], int(left / SMALL)),
            "white_box": span(r["white_box"] for r in own),
            "flagged": any(r["flags"] for r in own),
        }

    def target(name: str) -> dict[str, Any]:
        clean = rate(models.get(name, {}).get("clean_accuracy"))
        return {"name": name, "short": short(name, int(wide / LETTER)), "kind": family[name], "clean": clean}

    def square(row: int, column: int) -> dict[str, Any]:
        (s, y), (t, x) = rows[row], columns[column]
        of = grid.get((s, t), [])
        measured = {name: mean_of(of, name) for name, _ in MEASURES}
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
            "n": span_of_counts(c["n"] for c in of),
            "few": any(c["n"] < LEAST_EXAMPLES for c in of),
            "measured": [
                (name, words, shade(value), rate(value), interval(low, high))
                for (name, words), (value, low, high) in zip(MEASURES, measured.values(), strict=True)
            ],
            "cost": [(n, amount(mean_of(of, n)[0])) for n in ("forward", "backward", "queries", "seconds")],
        }

    return {
        "modality": modality,
        "attacks": attacks,
        "threat": threat,
        "seeds": sorted({c["seed"] for c in cells}),
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
