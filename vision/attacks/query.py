"""Attacks on images that only see answers: scores, or the predicted class."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor

from carom.common.attacks.catalogue import white_box
from carom.common.attacks.catalogue.base import Catalogue
from carom.common.attacks.catalogue.query import estimated
from carom.common.attacks.gradient.ascent import Ascent
from carom.common.attacks.query.finite_differences import Bandits
from carom.common.attacks.query.geoda import GeoDA
from carom.common.attacks.query.label_search import DecisionSearch
from carom.common.attacks.query.proposals import Directions, portion
from carom.common.attacks.query.random_search import Everywhere, RandomSearch, Turn, shrinking
from carom.common.attacks.query.surfree import SurFree
from carom.common.attacks.worst_case import Worst
from carom.common.base.errors import UnknownName
from carom.common.base.rng import Rng
from carom.common.core.batch import Access
from carom.common.core.threats import L2, Ball
from carom.vision.threats import corner, inside

BOTH = ("linf", "l2")
QUERY = Catalogue(needs=Access.SCORE, threats=BOTH, cost="at most `queries`", random=True)


def _side(share: float, shape: torch.Size) -> int:
    """The side of a square that covers a share of the pixels."""
    _, _, height, width = shape
    return min(max(round((share * height * width) ** 0.5), 1), height, width)


@dataclass(frozen=True)
class Squares(Everywhere):
    """Vertical stripes, then squares of one sign per channel that shrink (Andriushchenko et al. 2020, Alg. 2). They may
    lie anywhere; the released code never lets one touch the last row and column."""

    p: float = 0.8  # share of the pixels in the first squares

    def within(self, threat: Ball) -> Squares | Bumps:
        return Bumps(self.p / 8) if isinstance(threat, L2) else self

    def first(self, shape: torch.Size, rng: Rng) -> Tensor:
        _, channels, height, width = shape
        return rng.signs(channels, 1, width).expand(-1, -1, height, -1).contiguous()

    def next(self, pattern: Tensor, turn: Turn) -> Tensor:
        side = _side(shrinking(self.p, turn.progress), pattern.shape)
        where = inside(pattern.shape, side, *corner(pattern.shape, side, turn.rng))
        signs = turn.rng.fold("sign").signs(pattern.shape[1], 1, 1)
        # A square that would change nothing is not worth a query.
        same = ((pattern == signs) | ~where).flatten(1).all(1)
        signs = torch.where(same[:, None, None, None], -signs, signs)
        return torch.where(where, signs, pattern)


@lru_cache(maxsize=64)
def bump(side: int, device: torch.device | str = "cpu") -> Tensor:
    """float[side, side] of norm 1: a hill beside a valley, each falling from its middle in squares (Andriushchenko et
    al. 2020, section 3.3 and supplementary A.2: the pattern that gradients of convolutional networks resemble)."""
    upper = side // 2
    halves = []
    for height in (upper, side - upper):
        across = (torch.arange(side) - side // 2).abs()
        down = (torch.arange(height) - height // 2).abs()
        distance = torch.maximum(down[:, None], across[None, :])
        share = torch.tensor([1 / (k + 1) ** 2 for k in range(side // 2 + 1)])
        halves.append(share.flip(0).cumsum(0).flip(0)[distance.clamp_max(side // 2)])
    whole = torch.cat([halves[0], -halves[1]])
    return (whole / whole.norm().clamp_min(1e-12)).to(device)


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
        tile = bump(side, rng.keys.device)
        down, across = -(-height // side), -(-width // side)
        signs = rng.signs(channels, down, across).repeat_interleave(side, 2).repeat_interleave(side, 3)
        return (signs * tile.repeat(down, across))[:, :, :height, :width]

    def next(self, pattern: Tensor, turn: Turn) -> Tensor:
        shape = pattern.shape
        side = min(max(3, _side(shrinking(self.p, turn.progress), shape) // 2 * 2 + 1), shape[2], shape[3])
        place = corner(shape, side, turn.rng)
        here = inside(shape, side, *place)
        both = here | inside(shape, side, *corner(shape, side, turn.rng.fold("other")))

        def size(change: Tensor) -> Tensor:
            return change.flatten(2).norm(dim=2)[:, :, None, None]  # of each channel

        added = self._placed(shape, side, *place, turn.rng) * turn.rng.fold("sign").signs(shape[1], 1, 1)
        old = pattern * here
        new = added + old / size(old).clamp_min(1e-10)
        energy = size(pattern * both)
        kept = torch.where(both, 0.0, pattern)
        return kept + new / size(new).clamp_min(1e-10) * energy

    @staticmethod
    def _placed(shape: torch.Size, side: int, top: Tensor, left: Tensor, rng: Rng) -> Tensor:
        """float[N, 1, H, W]: the bump in its window, upright or lying."""
        hill = bump(side, top.device)
        rows, columns = (torch.arange(size, device=hill.device) for size in shape[2:])
        down, across = (rows - top[:, None])[:, :, None], (columns - left[:, None])[:, None, :]
        down, across = down.clamp(0, side - 1), across.clamp(0, side - 1)
        lying = rng.fold("lying").integers(2, 1, 1).bool()
        values = torch.where(lying, hill[across, down], hill[down, across])
        return values[:, None] * inside(shape, side, top, left)


@dataclass(frozen=True)
class Tiles:
    """Images as squares of one value: the tiling prior of Bandits (Ilyas, Engstrom and Madry 2019, section 3.2). Along
    each side there are `share` as many tiles as pixels, and no fewer than 7; the paper's 50 of 299 are .17."""

    share: float = 0.25

    def shape(self, shape: torch.Size) -> tuple[int, ...]:
        return (shape[1], *(portion(self.share, side) for side in shape[2:]))

    def spread(self, coarse: Tensor, shape: torch.Size) -> Tensor:
        for axis in (2, 3):
            tiles = torch.arange(shape[axis], device=coarse.device) * coarse.shape[axis] // shape[axis]
            coarse = coarse.index_select(axis, tiles)
        return coarse


@dataclass(frozen=True)
class LowFrequencies:
    """Random images of the lowest `share` of the frequencies of the cosine transform along each side, and no fewer than
    7: where SurFree and GeoDA look for directions."""

    share: float = 0.25

    def __call__(self, shape: torch.Size, rng: Rng) -> Tensor:
        _, channels, height, width = shape
        down, across = portion(self.share, height), portion(self.share, width)
        weights = rng.normal(channels, down, across).double()
        # In double: a matrix product may differ in its last digit with the number of rows.
        image = weights.transpose(2, 3) @ waves(down, height, weights.device)
        return (image.transpose(2, 3) @ waves(across, width, weights.device)).float()


@lru_cache(maxsize=16)
def waves(count: int, length: int, device: torch.device | str = "cpu") -> Tensor:
    """float64[count, length]: the first cosine waves (DCT-II), of norm 1 each."""
    place, number = torch.arange(length) + 0.5, torch.arange(count)
    lines = (math.pi * place.double() * number[:, None] / length).cos()
    return (lines / lines.norm(dim=1, keepdim=True)).to(device)


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


@QUERY.attack(
    "square",
    "random search over squares, by scores alone",
    paper="Andriushchenko et al. 2020, Square attack: a query-efficient black-box adversarial attack via random search",
    departures="squares may touch the last row and column; within L2, what the bounds cut off is made up by scaling "
    "the whole pattern",
)
def square(queries: int = 1000, p: float = 0.8, keep_going: bool = False) -> RandomSearch:
    """Random search over squares, or within L2 over bumps (their share is p / 8, the paper's .1 for its .8);
    `keep_going` widens the margin after the first success, for transfer."""
    return RandomSearch(Squares(p), queries=queries, keep_going=keep_going)


@white_box.auto_of(QUERY)
def auto(steps: int = 100, restarts: int = 1, targets: int = 9, queries: int = 5000) -> Worst:
    """AutoAttack: APGD, APGD-T, FAB-T and Square."""
    return white_box.auto(square(queries), steps, restarts, targets)


@QUERY.attack(
    "simba",
    "single pixels or cosine waves, kept where they help",
    paper="Guo et al. 2019, Simple black-box adversarial attacks",
    threats=("l2",),
    departures="steps are projected onto the ball, of which the paper knows none",
)
def simba(
    queries: int = 1000, step: float = 0.5, basis: str = "dct", share: float = 0.25, keep_going: bool = False
) -> RandomSearch:
    """Random search along orthonormal directions: basis=dct, cosines of the lowest `share` of frequencies along each
    side, or basis=pixel. A step is a share of the radius."""
    if basis not in ("pixel", "dct"):
        raise UnknownName("basis", basis, ("pixel", "dct"))
    return RandomSearch(Directions(step, share, basis == "dct", axes=2), queries=queries, keep_going=keep_going)


@QUERY.attack(
    "sparse-rs",
    "random search over few pixels, by scores alone",
    paper="Croce et al. 2022, Sparse-RS: a versatile framework for query-efficient sparse black-box adversarial "
    "attacks",
    threats=("l0",),
    departures="each image draws its own places",
)
def sparse_rs(queries: int = 1000, alpha: float = 0.3, keep_going: bool = False) -> RandomSearch:
    """Random search over sets of pixels; the budget counts pixels."""
    return RandomSearch(Sparse(alpha), queries=queries, keep_going=keep_going)


@QUERY.attack(
    "bandits",
    "PGD on a gradient in tiles that is learnt along the way",
    paper="Ilyas, Engstrom and Madry 2019, Prior convictions: black-box adversarial attacks with bandits and priors",
    departures="distances and rates are shares of the budget, and questions are asked farther away by default",
)
def bandits(
    queries: int = 1000,
    share: float = 0.25,
    size: float = 0.1,
    explore: float = 1.0,
    eta: float = 0.5,
    rate: float = 0.03,
    loss: str = "margin",
) -> Ascent:
    """Steps along a gradient remembered in tiles, `share` as many as pixels along a side; two questions refine it."""
    return estimated(Bandits(Tiles(share), explore, eta, rate), queries, size, 0.0, loss)


@QUERY.attack(
    "surfree",
    "circles through the boundary, by labels alone",
    paper="Maho, Furon and Le Merrer 2021, SurFree: a fast surrogate-free black-box attack",
    needs=Access.LABEL,
    threats=("l2",),
    targeted=False,
    departures="directions are orthogonal to the clean one alone, not to a hundred earlier ones",
)
def surfree(queries: int = 1000, share: float = 0.25) -> DecisionSearch:
    """Circles through the boundary in random planes, spanned by the lowest `share` of the frequencies."""
    return DecisionSearch(SurFree(LowFrequencies(share)), queries)


@QUERY.attack(
    "geoda",
    "straight along the boundary's normal, by labels alone",
    paper="Rahmati et al. 2020, GeoDA: a geometric framework for black-box adversarial attacks",
    needs=Access.LABEL,
    targeted=False,
)
def geoda(queries: int = 1000, probes: int = 30, share: float = 0.25) -> DecisionSearch:
    """The normal of the boundary from `probes` questions at first, among the lowest `share` of the frequencies."""
    return DecisionSearch(GeoDA(probes, LowFrequencies(share)), queries)
