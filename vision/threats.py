"""Threats that only images know: how many pixels change."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from carom.common.rng import Rng
from carom.common.threats import Ball


@dataclass(frozen=True)
class Pixels(Ball):
    """At most `eps` pixels may change, each in all its channels and to any colour (L0 over places, not numbers)."""

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
