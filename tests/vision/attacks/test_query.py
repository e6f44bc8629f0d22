"""What query attacks on images move along: bumps of Square within L2, tiles, smooth noise."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from carom.common.attacks.query.random_search import Turn
from carom.common.base.errors import UnknownName
from carom.common.base.rng import Rng
from carom.common.core.batch import Access, Batch, Goal
from carom.common.core.problem import Budget, Problem
from carom.common.core.threats import L2
from carom.vision.attacks import ATTACKS
from carom.vision.attacks.query import Bumps, LowFrequencies, Squares, Tiles, bump, simba, square, waves
from carom.vision.models.load import load_model
from carom.vision.space import PIXELS

QUERY = ("square", "simba", "signhunter", "nes", "spsa", "bandits", "rays", "hopskipjump", "surfree", "geoda")
SHAPE = torch.Size((40, 3, 12, 9))
RNG = Rng.of(0, [str(i) for i in range(40)])


def turn(progress=0.1, query=3):
    return Turn(progress, torch.full((40,), query), RNG.fold("query", query), RNG)


@pytest.mark.parametrize("side", [1, 3, 4, 9])
def test_a_bump_is_a_hill_beside_a_valley(side):
    shape = bump(side)
    assert shape.shape == (side, side)
    assert shape.norm() == pytest.approx(1.0)
    upper = side // 2
    assert (shape[:upper] > 0).all()
    assert (shape[upper:] < 0).all()
    if side > 3:
        assert shape[:upper].argmax() // side == upper // 2, "highest in its middle"
    if side % 2 == 0:
        assert torch.allclose(shape[:upper], -shape[upper:])


def test_within_l2_squares_become_bumps():
    assert Squares(0.8).within(L2(1.0)) == Bumps(0.1)
    first = Bumps().first(SHAPE, RNG)
    assert first.shape == SHAPE
    assert (first != 0).flatten(1).float().mean(1).min() > 0.7


def test_bumps_move_energy_between_two_windows_and_keep_all_of_it():
    before = Bumps().first(SHAPE, RNG)
    for query in range(5):
        after = Bumps().next(before, turn(query=query))
        assert torch.allclose(after.flatten(2).norm(dim=2), before.flatten(2).norm(dim=2), rtol=1e-4), "of each channel"
        changed = (after != before).any(1).flatten(1).float().sum(1)
        assert (changed > 0).all()
        assert (changed <= 2 * 3 * 3).all(), "two windows of side 3 at this size"
        assert (after != before).any(0).any(), "each example at its own place"
        before = after


def test_bumps_reach_every_pixel():
    reached = torch.zeros(SHAPE[2:], dtype=torch.bool)
    before = Bumps().first(SHAPE, RNG)
    for query in range(30):
        reached |= (Bumps().next(before, turn(0.99, query)) != before).any(1).any(0)
    assert reached.all()


def test_tiles_are_constant_and_as_many_as_said():
    prior = Tiles(0.5)
    coarse = prior.shape(torch.Size((2, 3, 40, 20)))
    assert coarse == (3, 20, 10)
    assert Tiles(0.25).shape(torch.Size((1, 1, 6, 28))) == (1, 6, 7)
    image = prior.spread(torch.rand(2, *coarse), torch.Size((2, 3, 40, 20)))
    assert (image[:, :, ::2] == image[:, :, 1::2]).all()
    assert (image[..., ::2] == image[..., 1::2]).all()
    odd = Tiles(0.3).spread(torch.arange(49.0).view(1, 1, 7, 7), torch.Size((1, 1, 23, 23)))
    assert len(odd.unique()) == 49


def test_smooth_noise_holds_low_frequencies_only():
    noise = LowFrequencies(0.25)(torch.Size((3, 2, 40, 40)), Rng.of(0, "abc"))
    whole = waves(40, 40).float()
    assert torch.allclose(whole @ whole.T, torch.eye(40), atol=1e-5)
    weights = whole @ noise @ whole.T
    assert weights[:, :, 10:].abs().max() < 1e-4
    assert weights[..., 10:].abs().max() < 1e-4
    assert weights[:, :, :10, :10].std() == pytest.approx(1.0, rel=0.1)
    assert not torch.equal(noise[0], noise[1])


class Corner(nn.Module):
    """Class 1 where the upper left is brighter than the rest."""

    def forward(self, x):
        gain = x[:, :, :4, :4].mean((1, 2, 3)) - x[:, :, 4:, 4:].mean((1, 2, 3)) - 0.05
        return torch.stack([-gain, gain], 1) * 10


def problem(queries=None, eps=0.6):
    inputs = PIXELS.round(0.45 + 0.1 * Rng.of(0, [str(i) for i in range(12)]).uniform(1, 8, 8))
    batch = Batch(inputs, torch.zeros(12, dtype=torch.long), [str(i) for i in range(12)])
    model = load_model(Corner(), normalise=None, classes=["dark", "bright"])
    return Problem(model, Goal(batch.labels), L2(eps), Budget(queries)), batch


@pytest.mark.parametrize("attack", [square(queries=300), simba(queries=300), simba(queries=300, basis="pixel")])
def test_within_l2_they_find_what_the_budget_allows(attack):
    task, batch = problem()
    result = attack(task, batch, Rng.of(0, batch.ids))
    assert result.success.all()
    assert L2(0.6).allows(result.inputs, batch.inputs).all()
    assert torch.equal(PIXELS.round(result.inputs), result.inputs)
    assert (result.cost.queries < 300).all()


@pytest.mark.parametrize("name", QUERY)
def test_queries_are_the_smaller_of_two_limits(name):
    info = ATTACKS[name]
    assert info.needs in (Access.SCORE, Access.LABEL)
    if "l2" in info.threats:
        for limit, own in ((25, 60), (60, 25)):
            task, batch = problem(queries=limit, eps=1e-3)
            result = info.build(queries=own)(task, batch, Rng.of(0, batch.ids))
            assert (result.cost.queries <= 25).all()
            assert (result.cost.queries > 0).all()
            assert (result.cost.backward == 0).all()


def test_an_unknown_basis_is_named():
    with pytest.raises(UnknownName, match="dct"):
        simba(basis="dtc")
