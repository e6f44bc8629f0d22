"""Shuffled blocks: how long they are, which axis is cut first, and that they are all there."""

from __future__ import annotations

import pytest
import torch

from carom.common.base.rng import Rng
from carom.vision.attacks.views import Reordered, Shuffled

ROWS, HEIGHT, WIDTH = 400, 12, 30
RNG = Rng.of(3, [f"{i}" for i in range(ROWS)])
COPY = torch.zeros(ROWS, dtype=torch.long)


@pytest.mark.parametrize(("blocks", "least", "most"), [(2, 20, 40), (3, 12, 30), (4, 8.6, 24)])
def test_blocks_are_as_long_as_numbers_from_one_to_two_make_them(blocks, least, most):
    """Of B numbers from 1 to 2 none is below 1 / (2 B - 1) of the sum or above 2 / (B + 1); a whole pixel is rounded
    at either end."""
    sizes = Reordered.draw(RNG, 60, blocks).size
    assert least - 1 <= sizes.min() <= least + 3
    assert most - 3 <= sizes.max() <= most + 1


def shown(image):
    """[ROWS, H, W]: as many images, shuffled without turning."""
    x = image.expand(ROWS, 1, HEIGHT, WIDTH).clone()
    return Shuffled(1, 2, 0.0)(x, RNG, COPY)[:, 0].round()


def test_blocks_change_places_and_nothing_is_lost():
    image = torch.arange(HEIGHT * WIDTH, dtype=torch.float32).view(HEIGHT, WIDTH)
    views = shown(image)
    assert torch.equal(views.flatten(1).sort(1).values, image.flatten().expand(ROWS, -1))
    same = (views == image).flatten(1).all(1)
    assert 0 < same.float().mean() < 0.3  # three orders of two are drawn: all three the old ones in an eighth


def test_either_axis_is_cut_first():
    """Where strips lie from top to bottom, a row of the view is of one row of the image; else a column of one
    column."""
    rows = shown(torch.arange(HEIGHT, dtype=torch.float32)[:, None].expand(HEIGHT, WIDTH))
    columns = shown(torch.arange(WIDTH, dtype=torch.float32).expand(HEIGHT, WIDTH))
    by_rows = (rows == rows[:, :, :1]).flatten(1).all(1)
    by_columns = (columns == columns[:, :1]).flatten(1).all(1)
    assert (by_rows | by_columns).all()
    # Half each; in a quarter of all both strips or neither change their pieces, and the axes cannot be told apart.
    assert 0.3 < (by_rows & ~by_columns).float().mean() < 0.45
    assert 0.3 < (by_columns & ~by_rows).float().mean() < 0.45


def test_blocks_are_turned_about_their_middles():
    """Turned by up to 90 degrees, the middle of an odd block stays where it is, and corners become black."""
    x = torch.ones(ROWS, 1, 15, 15)
    view = Shuffled(1, 1, 90.0)(x, RNG, COPY)[:, 0]
    assert torch.allclose(view[:, 7, 7], torch.ones(ROWS), atol=1e-5)
    assert (view[:, 0, 0] == 0).float().mean() > 0.8
    assert view.amin() >= 0
