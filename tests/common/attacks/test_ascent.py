"""The gradient loop on linear models, whose optimum is known in closed form, and its parts by hand."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch
from torch import nn

from carom.common.attacks.catalogue.gradient import bim, fgsm, mi_fgsm, pgd
from carom.common.attacks.gradient.ascent import Ascent
from carom.common.attacks.gradient.estimators import Average, Backprop
from carom.common.attacks.gradient.step import Step
from carom.common.attacks.gradient.updates import Chain, L1Normalise, Momentum, chain
from carom.common.base.errors import UnknownName
from carom.common.base.rng import Rng
from carom.common.core.batch import Batch, Goal
from carom.common.core.objectives import cross_entropy, margin, objective
from carom.common.core.oracle import Oracle
from carom.common.core.problem import Problem, Status
from carom.common.core.spaces import Box
from carom.common.core.threats import L2, Linf
from carom.common.models.networks import TorchModel

FLOATS = Box("floats", -100.0, 100.0, 0.0)
N, D = 16, 40
IDS = [f"e{i}" for i in range(N)]


def model_of(module, classes=2):
    names = tuple(map(str, range(classes)))
    return TorchModel(module, name="toy", modality="image", family="linear", space=FLOATS, classes=names)


class Line(nn.Module):
    """Two classes, logits (0, w x + b): the margin is linear."""

    def __init__(self, seed=0):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.w = nn.Parameter(torch.randn(D, generator=generator, dtype=torch.float64))
        self.b = nn.Parameter(torch.tensor(0.3, dtype=torch.float64))

    def forward(self, x):
        value = x.double() @ self.w + self.b
        return torch.stack([torch.zeros_like(value), value], 1)


@pytest.fixture
def line():
    return Line()


@pytest.fixture
def batch(line):
    x = Rng.of(0, IDS).normal(D)
    return Batch(x, line(x).argmax(1).detach(), IDS)


ATTACKS = {
    "fgsm": fgsm(),
    "bim": bim(steps=10),
    "pgd-no-start": pgd(steps=10, start=False),
    "pgd": pgd(steps=200),
    "pgd-margin": pgd(steps=200, loss="margin"),
    "mi-fgsm": mi_fgsm(steps=10),
}


def run(attack, line, batch, threat, targets=None, seed=0):
    problem = Problem(model_of(line), Goal(batch.labels, targets), threat)
    return attack(problem, batch, Rng.of(seed, batch.ids))


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize("targeted", [False, True])
def test_linf_optimum(name, targeted, line, batch):
    """max over the ball of the margin of a linear model is at x + eps * sign(w), towards the other class."""
    eps = 0.05
    result = run(ATTACKS[name], line, batch, Linf(eps), 1 - batch.labels if targeted else None)
    away = (1 - 2 * batch.labels)[:, None].float()
    best = batch.inputs + eps * away * line.w.sign().float()
    assert (result.inputs - best).abs().max() < 1e-6
    assert torch.equal(result.success, (line(best).argmax(1) != batch.labels))
    assert 0 < result.success.sum() < N


@pytest.mark.parametrize("name", ATTACKS)
def test_l2_optimum(name, line, batch):
    """... and at x + eps * w / |w| in the L2 ball."""
    eps = 0.6
    result = run(ATTACKS[name], line, batch, L2(eps))
    away = (1 - 2 * batch.labels)[:, None].float()
    best = batch.inputs + eps * away * (line.w / line.w.norm()).float()
    # From a random point the part across the gradient shrinks step by step, but is never quite zero.
    assert (result.inputs - best).flatten(1).norm(dim=1).max() < (1e-3 if name.startswith("pgd") else 1e-5)
    assert 0 < result.success.sum() < N


@pytest.mark.parametrize("threat", [Linf, L2])
def test_the_smallest_budget_that_fools_is_margin_over_dual_norm(threat, line, batch):
    value = (line(batch.inputs)[:, 1]).abs().detach()
    dual = line.w.abs().sum() if threat is Linf else line.w.norm()
    for i, least in enumerate((value / dual).tolist()):
        one = batch.take(torch.tensor([i]))
        assert not run(fgsm(), line, one, threat(least * 0.999)).success.item()
        assert run(fgsm(), line, one, threat(least * 1.001)).success.item()


def test_clipping_to_the_box_is_the_optimum_too(line, batch):
    """With bounds, each component of the Linf optimum goes as far as its bound allows."""
    space = Box("box", -0.1, 0.1, 0.0)
    x = batch.inputs.clamp(-0.1, 0.1)
    labels = line(x).argmax(1).detach()
    model = model_of(line)
    model.space = space
    problem = Problem(model, Goal(labels), Linf(0.15))
    result = pgd(steps=20)(problem, Batch(x, labels, IDS), Rng.of(0, IDS))
    away = (1 - 2 * labels)[:, None].float()
    assert (result.inputs - (x + 0.15 * away * line.w.sign().float()).clamp(-0.1, 0.1)).abs().max() < 1e-6


def test_multiclass_margin_reaches_the_best_pair():
    """On a linear model of several classes, the margin's best value over an Linf ball is the best over rivals of the
    clean difference plus eps times the L1 norm of the difference of weights. From the clean input PGD climbs towards
    the rival that is nearest at first; with restarts it is at least as good as towards that one."""
    generator = torch.Generator().manual_seed(3)
    module = nn.Linear(D, 4).double()
    with torch.no_grad():
        module.weight.copy_(torch.randn(4, D, generator=generator, dtype=torch.float64))
    net = nn.Sequential(AsDouble(), module)
    x = Rng.of(5, IDS).normal(D)
    labels = net(x).argmax(1).detach()
    eps = 0.05
    problem = Problem(model_of(net, 4), Goal(labels), Linf(eps))
    result = pgd(steps=50, restarts=4, loss="margin")(problem, Batch(x, labels, IDS), Rng.of(0, IDS))
    reached = margin(net(result.inputs), Goal(labels)).detach()
    logits, w = net(x).detach(), module.weight.detach()
    pairs = logits - logits.gather(1, labels[:, None]) + eps * (w[None] - w[labels][:, None]).abs().sum(2)
    pairs.scatter_(1, labels[:, None], -torch.inf)
    nearest = (logits.scatter(1, labels[:, None], -torch.inf)).argmax(1)
    assert (reached <= pairs.amax(1) + 1e-5).all()
    assert (reached >= pairs.gather(1, nearest[:, None]).squeeze(1) - 1e-5).float().mean() > 0.8


class AsDouble(nn.Module):
    def forward(self, x):
        return x.double()


def test_no_step_leaves_the_ball_or_the_box(batch):
    class Watch(nn.Module):
        def __init__(self):
            super().__init__()
            self.seen = []

        def forward(self, x):
            self.seen.append(x.detach().clone())
            return torch.stack([x.sin().sum(1), (x * 3).cos().sum(1)], 1)

    for threat in (Linf(0.3), L2(1.0)):
        watch = Watch()
        run(pgd(steps=8, size=0.7), watch, batch, threat)
        assert all(threat.allows(x, batch.inputs).all() for x in watch.seen)


def test_restarts_never_hurt_and_cost_what_they_cost(batch):
    """On a bumpy surface more runs find more; each is judged by one more forward."""

    class Bumps(nn.Module):
        def forward(self, x):
            return torch.stack([torch.full((len(x),), 0.2), (25 * x).sin().mean(1)], 1)

    bumps = Bumps()
    zero = replace(batch, labels=torch.zeros(N, dtype=torch.long))
    once = run(pgd(steps=3), bumps, zero, Linf(0.05))
    often = run(pgd(steps=3, restarts=5), bumps, zero, Linf(0.05))
    value = [margin(bumps(r.inputs), Goal(zero.labels)) for r in (once, often)]
    assert (value[1] >= value[0] - 1e-6).all()
    assert (value[1] > value[0] + 1e-4).any()
    assert once.cost.forward.tolist() == [3 + 1] * N
    assert often.cost.forward.tolist() == [5 * (3 + 1) + 1] * N
    assert often.cost.backward.tolist() == [15] * N
    assert often.cost.queries.tolist() == [0] * N


def test_steps_go_on_after_success(line, batch):
    result = run(bim(steps=7), line, batch, Linf(5.0))
    assert result.success.all()
    assert result.cost.backward.tolist() == [7] * N


def test_one_broken_restart_leaves_the_others(batch):
    """A gradient that is not finite in one run does not void the run that worked."""

    class Cliff(nn.Module):
        def forward(self, x):
            value = x.sum(1) * torch.where(x[:, 0] > 0, 1.0, torch.nan)
            return torch.stack([torch.zeros_like(value), -value], 1)

    x = torch.zeros(N, D)
    result = run(pgd(steps=1, size=0.1, restarts=8), Cliff(), Batch(x, torch.ones(N, dtype=torch.long), IDS), Linf(0.1))
    assert (result.status == Status.DONE).float().mean() > 0.9
    assert (result.inputs[result.status == Status.DONE][:, 0] > -0.011).all()


def test_momentum_and_l1_by_hand():
    first, second = torch.tensor([[3.0, -1.0], [0.0, 0.0]]), torch.tensor([[-1.0, 1.0], [2.0, 0.0]])
    rule = chain(L1Normalise(), Momentum(0.5))
    state = rule.init(first)
    one, state = rule.apply(first, state)
    assert torch.allclose(one, torch.tensor([[1.5, -0.5], [0.0, 0.0]]))
    two, state = rule.apply(second, state)
    assert torch.allclose(two, torch.tensor([[0.75 - 1.0, -0.25 + 1.0], [2.0, 0.0]]))
    assert Chain().apply(first, Chain().init(first))[0] is first


@dataclass(frozen=True)
class Scaled:
    """Every view is the input times a random number of its own."""

    copies: int = 1

    def __call__(self, x, rng, copy):
        return x * (1 + rng.uniform(1)) * (1 + copy[:, None])


def step_of(line, batch, objective=margin, transform=None):
    oracle = Oracle(Problem(model_of(line), Goal(batch.labels), Linf(0.1)), batch)
    length = torch.full((N, 1), 0.1)
    return Step(oracle, objective, batch.inputs, length, 0, 1, Rng.of(3, IDS), transform), oracle


def test_average_is_the_mean_gradient_over_views(line, batch):
    """Of a linear model, d/dx of the mean over views is w times the mean scale, per example; each view costs one
    forward and one backward."""
    step, oracle = step_of(line, batch, transform=Scaled(copies=2))
    estimate = Average(samples=3)(step, batch.inputs, None)
    scales = torch.stack([(1 + step.rng.fold("view", i).uniform(1)) * (1 + i // 3) for i in range(6)])
    away = (1 - 2 * batch.labels)[:, None]
    assert torch.allclose(estimate.grad, (scales.mean(0) * away * line.w).float(), atol=1e-5)
    assert oracle.forward.tolist() == oracle.backward.tolist() == [6] * N


def test_copies_are_chunked_by_memory_without_changing_anything(line, batch, monkeypatch):
    """One copy is measured, then as many at once as fit."""
    x, sizes = torch.cat([batch.inputs, batch.inputs + 1, batch.inputs - 1]), []
    grads = []
    for memory in (1, 2**30):
        monkeypatch.setattr("carom.common.core.oracle.MEMORY", memory)
        step, oracle = step_of(line, batch, cross_entropy, Scaled(copies=5))
        whole, rows = oracle.gradient, []
        monkeypatch.setattr(oracle, "gradient", lambda o, x, *a, w=whole, r=rows: (r.append(len(x)), w(o, x, *a))[1])
        answer = step.gradient(x, samples=3)
        grads.append(answer.grad)
        sizes.append(rows)
        assert answer.logits.shape == (3 * N, 2)
    assert sizes == [[N] * 15, [N, 14 * N]]
    assert torch.allclose(*grads, atol=1e-6)


def test_backprop_is_the_gradient_of_each_examples_own_loss(line, batch):
    step, _ = step_of(line, batch, cross_entropy)
    estimate = Backprop()(step, batch.inputs, None)
    share = line(batch.inputs).softmax(1).gather(1, batch.labels[:, None])
    away = (1 - 2 * batch.labels)[:, None]
    assert torch.allclose(estimate.grad, ((1 - share) * away * line.w).float(), atol=1e-5)
    assert torch.equal(estimate.logits, line(batch.inputs).float())


def test_dropping_solved_examples_loses_none_and_saves_gradients(line, batch):
    """The same examples are solved, by a prefix of the same steps."""
    wide, labels = batch.inputs, batch.labels
    costs, found = [], []
    for stop in (False, True):
        attack = replace(mi_fgsm(steps=8), stop=stop)
        result = run(attack, line, Batch(wide, labels, IDS), Linf(0.5))
        costs.append(result.cost.backward)
        found.append(result.success)
    assert found[0].any()
    assert not (found[0] & ~found[1]).any()
    assert (costs[1] <= 8).all()
    assert (costs[1][found[1]] < 8).any()
    assert costs[0].eq(8).all()


def test_the_cost_of_an_attack_sets_its_steps():
    attack = replace(bim(steps=10), transform=Scaled(copies=5), gradient=Average(4))
    assert attack.passes == 20
    assert attack.costing(19) is None
    assert attack.costing(100).steps == 5
    assert attack.costing(100).size == pytest.approx(0.2)
    assert attack.costing(400).size == pytest.approx(0.1)  # as before: shorter steps would only just reach the rim
    assert replace(attack, size=1.0, steps=1).costing(400).size == pytest.approx(0.1)
    assert replace(attack, size=0.02, steps=50).costing(2000).size == pytest.approx(0.02)


def test_unknown_objectives_are_refused():
    with pytest.raises(UnknownName, match="Did you mean margin"):
        objective("margn")


def test_rounding_costs_no_more_than_one_step_of_the_lattice(line):
    """The stored optimum on a lattice is the optimum truncated towards the clean input."""
    unit = 1 / 255
    space = Box("pixels", 0.0, 1.0, unit, torch.uint8)
    x = space.round(0.3 + 0.4 * Rng.of(1, IDS).uniform(D))
    labels = line(x).argmax(1).detach()
    model = model_of(line)
    model.space = space
    result = Ascent(steps=4)(Problem(model, Goal(labels), Linf(7.6 / 255)), Batch(x, labels, IDS), Rng.of(0, IDS))
    moved = ((result.inputs - x) / unit).round()
    away = (1 - 2 * labels)[:, None]
    assert torch.equal(moved, 7 * away * line.w.sign().float())
