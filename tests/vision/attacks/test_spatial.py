"""Rotations and shifts: what the grid holds, and that stored images are recognised."""

from __future__ import annotations

from itertools import pairwise

import torch

from carom.common.base.rng import Rng
from carom.common.core.batch import Batch, Goal
from carom.common.core.problem import Problem
from carom.common.modality.installed import get_modality
from carom.vision.attacks.spatial import ANGLES, GRID, IDENTITY, SHIFTS, Spatial
from carom.vision.space import PIXELS

IDS = [f"e{i}" for i in range(5)]


def images(height=28, width=28):
    return PIXELS.round(Rng.of(0, IDS).uniform(3, height, width))


def number(angle, down, across):
    return torch.full((5,), (angle * SHIFTS + down) * SHIFTS + across)


def test_the_middle_of_the_grid_is_the_image_itself():
    x0 = images(20, 31)
    assert number(ANGLES // 2, 2, 2)[0] == IDENTITY
    assert torch.allclose(Spatial(1.0).moved(x0, number(ANGLES // 2, 2, 2)), x0, atol=1e-5)
    for k in (0, 17, GRID - 1):
        assert torch.allclose(Spatial(0.0).moved(x0, torch.full((5,), k)), x0, atol=1e-5)


def test_shifts_move_by_three_of_28_pixels():
    x0 = images()
    down = Spatial(1.0).moved(x0, number(ANGLES // 2, 4, 2))
    assert torch.allclose(down[:, :, 3:], x0[:, :, :-3], atol=1e-4)
    assert down[:, :, :3].abs().max() < 1e-5
    left = Spatial(1.0).moved(x0, number(ANGLES // 2, 2, 0))
    assert torch.allclose(left[:, :, :, :-3], x0[:, :, :, 3:], atol=1e-4)


def test_turns_keep_shapes_in_images_that_are_not_square():
    """A quarter turn (three times the 30 degrees) of a bar: as long as before, in pixels."""
    x0 = torch.zeros(5, 1, 30, 50)
    x0[:, :, 14:16, 15:35] = 1
    turned = Spatial(3.0).moved(x0, number(ANGLES - 1, 2, 2))
    bar = turned[0, 0] > 0.5
    assert bar.any(1).sum() == 20
    assert bar.any(0).sum() == 2


def test_stored_images_are_recognised_and_others_are_not():
    x0, threat = images(), Spatial(0.7)
    chosen = Rng.of(1, IDS).integers(GRID)
    x = PIXELS.round(threat.moved(x0, chosen))
    assert torch.equal(threat.find(x, x0), chosen)
    assert threat.allows(x0, x0).all()
    assert not threat.allows((x + 2 / 255).clamp(0, 1), x0).any()
    assert not Spatial(0.5).allows(x, x0)[chosen // SHIFTS**2 == ANGLES - 1].any()
    batch = Batch(x0, torch.zeros(5, dtype=torch.long), IDS)
    assert torch.equal(threat.swap(batch, Rng.of(2, IDS), x, x0), threat.moved(x0, chosen))


def test_more_tries_find_more_and_the_whole_grid_finds_most():
    image = get_modality("image")
    model, batch = image.load_model("zoo:image-mlp"), image.load_data("builtin:fashion-mnist", limit=24).batch()
    problem = Problem(model, Goal(batch.labels), Spatial(0.5))
    found = [image.attacks["spatial"].build(q)(problem, batch, Rng.of(0, batch.ids)) for q in (1, 11, 776)]
    assert all((one.success <= more.success).all() for one, more in pairwise(found))
    assert found[0].success.sum() < found[1].success.sum() < found[2].success.sum()
    assert found[1].cost.queries.max() == 11
    assert Spatial(0.5).allows(found[2].inputs, batch.inputs).all()
