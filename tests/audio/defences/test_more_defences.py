"""Codecs, rooms and filters of sounds compute what they say."""

from __future__ import annotations

import math

import pytest
import torch

import carom
from carom.audio.defences.codecs import Encoded
from carom.audio.defences.room import Room
from carom.audio.defences.transforms import MedianFilter
from carom.common.base.errors import CaromError
from carom.common.base.rng import Rng


def tone(frequency: float = 440.0, length: int = 8000) -> torch.Tensor:
    return 0.5 * (2 * math.pi * frequency * torch.arange(length) / 16_000).sin()[None]


@pytest.mark.parametrize("form", [("MP3", "MPEG_LAYER_III"), ("OGG", "VORBIS")])
def test_a_codec_gives_the_sound_back_at_its_place_and_length(form):
    x = torch.cat([tone(), 0.3 * tone(1000)])
    good, bad = (Encoded(*form, level, 16_000)(x) for level in (0.0, 0.95))
    assert good.shape == x.shape
    loss = [10 * (x.square().sum(1) / (x - y).square().sum(1)).log10() for y in (good, bad)]
    assert bool((loss[0] > 20).all())
    assert bool((loss[0] > loss[1] - 1).all())
    assert Encoded(*form, 0.5, 16_000)(torch.zeros(1, 100)).abs().max() < 1e-3
    assert Encoded(*form, 0.5, 16_000)(tone(440, 40)).shape == (1, 40)


def test_a_codec_is_told_the_models_rate():
    model = carom.defend("zoo:audio-m5", "mp3?level=0.5")
    assert model.part == Encoded("MP3", "MPEG_LAYER_III", 0.5, 16_000)
    with pytest.raises(CaromError, match="none of 0 to 1"):
        carom.defend("zoo:audio-m5", "mp3?level=2")


def test_a_room_is_the_sound_and_a_tail_of_the_stated_energy():
    part, rng = Room(400, 0.25, 0), Rng.of(0, [str(i) for i in range(5)])
    response = part.response(rng)
    assert response[:, 0].tolist() == [1.0] * 5
    assert response[:, 1:].square().sum(1).tolist() == pytest.approx([0.25] * 5)
    early, late = (response[:, start : start + 100].square().mean().item() for start in (1, 300))
    assert late < 0.01 * early
    impulse = torch.zeros(5, 600)
    impulse[:, 100] = 1
    heard = part(impulse, rng)
    assert torch.allclose(heard[:, 100:501], response.float(), atol=1e-6)
    assert heard[:, :100].abs().max() < 1e-6
    assert torch.allclose(Room(400, 0.0, 0)(tone(), Rng.of(0, ["a"])), tone(), atol=1e-6)


def test_a_median_takes_a_click_away():
    x = torch.zeros(1, 50)
    x[0, 20] = 1.0
    assert not MedianFilter(3)(x).any()
    ramp = torch.arange(50.0)[None]
    assert torch.equal(MedianFilter(5)(ramp)[:, 2:-2], ramp[:, 2:-2])
    with pytest.raises(CaromError, match="do not fit"):
        MedianFilter(9)(torch.zeros(1, 4))


def test_an_attacker_who_knows_a_filter_finds_more_than_one_who_does_not():
    data, part = carom.load_data("builtin:keywords", limit=16), "median?size=5"
    plain, guarded = carom.load_model("zoo:audio-m5"), carom.defend("zoo:audio-m5", part)
    outcome = carom.transfer([plain, guarded], [guarded], ["pgd"], data, threat="snr", eps=30, controls=1)
    ignorant, knowing = (cell["transfer"] for cell in outcome.rows())
    assert knowing > ignorant + 0.1
