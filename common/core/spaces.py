"""Spaces: what inputs are, and what of them survives being saved."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

Inputs = Any
"""What a space holds: Tensor[N, ...] of real inputs, or list[str] of texts."""


class Space(Protocol):
    """What inputs are, and their stored form."""

    @property
    def name(self) -> str: ...

    def clamp(self, x: Inputs) -> Inputs:
        """The nearest valid inputs."""

    def round(self, x: Inputs, toward: Inputs | None = None) -> Inputs:
        """The inputs as they will be read back after being saved."""

    def encode(self, x: Inputs) -> Inputs:
        """The stored form: small integers, or text."""

    def decode(self, stored: Inputs) -> Inputs:
        """From the stored form; `decode(encode(x)) == round(x)`."""

    def distance(self, x: Inputs, x0: Inputs) -> dict[str, Tensor]:
        """How far each example moved, by named measures, float[N] each."""


@dataclass(frozen=True)
class Box:
    """Real inputs between two bounds, stored as integers: 8-bit pixels, 16-bit samples.

    Stored value k stands for k * unit. With `unit=0` nothing is rounded: to compare with libraries that keep floats.
    """

    name: str
    low: float
    high: float
    unit: float
    dtype: torch.dtype = torch.uint8

    def clamp(self, x: Tensor) -> Tensor:
        return x.clamp(self.low, self.high)

    def round(self, x: Tensor, toward: Tensor | None = None) -> Tensor:
        """To the nearest lattice point, or, given the clean inputs, to the nearest no farther from them than x."""
        if not self.unit:
            return x
        if toward is None:
            return self.decode(self.encode(x))
        # Truncating the difference never lengthens it, whatever the norm; the slack keeps exact multiples as they are.
        steps = ((x - toward) / self.unit * (1 + 1e-6)).trunc()
        return self.decode(self.encode(toward + steps * self.unit))

    def encode(self, x: Tensor) -> Tensor:
        if not self.unit:
            return x
        return (self.clamp(x) / self.unit).round().to(self.dtype)

    def decode(self, stored: Tensor) -> Tensor:
        return self.value(stored.float()) if self.unit else stored

    def value(self, steps: Tensor) -> Tensor:
        """What whole numbers of steps stand for, correctly rounded: k of 255 is k / 255, which k times the rounded
        1 / 255 is not."""
        levels = round(1 / self.unit)
        return steps / levels if math.isclose(levels * self.unit, 1) else steps * self.unit

    def distance(self, x: Tensor, x0: Tensor) -> dict[str, Tensor]:
        change = (x - x0).flatten(1)
        return {"linf": change.abs().amax(1), "l2": change.norm(dim=1), "l0": (change != 0).sum(1).float()}
