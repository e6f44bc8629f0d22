"""The field's other denominators: the transfer rate over other examples than those that both models get right, and where
the order of two attacks hangs on that choice.

Zhao et al. (TPAMI 2025) count over images that all models get right, Yu et al. (SaTML 2025) given success on the source,
TransferAttack's table is 1 - accuracy over everything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

from carom.common.measure.cells import Cell, Over

DENOMINATORS = {
    "all-right": "examples that every model of the study gets right when clean",
    "source-fooled": "examples that both models get right when clean and that fool the source",
    "everything": "all examples, whether right when clean or not: 1 - accuracy",
}

LEAST = 1e-12
"""What two sums of the same numbers may differ by."""


def marked(cells: Sequence[Cell]) -> list[Cell]:
    """The cells with the attacks named whose order against theirs, on one source and target, is another one over other
    examples than in the headline: by E, or by T where E is not known."""
    groups: dict[tuple[Any, ...], list[int]] = {}
    for i, cell in enumerate(cells):
        key = (cell.source, cell.target, cell.seed, cell.terms.matched, cell.terms.allowed)
        groups.setdefault(key, []).append(i)
    found: list[dict[str, list[str]]] = [{} for _ in cells]
    for group in groups.values():
        for one, other in combinations(group, 2):
            for name in cells[one].denominators:
                if _opposed(_by_headline(cells[one], cells[other]), _by(name, cells[one], cells[other])):
                    found[one].setdefault(name, []).append(cells[other].attack)
                    found[other].setdefault(name, []).append(cells[one].attack)
    return [_with(cell, flips) for cell, flips in zip(cells, found, strict=True)]


def _by_headline(one: Cell, other: Cell) -> float | None:
    gap = _gap(one.rates.excess.value, other.rates.excess.value)
    return _gap(one.rates.transfer.value, other.rates.transfer.value) if gap is None else gap


def _by(name: str, one: Cell, other: Cell) -> float | None:
    return _gap(one.denominators[name].rate.value, other.denominators[name].rate.value)


def _gap(first: float | None, second: float | None) -> float | None:
    return None if first is None or second is None else first - second


def _opposed(one: float | None, other: float | None) -> bool:
    """Whether both are told apart, and on opposite sides."""
    return one is not None and other is not None and min(abs(one), abs(other)) > LEAST and (one > 0) != (other > 0)


def _with(cell: Cell, flips: dict[str, list[str]]) -> Cell:
    if not flips:
        return cell
    over = {name: Over(of.rate, tuple(flips.get(name, ()))) for name, of in cell.denominators.items()}
    return replace(cell, denominators=over)
