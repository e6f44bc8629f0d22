"""The space of sounds: float[N, L] in [-1, 1), stored as 16-bit samples, and the threat relative to their energy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from carom.common.core.spaces import Box
from carom.common.core.threats import L2

LEVELS = 1 << 15


@dataclass(frozen=True)
class Waveform(Box):
    """Samples at a rate: sounds at different rates are different spaces."""

    name: str = "waveform"
    low: float = -1.0
    high: float = 1 - 1 / LEVELS
    unit: float = 1 / LEVELS
    dtype: torch.dtype = torch.int16
    sample_rate: int = 16_000

    def distance(self, x: Tensor, x0: Tensor) -> dict[str, Tensor]:
        """linf, l2, l0 and snr_db: the energy of x0 over the energy of the change; inf where nothing changed."""
        return {**super().distance(x, x0), "snr_db": snr_db(x, x0)}


WAVEFORM = Waveform()


def snr_db(x: Tensor, x0: Tensor) -> Tensor:
    """float[N]: 10 log10 of signal energy over the energy of the change. Silence that changed has -inf."""
    change = (x - x0).flatten(1).double().norm(dim=1)
    ratio = 20 * (x0.flatten(1).double().norm(dim=1) / change).log10()
    return torch.where(change == 0, torch.inf, ratio).float()


@dataclass(frozen=True)
class SNR(L2):
    """The change stays at least `eps` decibels below the sound: ||x - x0||_2 <= ||x0||_2 * 10^(-eps / 20).

    This is the ratio of energies over the whole clip, not of peaks. Larger is stricter. Digital silence allows nothing.
    """

    eps: float
    asks: ClassVar[str] = "decibels, 0 or more, say 20"
    fractions: ClassVar[bool] = False

    def most(self, space: Box, shape: Sequence[int]) -> float:
        return math.inf  # of decibels there is no largest number

    def radius(self, x0: Tensor) -> Tensor:
        return x0.flatten(1).norm(dim=1) * 10 ** (-self.eps / 20)
