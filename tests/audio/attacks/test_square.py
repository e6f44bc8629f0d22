"""Square on waveforms: short tones, never in the padding, the same whatever the batch."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from carom.audio.attacks import ATTACKS
from carom.audio.attacks.query import Tones, square
from carom.audio.models.load import load_model
from carom.audio.space import SNR, WAVEFORM
from carom.common.attacks.query.random_search import Turn
from carom.common.base.rng import Rng
from carom.common.core.batch import Batch, Goal
from carom.common.core.problem import Problem


class Fast(nn.Module):
    """Class 1 where the sound changes quickly from sample to sample."""

    def forward(self, x):
        change = x.diff(dim=1).square().sum(1) / x.square().sum(1).clamp_min(1e-9) - 0.02
        return torch.stack([-change, change], 1) * 50


def problem(n=8, length=800):
    time = torch.arange(length)
    inputs = torch.stack([0.3 * torch.sin(0.05 * time + k) for k in range(n)])
    lengths = torch.arange(n) * 20 + 400
    inputs = WAVEFORM.round(inputs * (time < lengths[:, None]))
    labels = torch.zeros(n, dtype=torch.long)
    model = load_model(Fast(), sample_rate=16_000, classes=["slow", "fast"])
    batch = Batch(inputs, labels, [f"x{i}" for i in range(n)], lengths)
    assert (model.predict(batch).argmax(1) == 0).all()
    return Problem(model, Goal(labels), SNR(18)), batch


def test_tones_lie_inside_the_sound():
    rng = Rng.of(0, [str(i) for i in range(300)])
    first = Tones().first(torch.Size((300, 1000)), rng)
    assert (first != 0).all()
    lengths = torch.full((300,), 600)
    turn = Turn(0.0005, torch.zeros(300, dtype=torch.long), rng, rng, lengths)
    added = Tones(p=0.2).next(first, turn) - first
    assert (added[:, 600:] == 0).all()
    assert (added[:, 5:595].abs().sum(0) > 0).all(), "every part of the sound is reached"
    for row in added:
        inside = row.nonzero().squeeze(1)
        assert inside[-1] - inside[0] < 120
        assert row.abs().max() <= 1
    pitch = torch.fft.rfft(added[:, :600]).abs().argmax(1)
    assert pitch.min() < 20
    assert pitch.max() > 200


def test_square_fools_within_the_budget():
    task, batch = problem()
    result = square(queries=150)(task, batch, Rng.of(0, batch.ids))
    assert result.success.all()
    assert SNR(18).allows(result.inputs, batch.inputs).all()
    for x, length in zip(result.inputs, batch.lengths.tolist(), strict=True):
        assert (x[length:] == 0).all()


def test_square_does_not_depend_on_the_batch():
    task, batch = problem()
    rng = Rng.of(0, batch.ids)
    whole = square(queries=25, keep_going=True)(task, batch, rng)
    for rows in (torch.tensor([3]), torch.tensor([7, 1])):
        part = square(queries=25, keep_going=True)(
            replace(task, goal=task.goal.take(rows)), batch.take(rows), rng[rows]
        )
        assert torch.equal(part.inputs, whole.inputs[rows])


def test_registry():
    assert {"fgsm", "bim", "pgd", "mi-fgsm", "soft-leaf-path", "square"} <= set(ATTACKS)
    assert all(set(info.threats) <= {"linf", "l2", "snr"} and info.build() for info in ATTACKS.values())
