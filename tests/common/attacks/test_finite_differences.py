"""Gradients estimated from scores: unbiased on linear models, counted, and blind to rounding."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from carom.common.attacks.catalogue.gradient import fgsm
from carom.common.attacks.catalogue.query import nes, spsa
from carom.common.attacks.gradient.ascent import Ascent
from carom.common.attacks.gradient.step import Step
from carom.common.attacks.query.finite_differences import Bandits, FiniteDifferences
from carom.common.base.errors import CaromError
from carom.common.base.rng import Rng
from carom.common.core.batch import Batch, Goal
from carom.common.core.objectives import margin
from carom.common.core.oracle import Oracle
from carom.common.core.problem import Budget, Problem, Status
from carom.common.core.spaces import Box
from carom.common.core.threats import L2, Linf
from carom.common.models.functions import FunctionModel
from carom.common.models.networks import TorchModel

FLOATS = Box("floats", -10.0, 10.0, 0.0)
PIXELS = Box("pixels", 0.0, 1.0, 1 / 255, torch.uint8)
N, D = 8, 12
IDS = [f"e{i}" for i in range(N)]
W = Rng.of(5, ["w"]).normal(D)[0]


class Line(nn.Module):
    """Two classes; the margin is x . W minus what it takes."""

    def __init__(self, needed=0.0):
        super().__init__()
        self.needed = needed

    def forward(self, x):
        value = x.double() @ W.double() - self.needed
        return torch.stack([torch.zeros_like(value), value], 1)


def problem(threat, space=FLOATS, needed=5.0, queries=None, level=0.0):
    model = TorchModel(Line(needed), name="t", modality="image", family="linear", space=space, classes=("a", "b"))
    batch = Batch(torch.full((N, D), level), torch.zeros(N, dtype=torch.long), IDS)
    return Problem(model, Goal(batch.labels), threat, Budget(queries)), batch


def estimate(estimator, threat, seeds=400, **setting):
    """The mean estimate over many draws."""
    task, batch = problem(threat, **setting)
    total = torch.zeros(N, D)
    for seed in range(seeds):
        step = Step(Oracle(task, batch), margin, batch.inputs, torch.ones(N, 1), 0, 1, Rng.of(seed, IDS))
        total += estimator(step, batch.inputs, None).grad
    return total.mean(0)


@pytest.mark.parametrize("signs", [False, True])
@pytest.mark.parametrize("threat", [Linf(0.1), L2(0.5)])
def test_the_mean_estimate_is_the_gradient(signs, threat):
    found = estimate(FiniteDifferences(pairs=4, sigma=0.5, signs=signs), threat, seeds=60)
    assert torch.cosine_similarity(found, W, dim=0) > 0.98


def test_at_the_bounds_of_the_space_the_estimate_still_points_along_the_gradient():
    """A pixel at 0 moves up only: half of each pair is cut off."""
    found = estimate(FiniteDifferences(pairs=4, sigma=0.5), Linf(0.1), space=PIXELS, seeds=60)
    assert torch.cosine_similarity(found, W, dim=0) > 0.98


@pytest.mark.parametrize("threat", [Linf(0.1), L2(0.5)])
def test_the_prior_learns_the_gradient(threat):
    task, batch = problem(threat)
    estimator, memory = Bandits(explore=0.5, eta=0.2, rate=0.3), None
    for index in range(300):
        step = Step(Oracle(task, batch), margin, batch.inputs, torch.ones(N, 1), index, 1, Rng.of(index, IDS))
        grad, memory, _ = estimator(step, batch.inputs, memory)
    assert (torch.cosine_similarity(grad, W.expand_as(grad)) > (0.75 if isinstance(threat, Linf) else 0.9)).all()
    if isinstance(threat, Linf):
        assert grad.abs().max() <= 1


@pytest.mark.parametrize(
    ("attack", "price"),
    [(nes(queries=100, pairs=3), 7), (spsa(queries=100, pairs=10), 21), (Ascent(gradient=Bandits(), stop=True), 3)],
)
def test_every_answer_is_counted_and_the_budget_is_hard(attack, price):
    assert attack.gradient.queries == price
    for limit in (0, price - 1, price, 50):
        task, batch = problem(Linf(0.1), needed=1e3, queries=limit)
        result = replace(attack, steps=20)(task, batch, Rng.of(0, IDS))
        assert result.cost.queries.tolist() == [price * min(20, limit // price)] * N
        assert (result.cost.forward == result.cost.queries + 1).all()
        assert (result.cost.backward == 0).all()


def test_steps_are_what_the_queries_pay_for():
    assert nes(queries=100, pairs=3).steps == 14
    assert nes(queries=6, pairs=3).steps == 0


def test_examples_that_reach_the_goal_leave_without_looking_further():
    task, batch = problem(Linf(0.5), needed=(0.2 * W + 0.1 * W.abs()).sum().item(), space=PIXELS, level=0.2)
    result = nes(queries=300, pairs=5, size=0.25)(task, batch, Rng.of(0, IDS))
    assert result.success.all()
    assert (result.cost.queries % 11 == 1).all(), "the last answer is the one that says it is there"
    assert torch.equal(PIXELS.round(result.inputs), result.inputs)


def test_what_is_wrong_already_costs_one_query():
    task, batch = problem(Linf(0.1), needed=-1.0)
    result = nes()(task, batch, Rng.of(0, IDS))
    assert result.status.eq(Status.SKIPPED).all()
    assert result.cost.queries.tolist() == [1] * N


def test_every_question_is_about_inputs_of_the_space():
    asked = []

    def scores(x):
        asked.append(torch.from_numpy(x))
        return torch.stack([torch.zeros(len(x)), torch.from_numpy(x).sum(1) - 50], 1).numpy()

    names = {"name": "f", "modality": "image", "family": "other", "classes": ("a", "b"), "digest": "0"}
    model = FunctionModel(scores, space=PIXELS, probabilities=False, **names)
    batch = Batch(torch.rand(N, D).round(), torch.zeros(N, dtype=torch.long), IDS)
    for attack in (nes(queries=60, pairs=2), Ascent(steps=9, gradient=Bandits(), stop=True)):
        attack(Problem(model, Goal(batch.labels), Linf(0.4)), batch, Rng.of(0, IDS))
    together = torch.cat(asked)
    assert together.min() >= 0
    assert together.max() <= 1


def test_scores_that_differ_by_rounding_are_equal():
    generator = torch.Generator().manual_seed(0)

    def scores(x):
        return (torch.tensor([5.0, 1.0]) * (1 + 2e-7 * torch.randn(len(x), 2, generator=generator))).numpy()

    names = {"name": "f", "modality": "image", "family": "other", "classes": ("a", "b"), "digest": "0"}
    model = FunctionModel(scores, space=PIXELS, probabilities=False, **names)
    batch = Batch(torch.full((N, D), 0.4), torch.zeros(N, dtype=torch.long), IDS)
    result = nes(queries=100)(Problem(model, Goal(batch.labels), Linf(0.1)), batch, Rng.of(0, IDS))
    assert result.status.eq(Status.NO_GRADIENT).all()


def test_what_makes_no_sense_is_refused():
    with pytest.raises(CaromError, match="at least one pair"):
        nes(pairs=0)
    with pytest.raises(CaromError, match="transforms and surgery change gradients"):
        replace(nes(), transform=object())
    assert nes().costing(100) is None
    assert fgsm().costing(100).steps == 100
