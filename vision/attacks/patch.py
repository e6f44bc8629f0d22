"""Adversarial patches: one square of the image, with content that works wherever it lies."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from carom.common.attacks.catalogue.base import Catalogue
from carom.common.attacks.gradient.ascent import Ascent
from carom.common.base.errors import CaromError
from carom.common.base.rng import Rng
from carom.common.core.batch import Access
from carom.common.core.objectives import objective
from carom.common.core.oracle import Oracle
from carom.vision.threats import Patch, inside

PATCHES = Catalogue(needs=Access.GRADIENT, threats=("patch",), random=True)


@dataclass(frozen=True)
class Pasted:
    """The patch where it will be stored, and `copies` - 1 views with it somewhere else on its clean image, turned and
    resized (Brown et al. 2017, section 2: the expectation over random locations, scales and rotations)."""

    copies: int = 4
    degrees: float = 22.5
    scale: float = 1.2  # and its inverse: the largest and the smallest

    @contextlib.contextmanager
    def prepared(self, oracle: Oracle, rng: Rng) -> Iterator[Placed]:
        threat, clean = oracle.problem.threat, oracle.batch.inputs
        if not isinstance(threat, Patch):
            raise CaromError("attack patch works within a threat of one square: choose threat=patch.")
        yield Placed(self, clean, threat.side(clean.shape), *threat.corner(clean.shape, rng))

    def __call__(self, x: Tensor, rng: Rng, copy: Tensor) -> Tensor:
        raise AssertionError("a patch is pasted onto a batch that is known")


@dataclass(frozen=True)
class Placed:
    """Pasted, for one batch: the patches lie in squares of the canvas with these corners."""

    pasted: Pasted
    clean: Tensor
    side: int
    top: Tensor
    left: Tensor

    @property
    def copies(self) -> int:
        return self.pasted.copies

    def __call__(self, x: Tensor, rng: Rng, copy: Tensor) -> Tensor:
        if not self.side or not len(x):
            return x
        times, (_, _, height, width) = len(x) // len(self.clean), x.shape
        clean, top, left = (part.repeat(times, *[1] * (part.dim() - 1)) for part in (self.clean, self.top, self.left))
        square = inside(x.shape, self.side, top, left).to(x.dtype)
        half, other = self.side / 2, (copy > 0).view(-1, 1, 1).to(x.dtype)
        angle = math.radians(self.pasted.degrees) * (2 * rng.fold("angle").uniform(1, 1) - 1) * other
        scale = self.pasted.scale ** ((2 * rng.fold("scale").uniform(1, 1) - 1) * other)
        # From where the patch lies to where it comes to lie, within the image but for turning and growing.
        down, across = (
            other * ((size - self.side) * rng.fold(key).uniform(1, 1) - start[:, None, None])
            for key, size, start in (("down", height, top), ("across", width, left))
        )
        middle = top[:, None, None] + half + down, left[:, None, None] + half + across
        rows = torch.arange(height, device=x.device)[:, None] + 0.5 - middle[0]
        columns = torch.arange(width, device=x.device)[None] + 0.5 - middle[1]
        down = (angle.cos() * rows - angle.sin() * columns) / scale + top[:, None, None] + half
        across = (angle.sin() * rows + angle.cos() * columns) / scale + left[:, None, None] + half
        grid = torch.stack([2 * across / width - 1, 2 * down / height - 1], 3)
        moved = F.grid_sample(torch.cat([x * square, square], 1), grid.to(x.dtype), align_corners=False)
        content, covers = moved[:, :-1], moved[:, -1:]
        return clean * (1 - covers) + content


@PATCHES.attack(
    "patch",
    "a square that fools wherever it is put on its image",
    paper="after Brown et al. 2017, Adversarial patch",
    departures="one patch for each image; theirs serves all",
    cost="steps * samples forward and backward",
)
def patch(
    steps: int = 50,
    samples: int = 4,
    size: float | None = None,
    degrees: float = 22.5,
    scale: float = 1.2,
    loss: str = "ce",
) -> Ascent:
    """Signs of the mean gradient over `samples` places, angles and sizes, the first its own; steps of `size` of a
    pixel's range, by default 2 / steps. The patch is made for one image and stored at a place drawn for it, upright and
    at its own size."""
    step = 2 / steps if size is None else size
    return Ascent(steps, step, objective=objective(loss), transform=Pasted(samples, degrees, scale))
