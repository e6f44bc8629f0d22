"""Attacks on images that only see answers: scores, or the predicted class."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from carom.common.modality import AttackInfo
from carom.common.problem import Access
from carom.common.rng import Rng
from carom.common.search import RandomSearch, shrinking


@dataclass(frozen=True)
class Squares:
    """Vertical stripes, then squares of one sign per channel whose area shrinks (Andriushchenko et al. 2020, Linf)."""

    p: float = 0.8  # share of the pixels in the first squares

    def first(self, shape: torch.Size, rng: Rng) -> Tensor:
        _, channels, height, width = shape
        return rng.signs(channels, 1, width).expand(-1, -1, height, -1).contiguous()

    def next(self, pattern: Tensor, progress: float, rng: Rng, lengths: Tensor | None) -> Tensor:
        _, channels, height, width = pattern.shape
        side = round((shrinking(self.p, progress) * height * width) ** 0.5)
        side = min(max(side, 1), height, width)
        # The released code never lets a square touch the last row and column; here all positions are as likely.
        top = rng.fold("top").integers(height - side + 1, 1)
        left = rng.fold("left").integers(width - side + 1, 1)
        rows = torch.arange(height, device=pattern.device)
        columns = torch.arange(width, device=pattern.device)
        inside = ((rows >= top) & (rows < top + side))[:, None, :, None]
        inside = inside & ((columns >= left) & (columns < left + side))[:, None, None, :]
        signs = rng.fold("sign").signs(channels, 1, 1)
        # A square that would change nothing is not worth a query.
        same = ((pattern == signs) | ~inside).flatten(1).all(1)
        signs = torch.where(same[:, None, None, None], -signs, signs)
        return torch.where(inside, signs, pattern)


def square(queries: int = 1000, p: float = 0.8, keep_going: bool = False) -> RandomSearch:
    """Random search over squares; `keep_going` widens the margin after the first success, for transfer."""
    return RandomSearch(Squares(p), queries=queries, keep_going=keep_going)


SQUARE = AttackInfo(
    "square",
    "random search over squares, by scores alone",
    "Andriushchenko et al. 2020, Square attack: a query-efficient black-box adversarial attack via random search",
    Access.SCORE,
    ("linf",),
    square,
    "at most `queries` forward",
    random=True,
)

INFOS = [SQUARE]
