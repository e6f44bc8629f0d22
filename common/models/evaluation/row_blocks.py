"""Rows that come out the same however many are computed together.

CPU kernels work on blocks of up to 16 rows (a register of AVX-512) and treat what is left over by other code, whose sums
differ in the last digit: what is stored would depend on the batch size. So rows are computed in whole blocks, beside
copies of the first where some are missing. Costs count examples, not copies.

Convolutions, norms and attention work on one image after another. What needs whole blocks are matrix products over all
rows: a network whose weight matrices all belong to dense layers needs them there, and its batches in pairs only.

Where one row keeps the processor busy by itself, no copies are computed: a batch of one needs the memory and the time of
one. Rows of such a network are computed together if that changes no digit of what each is answered by itself, and one
after another otherwise, which then is about as fast.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

ROWS_TOGETHER = 16
"""Rows of any network are computed in multiples of this many."""

FEW_TOGETHER = 2
"""Rows of a network whose dense layers fill up their own blocks. Single rows have kernels of their own."""

BUSY = 5e8
"""Operations of a forward pass over one row from which on calling them costs nothing beside them."""

REUSE = 100
"""And how many each weight has to take part in, for a row: fewer, and reading the weights anew for every row costs."""


class SteadyLinear(nn.Linear):
    """A dense layer that fills up its last block of rows."""

    def forward(self, x: Tensor) -> Tensor:
        rows = x.reshape(-1, x.shape[-1])
        missing = -len(rows) % ROWS_TOGETHER
        if not missing or x.device.type != "cpu":
            return super().forward(x)
        return super().forward(F.pad(rows, (0, 0, 0, missing)))[: len(rows)].reshape(*x.shape[:-1], -1)


def dense_hold_all(module: nn.Module) -> bool:
    """Whether all weight matrices of a network belong to its dense layers."""
    others = (part for part in module.modules() if type(part) not in (nn.Linear, SteadyLinear))
    return not any(weight.dim() == 2 for part in others for weight in part.parameters(recurse=False))


def steady(module: nn.Module) -> bool:
    """Make the dense layers of a network steady, if that is all it needs; say whether."""
    if not dense_hold_all(module):
        return False
    for part in module.modules():
        if type(part) is nn.Linear:
            part.__class__ = SteadyLinear
    return True


class SteadyDense(TorchFunctionMode):
    """Has every dense layer called inside fill up its last block of rows, whosoever it is."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is F.linear and not kwargs and args[0].device.type == "cpu":
            rows = args[0].reshape(-1, args[0].shape[-1])
            if missing := -len(rows) % ROWS_TOGETHER:
                out = func(F.pad(rows, (0, 0, 0, missing)), *args[1:])[: len(rows)]
                return out.reshape(*args[0].shape[:-1], out.shape[-1])
        return func(*args, **(kwargs or {}))


class InPairs(nn.Module):
    """A network as it is, its dense layers made steady while it computes; hooks see it as ever."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *given: Any) -> Any:
        with SteadyDense():
            return self.module(*given)


def fills_the_machine(network: nn.Module, given: Sequence[Tensor | None]) -> bool:
    """Whether one row, given as the arguments of the network, keeps a processor busy: by what is multiplied and added in
    a forward pass, so that the answer is the same on every machine."""
    weights, row = sum(p.numel() for p in network.parameters()), given[0]
    # A weight takes part at every number of a row at most: small networks need not be asked.
    if row is None or 2 * weights * row.numel() < BUSY:
        return False
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(*given)
    return counter.get_total_flops() >= max(BUSY, REUSE * weights)


def row_by_row(network: Callable[..., Any], given: Sequence[Tensor | None]) -> list[Any]:
    """What a network answers to each row by itself."""
    parts = [None if part is None else part.split(1) for part in given]
    assert parts[0] is not None
    return [network(*(None if part is None else part[row] for part in parts)) for row in range(len(parts[0]))]


def filled(given: Sequence[Tensor | None], multiple: int) -> list[Tensor | None]:
    """Inputs beside copies of the first, up to whole blocks of `multiple` rows; lengths or None likewise."""
    return [None if part is None else _filled(part, multiple) for part in given]


def _filled(part: Tensor, multiple: int) -> Tensor:
    missing = -len(part) % multiple
    return torch.cat([part, part[:1].expand(missing, *part.shape[1:])]) if missing else part
