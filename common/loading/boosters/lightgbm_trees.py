"""LightGBM: trees of its text files, boosters and classifiers.

It compares doubles, left where x <= threshold, and adds doubles, tree after tree.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from carom.common.base.errors import CaromError
from carom.common.loading.boosters.estimator import BY_HAND, BoostedTrees, check_answers
from carom.common.loading.boosters.tables import MOST_CLASSES, MOST_FEATURES, sending, sound
from carom.common.models.boosting import adding
from carom.common.models.trees import LEAF, Grown, TreeEnsemble

HEAD = ("num_class", "num_tree_per_iteration", "max_feature_idx", "objective")
SPLITS = ("split_feature", "threshold", "decision_type", "left_child", "right_child")

EPS = float(np.finfo(np.float64).eps)

ZERO = float(np.float32(1e-35))
"""How far what LightGBM takes for zero reaches to both sides."""
BELOW_ZERO = float(np.nextafter(-ZERO, -np.inf))

CATEGORICAL, TO_LEFT, ZERO_IS_MISSING = 1, 2, 1  # bits of a decision, and the kind of missing values behind them


def of_classifier(estimator: Any, who: str) -> BoostedTrees:
    """A fitted LGBMClassifier, as its `predict` answers: up to its best iteration, where it has one."""
    return of_booster(estimator.booster_, who, np.asarray(estimator.classes_))


def of_booster(booster: Any, who: str, classes: NDArray[Any] | None = None) -> BoostedTrees:
    trees = of_text(booster.model_to_string(), who)
    trees.classes_ = trees.classes_ if classes is None else classes
    if not trees.ensemble.near:
        return trees  # one against the rest: its shares do not add up to one

    def ask(x: NDArray[np.float32]) -> Any:
        return booster.predict(x, num_threads=1, validate_features=False)

    check_answers(trees, ask, who)
    return trees


def of_content(text: str, who: str) -> BoostedTrees:
    """What a file holds. The library is given what was checked of it, written anew: other parts of a file can bring it
    down."""
    import lightgbm

    of_text(text, who)
    return of_booster(lightgbm.Booster(model_str=_anew(text)), who)


def _anew(text: str) -> str:
    """The model as its library writes it, of the parts that answers rest on."""
    head, *parts = text.partition("end of trees")[0].split("\nTree=")
    told = _lines(head)
    features = int(told["max_feature_idx"]) + 1
    lines = ["tree", "version=v4", *(f"{name}={told[name]}" for name in HEAD), "label_index=0"]
    lines += ["average_output"] if "average_output" in told else []
    lines += [f"feature_names={' '.join(f'Column_{k}' for k in range(features))}"]
    lines += [f"feature_infos={' '.join(['[-inf:inf]'] * features)}", ""]
    for number, part in enumerate(parts):
        tree = _lines(part)
        names = SPLITS if int(tree["num_leaves"]) > 1 else ()
        lines += [f"Tree={number}", *(f"{name}={tree[name]}" for name in ("num_leaves", *names, "leaf_value"))]
        lines += ["num_cat=0", "is_linear=0", "shrinkage=1", "", ""]
    return "\n".join([*lines, "end of trees", ""])


def of_text(text: str, who: str) -> BoostedTrees:
    """What LightGBM writes of a model, read without it."""
    head, *parts = text.split("\nTree=")
    if not text.startswith("tree\n") or not parts or "end of trees" not in parts[-1]:
        raise ValueError("no trees of LightGBM's")
    parts[-1] = parts[-1].partition("end of trees")[0]
    told = _lines(head)
    objective, *settings = told.get("objective", "none").split() or ["none"]
    stated = dict(word.partition(":")[::2] for word in settings)
    if objective not in ("binary", "multiclass", "multiclassova"):
        raise CaromError(
            f"{who} was fitted for the objective {objective}, which answers no class: fit it for binary or multiclass, "
            f"or {BY_HAND}"
        )
    features, scores = int(told["max_feature_idx"]) + 1, int(told["num_tree_per_iteration"])
    if not 0 < features < MOST_FEATURES or not 0 < scores <= MOST_CLASSES or len(settings) > 2:
        raise ValueError(f"{features} features and {scores} scores")
    if scores != (1 if objective == "binary" else int(told["num_class"])) or len(parts) % scores:
        raise ValueError("trees that belong to no class")
    classes = max(2, scores)
    # What a tree adds is a share of its own where they are averaged; the binary score is steeper by a factor.
    factor = float(stated.get("sigmoid", 1)) if objective == "binary" else 1.0
    if not 0 < float(stated.get("sigmoid", 1)) < np.inf:
        raise ValueError("a sigmoid that is none")
    share = len(parts) // scores if "average_output" in told else 1
    trees = []
    for number, part in enumerate(parts):
        structure, own = _tree(_lines(part), features, who)
        own = own if share == 1 else own / share
        own = own if factor == 1 else factor * own
        trees.append(adding(structure, own, number % scores if scores > 1 else 1, classes))
    near = {"binary": 0.75 * EPS, "multiclass": 0.25 * EPS}.get(objective, 0.0)
    ensemble = TreeEnsemble.of(trees, np.zeros(classes), near, doubles=True)
    return BoostedTrees(who, ensemble, features)


def _lines(text: str) -> dict[str, str]:
    return {name: value for line in text.splitlines() for name, _, value in [line.partition("=")]}


def _tree(told: dict[str, str], features: int, who: str) -> tuple[Grown, NDArray[np.float64]]:
    """(the tree without values, float64[M]: what each leaf adds)"""
    leaves = int(told["num_leaves"])
    if int(told.get("is_linear", 0)):
        raise CaromError(f"{who} has linear models in its leaves (linear_tree): {BY_HAND}")
    values = _numbers(told["leaf_value"])
    if len(values) != leaves or leaves < 1:
        raise ValueError("a tree whose tables are of different lengths")
    inner = leaves - 1
    if not inner:
        left = right = feature = decision = np.zeros(0, dtype=np.int64)
        threshold = np.zeros(0)
    else:
        names = ("left_child", "right_child", "split_feature", "decision_type")
        left, right, feature, decision = (_numbers(told[name]).astype(np.int64) for name in names)
        threshold = _numbers(told["threshold"])
        # So small a value is zero before it is compared: a threshold among them parts those below from those above.
        threshold[(threshold >= -ZERO) & (threshold < 0)] = BELOW_ZERO
        threshold[(threshold >= 0) & (threshold < ZERO)] = ZERO
    if int(told.get("num_cat", 0)) or (decision & CATEGORICAL).any():
        raise CaromError(
            f"{who} splits categorical features, which have no order that a leaf could be an interval of: {BY_HAND}"
        )
    if any(len(part) != inner for part in (left, right, feature, decision, threshold)):
        raise ValueError("a tree whose tables are of different lengths")
    ends = np.full(leaves, LEAF)
    # Splits come first here, and leaf k, which LightGBM calls -1 - k, behind them.
    left, right = (np.concatenate([np.where(side < 0, inner - 1 - side, side), ends]) for side in (left, right))
    nothing = np.zeros(leaves)
    grown, order = sound(
        Grown(
            left,
            right,
            np.concatenate([feature, nothing]),
            np.concatenate([threshold, nothing]),
            np.concatenate([np.zeros(inner), values]),
        ),
        features,
    )
    decision = np.concatenate([decision, np.zeros(leaves, dtype=np.int64)])[order]
    where = (decision >> 2 & 3) == ZERO_IS_MISSING
    if where.any():
        grown = sending(grown, (decision & TO_LEFT) > 0, where, BELOW_ZERO, ZERO)
    return grown, np.where(grown.left == LEAF, grown.value, 0.0)


def _numbers(text: str) -> NDArray[np.float64]:
    return np.array([float(word) for word in text.split()], dtype=np.float64)
