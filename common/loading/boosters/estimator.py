"""Boosted trees as an estimator of their own tables, and the comparison with the library that grew them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from carom.common.base.errors import CaromError
from carom.common.models.trees import LEAF, TreeEnsemble

BY_HAND = (
    "hand its predict_proba in as a function, which is measured without its leaves: "
    'load_model(lambda x: trees.predict_proba(...), answers="probabilities", classes=[...]).'
)
"""What to do about trees that cannot be read."""

PROBES, ROOM = 64, 1 << 24  # rows, and numbers in all of them


class BoostedTrees:
    """Trees of another library, answering by their tables alone: classes_, n_features_in_, predict, predict_proba."""

    def __init__(self, name: str, ensemble: TreeEnsemble, features: int, classes: Any = None) -> None:
        self.__name__ = name
        self.ensemble = ensemble
        self.n_features_in_ = features
        self.classes_ = np.arange(ensemble.classes) if classes is None else np.asarray(classes)

    def _rows(self, x: Any) -> torch.Tensor:
        doubles = self.ensemble.threshold.dtype == torch.float64
        rows = np.asarray(x, dtype=np.float64 if doubles else np.float32)
        if rows.ndim != 2 or rows.shape[1] != self.n_features_in_:
            raise ValueError(f"takes rows of {self.n_features_in_} features, not an array of shape {rows.shape}")
        return torch.from_numpy(np.ascontiguousarray(rows))

    def logits(self, x: Any) -> NDArray[Any]:
        """float[N, C], for x[N, D]."""
        return self.ensemble.logits(self._rows(x)).numpy()

    def predict_proba(self, x: Any) -> NDArray[Any]:
        return self.ensemble.probabilities(self._rows(x)).numpy()

    def predict(self, x: Any) -> NDArray[Any]:
        return self.classes_[self.logits(x).argmax(1)]


def probes(ensemble: TreeEnsemble, features: int) -> NDArray[np.float32]:
    """float32[N, D]: rows on the thresholds of the trees and beside them."""
    rng = np.random.default_rng(0)
    count = max(1, min(PROBES, ROOM // features))
    rows = rng.random((count, features), dtype=np.float32)
    inner = ensemble.left != LEAF
    asked, cuts = ensemble.feature[inner].numpy(), ensemble.threshold[inner].numpy().astype(np.float32)
    beside = (-np.inf, np.inf, None)
    order = np.argsort(asked, kind="stable")
    names, starts, counts = np.unique(asked[order], return_index=True, return_counts=True)
    for feature, start, many in zip(names, starts, counts, strict=True):
        values = rng.choice(cuts[order][start : start + many], count)
        sides = [values if side is None else np.nextafter(values, np.float32(side)) for side in beside]
        rows[:, feature] = np.choose(rng.integers(0, 3, count), sides)
    return rows


def check_answers(trees: BoostedTrees, ask: Callable[[NDArray[np.float32]], Any], who: str) -> None:
    """Raise CaromError unless the library's probabilities `ask`(x), float[N] of the second class or [N, C], are those of
    the tables. Only a format that is not what it was taken for comes to this."""
    rows = probes(trees.ensemble, trees.n_features_in_)
    theirs = np.asarray(ask(rows), dtype=np.float64)
    theirs = np.stack([1 - theirs, theirs], 1) if theirs.ndim == 1 else theirs
    ours = trees.predict_proba(rows)
    if theirs.shape != ours.shape or not np.allclose(ours, theirs, rtol=1e-4, atol=1e-5):
        raise CaromError(
            f"{who}: the library answers otherwise than its trees as carom reads them, which may be of a version that it "
            f"does not know. Use the version of the library that is named in constraints.txt, or {BY_HAND}"
        )
