"""Views of images that attacks average over: resized, scaled, mixed, reshuffled, warped.

Every row of a call, which is one copy of one image, has random numbers of its own, and all rows go through one
operation of fixed shape: no size depends on a random number. What the papers resize and shift by whole pixels, one
draw for the whole batch, is here one bilinear sampling with continuous numbers per row.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from carom.common.base.errors import CaromError
from carom.common.base.rng import Rng
from carom.common.core.oracle import Oracle
from carom.common.core.tasks import of_classes


def sampled(x: Tensor, down: Tensor, across: Tensor) -> Tensor:
    """x[R, C, H, W] at places float[R, H, W] in [-1, 1], from edge to edge; black outside."""
    return F.grid_sample(x, torch.stack([across, down], -1), padding_mode="zeros", align_corners=False)


def places(side: int, like: Tensor) -> Tensor:
    """float[side]: the middle of each pixel, from -1 to 1."""
    return (torch.arange(side, device=like.device, dtype=like.dtype) + 0.5) * (2 / side) - 1


@dataclass(frozen=True)
class Resized:
    """Images made smaller, by up to `rates`, at a random place on black (input diversity, Xie et al. 2019, section
    3.1), with probability `p`. Several rates make a copy each (Zou et al. 2020, section 3.1).

    The paper enlarges to up to `rate` times the side, pads to `rate` times, and gives that to the model. Here, as in
    later code, the model sees its own size: the same view, smaller by `rate`. Enlarging (by nearest neighbours) and
    shrinking again are one bilinear sampling.
    """

    rates: tuple[float, ...] = (1.1,)
    p: float = 0.5

    @property
    def copies(self) -> int:
        return len(self.rates)

    def __call__(self, x: Tensor, rng: Rng, copy: Tensor) -> Tensor:
        smallest = 1 / shrinking(self.rates, x.device, x.dtype)[copy]
        share = smallest + (1 - smallest) * rng.fold("size").uniform()
        middle = (1 - share)[:, None] * (2 * rng.fold("place").uniform(2) - 1)
        rows, columns = (
            (places(side, x) - middle[:, axis, None]) / share[:, None] for axis, side in enumerate(x.shape[2:])
        )
        shape = (len(x), *x.shape[2:])
        view = sampled(x, rows[:, :, None].expand(shape), columns[:, None, :].expand(shape))
        return torch.where((rng.fold("whether").uniform() < self.p).view(-1, 1, 1, 1), view, x)


@dataclass(frozen=True)
class Mixed:
    """Images with a little of an image of another class (Admix, Wang et al. 2021, eq. 6), one of `Problem.others`.

    The paper scales each mixed image to five copies: compose with `Scales`. There the copies of one mix share their
    partner; here every copy draws its own.
    """

    copies: int = 3
    strength: float = 0.2

    def __call__(self, x: Tensor, rng: Rng, copy: Tensor) -> Tensor:
        raise RuntimeError("Mixed has to be prepared with the examples of a problem")

    @contextlib.contextmanager
    def prepared(self, oracle: Oracle, rng: Rng) -> Iterator[MixedWith]:
        others = oracle.problem.others
        labels = of_classes(oracle.problem.goal).labels
        if others is None or (len(labels) and not (others.labels != labels[:, None]).any(1).all()):
            given = "none" if others is None else f"only {len(others)}, all of one class"
            raise CaromError(f"admix needs clean examples of other classes than those attacked; {given} were given.")
        yield MixedWith(self.copies, self.strength, others.inputs, others.labels != labels[:, None])


@dataclass(frozen=True)
class MixedWith:
    """Mixed, for the N images of one batch."""

    copies: int
    strength: float
    others: Tensor  # [K, C, H, W]
    suits: Tensor  # bool[N, K]: which are of another class

    def __call__(self, x: Tensor, rng: Rng, copy: Tensor) -> Tensor:
        suits = self.suits.repeat(len(x) // max(1, len(self.suits)), 1)
        order = suits.cumsum(1)
        chosen = rng.integers(order[:, -1].clamp_min(1))[:, None]
        partner = (order > chosen).int().argmax(1)
        return x + self.strength * self.others[partner]


@lru_cache(maxsize=8)
def shrinking(rates: tuple[float, ...], device: torch.device, dtype: torch.dtype) -> Tensor:
    """float[K]: the rates, copied to the device once."""
    return torch.tensor(rates, device=device, dtype=dtype)


@lru_cache(maxsize=8)
def cosines(side: int, device: torch.device) -> Tensor:
    """float[side, side]: the orthonormal cosine transform, DCT-II; each row is a wave."""
    number = torch.arange(side, dtype=torch.float64)
    waves = (math.pi / side * number[:, None] * (number + 0.5)).cos() * (2 / side) ** 0.5
    waves[0] /= 2**0.5
    return waves.float().to(device)


@dataclass(frozen=True)
class Spectrum:
    """Noise, then every frequency louder or softer by up to `rho` (spectrum simulation, Long et al. 2022, eq. 10).

    The paper gives the noise the threat's eps as its standard deviation; here it is a number of its own.
    """

    copies: int = 20
    rho: float = 0.5
    sigma: float = 16 / 255

    def __call__(self, x: Tensor, rng: Rng, copy: Tensor) -> Tensor:
        down, across = (cosines(side, x.device).to(x.dtype) for side in x.shape[2:])
        waves = down @ (x + self.sigma * rng.fold("noise").normal(*x.shape[1:])) @ across.T
        louder = 1 + self.rho * (2 * rng.fold("louder").uniform(*x.shape[1:]) - 1)
        return down.T @ (waves * louder) @ across


def block_of(place: Tensor, end: Tensor) -> Tensor:
    """int64[..., S]: in which of B blocks, given int64[..., B] where each ends, the places int64[..., S] lie."""
    return (place[..., :, None] >= end[..., None, :]).sum(-1).clamp_max(end.shape[-1] - 1)


@dataclass(frozen=True)
class Reordered:
    """One axis cut into blocks and put together in another order. Their lengths are drawn in proportion to numbers
    from 1 to 2, as BSR's released code draws them: no block is a sliver."""

    source: Tensor  # int64[..., S]: where each place comes from
    block: Tensor  # int64[..., S]: from which block
    middle: Tensor  # float[..., S]: of that block
    size: Tensor  # int64[..., S]: of that block

    @classmethod
    def draw(cls, rng: Rng, side: int, blocks: int, *shape: int) -> Reordered:
        share = 1 + rng.fold("length").uniform(*shape, blocks)
        end = (share.cumsum(-1) / share.sum(-1, keepdim=True) * side).round().long()
        end[..., -1] = side
        size = end.diff(dim=-1, prepend=torch.zeros_like(end[..., :1]))
        order = rng.fold("order").uniform(*shape, blocks).argsort(-1)  # the block that comes first, second, ...
        place = torch.arange(side, device=end.device).expand(*end.shape[:-1], side)
        new_end = size.gather(-1, order).cumsum(-1)
        slot = block_of(place, new_end)
        block = order.gather(-1, slot)
        size, end = size.gather(-1, block), end.gather(-1, block)
        source = place - new_end.gather(-1, slot) + end
        return cls(source, block, end - (size + 1) / 2, size)


@dataclass(frozen=True)
class Shuffled:
    """Blocks in another order, each turned about its middle by up to `degrees` (BSR, Wang, He, Wang and Wang 2024,
    section 3.3): strips along one axis, drawn, and within each strip pieces along the other, all of random size.

    The paper turns every block, as is done here; the authors' later code turns the strips before they are cut.
    """

    copies: int = 20
    blocks: int = 2
    degrees: float = 24.0

    revision: ClassVar[int] = 2

    def __call__(self, x: Tensor, rng: Rng, copy: Tensor) -> Tensor:
        height, width = x.shape[2:]
        downwards = (rng.fold("axis").uniform() < 0.5).view(-1, 1, 1)
        by_rows = self._places(rng, height, width)
        column, row, inside = (place.transpose(1, 2) for place in self._places(rng, width, height))
        row, column, inside = (
            torch.where(downwards, one, other) for one, other in zip(by_rows, (row, column, inside), strict=True)
        )
        view = sampled(x, (2 * row + 1) / height - 1, (2 * column + 1) / width - 1)
        return view * inside[:, None]

    def _places(self, rng: Rng, height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
        """The row float[R, H, W] and the column from which each pixel comes where strips lie from top to bottom, and
        whether its block reaches so far, bool[R, H, W]."""
        strips = Reordered.draw(rng.fold("strips"), height, self.blocks)
        pieces = Reordered.draw(rng.fold("pieces"), width, self.blocks, self.blocks)
        # int64[R, H, W] each: of the strip that a row comes from, the piece that a pixel comes from.
        strip = strips.block[:, :, None].expand(-1, height, width)
        source, block, middle, size = (
            part.gather(1, strip) for part in (pieces.source, pieces.block, pieces.middle, pieces.size)
        )
        angle = math.radians(self.degrees) * (2 * rng.fold("angle").uniform(self.blocks**2) - 1)
        turn = angle.gather(1, (strip * self.blocks + block).flatten(1)).view_as(strip)
        down, across = (strips.source - strips.middle)[:, :, None], source - middle
        cos, sin = turn.cos(), turn.sin()
        row, column = cos * down + sin * across, cos * across - sin * down
        inside = (2 * row.abs() <= strips.size[:, :, None]) & (2 * column.abs() <= size)
        return row + strips.middle[:, :, None], column + middle, inside


@dataclass(frozen=True)
class Restructured:
    """Each of blocks x blocks pieces of random size changed in its own way (SIA, Wang et al. 2023, section 3.3): rolled
    down or across, flipped down, across or both, dimmed, or given noise of up to `noise`.

    The paper's list is longer by resizing, a change of the spectrum and dropout; the authors' later code has these
    seven.
    """

    copies: int = 20
    blocks: int = 3
    noise: float = 16 / 255

    def __call__(self, x: Tensor, rng: Rng, copy: Tensor) -> Tensor:
        (height, width), n, numbers = x.shape[2:], len(x), self.blocks**2
        rows, columns = (self._cuts(rng.fold(name), side) for name, side in (("rows", height), ("columns", width)))
        piece = rows.block[:, :, None] * self.blocks + columns.block[:, None, :]
        change = rng.fold("change").integers(7, numbers).gather(1, piece.flatten(1)).view_as(piece)
        amount = rng.fold("amount").uniform(numbers).gather(1, piece.flatten(1)).view_as(piece)
        row = self._moved(rows, 2, change == 0, (change == 2) | (change == 4), amount)
        column = self._moved(columns, 1, change == 1, (change == 3) | (change == 4), amount)
        place = (row * width + column).flatten(1)[:, None].expand(n, x.shape[1], height * width)
        view = x.flatten(2).gather(2, place).view_as(x)
        view = view * torch.where(change == 5, amount, 1.0)[:, None]
        noisy = (view + self.noise * (2 * rng.fold("noise").uniform(*x.shape[1:]) - 1)).clamp(0, 1)
        return torch.where((change == 6)[:, None], noisy, view)

    def _cuts(self, rng: Rng, side: int) -> Reordered:
        """The blocks of one axis, in their order."""
        blocks = min(self.blocks, side)
        # Distinct cuts, all sets as likely: the places of the smallest of as many random numbers.
        cuts = rng.uniform(side - 1).argsort(1)[:, : blocks - 1].sort(1).values + 1
        end = F.pad(cuts, (0, 1), value=side)
        size = end.diff(dim=1, prepend=torch.zeros_like(end[:, :1]))
        place = torch.arange(side, device=end.device).expand(len(end), side)
        block = block_of(place, end)
        size, end = size.gather(1, block), end.gather(1, block)
        return Reordered(place, block, end - (size + 1) / 2, size)

    @staticmethod
    def _moved(cuts: Reordered, axis: int, rolled: Tensor, flipped: Tensor, amount: Tensor) -> Tensor:
        """int64[R, H, W]: where pixels come from along one axis, which is constant along `axis`."""
        source, size = cuts.source.unsqueeze(axis), cuts.size.unsqueeze(axis)
        start = (cuts.middle - (cuts.size - 1) / 2).long().unsqueeze(axis)
        within = source - start
        within = torch.where(flipped, size - 1 - within, within)
        return start + torch.where(rolled, (within + (amount * size).long()) % size, within)


@lru_cache(maxsize=8)
def pull(height: int, width: int, device: torch.device) -> Tensor:
    """float[H, W]: how far a thin plate held at its corners and the middles of its sides gives way at each pixel, where
    its centre moves by 1 (Bookstein 1989)."""
    held = torch.cartesian_prod(*[torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64)] * 2)
    rows, columns = (places(side, held) for side in (height, width))

    def bend(one: Tensor, other: Tensor) -> Tensor:
        square = (one[:, None] - other).square().sum(-1)
        return square * square.clamp_min(1e-12).log()

    def linear(points: Tensor) -> Tensor:
        return F.pad(points, (1, 0), value=1.0)

    system = torch.zeros(12, 12, dtype=torch.float64)
    system[:9, :9], system[:9, 9:], system[9:, :9] = bend(held, held), linear(held), linear(held).T
    moved = torch.zeros(12, dtype=torch.float64)
    moved[4] = 1
    weights = torch.linalg.solve(system, moved)
    points = torch.cartesian_prod(rows, columns)
    return (bend(points, held) @ weights[:9] + linear(points) @ weights[9:]).view(height, width).float().to(device)


@dataclass(frozen=True)
class Warped:
    """The image on a thin plate whose centre is pulled up to `reach` half sides away, its rim held (Lin et al. 2024,
    the vanilla warping of section 3.2; their search for the mildest pull, which doubles the cost, is left out)."""

    copies: int = 20
    reach: float = 1.0

    def __call__(self, x: Tensor, rng: Rng, copy: Tensor) -> Tensor:
        give = pull(*x.shape[2:], x.device).to(x.dtype)
        moved = self.reach * (2 * rng.uniform(2) - 1)[:, :, None, None] * give
        rows, columns = (places(side, x) for side in x.shape[2:])
        return sampled(x, rows[:, None] + moved[:, 0], columns + moved[:, 1])


@dataclass(frozen=True)
class Parted:
    """Each image, and a random part of its clean original enlarged to its size, under the same perturbation (self-
    universality, Wei et al. 2023, section 3.2, with the released code's share of .1 and sides of up to 4:3). It comes
    before other transforms: the perturbation is what it is given less the clean image."""

    area: float = 0.1
    copies = 2
    in_one_pass = True

    def __call__(self, x: Tensor, rng: Rng, copy: Tensor) -> Tensor:
        raise RuntimeError("Parted has to be prepared with the images of a batch")

    @contextlib.contextmanager
    def prepared(self, oracle: Oracle, rng: Rng) -> Iterator[PartedFrom]:
        yield PartedFrom(self.area, oracle.batch.inputs)  # type: ignore[arg-type]


@dataclass(frozen=True)
class PartedFrom:
    """Parted, for the N images of one batch."""

    area: float
    clean: Tensor
    copies = 2
    in_one_pass = True

    def __call__(self, x: Tensor, rng: Rng, copy: Tensor) -> Tensor:
        clean = self.clean.repeat(len(x) // max(1, len(self.clean)), 1, 1, 1)
        wide = (math.log(4 / 3) * (2 * rng.fold("wide").uniform(1) - 1)).to(x.dtype).exp()
        share = (self.area * torch.cat([1 / wide, wide], 1)).sqrt().clamp_max(1)
        middle = (1 - share) * (2 * rng.fold("place").uniform(2) - 1).to(x.dtype)
        rows, columns = (
            middle[:, axis, None] + share[:, axis, None] * places(side, x) for axis, side in enumerate(x.shape[2:])
        )
        shape = (len(x), *x.shape[2:])
        part = sampled(clean, rows[:, :, None].expand(shape), columns[:, None, :].expand(shape)) + (x - clean)
        return torch.where((copy == 1).view(-1, 1, 1, 1), part, x)
