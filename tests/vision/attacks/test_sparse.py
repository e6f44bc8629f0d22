"""Few pixels and the L1 norm: against closed forms on linear models, and against what each paper asks of a step."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from carom.common.attacks.catalogue.gradient import pgd
from carom.common.attacks.catalogue.white_box import apgd, fmn
from carom.common.base.rng import Rng
from carom.common.core.batch import Batch, Goal
from carom.common.core.problem import Problem
from carom.common.core.spaces import Box
from carom.common.core.threats import L1
from carom.common.models.networks import TorchModel
from carom.vision.attacks.sparse import Saliency, ead, jsma, sparsefool
from carom.vision.threats import Pixels

SIDE = 5
D = SIDE * SIDE
IDS = [f"e{i}" for i in range(20)]
RUN = Rng.of(0, IDS)
BOX = Box("pixels", 0.0, 1.0, 0.0)


class Line(nn.Module):
    """Two classes, z = w x + b and -z; b makes z of the batch -`gap` on average."""

    def __init__(self, gap=0.4):
        super().__init__()
        w = Rng.of(3, ["w"]).normal(D)[0].double()
        self.w = nn.Parameter(w / w.norm())
        self.b = nn.Parameter(-(DRAWN.double().flatten(1) @ self.w).detach().mean() - gap)

    def forward(self, x):
        z = x.double().flatten(1) @ self.w + self.b
        return torch.stack([-z, z], 1)


DRAWN = Rng.of(1, IDS).uniform(1, SIDE, SIDE)


@pytest.fixture
def problem():
    model = TorchModel(Line(), name="line", modality="image", family="linear", space=BOX, classes=("a", "b"))
    batch = Batch(DRAWN, model(DRAWN).logits.argmax(1), IDS)
    return Problem(model, Goal(batch.labels), L1(math.inf)), batch


def cheapest(problem, batch):
    """(least L1 change, fewest components, fewest by their slopes) that cross the line within the bounds."""
    module = problem.model.module
    x = batch.inputs.double().flatten(1)
    z = x @ module.w.detach() + module.b.detach()
    w = module.w.detach() * -z.sign()[:, None]  # what is to grow, by |z|
    room = torch.where(w > 0, 1 - x, x)
    order = w.abs().argsort(dim=1, descending=True)
    gain = (w.abs() * room).gather(1, order).cumsum(1)
    count = (gain < z.abs()[:, None]).sum(1)
    before = torch.nn.functional.pad(gain, (1, 0)).gather(1, count[:, None]).squeeze(1)
    spent = torch.nn.functional.pad(room.gather(1, order).cumsum(1), (1, 0)).gather(1, count[:, None]).squeeze(1)
    rate = w.abs().gather(1, order).gather(1, count[:, None]).squeeze(1)
    most = (w.abs() * room).sort(1, descending=True).values.cumsum(1)
    return spent + (z.abs() - before) / rate, (most < z.abs()[:, None]).sum(1) + 1, count + 1


def test_projection_onto_l1_is_the_nearest_point_of_ball_and_bounds():
    ball, x0, x = L1(2.0), DRAWN, DRAWN + 0.5 * Rng.of(5, IDS).normal(1, SIDE, SIDE)
    near = ball.project(x, x0)
    assert torch.allclose(ball.norm(near - x0), torch.full((20,), 2.0), atol=1e-5)
    clipped = ball.inside(x, x0, 0.0, 1.0)
    assert (ball.norm(clipped - x0) <= 2 + 1e-5).all()
    assert clipped.min() >= 0
    assert clipped.max() <= 1
    for rng in (Rng.of(k, IDS) for k in range(20)):  # nothing else of either set is nearer
        other = ball.start(x0, rng)
        assert ((x - near).flatten(1).norm(dim=1) <= (x - other).flatten(1).norm(dim=1) + 1e-6).all()
        other = other.clamp(0, 1)
        assert ((x - clipped).flatten(1).norm(dim=1) <= (x - other).flatten(1).norm(dim=1) + 1e-6).all()
    inner = x0 + 0.01 * (x - x0)
    assert torch.equal(ball.project(inner, x0), x0 + (inner - x0))
    assert torch.allclose(ball.norm(ball.extend(ball.noise(x0, RUN), x0) - x0), torch.full((20,), 2.0))


@pytest.mark.parametrize("attack", [pgd(steps=60, size=0.1, stop=True), apgd()], ids=["pgd", "apgd"])
def test_climbs_within_l1_cross_where_the_budget_lets_them(attack, problem):
    least, *_ = cheapest(*problem)
    base, batch = problem
    for i in range(0, 20, 4):
        one = batch.take(torch.tensor([i]))
        for share, found in ((1.15, True), (0.98, False)):
            inside = Problem(base.model, Goal(one.labels), L1(float(least[i]) * share))
            assert attack(inside, one, RUN[torch.tensor([i])]).success.item() is found


@pytest.mark.parametrize(("attack", "slack"), [(fmn(steps=300, size=0.3), 1.1), (ead(steps=100, beta=0.003), 1.25)])
def test_least_l1_changes_are_near_the_least(attack, slack, problem):
    least, *_ = cheapest(*problem)
    result = attack(*problem, RUN)
    moved = L1(1.0).norm(result.inputs - problem[1].inputs)
    assert result.success.all()
    assert (moved >= least * (1 - 1e-4)).all()
    assert (moved.double() / least).median() < slack


def test_few_pixels_are_near_the_fewest(problem):
    """SparseFool takes the largest slopes first, whatever room is left to them; JSMA pairs that move the same way."""
    base, batch = problem
    _, fewest, steepest = cheapest(base, batch)
    base = Problem(base.model, base.goal, Pixels(math.inf))
    for attack, floor, more in (
        (fmn(steps=200), fewest, 1),
        (sparsefool(farther=1.0), steepest, 1),
        (jsma(), fewest, 3),
    ):
        result = attack(base, batch, RUN)
        count = Pixels(1.0).norm(result.inputs - batch.inputs)
        assert result.success.all()
        assert (count >= floor).all()
        assert (count <= floor + more).float().mean() > 0.8
    far = sparsefool()(base, batch, RUN)
    assert far.success.all()
    assert (Pixels(1.0).norm(far.inputs - batch.inputs) >= fewest).all()


@pytest.mark.parametrize("pool", [D, 8])
@pytest.mark.parametrize("down", [False, True])
def test_jsma_moves_the_pair_of_the_largest_product(down, pool):
    """Against all pairs, one by one (Papernot et al. 2016, eq. 8 to 10)."""
    grads = Rng.of(4, IDS).normal(2, D)
    free = Rng.of(6, IDS).uniform(D) < 0.8
    for sign in (1.0, -1.0) if down else (1.0,):
        value, pair = Saliency(pool=pool)._pair(sign * grads, free)
        for row in range(len(IDS)):
            alpha, beta = (sign * grads[row, k][:, None] + sign * grads[row, k] for k in (0, 1))
            allowed = free[row][:, None] & free[row] & ~torch.eye(D, dtype=torch.bool) & (alpha > 0) & (beta < 0)
            best = torch.where(allowed, -alpha * beta, 0.0).max()
            assert value[row] == pytest.approx(float(best), rel=1e-5 if pool == D else 0.15)
            p, q = pair[row].tolist()
            assert allowed[p, q]
            assert float(-alpha[p, q] * beta[p, q]) == pytest.approx(float(value[row]), rel=1e-5)


def test_jsma_keeps_to_its_budget_and_moves_nothing_twice(problem):
    base, batch = problem
    for eps in (1.0, 2.0, 5.0):
        result = jsma(theta=0.3)(Problem(base.model, base.goal, Pixels(eps)), batch, RUN)
        change = (result.inputs - batch.inputs).abs()
        assert (Pixels(1.0).norm(change) <= eps).all()
        assert change.max() <= 0.3 + 1e-6


def test_ead_shrinks_small_changes_to_nothing():
    model = TorchModel(Line(), name="line", modality="image", family="linear", space=BOX, classes=("a", "b"))
    batch = Batch(DRAWN, model(DRAWN).logits.argmax(1), IDS)
    sizes = []
    for beta in (0.0, 0.02):
        result = ead(beta=beta)(Problem(model, Goal(batch.labels), L1(math.inf)), batch, RUN)
        sizes.append(Pixels(1.0).norm(result.inputs - batch.inputs).mean())
        assert result.success.all()
    assert sizes[1] < 0.6 * sizes[0]
