"""The defences of sounds pass and stop what they say."""

from __future__ import annotations

import math

import pytest
import torch

from carom.audio.defences.transforms import BandPass, Quantised, Resampled, Shifted
from carom.common.base.errors import CaromError
from carom.common.base.rng import Rng

RATE = 16_000


def tone(frequency: float, length: int = 4000) -> torch.Tensor:
    return 0.5 * (2 * math.pi * frequency * torch.arange(length) / RATE).sin()[None]


def passed(part, frequency: float) -> float:
    """The share of a tone's level that is left, away from its ends."""
    x = tone(frequency)
    return float(part(x)[0, 800:-800].square().mean().sqrt() / x[0, 800:-800].square().mean().sqrt())


def test_resampling_keeps_what_the_lower_rate_can_hold():
    part = Resampled(2)
    assert passed(part, 1000) == pytest.approx(1, abs=0.01)
    assert passed(part, 7000) < 0.01
    assert torch.equal(Resampled(1)(tone(1000)), tone(1000))


def test_a_band_passes_and_the_rest_is_stopped():
    part = BandPass(0.02, 0.2)  # 320 Hz to 3200 Hz
    assert passed(part, 1000) == pytest.approx(1, abs=0.01)
    assert passed(part, 60) < 0.05
    assert passed(part, 6000) < 0.01
    with pytest.raises(CaromError, match="is no band"):
        BandPass(0.3, 0.2)


def test_quantised_samples_are_multiples_of_the_step():
    steps = Quantised(256)(tone(440)) * 32768 / 256
    assert torch.equal(steps, steps.round())


def test_a_shift_moves_each_sound_by_its_own_draw():
    x = torch.zeros(200, 50)
    x[:, 25] = 1
    found = Shifted(5, 0)(x, Rng.of(0, [str(i) for i in range(200)])).argmax(1) - 25
    assert set(found.tolist()) == set(range(-5, 6))
