"""Budgets of one square, and the views that patches are made on."""

from __future__ import annotations

import pytest
import torch

from carom.common.base.errors import CaromError
from carom.common.base.rng import Rng
from carom.common.core.batch import Batch, Goal
from carom.common.core.oracle import Oracle
from carom.common.core.problem import Problem
from carom.common.core.threats import Linf
from carom.common.modality.installed import get_modality
from carom.vision.attacks.patch import Pasted
from carom.vision.threats import Patch, inside

IDS = [f"e{i}" for i in range(6)]
SHAPE = torch.Size((6, 3, 12, 10))
EPS = 16 / 120  # squares of 4 x 4


def images():
    return 0.2 + 0.5 * Rng.of(0, IDS).uniform(*SHAPE[1:])


def test_the_norm_is_the_area_of_the_smallest_square_around_what_changed():
    x0 = images()
    x = x0.clone()
    x[:, 0, 2, 3], x[:, 2, 4, 1] = 0, 1  # 3 rows, 3 columns
    assert torch.allclose(Patch(1).norm(x - x0), torch.full((6,), 9 / 120))
    assert Patch(9 / 120).allows(x, x0).all()
    assert not Patch(8.9 / 120).allows(x, x0).any()
    assert Patch(0.0).allows(x0, x0).all()


def test_projection_keeps_the_square_with_most_energy():
    x0 = images()
    x = x0.clone()
    x[:, :, 7:11, 5:9] += 0.3
    x[:, :, 0, 0] += 0.4
    kept = Patch(EPS).project(x, x0)
    assert torch.equal(kept[:, :, 7:11, 5:9], x[:, :, 7:11, 5:9])
    assert torch.equal(kept[:, :, 0, 0], x0[:, :, 0, 0])
    assert Patch(EPS).allows(kept, x0).all()


@pytest.mark.parametrize("eps", [0.0, 0.005, 1 / 120, EPS, 1.0, 3.0])
def test_the_control_fills_one_square_at_a_random_place(eps):
    x0, threat = images(), Patch(eps)
    x = threat.control(Batch(x0, torch.zeros(6, dtype=torch.long), IDS), Rng.of(1, IDS), x0).clamp(0, 1)
    assert threat.allows(x, x0).all()
    assert (x != x0).all(1).flatten(1).sum(1).tolist() == [threat.side(SHAPE) ** 2] * 6


def views(x, copies, **more):
    """(views of the images x, copy after copy; their squares)"""
    x0, threat, rng = images(), Patch(EPS), Rng.of(2, IDS)
    model = get_modality("image").load_model("zoo:image-mlp")
    batch = Batch(x0, torch.zeros(6, dtype=torch.long), IDS)
    oracle = Oracle(Problem(model, Goal(batch.labels), threat), batch)
    with Pasted(copies, **more).prepared(oracle, rng) as placed:
        keys = torch.cat([rng.fold("view", i).keys for i in range(copies)])
        seen = placed(x.repeat(copies, 1, 1, 1), Rng(keys), torch.arange(copies).repeat_interleave(6))
        return seen.unflatten(0, (copies, 6)), inside(SHAPE, 4, placed.top, placed.left)


def test_the_first_view_has_the_patch_in_its_place_and_others_elsewhere_on_the_clean_image():
    x0 = images()
    _, square = views(x0, 3)
    x = torch.where(square, torch.ones_like(x0), x0)
    seen, _ = views(x, 3)
    assert torch.allclose(seen[0], x, atol=1e-5)
    moved = (seen[1:] - x0).abs().amax(2) > 1e-4
    assert (moved.flatten(2).sum(2) <= 60).all()  # 4 x 4, by 1.44, and its soft edge
    assert (moved.flatten(2).sum(2) >= 9).all()
    assert (moved != square[None, :, 0]).flatten(2).any(2).float().mean() > 0.9


def test_unturned_patches_keep_their_brightness_and_only_they_have_a_gradient():
    x0 = images()
    _, square = views(x0, 2)
    x = torch.where(square, torch.ones_like(x0), x0).requires_grad_()
    seen, _ = views(x, 2, degrees=0.0, scale=1.0)
    assert torch.allclose((seen[1] - x0).clamp_min(-1).amax((1, 2, 3)), (1 - x0.amin((1, 2, 3))), atol=0.3)
    (grad,) = torch.autograd.grad(seen[1].sum(), x)
    assert (grad[(~square).expand_as(grad)] == 0).all()
    assert torch.allclose(grad.flatten(1).sum(1), torch.full((6,), 48.0), atol=1e-3)


def test_patches_need_a_budget_of_a_square():
    image = get_modality("image")
    model, batch = image.load_model("zoo:image-mlp"), image.load_data("builtin:fashion-mnist", limit=2).batch()
    with pytest.raises(CaromError, match="threat=patch"):
        image.attacks["patch"].build()(Problem(model, Goal(batch.labels), Linf(0.1)), batch, Rng.of(0, batch.ids))
