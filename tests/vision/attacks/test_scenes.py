"""Rendered views: what rays meet is on the object, the front face is the image itself, gradients reach the image."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from carom.common.attacks.catalogue.gradient import mi_fgsm
from carom.common.base.rng import Rng
from carom.vision.attacks import TRANSFORMS
from carom.vision.attacks.input_transforms import seen
from carom.vision.attacks.scenes import LENS, Rendered, ball, box, cylinder, dot, turned

IDS = [f"e{i}" for i in range(40)]
RNG = Rng.of(0, IDS)
COPY = torch.zeros(len(IDS), dtype=torch.long)


def rays(angles=(0.0, 0.0, 0.0), side=33):
    line = LENS * torch.linspace(-1, 1, side, dtype=torch.float64)
    angles = [torch.tensor(a, dtype=torch.float64) for a in angles]
    eye = turned(tuple(torch.tensor([[[z]]], dtype=torch.float64) for z in (0.0, 0.0, -3.0)), *angles)
    flat = torch.zeros(1, side, side, dtype=torch.float64)
    return eye, turned((flat + line, flat + line[:, None], flat + 1), *angles)


@pytest.mark.parametrize("angles", [(0.0, 0.0, 0.0), (0.4, -0.5, 0.3)])
def test_rays_meet_surfaces_from_outside(angles):
    """A point on the surface, nearer than any other of the ray within the object, with a normal towards the eye."""
    eye, ray = rays(angles)
    steps = torch.linspace(0, 6, 3001, dtype=torch.float64).view(-1, 1, 1, 1)
    walk = [start + steps * way for start, way in zip(eye, ray, strict=True)]
    inside = {
        "box": (walk[0].abs() <= 1) & (walk[1].abs() <= 1) & (walk[2].abs() <= 0.4),
        "ball": dot(tuple(walk), tuple(walk)) <= 1.1**2,
    }
    hits = {"box": box(eye, ray, torch.tensor([[[0.4]]], dtype=torch.float64)), "ball": ball(eye, ray)}
    for name, hit in hits.items():
        met = inside[name].any(0)
        assert (hit.where == met).double().mean() > 0.99  # but for the grain of the walk
        assert (dot(hit.normal, ray)[hit.where] <= 1e-9).all()
        assert hit.across[hit.where].abs().max() <= (1 if name == "box" else 2) + 1e-9
    cup = cylinder(eye, ray)
    x, z = 0.9 * torch.sin(cup.across * math.pi / 2), -0.9 * torch.cos(cup.across * math.pi / 2)
    gaze = tuple(p - e for p, e in zip((x, cup.down, z), eye, strict=True))
    cross = ray[0] * gaze[1] - ray[1] * gaze[0], ray[1] * gaze[2] - ray[2] * gaze[1]
    assert all(part[cup.where].abs().max() < 1e-9 for part in cross)  # the point lies on its ray


def test_the_front_of_a_flat_box_is_the_image_in_perspective():
    """Straight from the front, at distance 3 and depth .1, a point of the face is seen at 1 / (2.9 * lens) of its place."""
    eye, ray = rays()
    hit = box(eye, ray, torch.tensor([[[0.1]]], dtype=torch.float64))
    wanted = (2.9 * ray[0]).expand_as(hit.across)
    assert torch.allclose(hit.across[hit.where], wanted[hit.where])
    assert torch.equal(hit.where[0], (2.9 * ray[0]).abs().le(1)[0] & (2.9 * ray[1]).abs().le(1)[0])


def test_views_are_images_whose_gradient_reaches_what_is_seen():
    x = Rng.of(1, IDS).uniform(3, 24, 24).requires_grad_()
    view = Rendered()(x, RNG, COPY)
    assert view.shape == x.shape
    assert view.min() >= 0
    assert view.max() <= 1
    (grad,) = torch.autograd.grad(view.sum(), x)
    assert (grad.flatten(1).abs().sum(1) > 0).all()
    assert torch.equal(Rendered()(x[3:4], RNG[torch.tensor([3])], COPY[:1]), view[3:4])  # of whatever batch
    assert torch.equal(Rendered(p=0.0)(x, RNG, COPY), x)
    half = (Rendered(p=0.5)(x, RNG, COPY) == x).flatten(1).all(1)
    assert 8 < half.sum() < 32


def test_odi_is_a_transform_of_any_climb():
    assert TRANSFORMS["odi"].apply(mi_fgsm()) == seen(mi_fgsm(), Rendered())
    assert replace(mi_fgsm(), transform=Rendered()) == seen(mi_fgsm(), Rendered())
