"""Models of rows: any fitted scikit-learn classifier; of trees, forests and boosted trees the splits are read."""

from collections.abc import Mapping
from typing import Any

from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression

from carom.common.facts import called, stated_classes
from carom.common.loading import dispatch, own_loaders
from carom.common.models import FunctionModel, Model, TreeModel
from carom.common.objects import digest_of_object, family_of, fitted_classes, scores_of, tree_ensemble
from carom_tables.rows import CLASSES, SPACE, load_data

FACTS = ("name", "classes", "trusted")


def wrap(estimator: Any, facts: Mapping[str, Any]) -> Model:
    name = called(estimator, facts)
    classes = fitted_classes(estimator, stated_classes(facts) or CLASSES, name)
    shared: dict[str, Any] = {"name": name, "modality": "table", "space": SPACE, "classes": classes}
    if (trees := tree_ensemble(estimator)) is not None:
        return TreeModel(trees, **shared)
    scores, probabilities, _ = scores_of(estimator)
    shared |= {"family": family_of(estimator), "digest": digest_of_object(estimator), "probabilities": probabilities}
    return FunctionModel(scores, **shared)


def load_model(source: Any, **facts: Any) -> Model:
    return dispatch(source, facts, own_loaders(wrap, FACTS), FACTS, wrap)


FOREST = RandomForestClassifier(30, max_depth=6, random_state=0)
BOOSTED = GradientBoostingClassifier(n_estimators=30, random_state=0)
ESTIMATORS = {"forest": FOREST, "boosted": BOOSTED, "logistic": LogisticRegression(C=10)}


def fitted(kind: str) -> Any:
    train = load_data("builtin:tumours", split="train")
    return ESTIMATORS[kind].fit(SPACE.decode(train.stored).numpy(), train.labels.numpy())
