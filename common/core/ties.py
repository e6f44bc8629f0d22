"""Which of two numbers is larger, whatever their last digits are.

An answer's last digits hang on the processor, on how many rows were computed together and on a row's place among them.
Numbers that are equal in exact arithmetic (the same word changed at either of two places, a pixel that the model does
not look at) then differ, which way nobody can tell. So a decision never compares two of them as they are: numbers
within rounding of each other are equal, and of equals the first is taken.

Rounding scores to a grid would not do: equals that lie at the edge of two cells would still part, with a chance of an
error over a cell (1e-2) each time. Here equals are never parted. What remains are numbers whose distance is `tie` itself,
to within the error: for scores that spread over a range, a chance of about the error over that range (1e-7) for each
comparison, which no rule can take away, because a decision that depends on a continuous number has to change somewhere.
The same chance remains where a random draw is compared with shares made of scores. Numbers that are not compared but
computed with are another matter (`coarse`).

The class that a model answers is the one that it names itself, the first of the largest, without any such rule: next to
the boundary between two classes no rule is better than the boundary. Forests, whose classes tie often, add up votes
exactly, so that those are ties on every machine.
"""

from __future__ import annotations

from bisect import bisect_left, insort

import torch
from torch import Tensor

ULPS = 64
"""Scores this many units of rounding apart count as equal: that much of a row's score hangs on the rows beside it."""

ROUNDING = ULPS * torch.finfo(torch.float32).eps
"""The same as a share of the numbers that a score is made of: scores are compared in float32."""


def tie(logits: Tensor) -> Tensor:
    """float[N]: how close two scores made of such logits float[N, C], or of sequences float[N, T, C] that end at -inf,
    must be to count as equal."""
    size = logits.abs()
    if logits.dim() == 3:
        size = size.masked_fill(logits.isneginf(), 0.0).amax(2)
    return ROUNDING * size.amax(1).clamp_min(1.0)


def finite(logits: Tensor) -> Tensor:
    """bool[N]: which rows are finite; of sequences, before their end."""
    if logits.dim() == 3:
        return (logits.isfinite().all(2) | logits.isneginf().all(2)).all(1)
    return logits.isfinite().all(1)


def closeness(*values: Tensor, least: float = 0.0) -> Tensor:
    """float[...]: how close such values, of whose making nothing is known, must be to count as equal: a share of the
    largest, or of `least`. Infinite ones have no size."""
    sizes = torch.stack([torch.where(v.isfinite(), v.abs(), 0.0) for v in values])
    return ROUNDING * sizes.amax(0).clamp_min(least)


def above(new: Tensor, old: Tensor, near: Tensor | None = None, least: float = 0.0) -> Tensor:
    """bool[...]: whether `new` is larger than `old` by more than `near`, or by more than `closeness`."""
    return new - (closeness(new, old, least=least) if near is None else near) > old


def first_largest(values: Tensor, near: Tensor | float) -> Tensor:
    """int64[...]: along the last axis, the first of the values that are the largest, to within near[...]."""
    top = values.amax(-1)
    return (values >= (top - near)[..., None]).int().argmax(-1)


def falling(values: Tensor, near: Tensor) -> Tensor:
    """int64[N, K]: places by falling values[N, K]. Those within near[N] of their neighbour keep their order."""
    ordered, place = values.sort(dim=1, descending=True, stable=True)
    steps = torch.zeros_like(place)
    steps[:, 1:] = (ordered[:, :-1] - ordered[:, 1:] > near[:, None]).long().cumsum(1)
    return torch.zeros_like(place).scatter(1, place, steps).argsort(dim=1, stable=True)


def coarse(values: Tensor, bits: int = 4) -> Tensor:
    """Each value to so many binary digits, of which four leave it within a sixteenth.

    For the few numbers that a long computation goes on from, such as the weights of random directions: thousands of
    components of a step are then rounded to what is stored, and each would part with the chance of an error over a
    stored unit. Now all are equal unless one of the few lies at the edge between two cells, which are far wider.
    """
    digits, power = torch.frexp(values)
    return torch.ldexp((digits * 2**bits).round() / 2**bits, power)


class Settled:
    """The scores of one search as its decisions see them: a score within rounding of one that was seen before is that
    one. What follows may compare them as they are, sort them and take the first of the largest."""

    def __init__(self) -> None:
        self._seen: list[float] = []

    def __call__(self, score: float, near: float) -> float:
        """The score, or the (lower) one within `near` of it that was seen before."""
        at = bisect_left(self._seen, score)
        for other in self._seen[max(0, at - 1) : at + 1]:
            if other == score or abs(other - score) <= near:
                return other
        insort(self._seen, score)
        return score
