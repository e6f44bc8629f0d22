"""From cells to the rows of the record: the choice of configurations, means, paired differences and Holm's adjustment."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from carom.benchmarks.records import rounded
from carom.benchmarks.transfer.ranking_rules import BASELINES, COMPARED, CONFIGURATIONS
from carom.benchmarks.transfer.ranking_work import Resampled
from carom.common.base.specs import split_parameters
from carom.common.measure.stats import Array, holm, interval

TREE = "tree"
"""The family that counts to no mean."""


def networks(cells: Iterable[Resampled]) -> list[Resampled]:
    return [cell for cell in cells if cell.cell.target_family != TREE]


def tuned(cells: Sequence[Resampled]) -> tuple[dict[str, str], list[dict[str, Any]]]:
    """(attack -> its best spec on the tuning images, a row for every configuration)"""
    chosen, rows = {}, []
    by_spec = grouped(networks(cells), lambda c: c.cell.attack)
    for name, specs in CONFIGURATIONS.items():
        of = {spec: grouped(by_spec[spec], lambda c: c.cell.source) for spec in specs}
        means = {spec: mean(mean(c.excess for c in part) for part in parts.values()) for spec, parts in of.items()}
        known = {spec: value for spec, value in means.items() if value is not None}
        chosen[name] = max(known, key=lambda spec: known[spec])  # the first of equal ones
        rows += [
            {
                "attack": name,
                "spec": spec,
                "excess": means[spec],
                "by_source": {short(source): mean(c.excess for c in part) for source, part in parts.items()},
                "chosen": spec == chosen[name],
            }
            for spec, parts in of.items()
        ]
    return chosen, [rounded(row) for row in rows]


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
