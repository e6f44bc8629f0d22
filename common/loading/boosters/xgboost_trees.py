"""XGBoost: trees of its JSON and UBJSON files, boosters and classifiers.

It compares float32, left where x < threshold, and adds float32 to the first guess, tree after tree.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from carom.common.base.errors import CaromError
from carom.common.loading.boosters.estimator import BY_HAND, BoostedTrees, check_answers
from carom.common.loading.boosters.tables import MOST_CLASSES, MOST_FEATURES, sending, sound
from carom.common.models.boosting import adding
from carom.common.models.trees import LEAF, Grown, TreeEnsemble

EPS = float(np.finfo(np.float32).eps)

NEAR = {"binary:logistic": 0.75 * EPS, "binary:hinge": 0.0, "multi:softprob": 0.25 * EPS, "multi:softmax": 0.0}
"""Objectives of one label, and how close two scores are whose probabilities are equal in float32."""


def of_classifier(estimator: Any, who: str) -> BoostedTrees:
    """A fitted XGBClassifier or XGBRFClassifier, as its `predict` answers: up to its best iteration, where it has one."""
    booster = estimator.get_booster()
    rounds = getattr(estimator, "best_iteration", None)
    missing = np.nan if estimator.missing is None else float(estimator.missing)
    trees = _trees(json.loads(booster.save_raw("json")), who, missing, None if rounds is None else rounds + 1)
    trees.classes_ = np.asarray(estimator.classes_)

    def ask(x: NDArray[np.float32]) -> Any:
        return estimator.predict(x, output_margin=True, validate_features=False)

    return _checked(trees, ask, who)


def of_booster(booster: Any, who: str, rounds: int | None = None) -> BoostedTrees:
    """A Booster as it answers, with all its trees unless `rounds` says how many rounds of them count."""
    import xgboost

    trees = _trees(json.loads(booster.save_raw("json")), who, np.nan, rounds)

    def ask(x: NDArray[np.float32]) -> Any:
        data = xgboost.DMatrix(x, nthread=1)
        return booster.predict(data, output_margin=True, validate_features=False, iteration_range=(0, rounds or 0))

    return _checked(trees, ask, who)


def of_content(content: Mapping[str, Any], who: str) -> BoostedTrees:
    """What a file holds, as the class answers that saved it: an XGBClassifier up to its best iteration, a Booster with
    all its trees. The library is given what was checked of it, written anew: other parts of a file can bring it down."""
    import xgboost

    attributes = content["learner"].get("attributes", {})
    best = attributes.get("best_iteration") if "scikit_learn" in attributes else None
    _trees(content, who, np.nan, None if best is None else int(best) + 1)
    booster = xgboost.Booster({"nthread": 1})
    booster.load_model(bytearray(_text(_anew(content, None if best is None else int(best) + 1))))
    return of_booster(booster, who)


def _text(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, default=lambda array: array.tolist()).encode()


def _anew(content: Mapping[str, Any], rounds: int | None, bare: bool = False) -> dict[str, Any]:
    """The model as its library writes it, of the parts that answers rest on; `bare`: with one tree, which says 0."""
    learner = content["learner"]
    told, objective, grown = learner["learner_model_param"], learner["objective"]["name"], learner["gradient_booster"]
    features, classes = int(told["num_feature"]), int(told["num_class"])
    model = grown.get("gbtree", grown)["model"]
    kept = 1 if bare else _count(model, rounds)
    trees = [_tree_anew(tree, features) for tree in ([EMPTY] if bare else model["trees"][:kept])]
    inner: dict[str, Any] = {
        "gbtree_model_param": {"num_parallel_tree": "1", "num_trees": str(kept)},
        "iteration_indptr": [0, kept],
        "tree_info": [0] if bare else [int(column) for column in model["tree_info"][:kept]],
        "trees": [{**tree, "id": number} for number, tree in enumerate(trees)],
        "cats": {"enc": [], "feature_segments": [], "sorted_idx": []},
    }
    booster: dict[str, Any] = {"name": "gbtree", "model": inner}
    if grown["name"] == "dart" and not bare:
        weights = [float(weight) for weight in grown["weight_drop"][:kept]]
        booster = {"name": "dart", "gbtree": booster, "weight_drop": weights}
    asked: dict[str, Any] = {"name": objective}
    if objective.startswith("multi:"):
        asked["softmax_multiclass_param"] = {"num_class": str(classes)}
    elif objective != "binary:hinge":
        asked["reg_loss_param"] = {"scale_pos_weight": "1"}
    return {
        "version": [min(int(part), 999) for part in content["version"]][:3],
        "learner": {
            "attributes": {},
            "feature_names": [],
            "feature_types": [],
            "gradient_booster": booster,
            "objective": asked,
            "learner_model_param": {
                "base_score": _numbers(told["base_score"], max(1, classes)),
                "boost_from_average": "1",
                "num_class": str(classes),
                "num_feature": str(features),
                "num_target": "1",
            },
        },
    }


def _numbers(text: str, most: int) -> str:
    """The first guess as it stands in a file: one number, or a list of them."""
    found = [float(part) for part in text.strip("[]").split(",")]
    if len(found) not in (1, most) or not np.isfinite(found).all():
        raise ValueError("a first guess that belongs to no class")
    return text


EMPTY: dict[str, Any] = {
    "left_children": [LEAF],
    "right_children": [LEAF],
    "split_indices": [0],
    "split_conditions": [0.0],
    "default_left": [0],
    "tree_param": {},
}
"""A tree that says 0."""


def _tree_anew(tree: Mapping[str, Any], features: int) -> dict[str, Any]:
    numbers = np.asarray(tree["split_conditions"], dtype=np.float32)
    sides = np.asarray(tree["left_children"]), np.asarray(tree["right_children"])
    grown, order = sound(Grown(*sides, np.asarray(tree["split_indices"]), numbers, numbers), features)
    count, inner = len(order), np.flatnonzero(grown.left != LEAF)
    parents = np.full(count, 2147483647)
    parents[grown.left[inner]], parents[grown.right[inner]] = inner, inner
    zeros = [0.0] * count
    return {
        "base_weights": zeros,
        "categories": [],
        "categories_nodes": [],
        "categories_segments": [],
        "categories_sizes": [],
        "default_left": np.asarray(tree["default_left"]).astype(bool).astype(int)[order].tolist(),
        "left_children": grown.left.tolist(),
        "right_children": grown.right.tolist(),
        "loss_changes": zeros,
        "parents": parents.tolist(),
        "split_conditions": numbers[order].tolist(),
        "split_indices": np.where(grown.left == LEAF, 0, grown.feature).tolist(),
        "split_type": [0] * count,
        "sum_hessian": zeros,
        "tree_param": {
            "num_deleted": "0",
            "num_feature": str(features),
            "num_nodes": str(count),
            "size_leaf_vector": "1",
        },
    }


def _checked(trees: BoostedTrees, ask: Any, who: str) -> BoostedTrees:
    def probabilities(x: NDArray[np.float32]) -> Any:
        margin = np.asarray(ask(x), dtype=np.float64)
        if margin.ndim == 1:
            margin = np.stack([np.zeros_like(margin), margin], 1)
        shares = np.exp(margin - margin.max(1, keepdims=True))
        return shares / shares.sum(1, keepdims=True)

    check_answers(trees, probabilities, who)
    return trees


def _trees(content: Mapping[str, Any], who: str, missing: float, rounds: int | None) -> BoostedTrees:
    learner = content["learner"]
    told, objective, grown = learner["learner_model_param"], learner["objective"]["name"], learner["gradient_booster"]
    if grown["name"] not in ("gbtree", "dart"):
        raise CaromError(f"{who} is XGBoost's {grown['name']}, which has no trees: {BY_HAND}")
    if objective not in NEAR:
        raise CaromError(
            f"{who} was fitted for {objective}, which answers no class: fit it for {', '.join(NEAR)}, or {BY_HAND}"
        )
    if int(told.get("num_target", 1)) > 1:
        raise CaromError(f"{who} answers several labels at once; Carom needs one. Fit one classifier for each label.")
    weights, model = grown.get("weight_drop"), grown.get("gbtree", grown)["model"]
    kept = _count(model, rounds)
    classes, features = max(2, int(told["num_class"])), int(told["num_feature"])
    shown = classes if objective.startswith("multi:") else 1
    if not 0 < features < MOST_FEATURES or classes > MOST_CLASSES or (shown == 1 and classes > 2):
        raise ValueError(f"{features} features and {classes} classes")
    if not all(0 <= int(column) < shown for column in model["tree_info"][:kept]) or not 0 < kept <= len(model["trees"]):
        raise ValueError("trees that belong to no class")
    base = _base(content, features, shown)
    started, trees = [False] * shown, []
    for number, (tree, column) in enumerate(zip(model["trees"][:kept], model["tree_info"][:kept], strict=True)):
        structure, leaf, own = _tree(tree, features, missing, who)
        own = own if weights is None else ((base[column] + own) - base[column]) * np.float32(weights[number])
        if not started[column]:
            started[column], own = True, base[column] + own
        own = np.where(leaf, own, np.float32(0))
        trees.append(adding(structure, own, column if shown > 1 else 1, classes))
    left = np.where(started, np.float32(0), base)
    ensemble = TreeEnsemble.of(trees, left if shown > 1 else np.array([0, left[0]], dtype=np.float32), NEAR[objective])
    return BoostedTrees(who, ensemble, features)


def _count(model: Mapping[str, Any], rounds: int | None) -> int:
    """How many trees count."""
    trees = len(model["trees"])
    if rounds is None:
        return trees
    if ends := model.get("iteration_indptr"):
        return int(ends[rounds])
    columns = len(set(map(int, model["tree_info"])))
    return min(trees, rounds * columns * max(1, int(model["gbtree_model_param"].get("num_parallel_tree", 1))))


def _tree(tree: Mapping[str, Any], features: int, missing: float, who: str) -> tuple[Grown, NDArray[Any], NDArray[Any]]:
    """(the tree without values, bool[M] where it ends, float32[M]: what each leaf adds)"""
    if int(tree["tree_param"].get("size_leaf_vector", 1)) > 1:
        raise CaromError(f"{who} has one tree for all classes (multi_strategy=multi_output_tree): {BY_HAND}")
    if len(tree.get("categories", ())) or np.any(np.asarray(tree.get("split_type", 0)) != 0):
        raise CaromError(
            f"{who} splits categorical features, which have no order that a leaf could be an interval of: {BY_HAND}"
        )
    numbers = np.asarray(tree["split_conditions"], dtype=np.float32)
    cuts = np.nextafter(numbers, np.float32(-np.inf)).astype(np.float64)  # left where x < number: up to the one before
    sides = np.asarray(tree["left_children"]), np.asarray(tree["right_children"])
    grown, order = sound(Grown(*sides, np.asarray(tree["split_indices"]), cuts, numbers), features)
    if not np.isnan(missing):
        to_left, over = np.asarray(tree["default_left"]).astype(bool)[order], np.float32(missing)
        under = np.nextafter(over, np.float32(-np.inf))
        grown = sending(grown, to_left, np.ones(len(order), dtype=bool), float(under), float(over))
    return grown, grown.left == LEAF, grown.value


def _base(content: Mapping[str, Any], features: int, scores: int) -> NDArray[np.float32]:
    """float32[scores]: what each score starts from: what the library answers where the only tree says 0. It stands in the
    file in other units, and the way back takes the library's own logarithm."""
    import xgboost

    booster = xgboost.Booster({"nthread": 1})
    booster.load_model(bytearray(_text(_anew(content, None, bare=True))))
    data = xgboost.DMatrix(np.zeros((1, features), dtype=np.float32), nthread=1)
    return booster.predict(data, output_margin=True, validate_features=False).astype(np.float32).reshape(scores)
