"""Attacks on images that only see answers: scores, or the predicted class."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor

from carom.common import whitebox
from carom.common.modality import AttackInfo
from carom.common.problem import Access
from carom.common.rng import Rng
from carom.common.search import Everywhere, RandomSearch, Turn, shrinking
from carom.common.threats import L2, Ball
from carom.common.worst import Worst


def _side(share: float, shape: torch.Size) -> int:
    """The side of a square that covers a share of the pixels."""
    _, _, height, width = shape
    return min(max(round((share * height * width) ** 0.5), 1), height, width)


def _corner(shape: torch.Size, side: int, rng: Rng) -> tuple[Tensor, Tensor]:
    """int64[N, 1] each: the topmost row and leftmost column of a square; all positions are as likely.

    The released code of Square never lets one touch the last row and column.
    """
    _, _, height, width = shape
    return rng.fold("top").integers(height - side + 1, 1), rng.fold("left").integers(width - side + 1, 1)


def _inside(shape: torch.Size, side: int, corner: tuple[Tensor, Tensor]) -> Tensor:
    """bool[N, 1, H, W]"""
    rows, columns = (torch.arange(size, device=corner[0].device) for size in shape[2:])
    down, across = rows - corner[0], columns - corner[1]
    return (((down >= 0) & (down < side))[:, :, None] & ((across >= 0) & (across < side))[:, None, :])[:, None]


@dataclass(frozen=True)
class Squares(Everywhere):
    """Vertical stripes, then squares of one sign per channel whose area shrinks (Andriushchenko et al. 2020, Alg. 2)."""

    p: float = 0.8  # share of the pixels in the first squares

    def within(self, threat: Ball) -> Squares | Bumps:
        return Bumps(self.p / 8) if isinstance(threat, L2) else self

    def first(self, shape: torch.Size, rng: Rng) -> Tensor:
        _, channels, height, width = shape
        return rng.signs(channels, 1, width).expand(-1, -1, height, -1).contiguous()

    def next(self, pattern: Tensor, turn: Turn) -> Tensor:
        side = _side(shrinking(self.p, turn.progress), pattern.shape)
        inside = _inside(pattern.shape, side, _corner(pattern.shape, side, turn.rng))
        signs = turn.rng.fold("sign").signs(pattern.shape[1], 1, 1)
        # A square that would change nothing is not worth a query.
        same = ((pattern == signs) | ~inside).flatten(1).all(1)
        signs = torch.where(same[:, None, None, None], -signs, signs)
        return torch.where(inside, signs, pattern)


@lru_cache(maxsize=64)
def bump(side: int) -> Tensor:
    """float[side, side] of norm 1: a hill beside a valley, each falling from its middle in squares (Andriushchenko et al.
    2020, section 3.3 and supplementary A.2: the pattern that gradients of convolutional networks resemble)."""
    upper = side // 2
    halves = []
    for height in (upper, side - upper):
        across = (torch.arange(side) - side // 2).abs()
        down = (torch.arange(height) - height // 2).abs()
        distance = torch.maximum(down[:, None], across[None, :])
        share = torch.tensor([1 / (k + 1) ** 2 for k in range(side // 2 + 1)])
        halves.append(share.flip(0).cumsum(0).flip(0)[distance.clamp_max(side // 2)])
    whole = torch.cat([halves[0], -halves[1]])
    return whole / whole.norm().clamp_min(1e-12)


@dataclass(frozen=True)
class Bumps(Everywhere):
    """Square Attack within L2 (Andriushchenko et al. 2020, Alg. 3): the energy of two windows moves into one of them,
    as a bump added to what was there.

    The pattern always has the whole radius, so there is no unused budget to hand out; what the pixels' bounds cut off
    the paper gives back to the next window, here the threat scales the whole pattern.
    """

    p: float = 0.1

    def first(self, shape: torch.Size, rng: Rng) -> Tensor:
        _, channels, height, width = shape
        side = max(1, min(height, width) // 5)
        tile = bump(side).to(rng.keys.device)
        down, across = -(-height // side), -(-width // side)
        signs = rng.signs(channels, down, across).repeat_interleave(side, 2).repeat_interleave(side, 3)
        return (signs * tile.repeat(down, across))[:, :, :height, :width]

    def next(self, pattern: Tensor, turn: Turn) -> Tensor:
        shape = pattern.shape
        side = min(max(3, _side(shrinking(self.p, turn.progress), shape) // 2 * 2 + 1), shape[2], shape[3])
        corner = _corner(shape, side, turn.rng)
        here, there = _inside(shape, side, corner), _inside(shape, side, _corner(shape, side, turn.rng.fold("other")))

        def size(change: Tensor) -> Tensor:
            return change.flatten(2).norm(dim=2)[:, :, None, None]  # of each channel

        added = self._placed(shape, side, corner, turn.rng) * turn.rng.fold("sign").signs(shape[1], 1, 1)
        old = pattern * here
        new = added + old / size(old).clamp_min(1e-10)
        energy = size(pattern * (here | there))
        kept = torch.where(here | there, 0.0, pattern)
        return kept + new / size(new).clamp_min(1e-10) * energy

    @staticmethod
    def _placed(shape: torch.Size, side: int, corner: tuple[Tensor, Tensor], rng: Rng) -> Tensor:
        """float[N, 1, H, W]: the bump in its window, upright or lying."""
        hill = bump(side).to(corner[0].device)
        rows, columns = (torch.arange(size, device=hill.device) for size in shape[2:])
        down, across = (rows - corner[0])[:, :, None], (columns - corner[1])[:, None, :]
        inside = (down >= 0) & (down < side) & (across >= 0) & (across < side)
        down, across = down.clamp(0, side - 1), across.clamp(0, side - 1)
        lying = rng.fold("lying").integers(2, 1, 1).bool()
        values = torch.where(lying, hill[across, down], hill[down, across])
        return (values * inside)[:, None]


@lru_cache(maxsize=8)
def _halvings(numbers: int) -> Tensor:
    """int64[K, 2]: start and end of each group of sign flips: all, halves, quarters, down to single numbers."""
    groups, length = [], numbers
    while True:
        groups += [(start, min(start + length, numbers)) for start in range(0, numbers, length)]
        if length == 1:
            return torch.tensor(groups)
        length = -(-length // 2)


@dataclass(frozen=True)
class Halves(Everywhere):
    """Signs flipped in groups that halve (SignHunter, Al-Dujaili and O'Reilly 2020, Alg. 2), from all signs up."""

    def first(self, shape: torch.Size, rng: Rng) -> Tensor:
        return torch.ones(len(rng), *shape[1:], device=rng.keys.device)

    def next(self, pattern: Tensor, turn: Turn) -> Tensor:
        flat = pattern.flatten(1)
        groups = _halvings(flat.shape[1]).to(flat.device)
        start, end = groups[turn.place % len(groups)].unsqueeze(2).unbind(1)
        number = torch.arange(flat.shape[1], device=flat.device)
        return torch.where((number >= start) & (number < end), -flat, flat).view_as(pattern)


@lru_cache(maxsize=8)
def _units(numbers: int) -> Tensor:
    """int64[K]: what is coprime to `numbers`; multiplied by one of them, 0 to numbers - 1 come in another order."""
    return torch.tensor([k for k in range(1, max(2, numbers)) if math.gcd(k, numbers) == 1])


@dataclass(frozen=True)
class Directions(Everywhere):
    """Steps along orthonormal directions, each tried with both signs and none twice (SimBA, Guo et al. 2019, Alg. 1).

    The directions are pixels, or the cosine waves of the lowest `share` of the frequencies along each side. Their order
    is an affine permutation per example, not a uniform one: it needs no memory. After the last the order begins again.
    """

    step: float = 0.2
    basis: str = "pixel"
    share: float = 0.5
    fills = False

    def first(self, shape: torch.Size, rng: Rng) -> None:
        return None

    def next(self, pattern: Tensor, turn: Turn) -> Tensor:
        _, channels, height, width = pattern.shape
        down, across = (math.ceil(side * (self.share if self.basis == "dct" else 1)) for side in (height, width))
        numbers = channels * down * across
        units = _units(numbers).to(pattern.device)
        factor = units[turn.seed.fold("factor").integers(len(units))]
        number = (factor * (turn.place // 2) + turn.seed.fold("offset").integers(numbers)) % numbers
        channel, row, column = number // (down * across), number // across % down, number % across
        wave = self._line(row, height)[:, :, None] * self._line(column, width)[:, None, :]
        here = torch.nn.functional.one_hot(channel, channels)[:, :, None, None] * wave[:, None]
        sign = 1.0 - 2.0 * (turn.place % 2)
        return pattern + self.step * sign.view(-1, 1, 1, 1) * here

    def _line(self, number: Tensor, length: int) -> Tensor:
        """float[N, length] of norm 1: one pixel, or one wave of the cosine transform (DCT-II)."""
        place = torch.arange(length, device=number.device)
        if self.basis == "pixel":
            return (place == number[:, None]).float()
        wave = (math.pi * (place + 0.5) * number[:, None] / length).cos()
        return wave / wave.norm(dim=1, keepdim=True)

    def follow(self, place: Tensor, rose: Tensor) -> Tensor:
        """After a success with the first sign, the second is not tried."""
        return place + torch.where(rose & (place % 2 == 0), 2, 1)


SPARSE_SCHEDULE = ((0.0, 2), (0.005, 4), (0.02, 5), (0.05, 6), (0.1, 8), (0.2, 10), (0.4, 12), (0.6, 15), (0.8, 20))
"""From which share of the budget on the number of replaced pixels is divided by what (released code)."""


@dataclass(frozen=True)
class Sparse(Everywhere):
    """A set of pixels at corners of the colour cube, some of which are replaced by others (Sparse-RS, Croce et al.
    2022, Alg. 1 for L0). The released code draws the same places for all images at each step; here each has its own."""

    alpha: float = 0.3  # share of the set in the first replacement
    pixels: int = 0

    def within(self, threat: Ball) -> Sparse:
        return replace(self, pixels=int(threat.eps))

    def first(self, shape: torch.Size, rng: Rng) -> Tensor:
        places = shape[2] * shape[3]
        chosen = rng.fold("place").uniform(places).argsort(1).argsort(1) < self.pixels
        return rng.fold("colour").signs(*shape[1:]) * chosen.view(len(rng), 1, *shape[2:])

    def next(self, pattern: Tensor, turn: Turn) -> Tensor:
        shape, part = pattern.shape, max(by for at, by in SPARSE_SCHEDULE if turn.progress > at)
        held = (pattern != 0).any(1).flatten(1)
        count = max(1, int(self.alpha / part * self.pixels))
        order = turn.rng.fold("place").uniform(held.shape[1])
        # The order puts those that are held first, and among them those that are let go; then those that come instead.
        leaves = torch.where(held, order, 2.0).argsort(1).argsort(1) < count
        comes = torch.where(held, 2.0, order).argsort(1).argsort(1) < count
        leaves, comes = (leaves & held).view(-1, 1, *shape[2:]), (comes & ~held).view(-1, 1, *shape[2:])
        colour = turn.rng.fold("colour").signs(*shape[1:])
        if self.pixels >= held.shape[1]:  # no other place is free: the same in other colours
            return torch.where(leaves, colour, pattern)
        return torch.where(comes, colour, torch.where(leaves, 0.0, pattern))


def square(queries: int = 1000, p: float = 0.8, keep_going: bool = False) -> RandomSearch:
    """Random search over squares, or within L2 over bumps (their share is p / 8, the paper's .1 for its .8);
    `keep_going` widens the margin after the first success, for transfer."""
    return RandomSearch(Squares(p), queries=queries, keep_going=keep_going)


def auto(steps: int = 100, restarts: int = 1, targets: int = 9, queries: int = 5000) -> Worst:
    """AutoAttack: APGD, APGD-T, FAB-T and Square."""
    return whitebox.auto(square(queries), steps, restarts, targets)


def simba(
    queries: int = 1000, step: float = 0.2, basis: str = "pixel", share: float = 0.5, keep_going: bool = False
) -> RandomSearch:
    """Random search along orthonormal directions: basis=pixel, or basis=dct with the lowest `share` of frequencies."""
    return RandomSearch(Directions(step, basis, share), queries=queries, keep_going=keep_going)


def sparse_rs(queries: int = 1000, alpha: float = 0.3, keep_going: bool = False) -> RandomSearch:
    """Random search over sets of pixels; the budget counts pixels."""
    return RandomSearch(Sparse(alpha), queries=queries, keep_going=keep_going)


def signhunter(queries: int = 1000, keep_going: bool = False) -> RandomSearch:
    """Flips of ever smaller groups of signs."""
    return RandomSearch(Halves(), queries=queries, keep_going=keep_going)


def _info(
    name: str, summary: str, reference: str, needs: Access, threats: tuple[str, ...], build, **more
) -> AttackInfo:  # type: ignore[no-untyped-def]
    more = {"random": True, "cost": "at most `queries` forward", **more}
    return AttackInfo(name, summary, reference, needs, threats, build, **more)


BOTH = ("linf", "l2")
INFOS = [
    whitebox.auto_info(auto),
    _info(
        "square",
        "random search over squares, by scores alone",
        "Andriushchenko et al. 2020, Square attack: a query-efficient black-box adversarial attack via random search",
        Access.SCORE,
        BOTH,
        square,
    ),
    _info(
        "simba",
        "single pixels or cosine waves, kept where they help",
        "Guo et al. 2019, Simple black-box adversarial attacks",
        Access.SCORE,
        ("l2",),
        simba,
    ),
    _info(
        "sparse-rs",
        "random search over few pixels, by scores alone",
        "Croce et al. 2022, Sparse-RS: a versatile framework for query-efficient sparse black-box adversarial attacks",
        Access.SCORE,
        ("l0",),
        sparse_rs,
    ),
    _info(
        "signhunter",
        "sign flips in groups that halve, by scores alone",
        "Al-Dujaili and O'Reilly 2020, Sign bits are all you need for black-box attacks",
        Access.SCORE,
        ("linf",),
        signhunter,
        random=False,
    ),
]
