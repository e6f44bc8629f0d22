"""What image models are trained on, and what it is for: a change that knows nothing is no attack."""

from __future__ import annotations

import pytest
import torch

import carom
from carom.vision.models.recipes import SignNoise
from carom.vision.models.zoo import RECIPES

EPS = 28 / 255
FASHION = [name for name, recipe in RECIPES.items() if recipe.data == "builtin:fashion-mnist"]


def images(n: int = 200, channels: int = 3) -> torch.Tensor:
    return 0.3 + 0.4 * torch.rand(n, channels, 28, 28, generator=torch.Generator().manual_seed(0))


def changes(noise: SignNoise, n: int = 200) -> torch.Tensor:
    """What `noise` adds to images that are nowhere near an end of the range: float[n, 3, 28, 28]."""
    return noise(images(n), torch.Generator().manual_seed(1)) - images(n)


def test_signs_of_single_numbers_are_those_that_the_models_on_cifar_were_trained_with() -> None:
    generator, n = torch.Generator().manual_seed(1), 200
    size = 0.06 * torch.rand(n, 1, 1, 1, generator=generator)
    size = size * (torch.rand(n, 1, 1, 1, generator=generator) < 0.5)
    signs = (torch.rand(images().shape, generator=generator) - 0.5).sign()
    expected = (images() + size * signs).clamp(0, 1)
    assert torch.equal(SignNoise(0.06)(images(), torch.Generator().manual_seed(1)), expected)


def test_one_cell_is_a_brightness_shift() -> None:
    found = changes(SignNoise(0.15, share=1.0, grids=(1,))).flatten(1)
    assert torch.allclose(found, found[:, :1].expand_as(found), atol=1e-6)
    assert found[:, 0].min() < -0.13
    assert found[:, 0].max() > 0.13
    assert found.abs().max() <= 0.15 + 1e-6


@pytest.mark.parametrize("cells", [2, 4, 7])
def test_few_cells_are_noise_of_low_frequency(cells: int) -> None:
    found = changes(SignNoise(0.15, share=1.0, grids=(cells,)))
    assert torch.allclose(found.abs().amin((1, 2, 3)), found.abs().amax((1, 2, 3)), atol=1e-6)
    assert torch.allclose(found[:, 0], found[:, 1], atol=1e-6)  # brightness, no colours
    turns = (found[:, 0, :, 1:].sign() != found[:, 0, :, :-1].sign()).sum(2)
    assert turns.max() < cells
    assert turns.max() > 0


def test_grids_share_the_images_and_some_images_stay() -> None:
    found = changes(SignNoise(0.15, share=0.75, grids=(None, 1)), 800)
    changed = found.abs().amax((1, 2, 3)) > 0
    shifts = (found.flatten(1).amax(1) - found.flatten(1).amin(1) < 1e-5) & changed
    assert 0.68 < changed.float().mean() < 0.82
    assert 0.4 < shifts.sum() / changed.sum() < 0.6


def test_the_range_is_kept() -> None:
    noisy = SignNoise(0.15, share=1.0, grids=(None, 1, 4))(torch.rand(50, 1, 8, 8), torch.Generator().manual_seed(0))
    assert noisy.min() == 0
    assert noisy.max() == 1


@pytest.mark.parametrize("name", FASHION)
def test_a_brightness_shift_fools_few(name: str) -> None:
    """The same 28/255 on every pixel, lighter or darker, without a look at picture or model."""
    batch, model = carom.load_data("builtin:fashion-mnist", limit=300).batch(), carom.load_model(f"zoo:{name}")
    with torch.inference_mode():
        right = model(batch.inputs).logits.argmax(1) == batch.labels
        for shift in (EPS, -EPS):
            fooled = model((batch.inputs + shift).clamp(0, 1)).logits.argmax(1) != batch.labels
            # A single tree cuts at few places, some of which a shift crosses.
            assert fooled[right].float().mean() < (0.15 if "-tree" in name else 0.1)
