"""What computes the answers of a network while it is frozen: the folded network or the network itself, in which multiples
of rows, and why. `carom show` says it of a model.

The folded network is made once, behind the model, from the first inputs. It steps aside wherever hooks want to see the
network itself, and is made anew when the network has other weights or parts.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import chain
from operator import attrgetter

import torch
from torch import Tensor, nn

from carom.common.models.evaluation.folding import NotFolded, folded, logits_of, reason_kept
from carom.common.models.evaluation.row_blocks import FEW_TOGETHER, ROWS_TOGETHER, filled, steady


@dataclass(frozen=True)
class Evaluation:
    """How a network is evaluated."""

    network: nn.Module  # what computes the answers
    rows: int = ROWS_TOGETHER  # in multiples of which rows are computed
    reason: str | None = None  # why the network is computed as it is; None: it is folded

    def __str__(self) -> str:
        how = "folded" if self.reason is None else f"as it is: {self.reason}"
        return f"{how}; rows in multiples of {self.rows}"


def evaluation_of(module: nn.Module, given: Sequence[Tensor | None]) -> Evaluation:
    """How a module is evaluated, found out on some inputs (one block of rows).

    Whether rows may come in pairs (`steady`) shows in the answers too: the first two are the same to the last digit.
    """
    try:
        network, logits = folded(module, given)
        with reason_kept(f"fails on {FEW_TOGETHER} rows when folded"):
            few = [None if part is None else part[:FEW_TOGETHER] for part in given]
            in_pairs = steady(network) and torch.equal(logits_of(network(*few)), logits[:FEW_TOGETHER])
    except NotFolded as reason:
        return Evaluation(module, reason=str(reason))
    return Evaluation(network, FEW_TOGETHER if in_pairs else ROWS_TOGETHER)


class Evaluator:
    """Says how the network of a model is evaluated, before every answer that it gives while it is frozen."""

    def __init__(self) -> None:
        self._parts: Parts | None = None
        self._made: tuple[Parts, Evaluation] | None = None  # of which parts

    def evaluation(self, module: nn.Module, given: Sequence[Tensor | None]) -> Evaluation:
        """On these inputs: at least one row."""
        if self._parts is None or self._parts.stale(module):
            self._parts = Parts(module)
        if self._parts.watched():
            return Evaluation(module, reason=self._parts.watch())
        if self._made is None or self._made[0] is not self._parts:
            # Whoever asks first, the network has to serve backward passes later.
            with torch.inference_mode(False), torch.no_grad():
                first = [None if part is None else part[:ROWS_TOGETHER].detach().clone() for part in given]
                self._made = self._parts, evaluation_of(module, filled(first, ROWS_TOGETHER))
        return self._made[1]


_HELD = attrgetter("_parameters", "_buffers", "_modules")
_HOOKS = attrgetter("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_WAYS = ("forward", "forward", "backward", "backward")


class Parts:
    """The parts of a network, listed once: an `Evaluator` looks at all of them before every answer, and walking through
    modules and parameters takes four times as long as going along a list.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self._names, self._inside = zip(*module.named_modules(), strict=True)
        self._seen = self.state()

    def stale(self, module: nn.Module) -> bool:
        """Whether the network is another one, or has other weights, buffers or parts than when it was listed."""
        return module is not self.module or self.state() != self._seen

    def state(self) -> Hashable:
        """What tells one state of weights and buffers from another; the parts hold one another, so it tells them too."""
        held = [thing for tables in map(_HELD, self._inside) for table in tables for thing in table.values()]
        return tuple(map(id, held)), tuple(t._version for t in held if isinstance(t, Tensor))

    def watched(self) -> bool:
        """Whether hooks are waiting to see what the network's own modules do."""
        return any(chain.from_iterable(map(_HOOKS, self._inside)))

    def watch(self) -> str:
        """Where the first of these hooks is: "has forward hooks on layer3"."""
        for name, part in zip(self._names, self._inside, strict=True):
            for table, hooks in zip(_WAYS, _HOOKS(part), strict=True):
                if hooks:
                    return f"has {table} hooks on {name or 'the whole network'}"
        return "has no hooks"


def state_of(module: nn.Module) -> Hashable:
    """What tells that a network's weights, buffers or parts are others than before."""
    return Parts(module).state()


def watched(module: nn.Module) -> bool:
    """Whether hooks are waiting to see what the network's own modules do."""
    return Parts(module).watched()
