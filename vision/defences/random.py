"""Defences that change an image otherwise at every query."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from carom.common.base.errors import CaromError
from carom.common.base.rng import Rng
from carom.common.defences.catalogue import Defences
from carom.common.defences.shared import COHEN, NOISE, Noise
from carom.common.defences.smoothing import CUT, GAUSSIAN, GaussianNoise, Smoothing
from carom.common.defences.transforms import InputTransform

XIE = "Xie et al. 2018, Mitigating adversarial effects through randomization"
GUO = "Guo et al. 2018, Countering adversarial images using input transformations"
RAFF = "Raff et al. 2019, Barrage of random transforms for adversarially robust defense"

RANDOM = Defences(kind="random", adaptation=("exact", "expectation"))


@RANDOM.defence(
    "noise",
    "Gaussian noise",
    paper=NOISE,
    departures="before the network alone, not before each layer; no training with it",
)
def noise(sigma: float = 0.1, seed: int = 0) -> Noise:
    """Of standard deviation `sigma`, pixels in [0, 1]."""
    return Noise(sigma, seed)


SMOOTHING = Defences(kind="smoothing", adaptation=("surrogate", "expectation", "rejection", "exact"))


@SMOOTHING.defence("smoothing", GAUSSIAN, paper=COHEN, cost="draws passes per answer", departures=CUT)
def smoothing(sigma: float = 0.12, draws: int = 100, alpha: float = 0.001, seed: int = 0) -> Smoothing:
    """Noise of standard deviation `sigma`, pixels in [0, 1]; `alpha` is how often an answer may be one by chance."""
    return Smoothing(draws=draws, change=GaussianNoise(sigma, seed), alpha=alpha)


class Places(NamedTuple):
    """Where images are read: turned by `angle` radians, a window of `scale` of the sides, its middle at (across, down) as
    shares of half the sides; float[N] each."""

    scale: Tensor
    angle: Tensor
    across: Tensor
    down: Tensor


class Resampled(InputTransform):
    """The base of changes that read an image at other places: each output pixel is interpolated between four of the
    input; what lies `outside` is black ("zeros"), or as the rim is ("border")."""

    outside: ClassVar[str] = "zeros"
    gradient: ClassVar[str] = "exact"
    random: ClassVar[bool] = True

    def places(self, rng: Rng) -> Places:
        raise NotImplementedError

    def __call__(self, x: Tensor, *rng: Rng) -> Tensor:
        scale, angle, across, down = (part.to(x)[:, None, None] for part in self.places(rng[0]))
        # Element by element: products of matrices add up in an order that depends on how many there are.
        height, width = x.shape[2:]
        u = ((2 * torch.arange(width, device=x.device) + 1) / width - 1).to(x)[None, None, :]
        v = ((2 * torch.arange(height, device=x.device) + 1) / height - 1).to(x)[None, :, None]
        cos, sin = scale * angle.cos(), scale * angle.sin()
        grid = torch.stack(
            [cos * u - sin * v * (height / width) + across, sin * u * (width / height) + cos * v + down], 3
        )
        return F.grid_sample(x, grid, padding_mode=self.outside, align_corners=False)


@dataclass(frozen=True)
class ResizePad(Resampled):
    """Resized to a random size of at least `least` of its own, and padded to it at a random place."""

    least: float
    seed: int

    def __post_init__(self) -> None:
        if not 0 < self.least <= 1:
            raise CaromError(f"resize-pad: least={self.least} is no share of the size: above 0 and at most 1.")

    def places(self, rng: Rng) -> Places:
        share = self.least + (1 - self.least) * rng.fold("size").uniform()
        across, down = ((1 / share - 1)[:, None] * (2 * rng.fold("place").uniform(2) - 1)).unbind(1)
        return Places(1 / share, torch.zeros_like(share), across, down)


@RANDOM.defence(
    "resize-pad",
    "resized and padded at random",
    paper=XIE,
    departures="to the size that the network takes, shrunken instead of enlarged; sizes between pixels are interpolated",
)
def resize_pad(least: float = 0.85, seed: int = 0) -> ResizePad:
    """To between `least` of its size and all of it."""
    return ResizePad(least, seed)


@dataclass(frozen=True)
class Rotated(Resampled):
    """Turned by up to so many degrees either way."""

    degrees: float
    seed: int

    def places(self, rng: Rng) -> Places:
        angle = (2 * rng.uniform() - 1) * self.degrees * math.pi / 180
        return Places(torch.ones_like(angle), angle, torch.zeros_like(angle), torch.zeros_like(angle))


@RANDOM.defence("rotate", "turned at random", paper=RAFF, departures="one of the paper's transforms, by itself")
def rotate(degrees: float = 15.0, seed: int = 0) -> Rotated:
    """By up to `degrees` either way."""
    return Rotated(degrees, seed)


@dataclass(frozen=True)
class Cropped(Resampled):
    """A random part of at least `least` of its sides, enlarged to its size."""

    least: float
    seed: int
    outside: ClassVar[str] = "border"

    def __post_init__(self) -> None:
        if not 0 < self.least <= 1:
            raise CaromError(f"crop: least={self.least} is no share of the sides: above 0 and at most 1.")

    def places(self, rng: Rng) -> Places:
        share = self.least + (1 - self.least) * rng.fold("size").uniform()
        across, down = ((1 - share)[:, None] * (2 * rng.fold("place").uniform(2) - 1)).unbind(1)
        return Places(share, torch.zeros_like(share), across, down)


@RANDOM.defence(
    "crop",
    "cropped at random and enlarged",
    paper=GUO,
    departures="one crop for an answer: vote for the mean over several",
)
def crop(least: float = 0.85, seed: int = 0) -> Cropped:
    """To between `least` of its sides and all of them."""
    return Cropped(least, seed)
