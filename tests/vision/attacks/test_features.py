"""Objectives on inner layers, against what their papers' formulas give on a network taken apart by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from carom.common.attacks.catalogue.gradient import bim
from carom.common.attacks.inside.feature_losses import Alike, Attributed, Important, Onward
from carom.common.base.errors import CaromError, UnknownName
from carom.common.base.rng import Rng
from carom.common.core.batch import Batch, Goal
from carom.common.core.oracle import Oracle
from carom.common.core.problem import Problem
from carom.common.core.spaces import Box
from carom.common.core.threats import L2, Linf
from carom.common.models.networks import TorchModel
from carom.vision.attacks.features import fia, ila, naa
from carom.vision.attacks.targeted import su
from carom.vision.attacks.views import Parted

SPACE = Box("floats", 0.0, 1.0, 0.0)
N, CLASSES = 5, 3
IDS = [f"e{i}" for i in range(N)]
LABELS = torch.arange(N) % CLASSES
TARGETS = (LABELS + 1) % CLASSES


class Net(nn.Module):
    """Features of smooth kinds, then a head that is not linear."""

    def __init__(self):
        super().__init__()
        self.lower = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.Softplus())
        self.upper = nn.Sequential(nn.Conv2d(4, 4, 3, stride=2), nn.Tanh(), nn.Flatten(), nn.Linear(4 * 9, CLASSES))

    def forward(self, x):
        return self.upper(self.lower(x))


@pytest.fixture
def oracle():
    torch.manual_seed(0)
    model = TorchModel(Net().double(), name="toy", modality="image", family="cnn", space=SPACE, classes="abc")
    x = Rng.of(0, IDS).uniform(2, 8, 8).double()
    return Oracle(Problem(model, Goal(LABELS), Linf(0.1)), Batch(x, LABELS, IDS))


def climbed(objective, oracle, x):
    """d objective / dx, and the objective's value, at x."""
    with oracle.problem.model.frozen(), objective.prepared(oracle, Rng.of(3, IDS)) as bound:
        grad, loss, _ = oracle.gradient(bound, x)
    return grad, loss


def feature_gradient(net, x, score):
    """d score(logits) / d features"""
    features = net.lower(x).detach().requires_grad_()
    return torch.autograd.grad(score(net.upper(features)).sum(), features)[0]


def pick(logits, classes):
    return logits.gather(1, classes[:, None]).squeeze(1)


def each(x):
    return x.flatten(1).norm(dim=1).view(-1, 1, 1, 1)


@pytest.mark.parametrize("targeted", [False, True])
def test_fia_weighs_features_by_the_mean_gradient_over_masked_inputs(oracle, targeted):
    net, x = oracle.problem.model.module, oracle.batch.inputs
    if targeted:
        oracle = oracle.towards(TARGETS)
    sign, classes = (1, TARGETS) if targeted else (-1, LABELS)
    rng, weights = Rng.of(3, IDS), 0
    for k in range(4):
        masked = x * (rng.fold("mask", k).uniform(2, 8, 8) >= 0.3)
        weights = weights + sign * feature_gradient(net, masked, lambda logits: pick(logits, classes))
    weights = weights / each(weights)
    moved = (x + 0.05).requires_grad_()
    loss = (weights * net.lower(moved)).flatten(1).sum(1)
    grad, value = climbed(Important("lower", 4, 0.3), oracle, moved.detach())
    assert torch.allclose(value, loss, rtol=1e-5)
    assert torch.allclose(grad, torch.autograd.grad(loss.sum(), moved)[0], rtol=1e-5, atol=1e-9)
    assert oracle.forward.tolist() == oracle.backward.tolist() == [5] * N


@pytest.mark.parametrize("balance", [1.0, 0.3])
def test_naa_weighs_what_features_gained_over_black_by_integrated_gradients(oracle, balance):
    net, x = oracle.problem.model.module, oracle.batch.inputs
    weights = 0
    for k in range(6):
        weights = weights + feature_gradient(net, x * (1 - k / 6), lambda logits: pick(logits.softmax(1), LABELS))
    weights = weights / each(weights)
    moved = (x + 0.05).requires_grad_()
    attribution = (net.lower(moved) - net.lower(torch.zeros_like(x))) * weights
    loss = -attribution.clamp_min(0).flatten(1).sum(1) - balance * attribution.clamp_max(0).flatten(1).sum(1)
    grad, value = climbed(Attributed("lower", 6, balance, noise=0.0), oracle, moved.detach())
    assert torch.allclose(value, loss, rtol=1e-4)
    assert torch.allclose(grad, torch.autograd.grad(loss.sum(), moved)[0], rtol=1e-4, atol=1e-9)
    assert oracle.forward.tolist() == [8] * N
    assert oracle.backward.tolist() == [7] * N


def test_the_attributions_of_naa_add_up_to_the_change_of_the_probability(oracle):
    """Completeness, for one neuron path: with one step per hundredth, sum over neurons of the change times the mean
    gradient along the way is nearly the change of the probability, where features follow the path linearly."""
    net = oracle.problem.model.module
    net.lower = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1)).double()
    x = oracle.batch.inputs
    weights = sum(
        feature_gradient(net, x * (1 - k / 200), lambda logits: pick(logits.softmax(1), LABELS)) for k in range(200)
    )
    black = torch.zeros_like(x)
    gained = ((net.lower(x) - net.lower(black)) * weights / 200).flatten(1).sum(1)
    change = pick(net(x).softmax(1), LABELS) - pick(net(black).softmax(1), LABELS)
    assert torch.allclose(gained, change, atol=5e-3)
    _, value = climbed(Attributed("lower", 200, noise=0.0), oracle, x)
    assert torch.allclose(value, -gained * 200 / each(weights).flatten(), rtol=1e-4)


def test_ila_goes_on_along_the_change_of_the_features(oracle):
    net, x = oracle.problem.model.module, oracle.batch.inputs
    first = bim(steps=3)
    with oracle.problem.model.frozen():
        reached, _ = first.climb(Oracle(oracle.problem, oracle.batch), Rng.of(3, IDS))
        direction = net.lower(reached) - net.lower(x)
    moved = (x - 0.05).requires_grad_()
    loss = (direction / each(direction) * net.lower(moved)).flatten(1).sum(1)
    grad, value = climbed(Onward(first, "lower"), oracle, moved.detach())
    assert torch.allclose(value, loss, rtol=1e-5)
    assert torch.allclose(grad, torch.autograd.grad(loss.sum(), moved)[0], rtol=1e-5, atol=1e-9)
    assert oracle.forward.tolist() == [3 + 2 + 1] * N
    assert oracle.backward.tolist() == [3 + 1] * N


@pytest.mark.parametrize(
    ("attack", "forward", "backward"), [(fia(4, 7), 11, 11), (naa(4, 7), 12, 11), (ila(4, 3), 9, 7)]
)
def test_cost_is_what_the_registry_says(oracle, attack, forward, backward):
    """Beside the last check; and an attack told its cost makes as many steps as are left."""
    result = attack(oracle.problem, oracle.batch, Rng.of(0, IDS))
    assert result.cost.forward.tolist() == [forward + 1] * N
    assert result.cost.backward.tolist() == [backward] * N
    assert backward - 4 <= attack.objective.passes <= forward - 4
    assert attack.costing(attack.objective.passes) is None
    assert attack.costing(attack.objective.passes + 2).steps == 2


def test_they_climb_in_other_balls_and_away_from_features(oracle):
    """Each takes the label's probability down, and FIA's objective above its value at the clean input."""
    problem = Problem(oracle.problem.model, Goal(LABELS), L2(2.0))
    net = oracle.problem.model.module
    before = pick(net(oracle.batch.inputs), LABELS)
    for attack in (fia(layer="lower"), naa(layer="lower"), ila(layer="lower")):
        result = attack(problem, oracle.batch, Rng.of(0, IDS))
        assert (pick(net(result.inputs), LABELS) < before).all()


def test_layers_are_named_or_found(oracle):
    with pytest.raises(UnknownName, match=r"no layer of toy is called 'lowr'. Did you mean lower"):
        fia(layer="lowr")(oracle.problem, oracle.batch, Rng.of(0, IDS))
    flat = TorchModel(
        nn.Sequential(nn.Flatten(), nn.Linear(128, 8), nn.Tanh(), nn.Linear(8, 3)),
        name="flat",
        modality="image",
        family="mlp",
        space=SPACE,
        classes="abc",
    )
    batch = Batch(oracle.batch.inputs.float(), LABELS, IDS)
    with pytest.raises(CaromError, match="flat has no inner layer"):
        fia()(Problem(flat, Goal(LABELS), Linf(0.1)), batch, Rng.of(0, IDS))
    assert not any(m._forward_hooks for m in flat.module.modules())


def test_self_universality_adds_the_cosine_of_paired_views(oracle):
    """Two views in one pass: each has its logit, and `weight` times the cosine of their features."""
    net, x = oracle.problem.model.module, oracle.batch.inputs
    part = Parted(0.2)
    oracle = oracle.towards(TARGETS)
    with part.prepared(oracle, Rng.of(3, IDS)) as bound:
        rng = Rng(torch.cat([Rng.of(k, IDS).keys for k in range(2)]))
        moved = torch.cat([x + 0.05, x + 0.05])
        views = bound(moved, rng, torch.arange(2).repeat_interleave(N))
    assert torch.equal(views[:N], x + 0.05)
    objective = Alike(weight=0.7, layer="lower")
    with oracle.problem.model.frozen(), objective.prepared(oracle, Rng.of(3, IDS)) as alike:
        _, loss, _ = oracle.gradient(alike, views, 2)
        _, alone, _ = oracle.gradient(alike, views[:N], 1)
    features = net.lower(views).flatten(1)
    cosine = nn.functional.cosine_similarity(features[:N], features[N:])
    logits = pick(net(views), TARGETS.repeat(2))
    assert torch.allclose(loss, logits + 0.7 * cosine.repeat(2))
    assert torch.allclose(alone, logits[:N].float())


def test_a_part_of_the_clean_image_carries_the_whole_perturbation(oracle):
    x = oracle.batch.inputs
    change = 0.1 * Rng.of(5, IDS).normal(2, 8, 8).double()
    with Parted(1.0).prepared(oracle, Rng.of(3, IDS)) as bound:
        rng, second = Rng.of(3, IDS), torch.ones(N, dtype=torch.long)
        clean, moved = (bound(z, rng, second) for z in (x, x + change))
    assert torch.allclose(moved - clean, change)
    inside = [clean.amin() >= x.amin() - 1e-9, clean.amax() <= x.amax() + 1e-9]
    assert all(inside)


def test_self_universality_asks_both_views_in_one_pass(oracle):
    seen = []
    oracle.problem.model.module.register_forward_hook(lambda module, given, out: seen.append(len(out)))
    problem, attack = oracle.problem, su(steps=3, layer="lower")
    attack(problem, oracle.batch, Rng.of(0, IDS))
    assert seen[:3] == [16, 16, 16]  # 2 * 5 rows and those that a model adds
    assert attack.passes == 2
