"""Defences that squeeze an image before the model sees it: codecs, fewer levels, smoothing."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from carom.common.base.errors import CaromError
from carom.common.base.rng import Rng
from carom.common.defences.catalogue import Defences
from carom.common.defences.comparing import SQUEEZING
from carom.common.defences.transforms import InputTransform

JPEG = "Guo et al. 2018, Countering adversarial images using input transformations"

TRANSFORMS = Defences(kind="transform", adaptation=("around",))


@dataclass(frozen=True)
class Jpeg(InputTransform):
    """JPEG and back, by Pillow's codec: each channel by itself unless there are three."""

    quality: int

    def __post_init__(self) -> None:
        if not 1 <= self.quality <= 100:
            raise CaromError(f"jpeg: a quality of {self.quality} is none of 1 to 100.")

    def __call__(self, x: Tensor, *rng: Rng) -> Tensor:
        levels = (x.detach().float().clamp(0, 1) * 255).round().to(torch.uint8).cpu()
        images = levels.permute(0, 2, 3, 1) if x.shape[1] == 3 else levels.flatten(0, 1)
        found = torch.from_numpy(np.stack([self._stored(image.contiguous().numpy()) for image in images]))
        found = found.permute(0, 3, 1, 2) if x.shape[1] == 3 else found.view(levels.shape)
        return (found.float() / 255).to(x)

    def _stored(self, image: np.ndarray) -> np.ndarray:
        with io.BytesIO() as file:
            Image.fromarray(image).save(file, "JPEG", quality=self.quality)
            return np.asarray(Image.open(file)).copy()


@TRANSFORMS.defence("jpeg", "JPEG compression", paper=JPEG)
def jpeg(quality: int = 75) -> Jpeg:
    """At a quality of 1 to 100."""
    return Jpeg(quality)


@dataclass(frozen=True)
class BitDepth(InputTransform):
    """Pixels at 2 ** bits levels."""

    bits: int

    def __post_init__(self) -> None:
        if not 1 <= self.bits <= 8:
            raise CaromError(f"bit-depth: {self.bits} bits are none of 1 to 8.")

    def __call__(self, x: Tensor, *rng: Rng) -> Tensor:
        levels = 2**self.bits - 1
        return (x.clamp(0, 1) * levels).round() / levels


@TRANSFORMS.defence("bit-depth", "fewer grey levels", paper=SQUEEZING)
def bit_depth(bits: int = 3) -> BitDepth:
    """Pixels of so many bits."""
    return BitDepth(bits)


@dataclass(frozen=True)
class Median(InputTransform):
    """The median of a square around each pixel, mirrored at the rim."""

    size: int
    gradient: ClassVar[str] = "exact"

    def __call__(self, x: Tensor, *rng: Rng) -> Tensor:
        before, after = (self.size - 1) // 2, self.size // 2
        if max(x.shape[2:]) <= after or min(x.shape[2:]) <= after:
            raise CaromError(f"median: a square of {self.size} does not fit an image of {x.shape[2]} x {x.shape[3]}.")
        padded = F.pad(x, (before, after, before, after), mode="reflect")
        squares = padded.unfold(2, self.size, 1).unfold(3, self.size, 1)
        return squares.flatten(4).median(4).values


@TRANSFORMS.defence(
    "median",
    "median filter",
    paper=SQUEEZING,
    adaptation=("exact",),
    departures="of an even number of pixels the lower of the two middle ones",
)
def median(size: int = 2) -> Median:
    """Over squares of `size` pixels."""
    return Median(size)


@dataclass(frozen=True)
class TotalVariation(InputTransform):
    """The image of least total variation near the given one: min_u ||u - x||^2 / 2 + weight TV(u), by `steps` of
    Chambolle's projection algorithm (2004), channel by channel."""

    weight: float
    steps: int
    gradient: ClassVar[str] = "exact"

    def __call__(self, x: Tensor, *rng: Rng) -> Tensor:
        if not self.weight:
            return x
        p = x.new_zeros(2, *x.shape)
        for _ in range(self.steps):
            down, right = _differences(_divergence(p) - x / self.weight)
            length = (down.square() + right.square() + 1e-12).sqrt()
            p = (p + 0.25 * torch.stack([down, right])) / (1 + 0.25 * length)
        return x - self.weight * _divergence(p)


def _differences(u: Tensor) -> tuple[Tensor, Tensor]:
    """To the next pixel below and to the right; 0 at the rim."""
    return F.pad(u[:, :, 1:] - u[:, :, :-1], (0, 0, 0, 1)), F.pad(u[:, :, :, 1:] - u[:, :, :, :-1], (0, 1))


def _divergence(p: Tensor) -> Tensor:
    """Minus the adjoint of the differences."""
    down, right = p[0][:, :, :-1], p[1][:, :, :, :-1]
    return F.pad(down, (0, 0, 0, 1)) - F.pad(down, (0, 0, 1, 0)) + F.pad(right, (0, 1)) - F.pad(right, (1, 0))


@TRANSFORMS.defence(
    "tv",
    "total variation minimisation",
    paper=JPEG,
    adaptation=("exact",),
    departures="no pixels are dropped at random first; Chambolle's algorithm of so many steps, which gradients go through",
)
def tv(weight: float = 0.05, steps: int = 20) -> TotalVariation:
    """`weight` of the total variation beside half the squared distance, pixels in [0, 1]."""
    return TotalVariation(weight, steps)
