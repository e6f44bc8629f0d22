"""Threats that only images know: how many pixels change, and within which square."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from carom.common.base.rng import Rng
from carom.common.core.spaces import Box
from carom.common.core.threats import Ball
from carom.common.core.ties import closeness, first_largest


@dataclass(frozen=True)
class Pixels(Ball):
    """At most `eps` pixels may change, each in all its channels and to any colour (L0 over places, not numbers)."""

    counts = True
    asks = "a number of pixels, 0 or more, say 10"
    fractions = False

    def norm(self, change: Tensor) -> Tensor:
        return (change != 0).any(1).flatten(1).sum(1).to(change.dtype)

    def project(self, x: Tensor, x0: Tensor, radius: Tensor | None = None) -> Tensor:
        """Keep the pixels that changed most, by the largest change of a channel."""
        radius = self.radius(x0) if radius is None else radius
        return torch.where(self._largest(x - x0, radius), x, x0)

    def step(self, grad: Tensor) -> Tensor:
        """One pixel, every channel by 1."""
        return torch.where(self._largest(grad, grad.new_ones(len(grad))), grad.sign(), 0.0)

    def start(self, x0: Tensor, rng: Rng) -> Tensor:
        return self.extend(self.noise(x0, rng), x0)

    def extend(self, direction: Tensor, x0: Tensor) -> Tensor:
        """The pixels where the direction is largest, every channel moved by 1: to white, or to black."""
        return x0 + torch.where(self._largest(direction, self.radius(x0)), direction.sign(), 0.0)

    def noise(self, x0: Tensor, rng: Rng) -> Tensor:
        return rng.normal(*x0.shape[1:])

    @staticmethod
    def _largest(change: Tensor, count: Tensor) -> Tensor:
        """bool[N, 1, H, W]: the `count` places with the largest changes. Of equal ones the first counts more."""
        size = change.abs().amax(1).flatten(1)
        rank = size.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
        return ((rank + 1 <= count[:, None]) & (size > 0)).view(len(change), 1, *change.shape[2:])


def corner(shape: torch.Size, side: int, rng: Rng) -> tuple[Tensor, Tensor]:
    """int64[N] each: topmost row and leftmost column of a square of that side; all places are as likely."""
    return rng.fold("top").integers(shape[2] - side + 1), rng.fold("left").integers(shape[3] - side + 1)


def inside(shape: torch.Size, side: int, top: Tensor, left: Tensor) -> Tensor:
    """bool[N, 1, H, W]: the squares of that side with these corners int64[N]."""
    rows, columns = (torch.arange(size, device=top.device) for size in shape[2:])
    down, across = rows - top[:, None], columns - left[:, None]
    return (((down >= 0) & (down < side))[:, :, None] & ((across >= 0) & (across < side))[:, None, :])[:, None]


@dataclass(frozen=True)
class Patch(Ball):
    """One square of at most a share `eps` of the area, anywhere, with any content. Its norm is the area of the smallest
    square around all that changed; a step of size 1 is the whole range of a pixel."""

    asks = "a share of the image's area, 0 to 1, say 0.05"

    def most(self, space: Box, shape: Sequence[int]) -> float:
        return 1.0

    def side(self, shape: torch.Size) -> int:
        """In whole pixels."""
        _, _, height, width = shape
        return min(int((self.eps * (1 + 1e-6) * height * width) ** 0.5), height, width)

    def corner(self, shape: torch.Size, rng: Rng) -> tuple[Tensor, Tensor]:
        """Of the largest square."""
        return corner(shape, self.side(shape), rng)

    def stride(self, x0: Tensor) -> Tensor:
        return torch.ones_like(self.bounded(x0))

    def norm(self, change: Tensor) -> Tensor:
        changed = (change != 0).any(1)
        extents = []
        for line in (changed.any(2), changed.any(1)):
            place = torch.arange(line.shape[1], device=line.device)
            last, first = torch.where(line, place, -1).amax(1), torch.where(line, place, line.shape[1]).amin(1)
            extents.append((last - first + 1).clamp_min(0))
        side = torch.maximum(*extents)
        return side.square().to(change.dtype) / (changed.shape[1] * changed.shape[2])

    def project(self, x: Tensor, x0: Tensor, radius: Tensor | None = None) -> Tensor:
        """Keep the square that holds most of the change's energy."""
        assert radius is None, "squares of several sizes in one batch are not projected onto"
        return torch.where(self._busiest(x - x0), x, x0)

    def step(self, grad: Tensor) -> Tensor:
        return grad.sign()

    def start(self, x0: Tensor, rng: Rng) -> Tensor:
        return self.extend(self.noise(x0, rng), x0)

    def extend(self, direction: Tensor, x0: Tensor) -> Tensor:
        """The square where the direction is largest, every channel moved by 1: to white, or to black."""
        return x0 + torch.where(self._busiest(direction), direction.sign(), 0.0)

    def noise(self, x0: Tensor, rng: Rng) -> Tensor:
        """Random signs in a square at a random place."""
        square = inside(x0.shape, self.side(x0.shape), *self.corner(x0.shape, rng))
        return rng.fold("colour").signs(*x0.shape[1:]) * square

    def _busiest(self, change: Tensor) -> Tensor:
        side = self.side(change.shape)
        if not side or not len(change):
            return torch.zeros_like(change[:, :1], dtype=torch.bool)
        energy = F.avg_pool2d(change.square().sum(1, keepdim=True), side, stride=1)
        flat = energy.flatten(1)
        best, across = first_largest(flat, closeness(flat.amax(1))), energy.shape[3]
        return inside(change.shape, side, best // across, best % across)
