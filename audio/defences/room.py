"""A room that is another at every query."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from carom.audio.defences.transforms import RANDOM
from carom.common.base.errors import CaromError
from carom.common.base.rng import Rng
from carom.common.defences.transforms import InputTransform

RAFF = "Raff et al. 2019, Barrage of random transforms for adversarially robust defense"


@dataclass(frozen=True)
class Room(InputTransform):
    """The sound and its reverberation: noise that decays exponentially (Polack 1988), by 60 dB within `decay` samples or
    a random share of a quarter and more of them. Its energy is a share `level` of that of the direct sound."""

    decay: int
    level: float
    seed: int
    gradient: ClassVar[str] = "exact"
    random: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.decay < 1 or self.level < 0:
            raise CaromError(
                f"room: a decay of {self.decay} samples at a level of {self.level}: give 1 or more, 0 or more."
            )

    def response(self, rng: Rng) -> Tensor:
        """float64[N, decay + 1]: the room of each stream."""
        time = torch.arange(1, self.decay + 1, dtype=torch.float64, device=rng.keys.device)
        within = self.decay * (0.25 + 0.75 * rng.fold("decay").uniform(1).double())
        tail = rng.fold("reflections").normal(self.decay).double() * 10 ** (-3 * time / within)
        tail = tail * (self.level / tail.square().sum(1, keepdim=True)).sqrt()
        return torch.cat([torch.ones(len(rng), 1, dtype=torch.float64, device=tail.device), tail], 1)

    def __call__(self, x: Tensor, *rng: Rng) -> Tensor:
        size = x.shape[1] + self.decay
        heard = torch.fft.rfft(x.double(), size) * torch.fft.rfft(self.response(rng[0]).to(x.device), size)
        return torch.fft.irfft(heard, size)[:, : x.shape[1]].to(x)


@RANDOM.defence(
    "room",
    "the reverberation of a random room",
    paper=RAFF,
    departures="a transform of sounds in place of the paper's of images; rooms by Polack's model, decaying noise",
)
def room(decay: int = 3200, level: float = 0.2, seed: int = 0) -> Room:
    """That decays by 60 dB within `decay` samples, a share `level` of the sound's energy."""
    return Room(decay, level, seed)
