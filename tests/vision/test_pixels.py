"""Budgets of pixels, and the random search that spends them."""

from __future__ import annotations

import pytest
import torch

from carom.common.attacks.query.random_search import Turn
from carom.common.base.rng import Rng
from carom.common.core.batch import Batch
from carom.vision.attacks.query import Sparse
from carom.vision.threats import Pixels

IDS = [f"e{i}" for i in range(6)]


def images(channels=3, side=7):
    return Rng.of(0, IDS).uniform(channels, side, side)


def changed(x, x0):
    return (x != x0).any(1).flatten(1).sum(1)


def test_a_pixel_counts_once_whatever_its_channels():
    x0 = images()
    x = x0.clone()
    x[:, :2, 3, 4] += 0.25
    x[:, 2, 0, 0] += 0.5
    assert Pixels(2).norm(x - x0).tolist() == [2] * 6
    assert Pixels(2).allows(x, x0).all()
    assert not Pixels(1).allows(x, x0).any()


def test_projection_keeps_the_pixels_that_changed_most():
    x0 = images()
    x = x0.clone()
    x[:, 1, 1, 1], x[:, 0, 2, 2], x[:, 2, 6, 6] = x0[:, 1, 1, 1] + 0.1, x0[:, 0, 2, 2] - 0.3, x0[:, 2, 6, 6] + 0.2
    kept = Pixels(2.9).project(x, x0)  # no part of a pixel can be had
    assert torch.equal(kept[:, :, 1, 1], x0[:, :, 1, 1])
    assert torch.equal(kept[:, :, 2, 2], x[:, :, 2, 2])
    assert changed(kept, x0).tolist() == [2] * 6


@pytest.mark.parametrize("eps", [1, 5, 49, 80])
def test_the_control_changes_as_many_pixels_to_corners_of_the_colour_cube(eps):
    x0, rng = images(), Rng.of(1, IDS)
    x = Pixels(eps).control(Batch(x0, torch.zeros(6, dtype=torch.long), IDS), rng, x0).clamp(0, 1)
    where = (x != x0).any(1)
    assert where.flatten(1).sum(1).tolist() == [min(eps, 49)] * 6
    colours = x.movedim(1, 3)[where]
    assert set(colours.unique().tolist()) == {0.0, 1.0}
    if eps < 49:
        assert len({tuple(row) for row in where.flatten(1).int().tolist()}) == 6  # each image has places of its own


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("pixels", [1, 12, 49])
def test_sets_of_pixels_keep_their_size_and_replace_a_share_that_falls(pixels, channels):
    rng, shape = Rng.of(2, IDS), torch.Size((6, channels, 7, 7))
    propose = Sparse(alpha=0.5).within(Pixels(pixels))
    pattern, place = propose.first(shape, rng), torch.zeros(6, dtype=torch.long)
    for progress, share in ((0.001, 0.25), (0.01, 0.125), (0.5, 0.5 / 12), (0.99, 0.5 / 20)):
        other = propose.next(pattern, Turn(progress, place, rng.fold("query", int(1e3 * progress)), rng))
        held, then = (pattern != 0).any(1).flatten(1), (other != 0).any(1).flatten(1)
        assert then.sum(1).tolist() == [pixels] * 6
        count = min(max(1, int(share * pixels)), 49 - pixels)
        assert (held & ~then).sum(1).tolist() == [count] * 6
        assert set(other.unique().tolist()) <= {-1.0, 0.0, 1.0}
        stays = (held & then).view(6, 1, 7, 7).expand_as(pattern)
        if pixels < 49:
            assert torch.equal(other[stays], pattern[stays])
        pattern = other
