"""Models of rows: any fitted scikit-learn classifier; of trees, forests and boosted trees the splits are read."""

from typing import Any

from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression

from carom.common.base.identity import digest_of
from carom.common.core.model import Model
from carom.common.loading.dispatch import dispatch, own_loaders
from carom.common.loading.estimators import family_of, fitted_classes, scores_of, tree_ensemble
from carom.common.loading.facts import called, stated_classes
from carom.common.models.functions import FunctionModel
from carom.common.models.trees import TreeModel
from carom_tables.rows import CLASSES, COLUMNS, SPACE, load_data


def wrap(estimator: Any, facts: dict[str, Any]) -> Model:
    name = called(estimator, facts)
    classes = fitted_classes(estimator, stated_classes(facts) or CLASSES, name)
    shared: dict[str, Any] = {"name": name, "modality": "table", "space": SPACE, "classes": classes}
    if (trees := tree_ensemble(estimator)) is not None:
        return TreeModel(trees, **shared)
    scores, probabilities, _ = scores_of(estimator, [[0.0] * len(COLUMNS)], name)
    shared |= {"family": family_of(estimator), "digest": digest_of(estimator), "probabilities": probabilities}
    return FunctionModel(scores, **shared)


def load_model(source: Any, **facts: Any) -> Model:
    return dispatch(source, facts, own_loaders(wrap, FACTS), FACTS, wrap)


FACTS = ("name", "classes", "trusted")
FOREST, BOOSTED = RandomForestClassifier(30, random_state=0), GradientBoostingClassifier(random_state=0)
ESTIMATORS = {"forest": FOREST, "boosted": BOOSTED, "logistic": LogisticRegression(C=10)}


def fitted(kind: str) -> Any:
    rows = load_data("builtin:tumours", split="train").batch()
    return ESTIMATORS[kind].fit(rows.inputs.numpy(), rows.labels.numpy())
