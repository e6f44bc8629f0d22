"""Success against queries: what share of the examples an attack has reached its goal on within so many questions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from carom.common.measure.stats import wilson


@dataclass(frozen=True)
class Share:
    """A share of n examples within a number of queries, with its 95 % Wilson interval."""

    queries: int
    success: float
    low: float
    high: float


def marks(most: int) -> list[int]:
    """1, 2, 5, 10, 20, 50, ... below the most queries that any example took, and that number itself.

    >>> marks(30)
    [1, 2, 5, 10, 20, 30]
    """
    steps = [step * 10**power for power in range(len(str(most))) for step in (1, 2, 5)]
    return [*(step for step in steps if step < most), *([most] if most > 0 else [])]


def success_within(
    queries: NDArray[np.int64], success: NDArray[np.bool_], at: Sequence[int] | None = None
) -> list[Share]:
    """For each number of queries in `at` (by default `marks`), the share of examples that succeeded with no more.

    `queries` int64[n] and `success` bool[n] are what a crafted set says of each example: an attack that stops at its
    goal took as many questions as it needed. Of one that goes on it is not known when it was there first, and its curve
    rises where its budget ends. Empty without examples.
    """
    n = len(queries)
    if not n:
        return []
    shares = []
    for limit in marks(int(queries.max())) if at is None else at:
        hits = int((success & (queries <= limit)).sum())
        shares.append(Share(int(limit), hits / n, *wilson(hits, n)))
    return shares
