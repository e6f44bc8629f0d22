"""Panels of a sound: never loud, lossless, the perturbation magnified by what the caption says."""

from __future__ import annotations

import io
import re

import numpy as np
import pytest
import soundfile
import torch

from carom.audio.panels import COLUMNS, PEAK, panels
from carom.audio.space import WAVEFORM


def heard(panel):
    return soundfile.read(io.BytesIO(panel.wav))


@pytest.mark.parametrize("loudest", [50, 32_000])
def test_three_sounds(loudest):
    generator = torch.Generator().manual_seed(0)
    clean = torch.randint(-loudest, loudest, (1200,), generator=generator).to(torch.int16)
    after = clean + torch.randint(-3, 4, (1200,), generator=generator).to(torch.int16)
    shown = panels(WAVEFORM, clean, after, {"length": 1000, "sample_rate": 8000})
    for panel in shown:
        sound, rate = heard(panel)
        assert (len(sound), rate) == (1000, 8000)
        assert soundfile.info(io.BytesIO(panel.wav)).subtype == "PCM_16"
        assert np.abs(sound).max() <= PEAK + 1 / 32768
        assert len(panel.outline) == COLUMNS
        assert min(low for low, _ in panel.outline) == pytest.approx(sound.min(), abs=2e-4)
    (before, _), (then, _), (change, _) = map(heard, shown)
    factor = float(re.search(r"x([\d.e+]+)", shown[2].caption)[1])
    assert np.abs(change - (then - before) * factor).max() < 2e-4 * factor
    assert np.abs(change).max() > 0.7 * PEAK


def test_nothing_changed():
    clean = torch.zeros(100, dtype=torch.int16)
    shown = panels(WAVEFORM, clean, clean, {})
    assert shown[2].caption == "no perturbation"
    assert not heard(shown[0])[0].any()
    assert len(shown[0].outline) == 100
