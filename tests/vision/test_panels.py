"""Panels of an image: lossless, and the perturbation magnified by what the caption says."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from carom.vision.panels import panels
from carom.vision.space import PIXELS


def shown(panel):
    return np.asarray(Image.open(io.BytesIO(panel.png)))


@pytest.mark.parametrize("channels", [1, 3])
def test_three_pictures(channels):
    clean = torch.randint(20, 200, (channels, 8, 6), dtype=torch.uint8)
    after = clean + torch.randint(-8, 9, clean.shape).to(torch.uint8)
    after[0, 0, 0] = clean[0, 0, 0] + 8
    first, second, third = panels(PIXELS, clean, after, {})
    same = (lambda a: a[0]) if channels == 1 else (lambda a: a.permute(1, 2, 0))
    assert np.array_equal(shown(first), same(clean).numpy())
    assert np.array_equal(shown(second), same(after).numpy())
    assert "x15" in third.caption
    change = same(after.int() - clean.int()).numpy()
    assert np.abs(shown(third).astype(int) - (127.5 + 15 * change)).max() <= 1


def test_nothing_changed():
    clean = torch.randint(0, 256, (1, 8, 6), dtype=torch.uint8)
    third = panels(PIXELS, clean, clean, {})[2]
    assert third.caption == "no perturbation"
    assert len(np.unique(shown(third))) == 1
