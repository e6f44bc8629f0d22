"""Leaf paths against brute force: over every input of a small lattice for one tree, over every leaf for a forest."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from sklearn.ensemble import RandomForestClassifier
from sklearn.tree import DecisionTreeClassifier
from torch import nn

from carom.common.attacks.catalogue.trees import leaf_path, leaf_path_through, soft_leaf_path
from carom.common.attacks.trees.leaf_boxes import leaves_of, on_lattice
from carom.common.attacks.trees.relaxed_trees import NearLeaves, SoftForest
from carom.common.base.errors import CaromError
from carom.common.base.rng import Rng
from carom.common.core.batch import Batch, Goal
from carom.common.core.objectives import margin
from carom.common.core.problem import Problem, Status
from carom.common.core.spaces import Box
from carom.common.core.threats import L2, Linf
from carom.common.models.networks import TorchModel
from carom.common.models.trees import TreeEnsemble, TreeModel

LEVELS, D = 8, 3
GRID = Box("grid", 0.0, 1.0, 1 / (LEVELS - 1), torch.uint8)
EVERY = GRID.decode(torch.tensor(list(itertools.product(range(LEVELS), repeat=D))))
IDS = [f"e{i}" for i in range(40)]
RUN = Rng.of(0, IDS)


def grow(seed, forest=False):
    """A model of three classes over 3 features of 8 levels; its thresholds fall between and on levels."""
    rng = np.random.default_rng(seed)
    x = GRID.round(torch.from_numpy(rng.random((120, D)).astype(np.float32)))
    y = rng.integers(0, 3, 120)
    kind = (
        RandomForestClassifier(5, max_depth=4, random_state=seed)
        if forest
        else DecisionTreeClassifier(max_depth=5, random_state=seed)
    )
    grown = kind.fit(x.numpy() * (1 if seed % 2 else 1.0001), y)
    ensemble = TreeEnsemble.from_sklearn(grown)
    return TreeModel(ensemble, name="t", modality="image", space=GRID, classes=("a", "b", "c"))


def batch_of(model, seed=0):
    x = GRID.round(Rng.of(seed + 50, IDS).uniform(D))
    return Batch(x, model(x).logits.argmax(1), IDS)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("threat", [Linf, L2], ids=["linf", "l2"])
@pytest.mark.parametrize("targeted", [False, True], ids=["untargeted", "targeted"])
def test_one_tree_is_exact(seed, threat, targeted):
    """No input of the lattice reaches the goal with a smaller change, in either norm; none at all, no success."""
    model = grow(seed)
    batch = batch_of(model, seed)
    targets = (batch.labels + 1) % 3 if targeted else None
    goal = Goal(batch.labels, targets)
    result = leaf_path()(Problem(model, goal, threat(9.0)), batch, RUN)
    answers = model(EVERY).logits.argmax(1)
    order = torch.inf if threat is Linf else 2
    away = torch.linalg.vector_norm((EVERY[None] - batch.inputs[:, None]).double(), order, dim=2)
    reaches = answers != batch.labels[:, None] if targets is None else answers == targets[:, None]
    least = away.masked_fill(~reaches, torch.inf).amin(1)
    moved = torch.linalg.vector_norm((result.inputs - batch.inputs).double(), order, dim=1)
    assert torch.equal(result.success, least.isfinite())
    assert torch.equal(result.status == Status.INFEASIBLE, ~least.isfinite())
    assert torch.allclose(moved[result.success], least[result.success], atol=1e-6)


@pytest.mark.parametrize("threat", [Linf, L2], ids=["linf", "l2"])
def test_one_tree_finds_what_fits_the_budget_and_nothing_more(threat):
    model = grow(1)
    batch = batch_of(model)
    goal = Goal(batch.labels)
    free = leaf_path()(Problem(model, goal, threat(9.0)), batch, RUN)
    least = threat(9.0).norm(free.inputs - batch.inputs)
    for i in range(0, len(batch), 5):
        one = batch.take(torch.tensor([i]))
        for share, found in ((1.0, True), (0.99, False)):
            problem = Problem(model, Goal(one.labels), threat(float(least[i]) * share))
            result = leaf_path()(problem, one, RUN[torch.tensor([i])])
            assert result.success.item() is found
            assert result.status.item() == (Status.DONE if found else Status.INFEASIBLE)


def test_one_tree_in_floats_stops_at_the_threshold():
    """Without a lattice the smallest change goes to the threshold itself, or to the next float above it."""
    model = grow(2)
    model.space = Box("floats", 0.0, 1.0, 0.0)
    batch = batch_of(model)
    result = leaf_path()(Problem(model, Goal(batch.labels), Linf(1.0)), batch, RUN)
    assert result.success.all()
    rounded = grow(2)
    stored = leaf_path()(Problem(rounded, Goal(batch.labels), Linf(1.0)), batch, RUN)
    shorter = (result.inputs - batch.inputs).abs().amax(1) <= (stored.inputs - batch.inputs).abs().amax(1) + 1e-6
    assert shorter.all()


def test_intervals_hold_exactly_the_inputs_of_their_leaf():
    model = grow(3)
    leaves = leaves_of(model.ensemble)
    closed = on_lattice(leaves, GRID)
    reached = leaves.index[0, model.ensemble.leaves(EVERY)[:, 0]]
    wide = torch.nn.functional.pad(EVERY, (0, 1))[:, leaves.feature]
    inside = ((wide >= closed.low) & (wide <= closed.high)).all(2)
    assert inside.sum(1).eq(1).all()
    assert torch.equal(inside.float().argmax(1), reached)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("threat", [Linf(0.3), L2(0.4)], ids=["linf", "l2"])
def test_a_forest_does_no_worse_than_the_best_single_leaf(seed, threat):
    """Every leaf of every tree, tried on its own within the budget: the search over all of them starts there."""
    model = grow(seed, forest=True)
    batch = batch_of(model, seed)
    goal = Goal(batch.labels)
    leaves = on_lattice(leaves_of(model.ensemble), GRID)
    count = len(leaves.tree)
    best = margin(model(batch.inputs).logits, goal)
    for leaf in range(count):
        x = batch.inputs.clone()
        for feature, low, high in zip(
            *(t[leaf].tolist() for t in (leaves.feature, leaves.low, leaves.high)), strict=True
        ):
            if feature >= 0:
                x[:, feature] = x[:, feature].clamp(low, high)
        value = margin(model(x).logits, goal).masked_fill(~threat.allows(x, batch.inputs), -torch.inf)
        best = torch.maximum(best, value)
    result = leaf_path(width=count)(Problem(model, goal, threat), batch, RUN)
    reached = margin(model(result.inputs).logits, goal)
    assert (reached >= best - 1e-6).all()
    assert threat.allows(result.inputs, batch.inputs).all()
    assert (result.cost.queries <= 1 + 60 * count).all()


def test_more_steps_and_width_never_lower_the_margin():
    model = grow(1, forest=True)
    batch = batch_of(model)
    goal = Goal(batch.labels)
    margins = []
    for steps in (0, 1, 3, 60):
        result = leaf_path(steps=steps)(Problem(model, goal, Linf(0.4)), batch, RUN)
        margins.append(margin(model(result.inputs).logits, goal))
    for less, more in itertools.pairwise(margins):
        assert (more >= less - 1e-6).all()


def test_leaf_path_says_which_models_it_reads():
    linear = TorchModel(
        nn.Linear(D, 3), name="linear", modality="image", family="linear", space=GRID, classes=("a", "b", "c")
    )
    behind = grow(0)
    behind.front_end = nn.Identity()
    batch = batch_of(grow(0))
    for model, attack, hint in (
        (linear, leaf_path(), "soft-leaf-path for trees behind a front end, or square"),
        (behind, leaf_path(), "soft-leaf-path"),
        (linear, soft_leaf_path(), "relaxes the splits of trees"),
    ):
        with pytest.raises(CaromError, match=hint):
            attack(Problem(model, Goal(batch.labels), Linf(0.1)), batch, RUN)


def test_a_relaxed_forest_hardens_into_the_forest():
    """Its probabilities sum to 1, and far from all thresholds they are the forest's as the temperature falls."""
    model = grow(1, forest=True)
    cuts = leaves_of(model.ensemble)
    far = torch.stack(
        [
            (EVERY[:, f, None] - torch.cat([cuts.low, cuts.high])[cuts.feature.repeat(2, 1) == f]).abs().amin(1)
            for f in range(D)
        ]
    )
    x = EVERY[far.amin(0) > 0.02]
    assert len(x) > 50
    assert torch.allclose(SoftForest(model, 1e-3)(x).logits.float(), model(x).logits, atol=1e-3)
    soft = SoftForest(model, 0.5)(EVERY).logits.exp().float()
    assert torch.allclose(soft.sum(1), torch.ones(len(EVERY)), atol=1e-4)


def test_the_relaxation_is_climbed_within_the_budget_and_judged_on_the_forest():
    model = grow(1, forest=True)
    batch = batch_of(model)
    result = soft_leaf_path()(Problem(model, Goal(batch.labels), Linf(0.35)), batch, RUN)
    assert torch.equal(result.success, model(result.inputs).logits.argmax(1) != batch.labels)
    assert result.success.float().mean() > 0.3
    assert Linf(0.35).allows(result.inputs, batch.inputs).all()


def wrapped(grown, classes):
    return TreeModel(TreeEnsemble.from_sklearn(grown), name="t", modality="image", space=GRID, classes=classes)


def test_near_leaves_measure_what_a_path_asks():
    """One split at .5: the nearest leaf of the other class is |x - .5| away, in spreads; a leaf's own class is here."""
    x = torch.tensor([[0.2], [0.5], [0.9]])
    near = NearLeaves(wrapped(DecisionTreeClassifier(max_depth=1).fit([[0.0], [1.0]], [0, 1]), ("a", "b")), 1.0)
    shares, away = near.shares(x.double()), (x[:, 0].double() - 0.5).abs() / near.scale[0]
    assert torch.allclose(shares[:, 0], torch.where(x[:, 0] <= 0.5, 1.0, (-away).exp()))
    assert torch.allclose(shares[:, 1], torch.where(x[:, 0] > 0.5, 1.0, (-away).exp()))


def test_near_leaves_of_a_forest_are_found_among_all():
    """Against the distance to every leaf, on a forest whose paths ask each feature at most once."""
    rng = np.random.default_rng(0)
    grown = [
        DecisionTreeClassifier(max_depth=1, max_features=1, random_state=k).fit(
            rng.random((80, 4)), rng.integers(0, 3, 80)
        )
        for k in range(5)
    ]
    forest = RandomForestClassifier(5, max_depth=1, max_features=4, random_state=0)
    forest.fit(rng.random((80, 4)), rng.integers(0, 3, 80)).estimators_ = grown
    near, x = NearLeaves(wrapped(forest, ("a", "b", "c")), 1.0), torch.from_numpy(rng.random((10, 4)))
    leaves = near.leaves
    here = torch.nn.functional.pad(x, (0, 1))[:, leaves.feature]
    away = ((here - here.clamp(leaves.low.double(), leaves.high.double())).abs() / near.scale[leaves.feature]).sum(2)
    wanted = torch.zeros(10, near.groups, dtype=torch.float64)
    for group in near.group.unique().tolist():
        wanted[:, group] = (-away[:, near.group == group].amin(1)).exp()
    assert torch.allclose(near.shares(x), wanted.view(10, 5, 3).mean(1))
    assert (wanted == 0).any()  # a stump has leaves of at most two of three classes


def test_leaf_path_behind_a_front_end_climbs_towards_leaves():
    model = grow(1, forest=True)
    model.front_end = nn.Sequential(nn.Linear(D, D, bias=False))
    nn.init.eye_(model.front_end[0].weight)
    batch = batch_of(grow(1, forest=True))
    problem = Problem(model, Goal(batch.labels), Linf(0.4))
    result = leaf_path_through()(problem, batch, RUN)
    noise = [
        model(GRID.round(GRID.clamp(problem.threat.control(batch, Rng.of(k, IDS), batch.inputs)))) for k in range(5)
    ]
    chance = torch.stack([(out.logits.argmax(1) != batch.labels).float().mean() for out in noise]).mean()
    assert result.success.float().mean() > chance + 0.1
    assert (result.cost.backward == 20).all()
