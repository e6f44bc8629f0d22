"""Blocks of signs and orthonormal directions: what random search moves along."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from carom.common.attacks.query.proposals import Directions, Halves, flipped, halving
from carom.common.attacks.query.random_search import Turn
from carom.common.base.rng import Rng


def blocks(numbers, count):
    place = torch.arange(count)
    start, end = halving(place, torch.full_like(place, numbers))
    return list(zip(start.tolist(), end.tolist(), strict=True))


def test_blocks_halve():
    assert blocks(4, 8) == [(0, 4), (0, 2), (2, 4), (0, 1), (1, 2), (2, 3), (3, 4), (0, 4)]
    assert blocks(3, 7) == [(0, 3), (0, 1), (1, 3), (0, 1), (1, 2), (2, 3), (0, 3)]
    assert blocks(1, 3) == [(0, 1)] * 3


@given(st.integers(1, 300))
def test_each_level_covers_everything_once_and_none_is_empty(numbers):
    levels = math.ceil(math.log2(numbers)) if numbers > 1 else 0
    found = blocks(numbers, 2**levels - 1 + numbers)
    assert all(end > start for start, end in found)
    at = 0
    for size in [*(2**level for level in range(levels)), numbers]:
        level = found[at : at + size]
        assert [start for start, _ in level] == [0, *(end for _, end in level[:-1])]
        assert level[-1][1] == numbers
        assert max(e - s for s, e in level) - min(e - s for s, e in level) <= 1
        at += size


def turn(n, place, lengths=None):
    rng = Rng.of(0, [str(i) for i in range(n)])
    return Turn(0.5, torch.full((n,), place), rng.fold("query", place), rng, lengths)


def test_halves_turn_one_block_and_begin_with_all_signs_up():
    first = Halves().first(torch.Size((3, 1, 2, 4)), Rng.of(0, "abc"))
    assert (first == 1).all()
    after = Halves().next(first, turn(3, 1))
    assert after.flatten(1).tolist() == [[-1.0] * 4 + [1.0] * 4] * 3


def test_blocks_of_padded_inputs_lie_before_the_padding():
    signs = torch.ones(2, 8)
    lengths = torch.tensor([4, 8])
    turned = flipped(signs, torch.tensor([2, 2]), lengths)
    assert turned.tolist() == [[1, 1, -1, -1, 1, 1, 1, 1], [1, 1, 1, 1, -1, -1, -1, -1]]


@pytest.mark.parametrize(("shape", "axes"), [((2, 3, 4), 2), ((10,), 1)])
@pytest.mark.parametrize("waves", [False, True])
def test_directions_are_orthonormal_and_each_comes_once(shape, axes, waves):
    numbers, n = math.prod(shape), 3
    zero = torch.zeros(n, *shape)
    proposal = Directions(step=1.0, waves=waves, axes=axes)
    steps = torch.stack([proposal.next(zero, turn(n, 2 * k)) for k in range(numbers)], 1).flatten(2)
    for own in steps:
        assert torch.allclose(own @ own.T, torch.eye(numbers), atol=1e-5)
    assert (proposal.next(zero, turn(n, 4)) == -proposal.next(zero, turn(n, 5))).all(), "both signs are tried"
    assert len({tuple(map(tuple, own.round(decimals=3).tolist())) for own in steps}) > 1, "each in its own order"


def test_waves_of_the_lowest_frequencies_are_smooth():
    proposal = Directions(step=1.0, share=0.25, waves=True, axes=1)
    zero = torch.zeros(1, 40)
    steps = torch.cat([proposal.next(zero, turn(1, 2 * k)) for k in range(10)])
    assert torch.linalg.matrix_rank(steps) == 10
    assert steps.diff(dim=1).abs().max() < 0.18
    again = proposal.next(zero, turn(1, 20))
    assert torch.allclose(again, steps[:1]), "after the last comes the first again"


def test_the_second_sign_is_tried_only_after_the_first_failed():
    place = torch.tensor([0, 0, 1, 1])
    rose = torch.tensor([True, False, True, False])
    assert Directions().follow(place, rose).tolist() == [2, 1, 2, 2]
