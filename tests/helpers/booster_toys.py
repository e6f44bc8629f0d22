"""Small classifiers of the three boosting libraries, in all the ways that change how they answer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

XGBOOST: dict[str, dict[str, Any]] = {
    "plain": {},
    "stump": {"n_estimators": 1, "max_depth": 3, "learning_rate": 1.0},
    "dart": {"booster": "dart", "rate_drop": 0.5, "one_drop": 1},
    "exact": {"tree_method": "exact"},
    "forests": {"num_parallel_tree": 3, "subsample": 0.5},
    "a base score": {"base_score": 0.3},
    "hinge": {"objective": "binary:hinge"},
    "zero is missing": {"missing": 0.0},
}
LIGHTGBM: dict[str, dict[str, Any]] = {
    "plain": {},
    "stump": {"n_estimators": 1, "num_leaves": 8, "min_child_samples": 2},
    "dart": {"boosting_type": "dart", "drop_rate": 0.5},
    "averaged": {"boosting_type": "rf", "bagging_freq": 1, "bagging_fraction": 0.5},
    "goss": {"data_sample_strategy": "goss"},
    "zero is missing": {"zero_as_missing": True},
    "one against the rest": {"objective": "multiclassova"},
}
CATBOOST: dict[str, dict[str, Any]] = {
    "plain": {},
    "stump": {"iterations": 1, "depth": 3},
    "deep": {"grow_policy": "Depthwise"},
    "by loss": {"grow_policy": "Lossguide"},
    "a bias": {"boost_from_average": True},
    "one against the rest": {"loss_function": "MultiClassOneVsAll"},
}
GROWERS = [
    f"{kind} {name}"
    for kind, ways in (("xgboost", XGBOOST), ("lightgbm", LIGHTGBM), ("catboost", CATBOOST))
    for name in ways
]
TWO_ONLY, MORE_ONLY = ("catboost a bias",), ("lightgbm one against the rest",)


def without(name: str) -> None:
    """Skip where the library of that kind is not installed."""
    pytest.importorskip(name.partition(" ")[0])


def plane(classes: int, zeros: bool = False) -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    x = rng.random((400, 6), dtype=np.float32) - np.float32(0.2)
    if zeros:
        x[rng.random(x.shape) < 0.3] = 0
    y = (x[:, 0] + x[:, 1] + 0.3 * rng.normal(size=400) > 0.6).astype(int)
    return x, y if classes == 2 else y + (x[:, 2] > 0.5)


def grown(name: str, classes: int, x: Any = None, y: Any = None) -> Any:
    kind, _, way = name.partition(" ")
    if (name in TWO_ONLY and classes > 2) or (name in MORE_ONLY and classes == 2):
        pytest.skip(f"{kind} has that for {'two' if name in TWO_ONLY else 'more than two'} classes only")
    if x is None:
        x, y = plane(classes, "zero" in name)
    if kind == "xgboost":
        import xgboost

        return xgboost.XGBClassifier(**{"n_estimators": 12, "n_jobs": 1, **XGBOOST[way]}).fit(x, y)
    if kind == "lightgbm":
        import lightgbm

        settings = {"n_estimators": 12, "n_jobs": 1, "verbose": -1, **LIGHTGBM[way]}
        return lightgbm.LGBMClassifier(**settings).fit(x, y)
    import catboost

    settings = {"iterations": 12, "depth": 4, "verbose": 0, "allow_writing_files": False, "thread_count": 1}
    return catboost.CatBoostClassifier(**{**settings, **CATBOOST[way]}).fit(x, y)


def library_scores(model: Any, x: Any) -> Any:
    """What the library itself adds up: [N] for two classes, [N, C] for more."""
    kind = type(model).__module__.partition(".")[0]
    asked = {"xgboost": {"output_margin": True}, "lightgbm": {"raw_score": True}}
    return np.asarray(model.predict(x, **asked.get(kind, {"prediction_type": "RawFormulaVal"})))
