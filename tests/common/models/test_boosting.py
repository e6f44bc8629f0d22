"""Boosted trees answer as scikit-learn's, and leaf path over them is held against every input there is."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from sklearn.ensemble import GradientBoostingClassifier, HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from torch import nn

from carom.common.attacks.catalogue.trees import leaf_path, leaf_path_through, soft_leaf_path
from carom.common.attacks.trees.leaf_boxes import leaves_of
from carom.common.attacks.trees.relaxed_trees import NearValues, SoftForest
from carom.common.base.errors import CaromError
from carom.common.base.rng import Rng
from carom.common.core.batch import Batch, Goal
from carom.common.core.objectives import margin
from carom.common.core.problem import Problem, Status
from carom.common.core.spaces import Box
from carom.common.core.threats import L2, Linf
from carom.common.loading.estimator_files import load_skops
from carom.common.models.boosting import boosted
from carom.common.models.trees import TreeEnsemble, TreeModel

LEVELS = 32
GRID = Box("grid", 0.0, 1.0, 1 / (LEVELS - 1), torch.uint8)
EVERY = GRID.round(torch.tensor(list(itertools.product(range(LEVELS), repeat=2))) / (LEVELS - 1))
IDS = [f"e{i}" for i in range(30)]
RUN = Rng.of(0, IDS)

GROWERS = {
    "gradient": lambda seed: GradientBoostingClassifier(n_estimators=15, random_state=seed),
    "histogram": lambda seed: HistGradientBoostingClassifier(max_iter=15, min_samples_leaf=5, random_state=seed),
    "forest": lambda seed: RandomForestClassifier(9, max_depth=5, random_state=seed),
}


def plane(seed, classes=3, holes=0.0):
    """Points of a plane in patches of several classes, some coordinates missing."""
    rng = np.random.default_rng(seed)
    x = rng.random((300, 2)).astype(np.float32)
    wave = np.sin(9 * x[:, 0]) + np.cos(8 * x[:, 1]) + 2 + 0.5 * rng.normal(size=300)
    x[rng.random(x.shape) < holes] = np.nan
    return x, (0.7 * wave).astype(int) % classes


def model_of(ensemble, front_end=None):
    names = ("a", "b", "c")[: ensemble.classes]
    return TreeModel(ensemble, name="t", modality="image", space=GRID, classes=names, front_end=front_end)


def grown(kind, seed=0):
    fitted = GROWERS[kind](seed).fit(*plane(seed))
    return model_of(TreeEnsemble.from_sklearn(fitted) if kind == "forest" else boosted(fitted))


def batch_of(model, seed=0):
    x = GRID.round(Rng.of(seed, IDS).uniform(2))
    return Batch(x, model(x).logits.argmax(1), IDS)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize(
    "estimator",
    [
        GradientBoostingClassifier(n_estimators=20, random_state=0),
        # Where hardly a point is left to a leaf its value is huge: 3e14 with this seed.
        GradientBoostingClassifier(n_estimators=20, init="zero", subsample=0.5, learning_rate=0.3, random_state=2119),
        GradientBoostingClassifier(n_estimators=20, loss="exponential", random_state=0),
        HistGradientBoostingClassifier(max_iter=20),
        HistGradientBoostingClassifier(max_iter=20, max_leaf_nodes=3),
    ],
    ids=["gradient", "zero", "exponential", "histogram", "holes"],
)
def test_scores_are_scikit_learns(estimator, classes):
    doubled = 2 if getattr(estimator, "loss", None) == "exponential" else 1
    if doubled == 2 and classes == 3:
        pytest.skip("scikit-learn has that loss for two classes only")
    holes = 0.2 if getattr(estimator, "max_leaf_nodes", None) == 3 else 0.0
    estimator.fit(*plane(0, classes, holes))
    x, _ = plane(1)
    ensemble, scores = boosted(estimator), estimator.decision_function(x)
    logits = ensemble.logits(torch.from_numpy(x)).numpy()
    found = logits[:, 1] - logits[:, 0] if classes == 2 else logits
    assert np.allclose(found, doubled * scores, rtol=1e-12, atol=1e-12)
    assert np.allclose(ensemble.probabilities(torch.from_numpy(x)).numpy(), estimator.predict_proba(x), atol=1e-12)
    assert leaves_of(ensemble).low.isfinite().any()
    assert not leaves_of(ensemble).low.isposinf().any()  # no leaf is for missing values alone
    again = TreeEnsemble.from_tensors(ensemble.tensors())
    assert torch.equal(again.logits(torch.from_numpy(x)), ensemble.logits(torch.from_numpy(x)))


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("targeted", [False, True], ids=["untargeted", "targeted"])
@pytest.mark.parametrize("kind", GROWERS)
def test_leaf_path_finds_the_largest_margin_of_the_ball(kind, targeted, seed):
    """Of all inputs of the lattice that the threat allows, none has a larger margin."""
    model = grown(kind, seed)
    batch = batch_of(model, seed)
    goal = Goal(batch.labels, (batch.labels + 1) % 3 if targeted else None)
    many = torch.arange(len(batch)).repeat_interleave(len(EVERY))
    margins = margin(model(EVERY).logits.repeat(len(batch), 1), goal.take(many))
    for threat in (Linf(0.1), L2(0.15)):
        allowed = threat.allows(EVERY.repeat(len(batch), 1), batch.inputs[many])
        best = margins.masked_fill(~allowed, -torch.inf).view(len(batch), -1).amax(1)
        result = leaf_path()(Problem(model, goal, threat), batch, RUN)
        assert torch.allclose(margin(model(result.inputs).logits, goal), best, atol=1e-6)
        assert torch.equal(result.success, best > 0)
        assert (best > 0).float().mean() > 0.1


@pytest.mark.parametrize("kind", GROWERS)
def test_the_search_finds_most_of_what_there_is(kind):
    """Greedy moves, for when there is no room to compare everything, against that comparison."""
    model, threat = grown(kind), Linf(0.1)
    batch = batch_of(model)
    problem = Problem(model, Goal(batch.labels), threat)
    exact, greedy = (leaf_path(room=room)(problem, batch, RUN) for room in (2**20, 0))
    assert (greedy.success <= exact.success).all()
    assert greedy.success.sum() >= 0.9 * exact.success.sum() > 0
    assert (greedy.cost.queries > exact.cost.queries).any()


def test_a_single_boosted_tree_is_left_by_the_smallest_change():
    fitted = GradientBoostingClassifier(n_estimators=1, max_depth=4, learning_rate=1.0, random_state=0)
    fitted.fit(*plane(0, classes=2))
    model = model_of(boosted(fitted))
    batch = batch_of(model)
    result = leaf_path()(Problem(model, Goal(batch.labels), Linf(1.0)), batch, RUN)
    away = (EVERY[None] - batch.inputs[:, None]).abs().amax(2)
    least = away.masked_fill(model(EVERY).logits.argmax(1) == batch.labels[:, None], torch.inf).amin(1)
    assert result.success.all()
    assert torch.allclose((result.inputs - batch.inputs).abs().amax(1), least, atol=1e-6)


@pytest.mark.parametrize("kind", ["gradient", "histogram"])
def test_relaxed_trees_harden_into_the_trees(kind):
    model = grown(kind)
    cuts = leaves_of(model.ensemble)
    bounds = torch.cat([cuts.low, cuts.high]).flatten()
    features = cuts.feature.repeat(2, 1).flatten()
    far = torch.stack([(EVERY[:, f, None] - bounds[features == f]).abs().amin(1) for f in range(2)]).amin(0)
    x = EVERY[far > 3e-3]
    assert len(x) > 20
    for relaxed in (SoftForest(model, 1e-3), NearValues(model, 1e-3)):
        assert torch.allclose(relaxed(x).logits, model(x).logits, atol=0.05)


@pytest.mark.parametrize("kind", ["gradient", "histogram"])
@pytest.mark.parametrize("attack", [leaf_path_through, soft_leaf_path])
def test_boosted_trees_behind_a_front_end_are_climbed(attack, kind):
    """Where the class hangs on a sum over eight features, towards which no single leaf leads."""
    front = nn.Linear(8, 8, bias=False)
    nn.init.eye_(front.weight)
    x = np.random.default_rng(0).random((400, 8)).astype(np.float32)
    fitted = GROWERS[kind](0).fit(x, np.digitize(x[:, :4].sum(1) - x[:, 4:].sum(1), [-0.5, 0.5]))
    model = model_of(boosted(fitted), front)
    x = GRID.round(Rng.of(0, IDS).uniform(8))
    batch = Batch(x, model(x).logits.argmax(1), IDS)
    problem = Problem(model, Goal(batch.labels), Linf(0.1))
    result = attack()(problem, batch, RUN)
    draws = [problem.threat.control(batch, Rng.of(k, IDS), batch.inputs) for k in range(5)]
    chance = torch.stack([model(GRID.round(x)).logits.argmax(1) != batch.labels for x in draws]).float().mean()
    assert result.success.float().mean() > chance + 0.2
    assert result.status.eq(Status.DONE).all()


def test_what_no_interval_says_is_refused():
    x, y = plane(0)
    guess = GradientBoostingClassifier(n_estimators=2, init=LogisticRegression()).fit(x, y)
    with pytest.raises(CaromError, match=r"starts from a LogisticRegression.*init=None"):
        boosted(guess)
    kinds = HistGradientBoostingClassifier(max_iter=2, categorical_features=[0]).fit((4 * x).round(), y)
    with pytest.raises(CaromError, match="categorical"):
        boosted(kinds)


def test_damaged_boosted_trees_are_refused(tmp_path):
    import skops.io

    fitted = HistGradientBoostingClassifier(max_iter=2).fit(*plane(0))
    file = tmp_path / "x.skops"
    skops.io.dump(fitted, file)
    assert np.array_equal(load_skops(file).decision_function(plane(1)[0]), fitted.decision_function(plane(1)[0]))
    for field, wrong in (("left", 0), ("right", 10_000), ("feature_idx", 2)):
        nodes = fitted._predictors[1][0].nodes
        kept, nodes[field][0] = nodes[field][0], wrong
        skops.io.dump(fitted, file)
        nodes[field][0] = kept
        with pytest.raises(CaromError, match="nodes point outside"):
            load_skops(file)
