"""Decision trees, forests and boosted trees as arrays: evaluated, relaxed and attacked without the library that grew them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from carom.common.base.identity import digest_of
from carom.common.core.batch import Access, Family
from carom.common.core.model import check_shape
from carom.common.core.spaces import Space
from carom.common.models.company import CompanyModel
from carom.common.models.networks import FrozenModule

LEAF = -1


class Grown(NamedTuple):
    """One tree of M nodes as the library that grew it has it; node 0 is the root."""

    left: NDArray[Any]  # int[M], LEAF at a leaf
    right: NDArray[Any]  # int[M]
    feature: NDArray[Any]  # int[M]
    threshold: NDArray[Any]  # float64[M]
    value: NDArray[Any]  # float[M, C]


@dataclass(frozen=True, eq=False)
class TreeEnsemble:
    """T binary trees over D features and C classes, padded to M nodes each. Node 0 is the root.

    A sample goes left when feature <= threshold. In forests `value` holds class probabilities at the leaves, and the
    answer is their mean over the trees. In boosted ensembles, which have a `base`, it holds what a leaf adds to the
    logits, and the answer is the base and the sum over the trees, tree after tree in the precision of the values, as
    the libraries add. Logits that are no more than `near` apart are equal there: the library's probabilities are.
    """

    left: Tensor  # int64[T, M], LEAF at a leaf
    right: Tensor  # int64[T, M]
    feature: Tensor  # int64[T, M]
    threshold: Tensor  # float32[T, M]; float64 where the library compares doubles
    value: Tensor  # float32[T, M, C]; float64 in most boosted ensembles, whose sums are long
    base: Tensor | None = None  # [C], of the type of the values
    near: float = 0.0

    @property
    def additive(self) -> bool:
        """Whether the trees add up to logits."""
        return self.base is not None

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
        """float[N, C], for x float[N, D]: mean over the trees of the class shares in the leaf reached; of boosted
        trees, the softmax of their logits."""
        total = self._total(x)
        return self.answer(total).softmax(1) if self.additive else total / self.trees

    def logits(self, x: Tensor) -> Tensor:
        """float[N, C], for x float[N, D]: log-probabilities, floored so that an empty leaf stays finite; of boosted
        trees, base and sum."""
        return self.answer(self._total(x))

    def answer(self, total: Tensor) -> Tensor:
        """Logits float[..., C] where the values of the trees' leaves add up to `total`."""
        if self.base is None:
            return (total / self.trees).clamp_min(1e-6).log()
        logits = self.base + total
        if not self.near:
            return logits
        top = logits.amax(-1, keepdim=True)
        return torch.where(top - logits <= self.near, top, logits)

    def _total(self, x: Tensor) -> Tensor:
        """float[N, C]: the values of the leaves that each row falls into, added up. Those of forests in float64: sums of
        float32 shares are exact there, whatever their order, so that classes with as many votes tie to the last digit."""
        reached = self.value[torch.arange(self.trees, device=x.device), self.leaves(x)]  # [N, T, C]
        if self.additive:
            total = torch.zeros_like(reached[:, 0])
            for tree in range(self.trees):
                total += reached[:, tree]
            return total
        return reached.sum(1, dtype=torch.float64).to(self.value.dtype)

    def tensors(self) -> dict[str, Tensor]:
        """What a checkpoint stores: small integer types and, for leaves, fp16 shares; boosted values as they are."""
        return {
            **{name: _small(getattr(self, name)) for name in ("left", "right", "feature")},
            "threshold": self.threshold,
            "value": self.value.half() if self.base is None else self.value,
            **({} if self.base is None else {"base": self.base}),
            **({"near": torch.tensor(self.near, dtype=torch.float64)} if self.near else {}),
        }

    def to(self, device: torch.device | str) -> TreeEnsemble:
        moved = {name: getattr(self, name).to(device) for name in ("left", "right", "feature", "threshold", "value")}
        return replace(self, **moved, base=None if self.base is None else self.base.to(device))

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> TreeEnsemble:
        names = ("left", "right", "feature")
        return cls(
            **{name: tensors[name].long() for name in names},
            threshold=tensors["threshold"],
            value=tensors["value"] if "base" in tensors else tensors["value"].float(),
            base=tensors.get("base"),
            near=float(tensors["near"]) if "near" in tensors else 0.0,
        )

    @classmethod
    def empty(cls) -> TreeEnsemble:
        """A placeholder of one leaf, for recipes to build before their checkpoint is read."""
        nothing = torch.full((1, 1), LEAF)
        return cls(nothing, nothing, torch.zeros(1, 1, dtype=torch.long), torch.zeros(1, 1), torch.ones(1, 1, 1))

    @classmethod
    def of(
        cls, grown: Sequence[Grown], base: NDArray[Any] | None = None, near: float = 0.0, doubles: bool = False
    ) -> TreeEnsemble:
        """Trees side by side; with a `base` float[C], boosted ones, whose values are of its type.

        Most libraries compare float32 features with float64 thresholds; each threshold is rounded DOWN to float32 so
        that every comparison with a float32 feature has the same answer. `doubles`: the library compares float64
        features, and thresholds stay as they are.
        """
        nodes, classes = max(len(tree.left) for tree in grown), grown[0].value.shape[1]
        left = np.full((len(grown), nodes), LEAF, dtype=np.int64)
        right = left.copy()
        feature = np.zeros((len(grown), nodes), dtype=np.int64)
        threshold = np.zeros((len(grown), nodes), dtype=np.float64)
        value = np.zeros((len(grown), nodes, classes), dtype=np.float32 if base is None else base.dtype)
        for row, tree in enumerate(grown):
            used = slice(0, len(tree.left))
            left[row, used], right[row, used] = tree.left, tree.right
            feature[row, used] = np.maximum(tree.feature, 0)
            threshold[row, used] = tree.threshold
            value[row, used] = np.where(left[row, used, None] == LEAF, tree.value, 0)
        cuts = torch.from_numpy(threshold)
        return cls(
            left=torch.from_numpy(left),
            right=torch.from_numpy(right),
            feature=torch.from_numpy(feature),
            threshold=cuts if doubles else rounded_down(cuts),
            value=torch.from_numpy(value),
            base=None if base is None else torch.from_numpy(base),
            near=near,
        )

    @classmethod
    def from_sklearn(cls, estimator: Any) -> TreeEnsemble:
        """From a fitted scikit-learn DecisionTree, RandomForest or ExtraTrees classifier. Boosted ones are read by
        `carom.common.models.boosting.boosted`."""
        trees = [tree.tree_ for tree in getattr(estimator, "estimators_", [estimator])]
        shares = [tree.value[:, 0, :] / tree.value[:, 0, :].sum(1, keepdims=True) for tree in trees]
        return cls.of(
            [
                Grown(tree.children_left, tree.children_right, tree.feature, tree.threshold, share)
                for tree, share in zip(trees, shares, strict=True)
            ]
        )


def _small(numbers: Tensor) -> Tensor:
    """int16 where all of them fit: large images have more features than that."""
    return numbers.to(torch.int16) if int(numbers.max()) <= torch.iinfo(torch.int16).max else numbers.to(torch.int32)


def rounded_down(thresholds: Tensor) -> Tensor:
    """float32: the largest values up to the thresholds, which part float32 features as the thresholds do."""
    nearest = thresholds.float()
    below = torch.nextafter(nearest, torch.full_like(nearest, -torch.inf))
    return torch.where(nearest.double() > thresholds.double(), below, nearest)


class TreeModel(CompanyModel):
    """A decision tree, a forest or boosted trees over inputs, or over the features that a differentiable front end makes
    of them.

    Logits of trees and forests are log-probabilities, floored so that an empty leaf stays finite; of boosted trees
    they are the sums of their scores.
    """

    access = Access.LABEL | Access.SCORE | Access.LEAVES

    def __init__(
        self,
        ensemble: TreeEnsemble,
        *,
        name: str,
        modality: str,
        space: Space,
        classes: Sequence[str],
        front_end: nn.Module | None = None,
        shape: tuple[int | None, ...] | None = None,
        digest: str | None = None,
    ) -> None:
        self.ensemble = ensemble
        self.front_end = front_end  # None: the features are the flattened inputs themselves
        self.shape = shape
        holder = nn.Module()
        for key, tensor in ensemble.tensors().items():
            holder.register_buffer(key, tensor)
        super().__init__(name, modality, Family.TREE, space, classes, digest or digest_of(holder, front_end))

    def features(self, inputs: Tensor) -> Tensor:
        """float[N, D]: what the trees look at."""
        check_shape(self, inputs)
        return inputs.flatten(1) if self.front_end is None else self.front_end(inputs)

    def together(self, inputs: Tensor, lengths: Tensor | None) -> Tensor:
        return self.ensemble.logits(self.features(inputs))

    def to(self, device: torch.device | str) -> TreeModel:
        self.ensemble = self.ensemble.to(device)
        if self.front_end is not None:
            self.front_end.to(device)
        super().to(device)
        return self

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        with contextlib.nullcontext() if self.front_end is None else FrozenModule(self.front_end)():
            yield
