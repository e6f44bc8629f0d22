"""Trees of other libraries as tables: checked, in one order, and with special values sent where the library sends them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from carom.common.models.trees import LEAF, Grown

MOST_NODES = 1 << 18
"""Of one tree."""

MOST_FEATURES, MOST_CLASSES = 1 << 24, 10_000
"""That are believed of a file."""


def sound(tree: Grown, features: int) -> tuple[Grown, NDArray[Any]]:
    """(the nodes that the root leads to, parents before their children; which they were, int64[M]).

    Raises ValueError for a tree that is none: whose nodes lead outside it or to one another, ask for a feature beyond
    `features`, or hold what is no finite number.
    """
    left, right, feature = (np.asarray(part).astype(np.int64) for part in tree[:3])
    threshold, value = np.asarray(tree.threshold, dtype=np.float64), np.asarray(tree.value)
    count = len(left)
    if count == 0 or any(len(part) != count for part in (right, feature, threshold, value)):
        raise ValueError("a tree whose tables are of different lengths")
    order, place = [0], {0: 0}
    for node in order:
        if left[node] == LEAF:
            continue
        for child in (int(left[node]), int(right[node])):
            if not 0 <= child < count or child in place:
                raise ValueError("a tree whose nodes point outside it or to one another")
            place[child] = len(order)
            order.append(child)
    kept = np.array(order)
    leaf = left[kept] == LEAF
    asked = feature[kept][~leaf]
    if len(asked) and (asked.min() < 0 or asked.max() >= features):
        raise ValueError(f"a tree that asks for a feature beyond the {features} it was fitted on")
    if np.isnan(threshold[kept][~leaf]).any() or not np.isfinite(value[kept][leaf]).all():
        raise ValueError("a tree whose numbers are not finite")
    lower, upper = (
        np.array([LEAF if end else place[int(part[node])] for node, end in zip(order, leaf, strict=True)])
        for part in (left, right)
    )
    return Grown(lower, upper, feature[kept], threshold[kept], value[kept]), kept


def sending(tree: Grown, to_left: NDArray[Any], where: NDArray[Any], under: float, over: float) -> Grown:
    """A tree that sends x with under < x <= over, at the nodes bool[M] `where`, to the side bool[M] `to_left` says,
    whatever the threshold: what the library takes for missing. Each such node becomes up to two ordinary ones.
    """
    rows: list[list[Any]] = []  # left, right, feature, threshold, node whose value it holds

    def new() -> int:
        rows.append([LEAF, LEAF, 0, 0.0, 0])
        if len(rows) > MOST_NODES:
            raise ValueError(f"a tree of more than {MOST_NODES} nodes, once missing values are told from the rest")
        return len(rows) - 1

    def pieces(node: int, low: float, high: float) -> list[tuple[float, int]]:
        """(up to which x, the child that takes it), ascending, for x of a node's feature within low < x <= high."""
        cut = float(tree.threshold[node])
        found: list[tuple[float, int]] = []
        for end in [*sorted(c for c in {cut, under, over} if low < c < high), high]:
            special = bool(where[node]) and under < end <= over
            child = int((tree.left if (to_left[node] if special else end <= cut) else tree.right)[node])
            if found and found[-1][1] == child:
                found.pop()
            found.append((end, child))
        return found

    todo: list[tuple[int, int, dict[int, tuple[float, float]]]] = [(0, new(), {})]
    while todo:
        node, at, path = todo.pop()
        while tree.left[node] != LEAF:
            feature = int(tree.feature[node])
            low, high = path.get(feature, (-np.inf, np.inf))
            parts = pieces(node, low, high)
            if len(parts) == 1:  # the way here leaves no choice
                node = parts[0][1]
                continue
            for end, child in parts[:-1]:
                rows[at][:4] = new(), new(), feature, end
                todo.append((child, rows[at][0], {**path, feature: (low, end)}))
                low, at = end, rows[at][1]
            node, path = parts[-1][1], {**path, feature: (low, high)}
        rows[at][4] = node
    left, right, feature_of, threshold, holds = (np.array(column) for column in zip(*rows, strict=True))
    return Grown(left, right, feature_of, threshold.astype(np.float64), np.asarray(tree.value)[holds])
