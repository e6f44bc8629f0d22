"""The company in which a network answers an example: a user asks it for one input, an attack asks for batches.

What an example is padded with, and what stands beside it, must not change its answer. Where they would, examples of
equal length are asked together, or each is asked alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

APART = 1e-3
"""By how much logits differ, as a share of the largest, that are not the same up to rounding."""

Ask = Callable[[Tensor, Tensor | None], Tensor]
"""(inputs[N, ..., L], lengths or None) -> logits[N, C]"""


def differ(one: Tensor, other: Tensor) -> bool:
    """Whether logits of the same examples are apart by more than rounding."""
    if one.shape != other.shape or not bool((one.isfinite() & other.isfinite()).all()):
        return one.shape != other.shape
    return float((one - other).abs().max()) > APART * max(1.0, float(one.abs().max())) if one.numel() else False


def in_groups(ask: Ask, inputs: Tensor, lengths: Tensor | None, groups: Sequence[Tensor]) -> Tensor:
    """Logits[N, C], asked group by group. With lengths, each group is cut to its own, which all of it have."""
    answers = []
    for rows in groups:
        part = inputs[rows]
        if lengths is not None:
            part = part[..., : int(lengths[rows[0]])]
        answers.append(ask(part, None if lengths is None else lengths[rows]))
    order = torch.cat(list(groups)).argsort()
    return torch.cat(answers)[order.to(answers[0].device)]


def of_equal_length(lengths: Tensor) -> list[Tensor]:
    """Rows grouped by their length, in the order of lengths."""
    return [(lengths == length).nonzero().squeeze(1) for length in lengths.unique()]


def one_by_one(count: int) -> list[Tensor]:
    return [torch.tensor([row]) for row in range(count)]
