"""Update rules: pure transformations of the gradient, chained. State travels beside the gradient, never in the rule."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from carom.common.core.threats import column


class Update(Protocol):
    """One transformation of the gradient along the steps of an attack."""

    def init(self, x: Tensor) -> Any:
        """The state before the first step."""

    def apply(self, grad: Tensor, state: Any) -> tuple[Tensor, Any]:
        """(transformed gradient, next state)"""


@dataclass(frozen=True)
class Chain:
    """Transformations in order. The empty chain passes the gradient on."""

    updates: tuple[Update, ...] = ()

    def init(self, x: Tensor) -> tuple[Any, ...]:
        return tuple(update.init(x) for update in self.updates)

    def apply(self, grad: Tensor, state: tuple[Any, ...]) -> tuple[Tensor, tuple[Any, ...]]:
        following = []
        for update, old in zip(self.updates, state, strict=True):
            grad, new = update.apply(grad, old)
            following.append(new)
        return grad, tuple(following)

    def momentum(self, state: tuple[Any, ...]) -> Tensor | None:
        """What the chain's Momentum has accumulated; None without one, and before the first step."""
        held = [old for update, old in zip(self.updates, state, strict=True) if isinstance(update, Momentum)]
        return held[0] if held and isinstance(held[0], Tensor) else None


def chain(*updates: Update) -> Chain:
    return Chain(updates)


def levelled(grad: Tensor) -> Tensor:
    """[N, ...] over each example's mean absolute value: what released codes write for g / |g|_1."""
    return grad / column(grad.flatten(1).abs().mean(1).clamp_min(1e-30), grad)


@dataclass(frozen=True)
class L1Normalise:
    """Divide each example's gradient by its mean absolute value, as MI-FGSM's released code does.

    The paper (Dong et al. 2018, eq. 6) divides by the L1 norm. The two differ by a constant factor per example, which
    neither momentum nor the sign that follows can see; the mean keeps numbers near one.
    """

    def init(self, x: Tensor) -> None:
        return None

    def apply(self, grad: Tensor, state: None) -> tuple[Tensor, None]:
        return levelled(grad), None


@dataclass(frozen=True)
class Momentum:
    """Accumulate: m <- decay * m + grad (Dong et al. 2018)."""

    decay: float = 1.0

    def init(self, x: Tensor) -> None:
        return None

    def apply(self, grad: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
        total = grad if state is None else self.decay * state + grad
        return total, total


@lru_cache(maxsize=16)
def bell(width: int, device: torch.device) -> Tensor:
    """float[width]: a Gaussian from -3 to 3 standard deviations, of sum 1."""
    weights = torch.linspace(-3.0, 3.0, width, dtype=torch.float64).square().mul(-0.5).exp()
    return (weights / weights.sum()).float().to(device)


@dataclass(frozen=True)
class Smooth:
    """Blur the gradient along the axes of space or time: to first order that of the mean over shifted inputs
    (translation invariance, Dong et al. 2019, eq. 9 and 10), with the released code's Gaussian kernel.

    The kernel is a share of the side, the released 15 of 224 pixels, and no narrower than `least`: a Gaussian cut at
    three standard deviations needs five points to blur at all. `least=1` with `share=0` passes the gradient on. Beyond
    the borders lie zeros.
    """

    share: float = 15 / 224
    least: int = 5
    axes: tuple[int, ...] = (-2, -1)  # (-1,) for sounds

    def init(self, x: Tensor) -> None:
        return None

    def apply(self, grad: Tensor, state: None) -> tuple[Tensor, None]:
        for axis in self.axes:  # a Gaussian is the product of one along each axis
            side = grad.shape[axis]
            width = max(self.least, round(self.share * side)) // 2 * 2 + 1
            lines = grad.movedim(axis, -1)
            weights = bell(width, grad.device).to(grad.dtype).view(1, 1, -1)
            blurred = F.conv1d(lines.reshape(-1, 1, side), weights, padding=width // 2)
            grad = blurred.view(lines.shape).movedim(-1, axis)
        return grad, None


@dataclass(frozen=True)
class Adam:
    """The mean of past gradients over the root of their mean square, both corrected for their start at zero (Kingma and
    Ba 2015, Alg. 1). What follows multiplies by the learning rate."""

    mean: float = 0.9
    square: float = 0.999

    def init(self, x: Tensor) -> tuple[Tensor, Tensor, int]:
        return torch.zeros_like(x), torch.zeros_like(x), 0

    def apply(self, grad: Tensor, state: tuple[Tensor, Tensor, int]) -> tuple[Tensor, tuple[Tensor, Tensor, int]]:
        first, second, count = state
        first = self.mean * first + (1 - self.mean) * grad
        second = self.square * second + (1 - self.square) * grad.square()
        count += 1
        size = (second / (1 - self.square**count)).sqrt() + 1e-8
        return first / (1 - self.mean**count) / size, (first, second, count)
