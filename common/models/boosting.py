"""Gradient-boosted trees as the tables that attacks read: scikit-learn's two kinds of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from carom.common.base.errors import CaromError
from carom.common.models.trees import LEAF, Grown, TreeEnsemble

BOOSTED = ("GradientBoostingClassifier", "HistGradientBoostingClassifier")


def boosted(estimator: Any) -> TreeEnsemble:
    """From a fitted scikit-learn GradientBoosting or HistGradientBoosting classifier.

    Its logits are the scores of `decision_function`, one a class; with two classes, where that is one number, 0 and
    that number (doubled for the exponential loss), so that their softmax is `predict_proba`. A first guess that depends
    on the input, and categorical features, are refused: no interval of an ordered feature says what they ask. Where
    missing values go is not read, since no space of ours has any.
    """
    if type(estimator).__name__ == "GradientBoostingClassifier":
        rounds, base = _gradient(estimator)
    else:
        rounds, base = _histogram(estimator)
    classes = len(estimator.classes_)
    if classes == 2:
        scale = 2.0 if getattr(estimator, "loss", None) == "exponential" else 1.0
        base = np.array([0.0, scale * base[0]])
        return TreeEnsemble.of([adding(tree, scale * own, 1, 2) for (tree, own) in rounds], base)
    return TreeEnsemble.of([adding(tree, own, i % classes, classes) for i, (tree, own) in enumerate(rounds)], base)


Scored = tuple[Grown, NDArray[Any]]
"""A tree without values, and what each of its nodes adds to one score: float64[M]."""


def adding(tree: Grown, own: NDArray[Any], column: int, classes: int) -> Grown:
    """The tree whose nodes add own[M] to one of the scores, and nothing to the others."""
    return tree._replace(value=own[:, None] * (np.arange(classes) == column).astype(own.dtype))


def _gradient(estimator: Any) -> tuple[list[Scored], NDArray[Any]]:
    """(trees, one a class and round; what all scores start from)"""
    first = estimator.init_
    if first != "zero" and type(first).__name__ != "DummyClassifier":
        raise CaromError(
            f"{type(estimator).__name__} starts from a {type(first).__name__}, whose answer depends on the input and is "
            "no tree: fit it with init=None or init='zero', or hand its predict_proba in as a function."
        )
    rounds = []
    for grown in estimator.estimators_.flat:
        tree = grown.tree_
        structure = Grown(tree.children_left, tree.children_right, tree.feature, tree.threshold, np.empty(0))
        rounds.append((structure, estimator.learning_rate * tree.value[:, 0, 0]))
    if first == "zero":
        return rounds, np.zeros(estimator.estimators_.shape[1])
    # What is left of one answer without its trees.
    zero = np.zeros((1, estimator.n_features_in_), dtype=np.float32)
    reached = [tree.apply(zero)[0] for tree in estimator.estimators_.flat]
    added = np.array([own[leaf] for (_, own), leaf in zip(rounds, reached, strict=True)])
    base = estimator.decision_function(zero).reshape(-1) - added.reshape(estimator.estimators_.shape).sum(0)
    return rounds, base.astype(np.float64)


def _histogram(estimator: Any) -> tuple[list[Scored], NDArray[Any]]:
    """(trees, one a class and round; what all scores start from)"""
    if estimator.is_categorical_ is not None and np.any(estimator.is_categorical_):
        raise CaromError(
            f"{type(estimator).__name__} splits categorical features, which have no order that a leaf could be an "
            "interval of: hand its predict_proba in as a function."
        )
    rounds = [_finite(tree.nodes) for round_ in estimator._predictors for tree in round_]
    return rounds, estimator._baseline_prediction.reshape(-1).astype(np.float64)


def _finite(nodes: NDArray[Any]) -> Scored:
    """Without the splits that only tell missing values from the rest, by an infinite threshold: all of ours go left."""
    leaf, endless = nodes["is_leaf"].astype(bool), np.isinf(nodes["num_threshold"])
    onward = np.arange(len(nodes))
    for node in reversed(range(len(nodes))):  # children come after their parents
        if endless[node] and not leaf[node]:
            onward[node] = onward[nodes["left"][node]]
    leaf |= endless  # nobody comes there any more
    left, right = (np.where(leaf, LEAF, onward[np.where(leaf, 0, nodes[side])]) for side in ("left", "right"))
    columns = [left, right, nodes["feature_idx"], np.where(leaf, 0.0, nodes["num_threshold"]), nodes["value"]]
    root = onward[:1]
    left, right, feature, threshold, value = (np.concatenate([column[root], column[1:]]) for column in columns)
    return Grown(left, right, feature, threshold, np.empty(0)), value
