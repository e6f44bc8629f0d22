"""Compiled trees answer as the library that grew them, bit for bit at the thresholds too."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier
from sklearn.tree import DecisionTreeClassifier

from carom.common.base.identity import digest_of
from carom.common.core.spaces import Box
from carom.common.models.trees import LEAF, TreeEnsemble, TreeModel

GROWERS = {
    "tree": DecisionTreeClassifier(random_state=0),
    "shallow": DecisionTreeClassifier(max_depth=2, random_state=0),
    "forest": RandomForestClassifier(5, random_state=0),
    "extra": ExtraTreesClassifier(5, random_state=0),
    "stump": DecisionTreeClassifier(max_depth=1, random_state=0),
}


def data(seed=0, n=300, features=6):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, features)).astype(np.float32)
    y = (x[:, 0] + x[:, 1] * x[:, 2] > 0).astype(int) + (x[:, 3] > 1)
    return x, y


@pytest.mark.parametrize("name", GROWERS)
def test_probabilities_are_scikit_learns(name):
    x, y = data()
    grown = GROWERS[name].fit(x, y)
    ensemble = TreeEnsemble.from_sklearn(grown)
    fresh = data(1)[0]
    assert np.allclose(ensemble.probabilities(torch.from_numpy(fresh)).numpy(), grown.predict_proba(fresh), atol=1e-6)
    assert ensemble.trees == len(getattr(grown, "estimators_", [grown]))
    assert ensemble.classes == 3
    assert ensemble.depth == max(t.get_depth() for t in getattr(grown, "estimators_", [grown]))


def test_leaves_agree_at_every_threshold_and_its_neighbours():
    x, y = data()
    grown = GROWERS["tree"].fit(x, y)
    ensemble = TreeEnsemble.from_sklearn(grown)
    cuts = grown.tree_.threshold[grown.tree_.children_left != -1]
    features = grown.tree_.feature[grown.tree_.children_left != -1]
    rows = []
    for cut, feature in zip(cuts, features, strict=True):
        near = np.float32(cut)
        for value in (near, np.nextafter(near, np.float32(-np.inf)), np.nextafter(near, np.float32(np.inf))):
            row = x[0].copy()
            row[feature] = value
            rows.append(row)
    rows = np.stack(rows)
    assert np.array_equal(ensemble.leaves(torch.from_numpy(rows))[:, 0].numpy(), grown.apply(rows))


def test_what_a_checkpoint_holds_answers_the_same():
    x, y = data()
    ensemble = TreeEnsemble.from_sklearn(GROWERS["forest"].fit(x, y))
    again = TreeEnsemble.from_tensors(ensemble.tensors())
    fresh = torch.from_numpy(data(1)[0])
    assert torch.equal(again.leaves(fresh), ensemble.leaves(fresh))
    assert torch.allclose(again.probabilities(fresh), ensemble.probabilities(fresh), atol=1e-3)


def test_one_leaf():
    ensemble = TreeEnsemble.empty()
    assert ensemble.depth == 0
    assert ensemble.probabilities(torch.zeros(4, 3)).tolist() == [[1]] * 4
    assert ensemble.left.tolist() == [[LEAF]]


def model(ensemble, front_end=None):
    space = Box("floats", -9, 9, 0.0)
    return TreeModel(ensemble, name="t", modality="image", space=space, classes=("a", "b", "c"), front_end=front_end)


def test_logits_are_log_probabilities_and_finite():
    x, y = data()
    ensemble = TreeEnsemble.from_sklearn(GROWERS["tree"].fit(x, y))
    logits = model(ensemble)(torch.from_numpy(x)).logits
    assert logits.isfinite().all()
    assert torch.allclose(logits.exp(), ensemble.probabilities(torch.from_numpy(x)), atol=2e-6)


def test_a_digest_names_trees_and_what_they_look_at():
    x, y = data()
    one = TreeEnsemble.from_sklearn(GROWERS["tree"].fit(x, y))
    other = TreeEnsemble.from_sklearn(GROWERS["shallow"].fit(x, y))
    assert model(one).digest == model(one).digest
    front = [None, torch.nn.Flatten(), torch.nn.AvgPool1d(2, stride=1), torch.nn.AvgPool1d(2, stride=2)]
    digests = [model(one, f).digest for f in front] + [model(other).digest]
    assert len(set(digests)) == len(digests)


def test_a_digest_names_what_a_module_computes_beside_its_weights():
    class Scaled(torch.nn.Linear):
        temperature = 1.0

        def __init__(self, temperature):
            super().__init__(3, 2)
            torch.nn.init.ones_(self.weight)
            torch.nn.init.ones_(self.bias)
            self.temperature = temperature

    def convolution(**settings):
        torch.manual_seed(0)
        return torch.nn.Conv1d(2, 2, 3, **settings)

    same = [torch.nn.Sequential(torch.nn.Identity(), a()) for a in (torch.nn.ReLU, torch.nn.Tanh)]
    modules = [Scaled(1.0), Scaled(2.0), convolution(), convolution(stride=2), convolution(dilation=2), *same]
    assert len({digest_of(m) for m in modules}) == len(modules)
    assert digest_of(Scaled(1.0)) == digest_of(Scaled(1.0).eval())
    assert digest_of(Scaled(1.0)) != digest_of(Scaled(1.0), "another tokenizer")
