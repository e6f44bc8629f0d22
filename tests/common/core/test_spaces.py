"""Boxes: what is stored is read back, and rounding never leaves a budget when it is told where the input was."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from carom.common.base.rng import Rng
from carom.common.core.spaces import Box

PIXELS = Box("pixels", 0.0, 1.0, 1 / 255, torch.uint8)
SAMPLES = Box("samples", -1.0, 1 - 2**-15, 2**-15, torch.int16)
FLOATS = Box("floats", -10.0, 10.0, 0.0)


def test_every_stored_value_survives():
    for box, low, high in ((PIXELS, 0, 255), (SAMPLES, -(2**15), 2**15 - 1)):
        stored = torch.arange(low, high + 1).to(box.dtype)[None]
        x = box.decode(stored)
        assert torch.equal(box.encode(x), stored)
        assert torch.equal(box.round(x), x)
        assert torch.equal(box.clamp(x), x)
        assert torch.equal(box.round(x, toward=x), x)


def test_rounding_is_to_the_nearest_not_down():
    x = torch.tensor([[0.49, 0.51, 1.49, 1.51, 254.7]]) / 255
    assert PIXELS.encode(x).tolist() == [[0, 1, 1, 2, 255]]


def test_values_outside_are_clamped():
    assert PIXELS.encode(torch.tensor([[-0.3, 1.7]])).tolist() == [[0, 255]]
    assert SAMPLES.encode(torch.tensor([[-2.0, 2.0]])).tolist() == [[-(2**15), 2**15 - 1]]


@pytest.mark.parametrize("box", [PIXELS, SAMPLES], ids=lambda box: box.name)
@given(seed=st.integers(0, 2**31), size=st.floats(0, 1.5))
@settings(deadline=None, max_examples=40)
def test_round_trip_and_rounding_toward(box, seed, size):
    rng = Rng.of(seed, ["a", "b", "c"])
    x0 = box.round(box.low + (box.high - box.low) * rng.uniform(12))
    x = box.clamp(x0 + size * rng.fold("change").normal(12))
    assert torch.equal(box.decode(box.encode(x)), box.round(x))
    near = box.round(x, toward=x0)
    assert torch.equal(box.round(near), near)
    # Component by component no farther than x was, and no step farther from x than one.
    slack = 2e-6
    assert ((near - x0).abs() <= (x - x0).abs() + slack).all()
    assert ((near - x).abs() <= box.unit + slack).all()
    assert ((near - x0) * (x - x0) >= 0).all()


@given(steps=st.integers(-40, 40), start=st.integers(40, 215))
def test_rounding_toward_keeps_exact_multiples(steps, start):
    x0 = PIXELS.decode(torch.tensor([[start]]))
    x = x0 + steps / 255
    assert PIXELS.encode(PIXELS.round(x, toward=x0)).item() == start + steps


def test_without_a_unit_nothing_is_rounded():
    x = torch.tensor([[0.123456789, -3.7]])
    assert FLOATS.round(x) is x
    assert FLOATS.encode(x) is x
    assert FLOATS.decode(x) is x
    assert FLOATS.clamp(torch.tensor([11.0])).item() == 10


def test_distances():
    x0 = torch.zeros(2, 1, 2, 2)
    x = x0.clone()
    x[0, 0, 0] = torch.tensor([0.3, -0.4])
    moved = PIXELS.distance(x, x0)
    assert moved["linf"].tolist() == pytest.approx([0.4, 0])
    assert moved["l2"].tolist() == pytest.approx([0.5, 0])
    assert moved["l0"].tolist() == [2, 0]
