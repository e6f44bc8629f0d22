"""Per-example randomness: the numbers of an example depend on its seed, its id and their purpose, on nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from carom.common.base.rng import Rng

IDS = [f"example-{i}" for i in range(500)]


def test_bits_are_splitmix64():
    """The published first five numbers of the generator seeded with 1234567."""
    published = [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]
    bits = Rng(torch.tensor([1234567])).bits(5)[0].tolist()
    assert [b % 2**64 for b in bits] == published


def test_the_streams_of_this_version_stay_as_they_are():
    """Stored results rest on these numbers: a change of the generator has to raise the store's schema."""
    rng = Rng.of(0, ["a"])
    assert rng.bits(2).tolist() == PINNED_BITS
    assert rng.fold("start", 3).bits(1).tolist() == PINNED_FOLD


PINNED_BITS = [[-2721319288182730381, -408661430802759435]]
PINNED_FOLD = [[-3302951337493962363]]


def test_numbers_do_not_depend_on_the_batch():
    whole = Rng.of(7, IDS)
    order = np.random.default_rng(0).permutation(len(IDS))[:40]
    part = Rng.of(7, [IDS[i] for i in order])
    for draw in (
        lambda r: r.bits(3),
        lambda r: r.uniform(2, 3),
        lambda r: r.signs(5),
        lambda r: r.normal(4),
        lambda r: r.integers(17, 2),
        lambda r: r.fold("step", 4).uniform(),
    ):
        assert torch.equal(draw(part), draw(whole)[order])
        assert torch.equal(draw(whole[torch.from_numpy(order)]), draw(part))


def test_a_longer_draw_begins_like_a_shorter_one():
    rng = Rng.of(0, IDS[:3])
    assert torch.equal(rng.uniform(10)[:, :4], rng.uniform(4))


def test_shapes_and_kinds():
    rng = Rng.of(0, IDS[:3])
    assert rng.uniform().shape == (3,)
    assert rng.normal(2, 5).shape == (3, 2, 5)
    assert rng.signs(4).dtype == torch.float32
    assert rng.integers(torch.tensor([[1], [5], [9]]), 1).shape == (3, 1)
    assert len(rng) == 3
    assert Rng.of(0, []).uniform(4).shape == (0, 4)
    assert Rng.of(0, ["\ud800"]).uniform(1).shape == (1, 1)  # an id that UTF-8 cannot hold


def test_uniform():
    values = Rng.of(1, IDS).uniform(100).flatten().double().numpy()
    assert values.min() >= 0
    assert values.max() < 1
    assert stats.kstest(values, "uniform").pvalue > 0.001


def test_normal():
    values = Rng.of(1, IDS).normal(100).flatten().double().numpy()
    assert np.isfinite(values).all()
    assert stats.kstest(values, "norm").pvalue > 0.001


def test_signs_and_integers():
    rng = Rng.of(1, IDS)
    signs = rng.signs(100)
    assert set(signs.unique().tolist()) == {-1.0, 1.0}
    assert abs(signs.mean()) < 4 / signs.numel() ** 0.5
    counts = rng.integers(7, 100).flatten().bincount(minlength=7)
    assert len(counts) == 7
    assert stats.chisquare(counts.numpy()).pvalue > 0.001


def correlation(a, b):
    a, b = a.flatten().double(), b.flatten().double()
    return float(torch.corrcoef(torch.stack([a, b]))[0, 1]) * len(a) ** 0.5  # standard normal when independent


@pytest.mark.parametrize("lag", [1, 2, 28, 64])
def test_neighbours_are_independent(lag):
    values = Rng.of(1, IDS).uniform(200)
    assert abs(correlation(values[:, lag:], values[:, :-lag])) < 4
    assert abs(correlation(values[lag:], values[:-lag])) < 4


def test_streams_are_independent():
    rng = Rng.of(1, IDS)
    streams = [rng, Rng.of(2, IDS), rng.fold("start"), rng.fold("step", 1), rng.fold("step", 2), rng.fold("step", 12)]
    drawn = [stream.uniform(50) for stream in streams]
    for i, one in enumerate(drawn):
        for other in drawn[i + 1 :]:
            assert abs(correlation(one, other)) < 4
            assert not torch.equal(one, other)
    # Parts of a name are told apart: ("step", 12) is not ("step1", 2), nor ("step", "1", 2).
    assert not torch.equal(rng.fold("step", 12).bits(1), rng.fold("step1", 2).bits(1))
    assert not torch.equal(rng.fold("step", 12).bits(1), rng.fold("step", 1, 2).bits(1))


def test_no_two_examples_share_a_stream():
    keys = Rng.of(0, [f"{i}" for i in range(20000)]).keys
    assert len(keys.unique()) == 20000
