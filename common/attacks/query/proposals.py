"""Proposals of random search that know no modality: sign flips in blocks that halve, and steps along directions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from carom.common.attacks.query.random_search import Everywhere, Turn
from carom.common.base.rng import Rng


def halving(place: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
    """int64[M] each: start and end of a block of `numbers` (int64[M]) numbers. By rising place: all of them, halves,
    quarters, and so on, as equal as can be; single numbers last, then all of them again."""
    levels = _bits(numbers - 1)
    many = 2**levels - 1  # blocks before the single numbers
    place = place % (many + numbers)
    level = _bits(place + 1) - 1
    which, parts = place + 1 - 2**level, 2**level
    single, alone = place >= many, place - many
    start, end = numbers * which // parts, numbers * (which + 1) // parts
    return torch.where(single, alone, start), torch.where(single, alone + 1, end)


def _bits(number: Tensor) -> Tensor:
    """int64: how many binary digits each number has; 0 has none."""
    return torch.frexp(number.double()).exponent.long()


def flipped(signs: Tensor, place: Tensor, lengths: Tensor | None = None) -> Tensor:
    """signs[M, ...] with one block of them turned, counted along the flattened input; of padded inputs [M, L], along
    what is no padding."""
    flat = signs.flatten(1)
    numbers = torch.full_like(place, flat.shape[1]) if lengths is None else lengths.clamp_min(1)
    start, end = halving(place, numbers)
    number = torch.arange(flat.shape[1], device=flat.device)
    inside = (number >= start[:, None]) & (number < end[:, None])
    return torch.where(inside, -flat, flat).view_as(signs)


@dataclass(frozen=True)
class Halves(Everywhere):
    """Signs flipped in blocks that halve, from all signs up (SignHunter, Al-Dujaili and O'Reilly 2020, Alg. 2).

    The blocks of a level are as equal as can be, where the released code makes the last one shorter.
    """

    def first(self, shape: torch.Size, rng: Rng) -> Tensor:
        return torch.ones(len(rng), *shape[1:], device=rng.keys.device)

    def next(self, pattern: Tensor, turn: Turn) -> Tensor:
        return flipped(pattern, turn.place, turn.lengths)


@lru_cache(maxsize=8)
def _units(numbers: int, device: torch.device) -> Tensor:
    """int64[K]: what is coprime to `numbers`; multiplied by one of them, 0 to numbers - 1 come in another order."""
    return torch.tensor([k for k in range(1, max(2, numbers)) if math.gcd(k, numbers) == 1], device=device)


LEAST = 7  # waves or tiles along an axis: coarser ones could not draw what small inputs show


def portion(share: float, side: int) -> int:
    """How many waves or tiles go along an axis of so many numbers."""
    return min(side, max(LEAST, round(share * side)))


@dataclass(frozen=True)
class Directions(Everywhere):
    """Steps along orthonormal directions, each tried with both signs and none twice (SimBA, Guo et al. 2019, Alg. 1).

    The directions are single numbers of the input, or cosine waves along its last `axes`, the lowest `share` of the
    frequencies of each and no fewer than 7. Their order is an affine permutation per example, not a uniform one: it
    needs no memory. After the last the order begins again. The length of a step is a share of the threat's radius, and
    what leaves the ball is projected; the paper has no ball.
    """

    step: float = 0.5
    share: float = 1.0
    waves: bool = False
    axes: int = 2
    fills = False

    def first(self, shape: torch.Size, rng: Rng) -> None:
        return None

    def next(self, pattern: Tensor, turn: Turn) -> Tensor:
        shape = pattern.shape[1:]
        share = self.share if self.waves else 1.0
        counts = [*shape[: -self.axes], *(portion(share, side) for side in shape[-self.axes :])]
        numbers = math.prod(counts)
        units = _units(numbers, pattern.device)
        factor = units[turn.seed.fold("factor").integers(len(units))]
        number = (factor * (turn.place // 2) + turn.seed.fold("offset").integers(numbers)) % numbers
        here = torch.ones_like(pattern)
        for axis in reversed(range(len(shape))):
            line = self._line(number % counts[axis], shape[axis], axis >= len(shape) - self.axes)
            here = here * line.view(-1, *(side if a == axis else 1 for a, side in enumerate(shape)))
            number = number // counts[axis]
        sign = 1.0 - 2.0 * (turn.place % 2)
        return pattern + self.step * sign.view(-1, *[1] * len(shape)) * here

    def _line(self, number: Tensor, length: int, along: bool) -> Tensor:
        """float[M, length] of norm 1: one place, or one wave of the cosine transform (DCT-II)."""
        place = torch.arange(length, device=number.device)
        if not (self.waves and along):
            return (place == number[:, None]).float()
        wave = (math.pi * (place + 0.5) * number[:, None] / length).cos()
        return wave / wave.norm(dim=1, keepdim=True)

    def follow(self, place: Tensor, rose: Tensor) -> Tensor:
        """After a success with the first sign, the second is not tried."""
        return place + torch.where(rose & (place % 2 == 0), 2, 1)
