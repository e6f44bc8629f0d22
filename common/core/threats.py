"""Threats: what the attacker may change. Each knows its projection, its steepest step and its random null."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from carom.common.base.errors import CaromError
from carom.common.base.rng import Rng
from carom.common.core.batch import Batch
from carom.common.core.spaces import Box, Inputs, Space
from carom.common.core.ties import closeness, first_largest
from carom.common.measure.rates import MOST_CONTROL


class Threat(Protocol):
    """The attacker's budget."""

    @property
    def blind_changes(self) -> int:
        """How many changes there are that know neither model nor input."""
        return 0

    control_follows: ClassVar[bool] = True
    """Whether its control changes as much as what was crafted did, and so is another one for each craft. Otherwise it
    spends the whole budget, whatever was crafted, and all sources share it."""

    @property
    def redraws(self) -> int:
        """How often a control is drawn that does not keep what the attack has to keep beside the budget, before it
        stands as it is; 0 where it keeps that however it is drawn."""
        return 0

    @property
    def unkept(self) -> tuple[str, ...]:
        """What the attack has to keep and its controls are not held to."""
        return ()

    def keeps(self, x: Inputs, x0: Inputs) -> Tensor | None:
        """bool[N]: which controls keep what the attack has to keep; None without `redraws`."""
        return None

    def control_limit(self, white_box: float | None) -> float:
        """The share fooled by the control above which the budget alone breaks the source, given the white-box success of
        the attack. A control that follows the attack is compared with it, not with a fixed share."""
        return (white_box or 0) / 2 if self.control_follows else MOST_CONTROL

    def allows(self, x: Inputs, x0: Inputs) -> Tensor:
        """bool[N]: which examples are within the budget. Asserted on the stored artefact, always."""

    def control(self, batch: Batch, rng: Rng, like: Inputs) -> Inputs:
        """A random perturbation that uses the same budget as `like`, the adversarial inputs: the null."""

    def swap(self, batch: Batch, rng: Rng, other: Inputs, other0: Inputs) -> Inputs:
        """The perturbations that took `other0` to `other`, put on this batch: what is universal in them."""

    def blind(self, batch: Batch, number: int) -> Inputs:
        """One of the `blind_changes` that know neither model nor input, such as the same change everywhere."""
        return batch.inputs

    def spend(self, x: Inputs, x0: Inputs, space: Space) -> Inputs:
        """A control between the bounds of the space, which have not taken part of its budget."""
        return space.clamp(x)


def confine(change: Tensor, mask: Tensor | None) -> Tensor:
    """A perturbation without what falls on padding."""
    return change if mask is None else change * mask


def column(value: Tensor, like: Tensor) -> Tensor:
    """float[N] -> float[N, 1, ...], to broadcast over the inputs."""
    return value.view(-1, *[1] * (like.dim() - 1))


STRETCH = 1000.0
"""By how much a control is stretched at most, to spend what bounds cut off."""


def low_frequency(shape: Sequence[int], number: int) -> Tensor:
    """float[*shape]: signs of few changes along the last axes: one of two patterns of 4 x 4 cells, or of square waves of
    160 and 32 samples."""
    if len(shape) < 3:
        period = (160, 32)[number]
        return 1.0 - 2.0 * (torch.arange(shape[-1]) % period >= period // 2).float().expand(shape)
    cells = Rng.of(number, ["low frequency"]).signs(4, 4)
    rows, columns = (torch.arange(side) * 4 // side for side in shape[-2:])
    return cells[0][rows][:, columns].expand(tuple(shape))


@dataclass(frozen=True)
class Ball(Threat):
    """Perturbations of bounded size. Subclasses fix the norm."""

    eps: float
    control_follows: ClassVar[bool] = False
    counts: ClassVar[bool] = False  # whether the norm is a whole number: of what has changed
    asks: ClassVar[str] = "0 or more, say 8/255"  # what a budget is, in its own unit
    fractions: ClassVar[bool] = True  # whether it may be written as one

    def __post_init__(self) -> None:
        if not self.eps >= 0:
            raise CaromError(f"eps must be a size, got {self.eps:g}: give {self.asks}.")

    def most(self, space: Box, shape: Sequence[int]) -> float:
        """The norm that no change of an input of that shape can exceed."""
        return math.inf

    def radius(self, x0: Tensor) -> Tensor:
        """float[N]: the largest allowed norm, per example; infinite where only the smallest change is asked for."""
        return torch.full((len(x0),), self.eps, device=x0.device, dtype=x0.dtype)

    def bounded(self, x0: Tensor) -> Tensor:
        """The radius, for those who mean to use it up."""
        if math.isinf(self.eps) and self.radius(x0).isinf().any():
            raise CaromError(
                f"this attack needs a finite eps, got {type(self).__name__.lower()} {self.eps:g}: give one, or choose an "
                "attack that looks for the smallest change (deepfool, ddn, fmn, fab, cw)."
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

    def inside(self, x: Tensor, x0: Tensor, low: float, high: float) -> Tensor:
        """A point near x of the ball and between bounds. Where clamping cannot leave the ball it is the nearest one, or
        nearly so."""
        return self.project(x, x0).clamp(low, high)

    def ascent(self, grad: Tensor, x: Tensor, low: float, high: float) -> Tensor:
        """The direction of norm 1 in which a climb steps from x[N, ...], which has to stay between bounds."""
        return self.step(grad)

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

    @property
    def blind_changes(self) -> int:
        return 4

    def blind(self, batch: Batch, number: int) -> Tensor:
        """The whole budget up everywhere, down everywhere, or along two patterns of low frequency."""
        x0 = batch.inputs
        pattern = low_frequency(x0.shape[1:], number - 2).to(x0) if number > 1 else x0.new_tensor(1.0 - 2 * number)
        return self.extend(confine(pattern.expand_as(x0), batch.mask()), x0)

    def spend(self, x: Tensor, x0: Tensor, space: Box) -> Tensor:  # type: ignore[override]
        """What bounds cut off a control is made up for elsewhere: its change is stretched, by halving, until what lies
        between the bounds has the radius."""
        radius = self.radius(x0)
        least, most = torch.ones_like(radius), torch.full_like(radius, STRETCH)
        inside = space.clamp(x)
        short = (self.norm(inside - x0) < radius * (1 - 1e-3)) & radius.isfinite()
        if self.counts or not bool(short.any()):
            return inside
        for _ in range(30):
            middle = (least + most) / 2
            fits = self.norm(space.clamp(x0 + column(middle, x) * (x - x0)) - x0) <= radius
            least, most = torch.where(fits, middle, least), torch.where(fits, most, middle)
        return torch.where(column(short, x), space.clamp(x0 + column(least, x) * (x - x0)), inside)

    def swap(self, batch: Batch, rng: Rng, other: Tensor, other0: Tensor) -> Tensor:
        x0 = batch.inputs
        return self.project(x0 + confine(other - other0, batch.mask()), x0)


@dataclass(frozen=True)
class Linf(Ball):
    """Every component may change by at most eps."""

    def most(self, space: Box, shape: Sequence[int]) -> float:
        return space.high - space.low

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

    asks: ClassVar[str] = "0 or more, say 0.5"

    def most(self, space: Box, shape: Sequence[int]) -> float:
        return (space.high - space.low) * math.sqrt(math.prod(shape))

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


@dataclass(frozen=True)
class L1(Ball):
    """The sizes of all changes add up to at most eps: few components may change much, or many a little."""

    share: ClassVar[float] = 0.05  # of the components that one step of a climb changes
    asks: ClassVar[str] = "0 or more, say 5"

    def most(self, space: Box, shape: Sequence[int]) -> float:
        return (space.high - space.low) * math.prod(shape)

    def norm(self, change: Tensor) -> Tensor:
        return change.flatten(1).abs().sum(1)

    def project(self, x: Tensor, x0: Tensor, radius: Tensor | None = None) -> Tensor:
        """Every change is shortened by the same amount, or to zero (Duchi et al. 2008, fig. 1)."""
        radius = self.radius(x0) if radius is None else radius
        change, room = (x - x0).flatten(1), radius.double()[:, None]
        size = change.abs().double()
        ordered = size.sort(1, descending=True).values
        number = torch.arange(1, size.shape[1] + 1, device=x.device)
        cut = (ordered.cumsum(1) - room) / number  # if the largest `number` of them stay
        last = (ordered > cut).sum(1, keepdim=True).clamp_min(1) - 1
        cut = torch.where(size.sum(1, keepdim=True) > room, cut.gather(1, last), 0.0).clamp_min(0)
        kept = (size - cut).clamp_min(0).to(x.dtype) * change.sign()
        return x0 + kept.view_as(x)

    def inside(self, x: Tensor, x0: Tensor, low: float, high: float) -> Tensor:
        """The nearest point of ball and bounds: what clamping takes is there for the rest to keep (Croce and Hein 2021,
        section 2.2; by halving instead of sorting)."""
        change, radius = (x - x0).flatten(1).double(), self.radius(x0).double()[:, None]
        room = torch.where(change > 0, high - x0.flatten(1), x0.flatten(1) - low).double()
        size, least = change.abs(), torch.zeros_like(radius)
        most = size.amax(1, keepdim=True)

        def left(cut: Tensor) -> Tensor:
            return torch.minimum((size - cut).clamp_min(0), room)

        most = torch.where(left(least).sum(1, keepdim=True) > radius, most, 0.0)
        for _ in range(50):
            cut = (least + most) / 2
            over = left(cut).sum(1, keepdim=True) > radius
            least, most = torch.where(over, cut, least), torch.where(over, most, cut)
        return (x0 + (left(most) * change.sign()).to(x.dtype).view_as(x)).clamp(low, high)

    def step(self, grad: Tensor) -> Tensor:
        """The component with the largest gradient alone; of equal ones the first."""
        flat = grad.flatten(1)
        place = first_largest(flat.abs(), closeness(flat.abs().amax(1)))[:, None]
        return torch.zeros_like(flat).scatter(1, place, flat.gather(1, place).sign()).view_as(grad)

    def ascent(self, grad: Tensor, x: Tensor, low: float, high: float) -> Tensor:
        """Signs of the `share` of components with the largest gradients, of those that bounds do not stop (SLIDE,
        Tramer and Boneh 2019, Alg. 1): single components are at their bounds at once, and a climb would stand still."""
        free = ~(((grad > 0) & (x >= high)) | ((grad < 0) & (x <= low)))
        flat = (grad * free).flatten(1)
        count = max(1, round(self.share * flat.shape[1]))
        rank = flat.abs().argsort(dim=1, descending=True, stable=True)[:, :count]
        signs = torch.zeros_like(flat).scatter(1, rank, flat.gather(1, rank).sign())
        return (signs / signs.abs().sum(1, keepdim=True).clamp_min(1)).view_as(grad)

    def start(self, x0: Tensor, rng: Rng) -> Tensor:
        size = rng.fold("size").uniform() ** (1 / math.prod(x0.shape[1:]))
        noise = self.noise(x0, rng)
        return x0 + column(self.radius(x0) * size / self.norm(noise).clamp_min(1e-12), x0) * noise

    def extend(self, direction: Tensor, x0: Tensor) -> Tensor:
        return x0 + column(self.radius(x0) / self.norm(direction).clamp_min(1e-12), x0) * direction

    def noise(self, x0: Tensor, rng: Rng) -> Tensor:
        """Of Laplace's law, which all directions of an L1 sphere are drawn by alike."""
        return -(1 - rng.fold("noise").uniform(*x0.shape[1:])).log() * rng.signs(*x0.shape[1:])
