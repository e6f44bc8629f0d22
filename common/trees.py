"""Decision trees and forests as arrays: evaluated, relaxed and attacked without the library that grew them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

LEAF = -1


@dataclass(frozen=True, eq=False)
class TreeEnsemble:
    """T binary trees over D features and C classes, padded to M nodes each. Node 0 is the root.

    A sample goes left when feature <= threshold. `value` holds class probabilities at the leaves; the ensemble's
    answer is their mean over the trees.
    """

    left: Tensor  # int64[T, M], LEAF at a leaf
    right: Tensor  # int64[T, M]
    feature: Tensor  # int64[T, M]
    threshold: Tensor  # float32[T, M]
    value: Tensor  # float32[T, M, C]

    @property
    def trees(self) -> int:
        return self.left.shape[0]

    @property
    def classes(self) -> int:
        return self.value.shape[2]

    @cached_property
    def depth(self) -> int:
        """Edges from the root to the deepest leaf of any tree."""
        level = torch.zeros_like(self.left, dtype=torch.bool)
        level[:, 0] = True
        depth = 0
        while (inner := level & (self.left != LEAF)).any():
            level = torch.zeros_like(level)
            tree, node = inner.nonzero(as_tuple=True)
            level[tree, self.left[tree, node]] = True
            level[tree, self.right[tree, node]] = True
            depth += 1
        return depth

    def leaves(self, x: Tensor) -> Tensor:
        """int64[N, T]: the leaf that each row of x float[N, D] falls into, in each tree."""
        trees = torch.arange(self.trees, device=x.device)
        node = torch.zeros(len(x), self.trees, dtype=torch.long, device=x.device)
        for _ in range(self.depth):
            left = self.left[trees, node]
            goes_left = x.gather(1, self.feature[trees, node]) <= self.threshold[trees, node]
            down = torch.where(goes_left, left, self.right[trees, node])
            node = torch.where(left == LEAF, node, down)
        return node

    def probabilities(self, x: Tensor) -> Tensor:
        """float[N, C]: mean over the trees of the class shares in the leaf reached, for x float[N, D]."""
        trees = torch.arange(self.trees, device=x.device)
        return self.value[trees, self.leaves(x)].mean(1)

    def tensors(self) -> dict[str, Tensor]:
        """What a checkpoint stores: small integer types and, for leaves, fp16 shares."""
        return {
            "left": self.left.to(torch.int16),
            "right": self.right.to(torch.int16),
            "feature": self.feature.to(torch.int16),
            "threshold": self.threshold,
            "value": self.value.half(),
        }

    def to(self, device: torch.device | str) -> TreeEnsemble:
        moved = (self.left, self.right, self.feature, self.threshold, self.value)
        return TreeEnsemble(*(tensor.to(device) for tensor in moved))

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> TreeEnsemble:
        names = ("left", "right", "feature")
        return cls(
            **{name: tensors[name].long() for name in names},
            threshold=tensors["threshold"].float(),
            value=tensors["value"].float(),
        )

    @classmethod
    def empty(cls) -> TreeEnsemble:
        """A placeholder of one leaf, for recipes to build before their checkpoint is read."""
        nothing = torch.full((1, 1), LEAF)
        return cls(nothing, nothing, torch.zeros(1, 1, dtype=torch.long), torch.zeros(1, 1), torch.ones(1, 1, 1))

    @classmethod
    def from_sklearn(cls, estimator: Any) -> TreeEnsemble:
        """From a fitted scikit-learn DecisionTree, RandomForest or ExtraTrees classifier.

        scikit-learn compares float32 features with float64 thresholds; each threshold is rounded DOWN to float32 so
        that every comparison with a float32 feature has the same answer.
        """
        grown = [tree.tree_ for tree in getattr(estimator, "estimators_", [estimator])]
        nodes, classes = max(t.node_count for t in grown), grown[0].value.shape[2]
        left = np.full((len(grown), nodes), LEAF, dtype=np.int64)
        right = left.copy()
        feature = np.zeros((len(grown), nodes), dtype=np.int64)
        threshold = np.zeros((len(grown), nodes), dtype=np.float32)
        value = np.zeros((len(grown), nodes, classes), dtype=np.float32)
        for row, tree in enumerate(grown):
            used = slice(0, tree.node_count)
            left[row, used], right[row, used] = tree.children_left, tree.children_right
            feature[row, used] = np.maximum(tree.feature, 0)
            nearest = tree.threshold.astype(np.float32)
            above = nearest.astype(np.float64) > tree.threshold
            threshold[row, used] = np.where(above, np.nextafter(nearest, np.float32(-np.inf)), nearest)
            shares = tree.value[:, 0, :]
            value[row, used] = np.where(left[row, used, None] == LEAF, shares / shares.sum(1, keepdims=True), 0)
        return cls(*(torch.from_numpy(a) for a in (left, right, feature, threshold, value)))
