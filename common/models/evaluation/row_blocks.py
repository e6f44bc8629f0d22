"""Rows that come out the same however many are computed together.

CPU kernels work on blocks of up to 16 rows (a register of AVX-512) and treat what is left over by other code, whose sums
differ in the last digit: what is stored would depend on the batch size. So rows are computed in whole blocks, beside
copies of the first where some are missing. Costs count examples, not copies.

Convolutions, norms and attention work on one image after another. What needs whole blocks are matrix products over all
rows: a network whose weight matrices all belong to dense layers needs them there, and its batches in pairs only.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

ROWS_TOGETHER = 16
"""Rows of any network are computed in multiples of this many."""

FEW_TOGETHER = 2
"""Rows of a network whose dense layers fill up their own blocks. Single rows have kernels of their own."""


class SteadyLinear(nn.Linear):
    """A dense layer that fills up its last block of rows."""

    def forward(self, x: Tensor) -> Tensor:
        rows = x.reshape(-1, x.shape[-1])
        missing = -len(rows) % ROWS_TOGETHER
        if not missing or x.device.type != "cpu":
            return super().forward(x)
        return super().forward(F.pad(rows, (0, 0, 0, missing)))[: len(rows)].reshape(*x.shape[:-1], -1)


def steady(module: nn.Module) -> bool:
    """Make the dense layers of a network steady, if that is all it needs; say whether."""
    dense = [part for part in module.modules() if type(part) is nn.Linear]
    for part in module.modules():
        if type(part) is not nn.Linear and any(weight.dim() == 2 for weight in part.parameters(recurse=False)):
            return False
    for part in dense:
        part.__class__ = SteadyLinear
    return True


def filled(given: Sequence[Tensor | None], multiple: int) -> list[Tensor | None]:
    """Inputs beside copies of the first, up to whole blocks of `multiple` rows; lengths or None likewise."""
    return [None if part is None else _filled(part, multiple) for part in given]


def _filled(part: Tensor, multiple: int) -> Tensor:
    missing = -len(part) % multiple
    return torch.cat([part, part[:1].expand(missing, *part.shape[1:])]) if missing else part
