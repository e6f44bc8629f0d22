"""Waveforms and the SNR threat: the bound holds for what is stored, whatever the sound."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from carom.audio.attacks import THREATS
from carom.audio.space import SNR, WAVEFORM, Waveform, snr_db
from carom.common.base.identity import describe
from carom.common.base.rng import Rng
from carom.common.core.batch import Batch, Goal
from carom.common.core.oracle import Oracle
from carom.common.core.problem import Problem
from carom.common.core.threats import L2, Ball


def sounds(n=3, length=400, loudness=0.2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return WAVEFORM.round(loudness * torch.randn(n, length, generator=generator))


def stored(x, x0, threat, lengths=None):
    """What an attack would save of x."""
    batch = Batch(x0, torch.zeros(len(x0), dtype=torch.long), [str(i) for i in range(len(x0))], lengths)
    model = SimpleNamespace(space=WAVEFORM)
    return Oracle(Problem(model, Goal(batch.labels), threat), batch).store(WAVEFORM.clamp(x))


def test_every_16_bit_sample_survives():
    levels = torch.arange(-32768, 32768).to(torch.int16)
    assert torch.equal(WAVEFORM.encode(WAVEFORM.decode(levels)), levels)
    assert WAVEFORM.decode(levels).min() == -1
    assert torch.equal(WAVEFORM.encode(torch.tensor([-2.0, 2.0])), torch.tensor([-32768, 32767], dtype=torch.int16))


def test_sounds_at_other_rates_are_another_space():
    assert Waveform(sample_rate=8000) != WAVEFORM
    assert describe(Waveform(sample_rate=8000)) != describe(WAVEFORM)


@settings(max_examples=60, deadline=None)
@given(st.floats(0, 60), st.floats(-4.5, -0.1), st.integers(0, 10_000))
def test_snr_holds_after_rounding(decibels, loudness, seed):
    x0, threat = sounds(loudness=10**loudness, seed=seed), SNR(decibels)
    rng = Rng.of(seed, ["a", "b", "c"])
    for direction in (rng.normal(400), rng.fold("signs").signs(400)):
        x = stored(threat.extend(direction, x0), x0, threat)
        assert threat.allows(x, x0).all()
        assert torch.equal(WAVEFORM.round(x), x)
        # The slack of `allows` is a constant length: on the quietest sounds it is more decibels.
        slack = 20 * torch.log10(1 + 1e-5 + 1e-7 / threat.radius(x0))
        assert (snr_db(x, x0) >= decibels - 1e-3 - slack).all()


@settings(max_examples=30, deadline=None)
@given(st.floats(5, 50), st.integers(0, 10_000))
def test_snr_projection_is_idempotent_and_nearest(decibels, seed):
    x0, threat = sounds(seed=seed), SNR(decibels)
    far = x0 + 0.3 * Rng.of(seed, ["a", "b", "c"]).normal(400)
    near = threat.project(far, x0)
    assert threat.allows(near, x0).all()
    assert torch.allclose(threat.project(near, x0), near, atol=1e-6)
    inside = x0 + 1e-6 * (far - x0)
    assert torch.equal(threat.project(inside, x0), inside)


def test_snr_is_what_it_says():
    x0 = sounds(length=16_000)
    change = torch.randn(3, 16_000)
    change *= (x0.norm(dim=1) / change.norm(dim=1) / 10)[:, None]
    assert torch.allclose(snr_db(x0 + change, x0), torch.full((3,), 20.0), atol=1e-3)
    assert torch.allclose(SNR(20).radius(x0), x0.norm(dim=1) / 10)
    assert set(WAVEFORM.distance(x0 + change, x0)) == {"linf", "l2", "l0", "snr_db"}
    assert snr_db(x0, x0).tolist() == [math.inf] * 3
    assert snr_db(torch.ones(1, 4), torch.zeros(1, 4)).tolist() == [-math.inf]


def test_padding_takes_no_part():
    x0, threat = sounds(), SNR(20)
    x0[:, 200:] = 0
    lengths = torch.full((3,), 200)
    batch = Batch(x0, torch.zeros(3, dtype=torch.long), ["a", "b", "c"], lengths)
    noisy = threat.control(batch, Rng.of(0, batch.ids), x0)
    assert (noisy[:, 200:] == 0).all()
    assert torch.allclose(snr_db(noisy, x0), torch.full((3,), 20.0), atol=1e-2)


def test_silence_stays_silent():
    x0, rng, threat = torch.zeros(2, 50), Rng.of(0, ["a", "b"]), SNR(10)
    assert threat.radius(x0).tolist() == [0, 0]
    for x in (
        threat.start(x0, rng),
        threat.extend(rng.signs(50), x0),
        threat.project(x0 + 0.1, x0),
        x0 + threat.radius(x0)[:, None] * threat.step(torch.zeros_like(x0)),
    ):
        assert torch.equal(x, x0)
    assert threat.allows(x0, x0).all()
    assert not threat.allows(x0 + 1 / 32768, x0).any()


def test_threats_by_name():
    assert set(THREATS) == {"linf", "l2", "snr"}
    assert issubclass(SNR, L2)
    assert all(isinstance(build(1.0), Ball) for build in THREATS.values())
    with pytest.raises(TypeError):
        SNR()
