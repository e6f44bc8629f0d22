"""The report across modalities: families side by side, at equal white-box success and at each modality's own budget.

Nothing is averaged over modalities, and no order of family pairs is compared with another unless both were measured.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from carom.common.core.batch import Family
from carom.common.measure.cells import Cell
from carom.common.measure.rates import Rate
from carom.common.measure.stats import Agreement, agreement
from carom.common.report.values import DASH, interval, listing, rate, span

Pair = tuple[str, str]
"""Family of the source, family of the target."""

LEAST_RELABELLINGS = 20  # with fewer, no order at all could be told from chance at .05


def family_order(family: str) -> int:
    known = [f.value for f in Family]
    return known.index(family) if family in known else len(known)


def mean(values: Iterable[float | None]) -> float | None:
    """Of those that are defined; None of none."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def mean_of(cells: Sequence[Cell], measure: str) -> Rate:
    """Value and bounds, each averaged over the cells in which it is defined.

    The average of the bounds is at least as wide as a 95% interval of the average over the same examples, whatever
    the dependence between the cells.
    """
    rates = [cell.rate(measure) for cell in cells]
    return Rate(mean(r.value for r in rates), mean(r.low for r in rates), mean(r.high for r in rates))


def heat_map_groups(cells: Sequence[Cell]) -> list[list[Cell]]:
    """The cells as heat maps: within one each source has one attack, and all have one threat; of matched cells, whose
    budgets differ by source, one kind of threat.

    A source's second attack goes into the next map; a source whose only attack differs from the others' shares theirs.
    """
    maps: list[tuple[str, dict[str, str], list[Cell]]] = []
    for c in cells:
        kind = c.terms.threat if c.terms.matched is None else c.terms.threat.split()[0]
        for threat, attacks, of in maps:
            if threat == kind and attacks.setdefault(c.source, c.attack) == c.attack:
                of.append(c)
                break
        else:
            maps.append((kind, {c.source: c.attack}, [c]))
    return [of for _, _, of in maps]


@dataclass(frozen=True)
class Column:
    """What one modality measured with one attack a source; the cells of one model with itself are out."""

    title: str
    under: str  # attacks and threats
    cells: Sequence[Cell]

    def blocks(self) -> dict[Pair, dict[str, Any]]:
        """What the page shows of each pair of families."""
        grouped: dict[Pair, list[Cell]] = {}
        for c in self.cells:
            if not c.own:
                grouped.setdefault((c.source_family, c.target_family), []).append(c)
        return {pair: _block(cells) for pair, cells in grouped.items()}


def _block(cells: Sequence[Cell]) -> dict[str, Any]:
    def estimate(measure: str) -> tuple[str, str]:
        found = mean_of(cells, measure)
        return rate(found.value), interval(found.low, found.high)

    gain = mean_of(cells, "excess")
    bar = gain.value, gain.low, gain.high
    return {
        "value": gain.value,
        "excess": estimate("excess"),
        "relative": estimate("relative"),
        "bar": None if None in bar else bar,
        "pairs": len({(c.source, c.target) for c in cells}),
        "span": span(c.rates.excess.value for c in cells),
        "white_box": estimate("white_box"),
        "control": rate(mean_of(cells, "control").value),
        "budgets": listing(dict.fromkeys(c.terms.threat for c in cells)),
        "at_level": all(c.at_level is not False for c in cells),
    }


def columns_of(titled: Sequence[tuple[str, Sequence[Cell]]]) -> list[Column]:
    """A column for each heat map of each modality."""
    columns = []
    for title, cells in titled:
        for of in heat_map_groups(cells):
            attacks = listing(dict.fromkeys(c.attack for c in of))
            matched = of[0].terms.matched is not None
            threats = dict.fromkeys(c.terms.threat.split()[0] if matched else c.terms.threat for c in of)
            columns.append(Column(title, f"{attacks}, {listing(threats)}", of))
    return columns


def table_of(columns: Sequence[Column]) -> list[tuple[Pair, list[dict[str, Any] | None]]]:
    """One row a pair of families, one entry a column; None where a column has no such pair."""
    found = [column.blocks() for column in columns]
    pairs = sorted({pair for blocks in found for pair in blocks}, key=lambda pair: [family_order(f) for f in pair])
    return [(pair, [blocks.get(pair) for blocks in found]) for pair in pairs]


def families_view(modalities: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """E and R by source family and target family: at each modality's own budget, and at every level of white-box
    success that was matched; then whether the modalities order the pairs alike."""
    own = columns_of([(m["title"], m["cells"]) for m in modalities])
    successes = {m["title"]: [w for r in m["runs"] if (w := r.white_box.value) is not None] for m in modalities}
    means = [sum(w) / len(w) for w in successes.values() if w]
    levels = matched_view(modalities)
    return {
        "columns": own,
        "rows": table_of(own),
        "successes": [(title, span(w), len(w)) for title, w in successes.items()],
        "apart": max(means) - min(means) if len(means) > 1 else None,
        "levels": levels,
        "orders": orders_view([("own budgets", own), *((f"white-box {v['level']}", v["columns"]) for v in levels)]),
    }


def matched_view(modalities: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One table for each level that any modality was matched to."""
    matched = [m for m in modalities if m["part"].get("matched")]
    found = []
    for level in sorted({level for m in matched for level in m["part"]["matched"]["levels"]}):
        cells = [(m["title"], [c for c in m["matched"] if c.terms.matched == level]) for m in matched]
        columns = columns_of(cells)
        missed = {(title, c.source, c.attack, c.why): None for title, of in cells for c in of if not c.at_level}
        found.append({"level": rate(level), "columns": columns, "rows": table_of(columns), "missed": list(missed)})
    return found


# Rank structure.


def orders_view(tables: Sequence[tuple[str, Sequence[Column]]]) -> dict[str, Any]:
    """For every two columns of different modalities, how far they put pairs of different families into one order."""
    rows: dict[tuple[str, str], list[dict[str, Any] | None]] = {}
    for at, (_, columns) in enumerate(tables):
        several = len({c.title for c in columns}) < len(columns)
        named = [(f"{c.title} ({c.under})" if several else c.title, c) for c in columns]
        for (name, first), (other, second) in combinations(named, 2):
            if first.title != second.title:
                found = _shown(agreement(_comparable(first), _comparable(second)))
                rows.setdefault((name, other), [None] * len(tables))[at] = found
    return {"heads": [name for name, _ in tables], "rows": list(rows.items())}


def _comparable(column: Column) -> dict[Pair, float]:
    """E of each pair of different families, without those whose source is not at the level."""
    return {
        pair: block["value"]
        for pair, block in column.blocks().items()
        if pair[0] != pair[1] and block["value"] is not None and block["at_level"]
    }


def _shown(found: Agreement) -> dict[str, Any]:
    if found.rho is None:
        return {"rho": DASH, "pairs": found.pairs, "p": "too few pairs", "test": False}
    enough = found.relabellings >= LEAST_RELABELLINGS
    said = f"p = {rate(found.p)} of {found.relabellings} relabellings" if enough else "too few families for a test"
    return {"rho": rate(found.rho), "pairs": found.pairs, "p": said, "test": enough}
