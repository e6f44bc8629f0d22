"""Balls: nothing leaves them, nothing inside is moved, and their steps are the steepest there are."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from carom.common.base.errors import CaromError
from carom.common.base.rng import Rng
from carom.common.core.batch import Batch
from carom.common.core.rounding import within
from carom.common.core.spaces import Box
from carom.common.core.threats import L1, L2, Ball, Linf, Threat
from carom.common.modality.installed import get_modality

IDS = ["a", "b", "c", "d"]
SHAPE = (2, 3, 4)
balls = st.sampled_from([Linf, L2])
budgets = st.one_of(st.just(0.0), st.floats(1e-3, 5))
seeds = st.integers(0, 2**31)


def points(seed, size=1.0, ids=IDS):
    rng = Rng.of(seed, ids)
    return rng.uniform(*SHAPE), size * rng.fold("change").normal(*SHAPE), rng.fold("more")


@given(ball=balls, eps=budgets, seed=seeds, size=st.floats(0, 10))
@settings(deadline=None, max_examples=60)
def test_projection(ball, eps, seed, size):
    threat = ball(eps)
    x0, change, _ = points(seed, size)
    x = threat.project(x0 + change, x0)
    assert threat.allows(x, x0).all()
    assert torch.allclose(threat.project(x, x0), x, atol=1e-6)  # idempotent
    inside = threat.allows(x0 + change, x0)
    assert torch.allclose(x[inside], (x0 + change)[inside], atol=1e-6)  # what is inside stays


@given(ball=balls, seed=seeds)
@settings(deadline=None, max_examples=25)
def test_projection_is_to_the_nearest_point(ball, seed):
    threat = ball(0.4)
    x0, change, rng = points(seed)
    x = x0 + change
    nearest = (threat.project(x, x0) - x).flatten(1).norm(dim=1)
    for k in range(5):
        other = threat.start(x0, rng.fold(k))
        assert (nearest <= (other - x).flatten(1).norm(dim=1) + 1e-5).all()


@given(ball=balls, eps=budgets, seed=seeds)
@settings(deadline=None, max_examples=40)
def test_random_starts_extensions_and_controls_are_allowed(ball, eps, seed):
    threat = ball(eps)
    x0, change, rng = points(seed)
    batch = Batch(x0, torch.zeros(4, dtype=torch.long), IDS)
    for x in (threat.start(x0, rng), threat.extend(change, x0), threat.control(batch, rng, x0)):
        assert threat.allows(x, x0).all()
    assert torch.allclose(threat.norm(threat.extend(change, x0) - x0), torch.tensor(float(eps)), atol=1e-5)
    assert torch.allclose(threat.norm(threat.control(batch, rng, x0) - x0), torch.tensor(float(eps)), atol=1e-5)
    other = threat.extend(change, x0)
    assert threat.allows(threat.swap(batch, rng, other.roll(1, 0), x0.roll(1, 0)), x0).all()


@given(ball=balls, seed=seeds)
@settings(deadline=None, max_examples=25)
def test_steps_are_the_steepest_of_norm_one(ball, seed):
    threat = ball(0.4)
    _, grad, rng = points(seed)
    step = threat.step(grad)
    assert torch.allclose(threat.norm(step), torch.ones(4), atol=1e-5)
    gain = (step * grad).flatten(1).sum(1)
    dual = grad.flatten(1).abs().sum(1) if ball is Linf else grad.flatten(1).norm(dim=1)
    assert torch.allclose(gain, dual, rtol=1e-4)
    other = threat.step(rng.normal(*SHAPE))
    assert ((other * grad).flatten(1).sum(1) <= gain + 1e-4).all()


def test_tiny_gradients_still_have_a_direction():
    grad = torch.tensor([[3e-25, 4e-25], [0.0, 0.0]])
    assert torch.allclose(L2(1.0).step(grad), torch.tensor([[0.6, 0.8], [0.0, 0.0]]))
    assert Linf(1.0).step(grad).tolist() == [[1, 1], [0, 0]]


def test_random_starts_fill_the_ball_evenly():
    """The norm of a uniform point, as a share of the radius and to the power of the dimension, is uniform."""
    ids = [str(i) for i in range(2000)]
    x0 = torch.zeros(2000, 5)
    radius = L2(0.7).norm(L2(0.7).start(x0, Rng.of(0, ids))) / 0.7
    assert stats.kstest((radius**5).double().numpy(), "uniform").pvalue > 0.001
    share = (Linf(0.7).start(x0, Rng.of(0, ids)) / 0.7 + 1) / 2
    assert stats.kstest(share.flatten().double().numpy(), "uniform").pvalue > 0.001


def test_allows_is_per_example_and_exact():
    x0 = torch.zeros(3, 4)
    x = torch.tensor([[0.1] * 4, [0.1, -0.1, 0.10001, 0.0], [float("nan")] * 4])
    assert Linf(0.1).allows(x, x0).tolist() == [True, False, False]
    assert L2(0.2).allows(x, x0).tolist() == [True, True, False]


def test_controls_leave_padding_alone_and_still_use_the_budget():
    lengths = torch.tensor([3, 7])
    batch = Batch(torch.zeros(2, 8), torch.zeros(2, dtype=torch.long), ["a", "b"], lengths)
    outside = torch.arange(8) >= lengths[:, None]
    for threat in (Linf(0.1), L2(0.3)):
        x = threat.control(batch, Rng.of(0, batch.ids), batch.inputs)
        assert not x[outside].any()
        assert x[~outside].all()
        assert torch.allclose(threat.norm(x), torch.tensor(threat.eps))


def test_controls_draw_both_signs_as_often():
    batch = Batch(torch.zeros(50, 200), torch.zeros(50, dtype=torch.long), [str(i) for i in range(50)])
    x = Linf(0.1).control(batch, Rng.of(0, batch.ids), batch.inputs)
    assert torch.allclose(x.abs(), torch.tensor(0.1))
    assert abs(x.sign().mean()) < 4 / math.sqrt(x.numel())


@pytest.mark.parametrize("eps", [-1e-9, -8 / 255, float("nan")])
def test_budgets_below_zero_are_refused(eps):
    for ball in (Linf, L2):
        with pytest.raises(CaromError, match="eps must be a size, got"):
            ball(eps)


def test_a_ball_without_a_norm_is_no_threat():
    with pytest.raises(NotImplementedError):
        Ball(1.0).norm(torch.zeros(1, 2))


@given(
    ball=st.sampled_from([Linf(0.7 / 255), Linf(2.6 / 255), L2(0.02), L2(0.25), L2(1.0), L1(0.5), L1(20.0)]), seed=seeds
)
@settings(deadline=None, max_examples=30)
def test_stored_changes_fit_the_budget(ball, seed):
    rng, space = Rng.of(seed, IDS), Box("pixels", 0.0, 1.0, 1 / 255)
    x0 = space.round(rng.uniform(3, 16, 16))
    x = x0 + 3 * ball.eps * rng.fold("change").normal(3, 16, 16)
    given = x.clone()
    stored = within(ball, space, x, x0)
    assert torch.equal(x, given)
    assert torch.equal(space.round(stored), stored)
    assert ball.allows(stored, x0).all()
    assert torch.equal(within(ball, space, stored, x0), stored)
    assert torch.equal(within(ball, Box("floats", -9.0, 9.0, 0.0), x0, x0), x0)


def test_storing_takes_next_to_nothing_of_a_change_whose_components_are_a_step_long():
    """Rounding each component towards the clean input took a third of it."""
    space, ball = Box("pixels", 0.0, 1.0, 1 / 255), L2(0.25)
    rng = Rng.of(0, IDS)
    x0 = space.round(rng.uniform(3, 32, 32) / 2 + 0.25)
    x = ball.extend(rng.fold("way").normal(3, 32, 32), x0)
    change = within(ball, space, x, x0) - x0
    assert (ball.norm(change) > 0.249).all()
    assert (((x - x0) * change).flatten(1).sum(1) > 0.95 * 0.25**2).all()


@dataclass(frozen=True)
class Some(Threat):
    """As many changes as the attack made."""


def test_a_control_that_follows_the_attack_is_compared_with_it_and_one_that_does_not_with_a_fixed_share():
    assert not Linf(0.1).control_follows
    assert [Linf(0.1).control_limit(share) for share in (None, 0.0, 0.4, 1.0)] == [0.1] * 4
    assert Some().control_follows
    assert [Some().control_limit(share) for share in (None, 0.0, 0.4, 1.0)] == [0.0, 0.0, 0.2, 0.5]


@pytest.mark.parametrize("modality", ["image", "audio", "text"])
def test_every_threat_says_what_its_control_follows(modality):
    """Random words are as many as the attack changed; all others spend the budget, whatever was crafted."""
    for kind, build in get_modality(modality).threats.items():
        assert build(1.0).control_follows == (modality == "text"), kind
