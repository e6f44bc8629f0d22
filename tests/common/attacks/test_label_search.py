"""Searches by labels: closed-form optima on linear models, hard budgets, and nothing but labels."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from carom.common.attacks.query.geoda import GeoDA
from carom.common.attacks.query.hopskipjump import HopSkipJump
from carom.common.attacks.query.label_search import DecisionSearch
from carom.common.attacks.query.rays import RayS
from carom.common.attacks.query.surfree import SurFree
from carom.common.base.rng import Rng
from carom.common.core.batch import Batch, Goal
from carom.common.core.problem import Budget, Problem, Status
from carom.common.core.spaces import Box
from carom.common.core.threats import L2, Linf
from carom.common.models.functions import FunctionModel
from carom.common.models.networks import TorchModel

FLOATS = Box("floats", -10.0, 10.0, 0.0)
PIXELS = Box("pixels", 0.0, 1.0, 1 / 255, torch.uint8)
N, D = 6, 16
IDS = [f"e{i}" for i in range(N)]
W = Rng.of(5, ["w"]).normal(D)[0]
STRATEGIES = {
    "rays": (RayS(), Linf),
    "hopskipjump-linf": (HopSkipJump(20), Linf),
    "hopskipjump-l2": (HopSkipJump(20), L2),
    "surfree": (SurFree(), L2),
    "geoda-linf": (GeoDA(20), Linf),
    "geoda-l2": (GeoDA(20), L2),
}
every_strategy = pytest.mark.parametrize("name", STRATEGIES)


class Line(nn.Module):
    """Two classes; the margin is (x - 1/2) . W minus what it takes."""

    def __init__(self, needed=0.2):
        super().__init__()
        self.needed = needed

    def forward(self, x):
        value = (x.double() - 0.5) @ W.double() - self.needed
        return torch.stack([torch.zeros_like(value), value], 1)


def problem(threat, space=FLOATS, needed=0.2, queries=None, module=None):
    module = module or Line(needed)
    model = TorchModel(module, name="t", modality="image", family="linear", space=space, classes=("a", "b"))
    x = space.round(0.5 + 0.01 * Rng.of(1, IDS).normal(D))
    batch = Batch(x, torch.zeros(N, dtype=torch.long), IDS)
    return Problem(model, Goal(batch.labels), threat, Budget(queries)), batch


def nearest(batch, ball, needed=0.2):
    """The distance of the boundary, in closed form."""
    gap = needed - (batch.inputs - 0.5) @ W
    return gap / (W.abs().sum() if ball is Linf else W.norm())


@every_strategy
def test_the_nearest_point_of_a_linear_boundary_is_approached(name):
    strategy, ball = STRATEGIES[name]
    task, batch = problem(ball(math.inf))
    result = DecisionSearch(strategy, 1200)(task, batch, Rng.of(0, IDS))
    assert result.success.all()
    ratio = ball(1.0).norm(result.inputs - batch.inputs) / nearest(batch, ball)
    assert (ratio >= 1 - 1e-4).all()
    assert (ratio < 1.15).all()


def test_rays_finds_the_best_corner_exactly():
    """On the lattice of pixels: the smallest multiple of 1/255 that crosses the boundary along the signs of W."""
    task, batch = problem(Linf(math.inf), PIXELS, needed=2.0)
    result = DecisionSearch(RayS(), 500)(task, batch, Rng.of(0, IDS))
    steps = (nearest(batch, Linf, 2.0) * 255).ceil()
    assert torch.equal(((result.inputs - batch.inputs).abs().amax(1) * 255).round(), steps)


class OneHot(nn.Module):
    """The same labels, and no other word."""

    def __init__(self, body):
        super().__init__()
        self.body = body

    def forward(self, x):
        return nn.functional.one_hot(self.body(x).argmax(1), 2).double()


@every_strategy
def test_only_labels_are_used(name):
    strategy, ball = STRATEGIES[name]
    for eps in (0.02 if ball is Linf else 0.12, math.inf):
        task, batch = problem(ball(eps), PIXELS)
        whole = DecisionSearch(strategy, 150)(task, batch, Rng.of(0, IDS))
        blind, _ = problem(ball(eps), PIXELS, module=OneHot(Line()))
        labels = DecisionSearch(strategy, 150)(blind, batch, Rng.of(0, IDS))
        assert torch.equal(whole.inputs, labels.inputs)
        assert torch.equal(whole.success, labels.success)
        assert torch.equal(whole.cost.queries, labels.cost.queries)


@every_strategy
def test_budgets_are_hard_and_spent(name):
    strategy, ball = STRATEGIES[name]
    for limit in (0, 1, 2, 7, 60):
        task, batch = problem(ball(math.inf), PIXELS, needed=1.5, queries=limit)
        result = DecisionSearch(strategy, 50)(task, batch, Rng.of(0, IDS))
        assert result.cost.queries.tolist() == [min(limit, 50)] * N
        assert (result.cost.forward == result.cost.queries + 1).all()
        assert result.status.eq(Status.DONE if limit else Status.INFEASIBLE).all()


@every_strategy
def test_in_a_ball_the_search_ends_inside_or_leaves_the_example_as_it_is(name):
    strategy, ball = STRATEGIES[name]
    task, batch = problem(ball(math.inf), PIXELS, needed=0.3)
    eps = 1.2 * nearest(batch, ball, 0.3).median().item() + 1 / 255
    result = DecisionSearch(strategy, 400)(replace(task, threat=ball(eps)), batch, Rng.of(0, IDS))
    assert result.success.any()
    assert ball(eps).allows(result.inputs, batch.inputs).all()
    assert torch.equal(PIXELS.round(result.inputs), result.inputs)
    assert (result.cost.queries[result.success] < 400).all()
    tight = DecisionSearch(strategy, 60)(replace(task, threat=ball(eps / 50)), batch, Rng.of(0, IDS))
    assert not tight.success.any()
    assert torch.equal(tight.inputs, batch.inputs)
    assert tight.status.eq(Status.DONE).all()
    assert tight.cost.queries.tolist() == [60] * N


@every_strategy
def test_every_question_is_about_inputs_of_the_space(name):
    strategy, ball = STRATEGIES[name]
    asked = []

    def label(x):
        x = torch.from_numpy(x)
        asked.append(x)
        return nn.functional.one_hot((x[:, :4].sum(1) > 2.5).long(), 2).float().numpy()

    names = {"name": "f", "modality": "image", "family": "other", "classes": ("a", "b"), "digest": "0"}
    model = FunctionModel(label, space=PIXELS, probabilities=False, **names)
    batch = Batch(PIXELS.round(0.3 * torch.rand(N, D)), torch.zeros(N, dtype=torch.long), IDS)
    result = DecisionSearch(strategy, 120)(Problem(model, Goal(batch.labels), ball(math.inf)), batch, Rng.of(0, IDS))
    assert result.success.all()
    together = torch.cat(asked)
    assert together.min() >= 0
    assert together.max() <= 1
    assert sum(map(len, asked)) == result.cost.forward.sum()


@every_strategy
def test_what_is_wrong_already_is_left_alone_and_what_says_nothing_is_marked(name):
    strategy, ball = STRATEGIES[name]
    task, batch = problem(ball(0.1), needed=-3.0)
    result = DecisionSearch(strategy, 50)(task, batch, Rng.of(0, IDS))
    assert result.status.eq(Status.SKIPPED).all()
    assert result.cost.queries.tolist() == [1] * N
    task, batch = problem(ball(0.1), needed=float("nan"))
    result = DecisionSearch(strategy, 50)(task, batch, Rng.of(0, IDS))
    assert result.status.eq(Status.BAD_GRADIENT).all()
    assert torch.equal(result.inputs, batch.inputs)


@every_strategy
def test_a_label_that_never_changes_uses_up_the_queries_and_changes_nothing(name):
    strategy, ball = STRATEGIES[name]
    task, batch = problem(ball(0.1), PIXELS, needed=1e6)
    result = DecisionSearch(strategy, 30)(task, batch, Rng.of(0, IDS))
    assert torch.equal(result.inputs, batch.inputs)
    assert result.cost.queries.tolist() == [30] * N
    assert not result.success.any()


@every_strategy
def test_does_not_depend_on_the_batch(name):
    strategy, ball = STRATEGIES[name]
    task, batch = problem(ball(math.inf), PIXELS, needed=0.5)
    rng = Rng.of(2, IDS)
    whole = DecisionSearch(strategy, 120)(task, batch, rng)
    for rows in (torch.tensor([4]), torch.tensor([5, 0, 2])):
        part = DecisionSearch(strategy, 120)(replace(task, goal=task.goal.take(rows)), batch.take(rows), rng[rows])
        assert torch.equal(part.inputs, whole.inputs[rows])
        assert torch.equal(part.cost.queries, whole.cost.queries[rows])
