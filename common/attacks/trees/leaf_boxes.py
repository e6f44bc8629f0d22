"""The leaves of trees as boxes: what intervals of the features lead to each."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor

from carom.common.core.spaces import Box
from carom.common.models.trees import LEAF, TreeEnsemble, rounded_down


@dataclass(frozen=True, eq=False)
class Leaves:
    """All K leaves of an ensemble, each with the interval that its path leaves to every feature on it.

    low < feature <= high. Paths are padded to P features with feature -1 and an interval that holds everything;
    what reads them gives inputs an extra column that -1 points to.
    """

    tree: Tensor  # int64[K]
    node: Tensor  # int64[K]
    feature: Tensor  # int64[K, P]
    low: Tensor  # float32[K, P]
    high: Tensor  # float32[K, P]
    value: Tensor  # float[K, C]
    index: Tensor  # int64[T, M]: the number of the leaf at a tree's node


@lru_cache(maxsize=16)
def leaves_of(ensemble: TreeEnsemble) -> Leaves:
    """Walk every path of the ensemble once."""
    left, right = ensemble.left.tolist(), ensemble.right.tolist()
    feature, threshold = ensemble.feature.tolist(), rounded_down(ensemble.threshold).tolist()
    found: list[tuple[int, int, dict[int, tuple[float, float]]]] = []
    for tree in range(ensemble.trees):
        stack: list[tuple[int, dict[int, tuple[float, float]]]] = [(0, {})]
        while stack:
            node, path = stack.pop()
            if left[tree][node] == LEAF:
                found.append((tree, node, path))
                continue
            f, cut = feature[tree][node], threshold[tree][node]
            low, high = path.get(f, (-torch.inf, torch.inf))
            stack.append((left[tree][node], {**path, f: (low, min(high, cut))}))
            stack.append((right[tree][node], {**path, f: (max(low, cut), high)}))
    width = max(1, max(len(path) for *_, path in found))
    rows = [[*path.items(), *[(-1, (-torch.inf, torch.inf))] * (width - len(path))] for *_, path in found]
    device = ensemble.left.device
    tree_of = torch.tensor([tree for tree, *_ in found], device=device)
    node_of = torch.tensor([node for _, node, _ in found], device=device)
    index = torch.full_like(ensemble.left, LEAF)
    index[tree_of, node_of] = torch.arange(len(found), device=device)
    return Leaves(
        tree=tree_of,
        node=node_of,
        feature=torch.tensor([[f for f, _ in row] for row in rows], device=device),
        low=torch.tensor([[low for _, (low, _) in row] for row in rows], device=device),
        high=torch.tensor([[high for _, (_, high) in row] for row in rows], device=device),
        value=ensemble.value[tree_of, node_of],
        index=index,
    )


def on_lattice(leaves: Leaves, space: Box) -> Leaves:
    """The same leaves with CLOSED intervals between stored values: the smallest above low, the largest up to high."""
    if not space.unit:
        above = torch.nextafter(leaves.low, torch.full_like(leaves.low, torch.inf))
        return replace(leaves, low=above.clamp_min(space.low), high=leaves.high.clamp_max(space.high))
    low = (leaves.low.clamp(space.low - space.unit, space.high) / space.unit).floor() - 1
    high = (leaves.high.clamp(space.low - space.unit, space.high) / space.unit).floor() + 1
    for _ in range(3):  # float32 comparisons decide, exactly as the trees will make them
        low = torch.where(space.value(low) <= leaves.low, low + 1, low)
        high = torch.where(space.value(high) > leaves.high, high - 1, high)
    return replace(leaves, low=space.value(low).clamp_min(space.low), high=space.value(high).clamp_max(space.high))
