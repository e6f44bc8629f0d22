"""Threats: what the attacker may change. Each knows its projection, its steepest step and its random null."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from carom.common.errors import CaromError
from carom.common.problem import Batch
from carom.common.rng import Rng
from carom.common.spaces import Inputs


class Threat(Protocol):
    """The attacker's budget."""

    def allows(self, x: Inputs, x0: Inputs) -> Tensor:
        """bool[N]: which examples are within the budget. Asserted on the stored artefact, always."""

    def control(self, batch: Batch, rng: Rng, like: Inputs) -> Inputs:
        """A random perturbation that uses the same budget as `like`, the adversarial inputs: the null."""

    def swap(self, batch: Batch, rng: Rng, other: Inputs, other0: Inputs) -> Inputs:
        """The perturbations that took `other0` to `other`, put on this batch: what is universal in them."""


def confine(change: Tensor, mask: Tensor | None) -> Tensor:
    """A perturbation without what falls on padding."""
    return change if mask is None else change * mask


def column(value: Tensor, like: Tensor) -> Tensor:
    """float[N] -> float[N, 1, ...], to broadcast over the inputs."""
    return value.view(-1, *[1] * (like.dim() - 1))


@dataclass(frozen=True)
class Ball:
    """Perturbations of bounded size. Subclasses fix the norm."""

    eps: float

    def __post_init__(self) -> None:
        if not self.eps >= 0:
            raise CaromError(f"a budget of {self.eps} is no size: give 0 or more, say 8/255.")

    def radius(self, x0: Tensor) -> Tensor:
        """float[N]: the largest allowed norm, per example; infinite where only the smallest change is asked for."""
        return torch.full((len(x0),), self.eps, device=x0.device, dtype=x0.dtype)

    def bounded(self, x0: Tensor) -> Tensor:
        """The radius, for those who mean to use it up."""
        if math.isinf(self.eps) and self.radius(x0).isinf().any():
            raise CaromError(
                f"{type(self).__name__.lower()} {self.eps} bounds nothing, and this spends a budget: give it one, or "
                "choose an attack that looks for the smallest change (deepfool, ddn, fmn, fab, cw)."
            )
        return self.radius(x0)

    def stride(self, x0: Tensor) -> Tensor:
        """float[N]: how long a step is that is said to be of size 1: the radius, where the norm measures distance."""
        return self.bounded(x0)

    def norm(self, change: Tensor) -> Tensor:
        """float[N]"""
        raise NotImplementedError

    def project(self, x: Tensor, x0: Tensor, radius: Tensor | None = None) -> Tensor:
        """The nearest point of the ball, or of one with other radii float[N]."""
        raise NotImplementedError

    def step(self, grad: Tensor) -> Tensor:
        """The direction of norm 1 that gains most for a linear loss."""
        raise NotImplementedError

    def start(self, x0: Tensor, rng: Rng) -> Tensor:
        """A random point of the ball."""
        raise NotImplementedError

    def extend(self, direction: Tensor, x0: Tensor) -> Tensor:
        """x0 plus a perturbation along `direction` of the full radius."""
        raise NotImplementedError

    def noise(self, x0: Tensor, rng: Rng) -> Tensor:
        """The direction of the control: signs, or white noise."""
        raise NotImplementedError

    def allows(self, x: Tensor, x0: Tensor) -> Tensor:
        # The slack covers float32's representation of the inputs themselves, far below any stored step.
        radius = self.radius(x0)
        return self.norm(x - x0) <= radius * (1 + 1e-5) + 1e-7

    def control(self, batch: Batch, rng: Rng, like: Tensor) -> Tensor:
        # Masked before it is scaled: padding must not swallow part of the budget.
        self.bounded(batch.inputs)
        return self.extend(confine(self.noise(batch.inputs, rng), batch.mask()), batch.inputs)

    def swap(self, batch: Batch, rng: Rng, other: Tensor, other0: Tensor) -> Tensor:
        x0 = batch.inputs
        return self.project(x0 + confine(other - other0, batch.mask()), x0)


@dataclass(frozen=True)
class Linf(Ball):
    """Every component may change by at most eps."""

    def norm(self, change: Tensor) -> Tensor:
        return change.flatten(1).abs().amax(1)

    def project(self, x: Tensor, x0: Tensor, radius: Tensor | None = None) -> Tensor:
        if radius is None:
            return x0 + (x - x0).clamp(-self.eps, self.eps)
        return x0 + (x - x0).clamp(-column(radius, x), column(radius, x))

    def step(self, grad: Tensor) -> Tensor:
        return grad.sign()

    def start(self, x0: Tensor, rng: Rng) -> Tensor:
        return x0 + self.eps * (2 * rng.uniform(*x0.shape[1:]) - 1)

    def extend(self, direction: Tensor, x0: Tensor) -> Tensor:
        return x0 + self.eps * direction.sign()

    def noise(self, x0: Tensor, rng: Rng) -> Tensor:
        return rng.signs(*x0.shape[1:])


@dataclass(frozen=True)
class L2(Ball):
    """The Euclidean length of the change is at most eps."""

    def norm(self, change: Tensor) -> Tensor:
        return change.flatten(1).norm(dim=1)

    def project(self, x: Tensor, x0: Tensor, radius: Tensor | None = None) -> Tensor:
        change = x - x0
        radius = self.radius(x0) if radius is None else radius
        shrink = (radius / self.norm(change).clamp_min(1e-12)).clamp_max(1)
        return x0 + change * column(shrink, x)

    def step(self, grad: Tensor) -> Tensor:
        # Divided by the largest component first: tiny gradients would underflow when squared.
        grad = grad / column(grad.flatten(1).abs().amax(1).clamp_min(1e-30), grad)
        return grad / column(self.norm(grad).clamp_min(1e-12), grad)

    def start(self, x0: Tensor, rng: Rng) -> Tensor:
        size = rng.fold("size").uniform() ** (1 / math.prod(x0.shape[1:]))
        return x0 + column(self.radius(x0) * size, x0) * self.step(self.noise(x0, rng))

    def extend(self, direction: Tensor, x0: Tensor) -> Tensor:
        return x0 + column(self.radius(x0), x0) * self.step(direction)

    def noise(self, x0: Tensor, rng: Rng) -> Tensor:
        return rng.normal(*x0.shape[1:])
