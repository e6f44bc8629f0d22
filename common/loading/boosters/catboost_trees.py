"""CatBoost: trees of its JSON and cbm files and classifiers.

It compares float32, to the right where x > border, and adds doubles, tree after tree; the sum is scaled, and a bias added.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from carom.common.base.errors import CaromError
from carom.common.loading.boosters.estimator import BY_HAND, BoostedTrees, check_answers
from carom.common.loading.boosters.tables import MOST_CLASSES, MOST_FEATURES, MOST_NODES, sound
from carom.common.models.trees import LEAF, Grown, TreeEnsemble

LOSSES = ("Logloss", "MultiClass", "MultiClassOneVsAll")
"""Those of one label."""


def of_classifier(estimator: Any, who: str) -> BoostedTrees:
    """A fitted CatBoostClassifier."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.json")
        estimator.save_model(str(path), format="json")
        content = json.loads(path.read_bytes())
    trees = _trees(content, who)
    threshold = estimator.get_probability_threshold() if trees.ensemble.classes == 2 else 0.5
    if threshold != 0.5:
        raise CaromError(f"{who} answers its second class from a probability of {threshold:g} on: {BY_HAND}")
    trees.classes_ = np.asarray(estimator.classes_)
    return _checked(trees, estimator, who)


def of_content(content: Mapping[str, Any], who: str) -> BoostedTrees:
    """What a JSON file holds. The library is given what was checked of it, written anew: other parts of a file can bring
    it down."""
    import catboost

    trees = _trees(content, who)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.json")
        path.write_text(json.dumps(_anew(content)), encoding="utf-8")
        model = catboost.CatBoost()
        model.load_model(str(path), format="json")
    return _checked(trees, model, who)


def _anew(content: Mapping[str, Any]) -> dict[str, Any]:
    """The model as its library writes it, of the parts that answers rest on."""
    scale, bias = content["scale_and_bias"]
    bias = np.array(bias, dtype=np.float64).reshape(-1)
    features = len(content["features_info"]["float_features"])
    oblivious = content.get("oblivious_trees")
    given = content["trees"] if oblivious is None else oblivious
    made = _nested if oblivious is None else _oblivious
    kept = [sound(made(tree, len(bias)), features)[0] for tree in given]
    cuts = sorted({(int(f), float(cut)) for tree in kept for f, cut in _asked(tree)})
    number = {cut: place for place, cut in enumerate(cuts)}

    def split(feature: Any, border: Any) -> dict[str, Any]:
        asked = (int(feature), float(border))
        return {
            "border": asked[1],
            "float_feature_index": asked[0],
            "split_index": number[asked],
            "split_type": "FloatFeature",
        }

    floats = [
        {
            "borders": [cut for feature, cut in cuts if feature == place],
            "feature_id": "",
            "feature_index": place,
            "flat_feature_index": place,
            "has_nans": False,
            "nan_value_treatment": "AsIs",
        }
        for place in range(features)
    ]
    trees = []
    for tree, old in zip(kept, given, strict=True):
        if oblivious is not None:
            values = np.array(old["leaf_values"], dtype=np.float64)
            splits = [split(*_split(one)) for one in old.get("splits") or []]
            trees.append({"leaf_values": values.tolist(), "leaf_weights": [1] * (1 << len(splits)), "splits": splits})
            continue
        nodes: list[Any] = [None] * len(tree.left)
        for node in reversed(range(len(nodes))):  # children come after their parents
            if tree.left[node] == LEAF:
                value = tree.value[node].tolist()
                nodes[node] = {"value": value[0] if len(value) == 1 else value, "weight": 1}
                continue
            sides = {"left": nodes[tree.left[node]], "right": nodes[tree.right[node]]}
            nodes[node] = {**sides, "split": split(tree.feature[node], tree.threshold[node])}
        trees.append(nodes[0])
    return {
        "features_info": {"float_features": floats},
        "oblivious_trees" if oblivious is not None else "trees": trees,
        "scale_and_bias": [float(scale), bias.tolist()],
    }


def _asked(tree: Grown) -> Any:
    """(feature, border) of each split."""
    inner = tree.left != LEAF
    return zip(tree.feature[inner], tree.threshold[inner], strict=True)


def _checked(trees: BoostedTrees, model: Any, who: str) -> BoostedTrees:
    def ask(x: NDArray[np.float32]) -> Any:
        raw = np.asarray(model.predict(x, prediction_type="RawFormulaVal", thread_count=1), dtype=np.float64)
        raw = np.stack([np.zeros_like(raw), raw], 1) if raw.ndim == 1 else raw
        shares = np.exp(raw - raw.max(1, keepdims=True))
        return shares / shares.sum(1, keepdims=True)

    check_answers(trees, ask, who)
    return trees


def _trees(content: Mapping[str, Any], who: str) -> BoostedTrees:
    told, info = content["features_info"], content["model_info"]
    loss = info.get("params", {}).get("loss_function", {}).get("type")
    if loss not in LOSSES:
        raise CaromError(
            f"{who} was fitted for {loss}, which answers no class: fit it for {', '.join(LOSSES)}, or {BY_HAND}"
        )
    if other := sorted(kind for kind, found in told.items() if kind != "float_features" and found):
        raise CaromError(
            f"{who} asks for {', '.join(other).replace('_', ' ')}, which have no order that a leaf could be an interval "
            f"of: {BY_HAND}"
        )
    features = len(told["float_features"])
    if not 0 < features < MOST_FEATURES:
        raise ValueError(f"{features} features")
    if [one["flat_feature_index"] for one in told["float_features"]] != list(range(features)):
        raise ValueError("features in another order than their columns")
    scale, bias = content["scale_and_bias"]
    bias = np.array(bias, dtype=np.float64).reshape(-1)
    if not 0 < len(bias) <= MOST_CLASSES or not np.isfinite([scale, *bias]).all():
        raise ValueError("no bias for each score")
    oblivious = content.get("oblivious_trees")
    given = content["trees"] if oblivious is None else oblivious
    grown = [(_nested if oblivious is None else _oblivious)(tree, len(bias)) for tree in given]
    trees = []
    for tree in grown or [_nested({"value": 0.0}, len(bias))]:
        kept, _ = sound(tree, features)
        own = np.where(kept.left[:, None] == LEAF, scale * kept.value if scale != 1 else kept.value, 0.0)
        own = np.concatenate([np.zeros_like(own), own], 1) if len(bias) == 1 else own
        trees.append(kept._replace(value=own))
    base = np.concatenate([np.zeros(1), bias]) if len(bias) == 1 else bias
    names = info.get("class_params", {}).get("class_names")
    ensemble = TreeEnsemble.of(trees, base)
    if names is not None and len(names) != ensemble.classes:
        raise ValueError(f"{len(names)} names of classes for {ensemble.classes} scores")
    return BoostedTrees(who, ensemble, features, names)


def _split(split: Mapping[str, Any]) -> tuple[int, float]:
    """(feature, border)"""
    if split.get("split_type") != "FloatFeature":
        raise ValueError(f"a split by {split.get('split_type')}")
    return int(split["float_feature_index"]), float(np.float32(split["border"]))


def _oblivious(tree: Mapping[str, Any], scores: int) -> Grown:
    """One split a level, the same for all nodes of it; bit k of a leaf's number is the answer to the k-th split."""
    splits = [_split(split) for split in tree.get("splits") or []]
    inner = (1 << min(len(splits), 63)) - 1
    values = np.array(tree["leaf_values"], dtype=np.float64)
    if inner >= MOST_NODES or len(values) != (inner + 1) * scores:
        raise ValueError("a tree whose tables are of different lengths")
    number = np.arange(inner)
    level = np.floor(np.log2(number + 1)).astype(int)  # the last split of the list is the root: leaves in their order
    chosen = np.array([splits[len(splits) - 1 - depth] for depth in level]).reshape(-1, 2)
    end, nothing = np.full(inner + 1, LEAF), np.zeros(inner + 1)
    return Grown(
        np.concatenate([2 * number + 1, end]),
        np.concatenate([2 * number + 2, end]),
        np.concatenate([chosen[:, 0], nothing]),
        np.concatenate([chosen[:, 1], nothing]),
        np.concatenate([np.zeros((inner, scores)), values.reshape(-1, scores)]),
    )


def _nested(tree: Mapping[str, Any], scores: int) -> Grown:
    """A tree whose nodes hold their children."""
    rows: list[tuple[int, int, float, float, Any]] = []
    todo = [tree]
    for node in todo:
        if "split" not in node:
            rows.append((LEAF, LEAF, 0, 0.0, np.broadcast_to(np.asarray(node["value"], np.float64), (scores,))))
            continue
        rows.append((len(todo), len(todo) + 1, *_split(node["split"]), np.zeros(scores)))
        todo += [node["left"], node["right"]]
    left, right, feature, border = (np.array([row[column] for row in rows]) for column in range(4))
    return Grown(left, right, feature, border, np.stack([row[4] for row in rows]))
