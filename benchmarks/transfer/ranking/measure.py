"""From cells to the rows of the record: the choice of configurations, means, paired differences and Holm's adjustment."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from carom.benchmarks.records import rounded
from carom.benchmarks.transfer.ranking.rules import BASELINES, COMPARED, CONFIGURATIONS, HALVES
from carom.benchmarks.transfer.ranking.work import Resampled
from carom.common.measure.stats import Array, holm, interval

TREE = "tree"
"""The family that counts to no mean."""

CLAIM = 0.05
"""Below which an adjusted p makes a claim."""


def grouped(cells: Iterable[Resampled], key: Callable[[Resampled], Any]) -> dict[Any, list[Resampled]]:
    groups: dict[Any, list[Resampled]] = {}
    for cell in cells:
        groups.setdefault(key(cell), []).append(cell)
    return groups


def mean(values: Iterable[float | None]) -> float | None:
    """Of those that are defined; None of none."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def short(model: str) -> str:
    return model.removeprefix("image-cifar-")


def networks(cells: Iterable[Resampled]) -> list[Resampled]:
    return [cell for cell in cells if cell.cell.target_family != TREE]


# Tuning.


def tuned(cells: Sequence[Resampled]) -> tuple[dict[str, str], list[dict[str, Any]]]:
    """(attack -> its best spec on the tuning images, a row for every configuration)"""
    chosen: dict[str, str] = {}
    rows: list[dict[str, Any]] = []
    by_spec = grouped(networks(cells), lambda c: c.cell.attack)
    for name, specs in CONFIGURATIONS.items():
        means = {spec: mean(c.excess for c in by_spec[spec]) for spec in specs}
        known = {spec: value for spec, value in means.items() if value is not None}
        chosen[name] = max(known, key=lambda spec: known[spec])  # the first of equal ones
        source = short(by_spec[specs[0]][0].cell.source)
        rows += [
            {"attack": name, "source": source, "spec": spec, "excess": means[spec], "chosen": spec == chosen[name]}
            for spec in specs
        ]
    return chosen, [rounded(row) for row in rows]


# Means and differences.


@dataclass(frozen=True)
class Estimate:
    """A number and its resamples."""

    value: float
    draws: Array  # float64[B]

    def row(self, name: str) -> dict[str, float | None]:
        low, high = interval(self.draws) or (None, None)
        return {name: self.value, "low": low, "high": high}

    @property
    def p(self) -> float:
        """Two-sided, that it is 0: over its bootstrap standard error, as of a normal distribution. 1 where all
        resamples are the same 0, as of an attack with itself."""
        error = float(np.std(self.draws[np.isfinite(self.draws)], ddof=1))
        if error == 0:
            return 1.0 if self.value == 0 else 0.0
        return math.erfc(abs(self.value) / error / math.sqrt(2))


def pooled(values: Iterable[tuple[str, float, Array]]) -> Estimate | None:
    """The mean over the cells of each part of the images, then over the parts; None without any."""
    parts: dict[str, list[tuple[float, Array]]] = {}
    for part, value, draws in values:
        parts.setdefault(part, []).append((value, draws))
    if not parts:
        return None
    means = [(np.mean([v for v, _ in of]), np.mean([d for _, d in of], axis=0)) for of in parts.values()]
    return Estimate(float(np.mean([v for v, _ in means])), np.mean([d for _, d in means], axis=0))


def excess_of(cells: Iterable[Resampled]) -> Estimate | None:
    return pooled((c.part, c.excess, c.draws) for c in cells if c.excess is not None)


def difference(cells: Iterable[Resampled], others: Iterable[Resampled]) -> Estimate | None:
    """Between the cells of the same source, target and part."""
    rival = {c.place: c for c in others}
    pairs = [(one, rival[one.place]) for one in cells if one.place in rival]
    return pooled(
        (a.part, a.excess - b.excess, a.draws - b.draws)
        for a, b in pairs
        if a.excess is not None and b.excess is not None
    )


def written(estimate: Estimate | None, name: str) -> dict[str, float | None]:
    return {name: None, "low": None, "high": None} if estimate is None else estimate.row(name)


# Rows of the record.


def facts_of(of: Sequence[Resampled]) -> dict[str, Any]:
    """What one attack from one source spent and reached."""
    return {
        "source": short(of[0].cell.source),
        "attack": of[0].attack,
        "spec": of[0].cell.attack,
        "forward": mean(c.cell.spent.forward for c in of),
        "backward": mean(c.cell.spent.backward for c in of),
        "white_box": mean(c.cell.rates.white_box.value for c in of),
        **written(excess_of(networks(of)), "excess"),
        "targets": {
            short(target): {"n": sum(c.cell.rates.n for c in part), **written(excess_of(part), "excess")}
            for target, part in grouped(of, lambda c: c.cell.target).items()
        },
    }


def ranked(cells: Sequence[Resampled]) -> list[dict[str, Any]]:
    """One row a source and attack, with its declared comparisons."""
    rows: list[dict[str, Any]] = []
    declared: list[tuple[dict[str, Any], Estimate]] = []
    for of_source in grouped(cells, lambda c: c.cell.source).values():
        by_attack = grouped(of_source, lambda c: c.attack)
        for name, of in by_attack.items():
            row = {**facts_of(of), "against": {}}
            for called, baseline in BASELINES.items():
                rival = by_attack[baseline]
                parts = {
                    half: difference([c for c in networks(of) if half in ("all", c.half)], rival)
                    for half in ("all", *HALVES)
                }
                row["against"][called] = {part: written(e, "difference") for part, e in parts.items()}
                first = parts["first"]
                if called in COMPARED and name not in (baseline, *COMPARED_WITHIN[called]) and first is not None:
                    declared.append((row["against"][called], first))
            rows.append(row)
    for (row, first), adjusted in zip(declared, holm([first.p for _, first in declared]), strict=True):
        row.update(verdict(first, adjusted, row["second"]))
    return [rounded(row) for row in rows]


COMPARED_WITHIN: Mapping[str, tuple[str, ...]] = {"MI": (), "DI-MI": (BASELINES["MI"],)}
"""MI and DI-MI are compared once, not twice."""


def verdict(first: Estimate, adjusted: float, second: Mapping[str, float | None]) -> dict[str, Any]:
    """p and what follows from it: what is claimed on the first half, and whether the second half confirms it."""
    claim = None if adjusted >= CLAIM else "better" if first.value > 0 else "worse"
    low, high = second["low"], second["high"]
    same = low is not None and high is not None and (low > 0 if claim == "better" else high < 0)
    return {"p": first.p, "holm": adjusted, "claim": claim, "confirmed": claim is not None and same}


def beside(cells: Sequence[Resampled]) -> list[dict[str, Any]]:
    """One row an attack of a table without claims, with its differences to the baselines of the same table."""
    by_attack = grouped(cells, lambda c: c.attack)
    return [
        rounded(
            {
                **facts_of(of),
                "against": {
                    called: written(difference(networks(of), by_attack.get(baseline, [])), "difference")
                    for called, baseline in BASELINES.items()
                },
            }
        )
        for of in by_attack.values()
    ]
