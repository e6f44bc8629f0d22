"""The defences of images compute what their papers say, and adaptive attacks find what others miss."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

import carom
from carom.common.base.rng import Rng
from carom.vision.defences.random import Cropped, ResizePad, Rotated
from carom.vision.defences.transforms import BitDepth, Jpeg, Median, TotalVariation


def pictures(channels: int = 1, n: int = 3, height: int = 16, width: int = 16) -> torch.Tensor:
    rng = Rng.of(0, [str(i) for i in range(n)])
    return (rng.uniform(channels, height, width) * 255).round() / 255


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_is_the_codecs_own(channels):
    x = pictures(channels)
    found = Jpeg(60)(x)
    array = (x[1] * 255).byte().permute(1, 2, 0).numpy()
    with io.BytesIO() as file:
        Image.fromarray(array.squeeze()).save(file, "JPEG", quality=60)
        wanted = np.asarray(Image.open(file)).reshape(16, 16, channels)
    assert torch.equal((found[1] * 255).round().byte().permute(1, 2, 0), torch.from_numpy(wanted.copy()))


def test_bits_and_medians():
    x = pictures()
    assert len(BitDepth(2)(x).unique()) == 4
    assert torch.equal(BitDepth(8)(x), x)
    flat = torch.full((1, 1, 6, 6), 0.5)
    flat[0, 0, 3, 3] = 1
    assert torch.equal(Median(3)(flat), torch.full((1, 1, 6, 6), 0.5))
    assert Median(3)(x)[0, 0, 5, 5] == x[0, 0, 4:7, 4:7].median()


def test_total_variation_falls_and_its_minimum_is_reached():
    x = pictures(n=1, height=8, width=8).double()

    def energy(u):
        down, right = u[:, :, 1:] - u[:, :, :-1], u[:, :, :, 1:] - u[:, :, :, :-1]
        down, right = torch.nn.functional.pad(down, (0, 0, 0, 1)), torch.nn.functional.pad(right, (0, 1))
        return float(((u - x) ** 2).sum() / 2 + 0.1 * (down**2 + right**2).sqrt().sum())

    found = TotalVariation(0.1, 400)(x)
    assert energy(found) < energy(TotalVariation(0.1, 5)(x)) < energy(x)
    for seed in range(20):
        near = found + 1e-3 * Rng.of(seed, ["u"]).normal(1, 8, 8).double()
        assert energy(near) > energy(found)
    assert found.mean().item() == pytest.approx(x.mean().item())


def test_no_change_at_the_smallest_settings():
    x, rng = pictures(3), Rng.of(1, list("abc"))
    for part in (ResizePad(1.0, 0), Rotated(0.0, 0), Cropped(1.0, 0)):
        assert torch.allclose(part(x, rng), x, atol=1e-5)


def test_a_quarter_turn_turns_pixels_of_any_image():
    x = pictures(n=1, height=4, width=8)

    class Quarter(Rotated):
        def places(self, rng):
            places = super().places(rng)
            return places._replace(angle=torch.full_like(places.angle, torch.pi / 2))

    found = Quarter(0.0, 0)(x, Rng.of(0, ["a"]))[0, 0]
    middle = x[0, 0, :, 2:6]
    assert torch.allclose(found[:, 2:6], torch.rot90(middle, 1), atol=1e-4) or torch.allclose(
        found[:, 2:6], torch.rot90(middle, -1), atol=1e-4
    )


def test_padding_is_black_and_every_image_draws_its_own_place():
    x = torch.ones(40, 1, 20, 20)
    found = ResizePad(0.5, 0)(x, Rng.of(0, [str(i) for i in range(40)]))
    shares = found.mean((1, 2, 3))
    assert 0.2 < shares.min() < shares.max() <= 1.0
    assert len(shares.unique()) == 40
    crops = Cropped(0.5, 0)(x, Rng.of(0, [str(i) for i in range(40)]))
    assert torch.allclose(crops, x, atol=1e-5)  # nothing from outside


@pytest.mark.parametrize("defence", ["jpeg?quality=20", "noise", "feature-squeezing", "trained"])
def test_an_attacker_who_knows_the_defence_finds_more_than_one_who_does_not(defence):
    data = carom.load_data("builtin:fashion-mnist", limit=60)
    plain, guarded = carom.load_model("zoo:image-resnet"), carom.defend("zoo:image-resnet", defence)
    outcome = carom.transfer([plain, guarded], [guarded], ["pgd"], data, eps="12/255", controls=1)
    ignorant, knowing = (cell["transfer"] for cell in outcome.rows())
    assert knowing > ignorant + 0.05
