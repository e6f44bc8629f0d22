"""Intervals and tests: every rate carries its n and an interval, every comparison is paired."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

Z = 1.959963984540054  # of a two-sided 95 % interval
TOGETHER = 64  # resamples that are worked on at once


def wilson(hits: float, n: int) -> tuple[float, float]:
    """Wilson's 95 % score interval for a share (Wilson 1927). Without data, everything is possible.

    >>> low, high = wilson(0, 100)
    >>> low, round(high, 3)
    (0.0, 0.037)
    """
    if n == 0:
        return 0.0, 1.0
    share, square = hits / n, Z * Z
    centre = (share + square / (2 * n)) / (1 + square / n)
    half = Z / (1 + square / n) * math.sqrt(share * (1 - share) / n + square / (4 * n * n))
    low, high = max(0.0, centre - half), min(1.0, centre + half)
    return (0.0 if hits <= 0 else low), (1.0 if hits >= n else high)


@dataclass(frozen=True)
class Bootstrap:
    """Resamples of example ids, drawn once and used for every cell, so that differences between cells are paired."""

    counts: NDArray[
        np.uint8
    ]  # [B, n]: how often each example is in each resample; a float would be eight times as large

    @classmethod
    def of(cls, n: int, draws: int = 2000, seed: int = 0) -> Bootstrap:
        rng = np.random.default_rng(np.random.SeedSequence([seed, n]))
        counts, even = np.empty((draws, n), np.uint8), np.full(n, 1 / n)
        for start in range(0, draws, TOGETHER):
            part = counts[start : start + TOGETHER]
            part[:] = rng.multinomial(n, even, size=len(part))
        return cls(counts)

    def shares(self, values: Array, among: Array) -> Array:
        """float64[B]: the mean of `values` over the examples `among`, in each resample; NaN where none is left."""
        count, total = self._sums(among), self._sums(values * among)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(count > 0, total / count, np.nan)

    def _sums(self, values: Array) -> Array:
        """float64[B]: the sum of the values of each resample."""
        parts = (self.counts[start : start + TOGETHER] for start in range(0, len(self.counts), TOGETHER))
        return np.concatenate([part.astype(np.float64) @ values for part in parts])


def interval(draws: Array) -> tuple[float, float] | None:
    """The 95 % percentile interval of bootstrap draws; None when a tenth of them or more are not defined."""
    defined = draws[np.isfinite(draws)]
    if len(defined) < 0.9 * len(draws):
        return None
    low, high = np.percentile(defined, [2.5, 97.5])
    return float(low), float(high)


def excess(transfer: Array | float, control: Array | float) -> Array | float:
    """(T - N) / (1 - N): what is left of transfer beyond the control (Abbott 1925). Not defined when N is 1."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(np.asarray(control) < 1, (transfer - control) / (1 - np.asarray(control)), np.nan)


def mcnemar(only_first: int, only_second: int) -> float:
    """Mid-p value of McNemar's test from the two discordant counts (Fagerland, Lydersen and Laake 2013)."""
    n, low = only_first + only_second, min(only_first, only_second)
    if n == 0:
        return 1.0
    terms = [math.exp(math.log(math.comb(n, i)) - n * math.log(2)) for i in range(low + 1)]
    return min(1.0, 2 * sum(terms) - terms[low])


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values, in the order given."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = largest
    return adjusted


def spearman(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Rank correlation, ties at their mean rank. None for fewer than three pairs or where one side is all equal."""
    if len(first) < 3:
        return None
    a, b = (_ranks(np.asarray(side, dtype=np.float64)) for side in (first, second))
    if not (np.ptp(a) and np.ptp(b)):
        return None
    return float(np.corrcoef(a, b)[0, 1])


def _ranks(values: Array) -> Array:
    below = (values[:, None] > values).sum(1)
    return below + ((values[:, None] == values).sum(1) + 1) / 2


def relabellings(pairs: Sequence[tuple[str, str]]) -> list[list[int]]:
    """Every renaming of the names that maps this set of ordered pairs onto itself, as the places the pairs move to; the
    first leaves all as they are."""
    names, place = sorted({name for pair in pairs for name in pair}), {pair: i for i, pair in enumerate(pairs)}
    found = []
    for order in permutations(names):
        new = dict(zip(names, order, strict=True))
        moved = [(new[a], new[b]) for a, b in pairs]
        if all(pair in place for pair in moved):
            found.append([place[pair] for pair in moved])
    return found


@dataclass(frozen=True)
class Agreement:
    """Whether two tables put the same ordered pairs of names into the same order."""

    pairs: int
    rho: float | None
    relabellings: int  # the smallest possible p-value is 1 over this
    p: float | None


def agreement(first: Mapping[tuple[str, str], float], second: Mapping[tuple[str, str], float]) -> Agreement:
    """Spearman's rho over the pairs that both tables hold, and how often renaming one table's names gives one as high.

    Pairs that share a name are not independent, so names are permuted, sources and targets alike, not pairs (the
    quadratic assignment procedure; Mantel 1967, Krackhardt 1988). All renamings are tried; p counts the given one.
    """
    pairs = sorted(first.keys() & second.keys())
    a, b = [first[pair] for pair in pairs], [second[pair] for pair in pairs]
    rho = spearman(a, b)
    if rho is None:
        return Agreement(len(pairs), None, 0, None)
    moves = relabellings(pairs)
    drawn = [spearman([a[i] for i in move], b) or 0.0 for move in moves]
    return Agreement(len(pairs), rho, len(moves), sum(other >= rho - 1e-9 for other in drawn) / len(moves))
