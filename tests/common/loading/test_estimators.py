"""What an estimator or a function answers in Carom is what it answers by hand, or it is refused in words that lead on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import RadiusNeighborsClassifier
from sklearn.tree import DecisionTreeClassifier
from torch import Tensor, nn

import carom
from carom.common.base.errors import CaromError
from carom.common.core.batch import Access
from carom.common.core.model import Model
from carom.common.models.mismatch import settle

NAMES = ["dark", "light"]
SHIPPED = carom.load_data("builtin:fashion-mnist", limit=40)
FLAT = SHIPPED.batch().inputs.flatten(1).double().numpy()
MIDDLE = float(np.median(FLAT.mean(1)))
SIDES = (FLAT.mean(1) > MIDDLE).astype(int)
DATA = replace(SHIPPED.with_classes(NAMES, [0] * 10), labels=torch.tensor(SIDES))
FACTS: dict[str, Any] = {"shape": (1, 28, 28), "bounds": (0, 1), "classes": NAMES, "name": "mine"}


def answers(model: Model) -> list[str]:
    settle(model, DATA)
    return [model.classes[at] for at in model.predict(DATA.batch()).argmax(1)]


LABELS: dict[str, Callable[[Any], Any]] = {
    "minus one and one": lambda y: 2 * y - 1,
    "one and two": lambda y: y + 1,
    "no and yes": lambda y: y.astype(bool),
    "floats": lambda y: y.astype(float),
    "bytes": lambda y: y.astype(np.uint8),
    "names": lambda y: np.array(NAMES)[y],
}


@pytest.mark.parametrize("kind", [LogisticRegression(), DecisionTreeClassifier(max_depth=2)])
@pytest.mark.parametrize("labels", LABELS)
def test_outputs_are_called_as_the_user_names_them_whatever_was_fitted(kind: Any, labels: str) -> None:
    given = LABELS[labels](SIDES)
    fitted = kind.fit(FLAT, given)
    called = dict(zip(np.unique(given).tolist(), NAMES, strict=True))
    said = [called[label] for label in fitted.predict(FLAT).tolist()]
    assert answers(carom.load_model(fitted, "image", **FACTS)) == said


def test_numbers_of_some_of_many_classes_are_theirs() -> None:
    fitted = LogisticRegression().fit(FLAT, SIDES * 2)
    model = carom.load_model(fitted, "image", **(FACTS | {"classes": ["a", "b", "c"]}))
    assert model.classes == ("a", "c")
    with pytest.raises(CaromError, match="not its 2 outputs, nor numbered so"):
        carom.load_model(LogisticRegression().fit(FLAT, SIDES * 9), "image", **(FACTS | {"classes": 3}))


class Reversed(RandomForestClassifier):
    """A forest of the user's that answers otherwise than its trees, under the name of scikit-learn's."""

    def predict(self, x: Any) -> Any:
        return self.classes_[1 - self.predict_proba(x).argmax(1)]


Reversed.__name__ = "RandomForestClassifier"


class Unsorted:
    """Its columns are not in the order of its labels."""

    classes_ = np.array([1, 0])

    def fit(self, x: Any, y: Any) -> None: ...

    def predict(self, x: Any) -> Any:
        return (x.mean(1) > MIDDLE).astype(int)

    def predict_proba(self, x: Any) -> Any:
        light = x.mean(1) > MIDDLE
        return np.stack([light, ~light], 1).astype(float)


class OneColumnMore(Unsorted):
    """Its scores have a column for what it knows nothing of."""

    classes_ = np.array([0, 1])

    def predict_proba(self, x: Any) -> Any:
        return np.concatenate([super().predict_proba(x)[:, ::-1], np.zeros((len(x), 1))], 1)


@pytest.mark.parametrize(
    ("estimator", "grants"),
    [
        (Reversed(5, random_state=0), Access.SCORE),
        (Unsorted(), Access.SCORE),
        (OneColumnMore(), Access.LABEL),
        (RadiusNeighborsClassifier(6.0, outlier_label=1), Access.SCORE),
    ],
    ids=["made from a forest", "unsorted", "one column more", "outliers"],
)
def test_what_is_answered_is_what_predict_answers(estimator: Any, grants: Access) -> None:
    estimator.fit(FLAT, SIDES)
    model = carom.load_model(estimator, "image", **FACTS)
    assert answers(model) == [NAMES[at] for at in estimator.predict(FLAT)]
    assert grants in model.access
    assert Access.LEAVES not in model.access


def test_what_is_no_classifier_is_told_how_to_be_measured() -> None:
    regressor = RandomForestRegressor(3, random_state=0).fit(FLAT, FLAT.mean(1))
    with pytest.raises(CaromError, match="hand its predict in as a function, with threshold="):
        carom.load_model(regressor, "image", **FACTS)
    model = carom.load_model(
        lambda x: regressor.predict(x.reshape(len(x), -1)), "image", threshold=MIDDLE, classes=NAMES, name="mine"
    )
    assert answers(model) == [NAMES[int(n)] for n in regressor.predict(FLAT) > MIDDLE]


class Answers(nn.Module):
    def __init__(self, form: Callable[[Tensor], Any], double: bool = False) -> None:
        super().__init__()
        self.form = form
        self.layer = nn.Linear(784, 1, bias=False)
        nn.init.constant_(self.layer.weight, 1 / 784)
        if double:
            self.double()

    def forward(self, x: Tensor) -> Any:
        light = self.layer(x.flatten(1))
        return self.form(torch.cat([MIDDLE + 0 * light, light], 1))


TAKEN = {
    "a picture of one pixel a class": Answers(lambda z: z[:, :, None, None]),
    "double precision": Answers(lambda z: z, double=True),
    "minus infinity": Answers(lambda z: torch.where(z < z.flip(1), -torch.inf, z)),
}
REFUSED = {
    "one of several exits": (Answers(lambda z: (-z, z)), "several tensors could be the logits"),
    "a row too few dimensions deep": (Answers(lambda z: z[:, None]), "one row of numbers, one a class"),
    "columns for rows": (Answers(lambda z: z.T[:, : len(z)]), "one row of numbers, one a class"),
    "a class more": (Answers(lambda z: torch.cat([z, z], 1)), "Name its 4 classes"),
}


@pytest.mark.parametrize("module", TAKEN.values(), ids=TAKEN)
def test_forms_of_output_that_say_the_same_are_taken(module: nn.Module) -> None:
    model = carom.load_model(module, "image", normalise=None, classes=NAMES, name="mine")
    assert answers(model) == [NAMES[at] for at in SIDES]


@pytest.mark.parametrize(("module", "words"), REFUSED.values(), ids=REFUSED)
def test_forms_of_output_that_are_none_are_refused_by_what_they_are(module: nn.Module, words: str) -> None:
    with pytest.raises(CaromError, match=words):
        answers(carom.load_model(module, "image", normalise=None, classes=NAMES, name="mine"))


def of_function(rows: Callable[[Any], Any], kind: str) -> Model:
    def scores(pictures: Any) -> Any:
        light = pictures.reshape(len(pictures), -1).mean(1)
        return rows(np.stack([np.full(len(light), MIDDLE), light], 1))

    return carom.load_model(scores, "image", classes=NAMES, answers=kind, name="mine")


def test_what_a_function_says_it_answers_is_looked_at() -> None:
    import pandas

    assert answers(of_function(pandas.DataFrame, "logits")) == [NAMES[at] for at in SIDES]
    assert answers(of_function(lambda z: z.astype(object), "logits")) == [NAMES[at] for at in SIDES]
    for rows, kind, words in (
        (lambda z: 5 * (z - 0.5), "probabilities", "answers no probabilities"),  # negative ones would all be 0
        (lambda z: 100 * z / z.sum(1, keepdims=True), "probabilities", "answers no probabilities"),
        (lambda z: [{"label": "light", "score": 1.0}] * len(z), "logits", "a list of dict"),
        (lambda z: z[:, 1], "probabilities", "threshold=0.5 for a probability"),
    ):
        with pytest.raises(CaromError, match=words):
            answers(of_function(rows, kind))
