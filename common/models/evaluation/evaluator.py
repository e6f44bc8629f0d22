"""What computes the answers of a network while it is frozen: the folded network or the network itself, in which multiples
of rows, and why. `carom show` says it of a model.

The folded network is made once, behind the model, from the first inputs. It steps aside wherever hooks want to see the
network itself, and is made anew when the network has other weights or parts.
"""

from __future__ import annotations

import contextlib
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, nn

from carom.common.core.precision import FP32, computing_in
from carom.common.models.evaluation.folding import NotFolded, folded, logits_of, reason_kept
from carom.common.models.evaluation.row_blocks import (
    FEW_TOGETHER,
    ROWS_TOGETHER,
    InPairs,
    dense_hold_all,
    filled,
    fills_the_machine,
    row_by_row,
    steady,
)

COMPARED = 3
"""Rows that are computed together and each by itself, to see whether company changes a last digit."""


@dataclass(frozen=True)
class Evaluation:
    """How a network is evaluated."""

    network: nn.Module  # what computes the answers
    rows: int = ROWS_TOGETHER  # in multiples of which rows are computed
    reason: str | None = None  # why the network is computed as it is; None: it is folded
    apart: bool = False  # whether one row is computed after another

    def __str__(self) -> str:
        how = "folded" if self.reason is None else f"as it is: {self.reason}"
        rows = f"rows in multiples of {self.rows}" if self.rows > 1 else "as many rows as there are"
        return f"{how}; {'one row after another' if self.apart else rows}"

    def answers(self, given: Sequence[Tensor | None]) -> list[tuple[Any, int]]:
        """What the network answers to the arguments: (its answer, how many rows it was given) for each part of them. On
        a CPU the last rows may be copies of the first."""
        inputs = given[0]
        assert inputs is not None
        if inputs.device.type != "cpu":
            return [(self.network(*given), len(inputs))]
        if self.apart and len(inputs) > 1:
            return [(answer, 1) for answer in row_by_row(self.network, given)]
        whole = filled(given, self.rows)
        return [(self.network(*whole), len(whole[0]))]  # type: ignore[arg-type]


def evaluation_of(module: nn.Module, given: Sequence[Tensor | None], before: Evaluation | None = None) -> Evaluation:
    """How a module is evaluated, found out on some inputs (at least one row); `before`: on inputs of another shape.

    Where one row keeps the machine busy, no second one is computed here. Whether rows may come in pairs (`steady`) shows
    in the answers too: the first two are the same to the last digit, by themselves and in a whole block.
    """
    one = _first(given, 1)
    busy = _fills_the_machine(module, one)
    block = one if busy else filled(_first(given, ROWS_TOGETHER), ROWS_TOGETHER)
    network, reason = (module, None) if before is None else (before.network, before.reason)
    try:
        if before is None:
            network, _ = folded(module, block)
        if busy:
            if reason is None:
                steady(network)
            return Evaluation(network, 1, reason, apart=True)
        if reason is None:
            with reason_kept(f"fails on {FEW_TOGETHER} rows when folded"):
                pairs = steady(network) and answers_in_pairs(network, block)
            return Evaluation(network, FEW_TOGETHER if pairs else ROWS_TOGETHER)
    except NotFolded as error:
        network, reason = module, str(error)
    return Evaluation(network, 1 if busy else ROWS_TOGETHER, reason, apart=busy)


def _fills_the_machine(module: nn.Module, one: Sequence[Tensor | None]) -> bool:
    try:
        return one[0] is not None and one[0].device.type == "cpu" and fills_the_machine(module, one)
    except Exception:  # a user's module may raise anything; why it does is told where it is folded
        return False


def answers_in_pairs(network: nn.Module, block: Sequence[Tensor | None]) -> bool:
    """Whether the first two rows are answered to the last digit as in the whole block."""
    few, whole = logits_of(network(*_first(block, FEW_TOGETHER))), logits_of(network(*block))
    return torch.equal(few, whole[:FEW_TOGETHER])


def answers_alike(network: nn.Module, given: Sequence[Tensor | None]) -> bool:
    """Whether rows computed together have the answers and gradients, to the last digit, of each by itself."""

    def asked(rows: Sequence[Tensor | None]) -> tuple[Tensor, Tensor]:
        inputs = rows[0]
        assert inputs is not None
        inputs = inputs.detach().requires_grad_()
        logits = logits_of(network(inputs, *rows[1:]))
        return logits.detach(), torch.autograd.grad(logits.amax(-1).sum(), inputs)[0]

    try:
        with torch.enable_grad():
            together = asked(given)
            alone = [
                asked([None if part is None else part[row : row + 1] for part in given])
                for row in range(len(together[0]))
            ]
    except Exception:  # a user's module may raise anything
        return False
    return all(
        torch.equal(whole, torch.cat(parts)) for whole, parts in zip(together, zip(*alone, strict=True), strict=True)
    )


def pairs_while_watched(module: nn.Module, given: Sequence[Tensor | None]) -> bool:
    """Whether a network as it is answers to pairs of rows what it answers to more, its dense layers made steady."""
    if not dense_hold_all(module):
        return False
    try:
        return answers_in_pairs(InPairs(module), filled(_first(given, 1), 2 * FEW_TOGETHER))
    except Exception:  # a user's module may raise anything
        return False


def _first(given: Sequence[Tensor | None], rows: int) -> list[Tensor | None]:
    return [None if part is None else part[:rows] for part in given]


def _copied(given: Sequence[Tensor | None]) -> list[Tensor | None]:
    return [None if part is None else part.detach().clone() for part in given]


class Evaluator:
    """Says how the network of a model is evaluated, before every answer that it gives while it is frozen."""

    def __init__(self) -> None:
        self._parts: Parts | None = None
        self._made: dict[tuple[Any, ...], Evaluation] = {}  # for rows of each shape
        self._compared: set[tuple[Any, ...]] = set()  # shapes of which rows were computed together and each by itself
        self._pairs: bool | None = None  # whether rows may come in pairs while somebody watches; None: not known yet

    def evaluation(self, module: nn.Module, given: Sequence[Tensor | None]) -> Evaluation:
        """On these inputs: at least one row."""
        if self._parts is None or self._parts.stale(module):
            self._parts, self._made, self._compared, self._pairs = Parts(module), {}, set(), None
        shape = tuple(None if part is None else part.shape[1:] for part in given)
        made = self._made.get(shape)
        if self._parts.watched():
            in_pairs = made is not None and made.rows == 1 and self._in_pairs(module, given)
            reason = self._parts.watch()
            return Evaluation(InPairs(module), FEW_TOGETHER, reason) if in_pairs else Evaluation(module, reason=reason)
        if made is None:
            known = [*self._made.values()]
            before = next((e for e in known if e.rows != 1), known[0] if known else None)
            # Whoever asks first, the network has to serve backward passes later.
            with torch.inference_mode(False), torch.no_grad(), computing_in(FP32):
                made = evaluation_of(module, _copied(_first(given, ROWS_TOGETHER)), before)
            self._made[shape] = made
        # Whoever asks for gradients of several rows has the memory that comparing them takes.
        many = torch.is_grad_enabled() and len(given[0]) > 1  # type: ignore[arg-type]
        if made.apart and many and shape not in self._compared:
            self._compared.add(shape)
            with torch.inference_mode(False), computing_in(FP32):
                if answers_alike(made.network, _copied(_first(given, COMPARED))):
                    made = self._made[shape] = replace(made, apart=False)
        return made

    def _in_pairs(self, module: nn.Module, given: Sequence[Tensor | None]) -> bool:
        if self._pairs is None:
            assert self._parts is not None
            with self._parts.unwatched(), torch.inference_mode(False), torch.no_grad():
                self._pairs = pairs_while_watched(module, _copied(_first(given, 1)))
        return self._pairs


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

    @contextlib.contextmanager
    def unwatched(self) -> Iterator[None]:
        """Inside, the network computes without its hooks being called."""
        tables = [table for part in self._inside for table in _HOOKS(part)]
        held = [dict(table) for table in tables]
        try:
            for table in tables:
                table.clear()
            yield
        finally:
            for table, hooks in zip(tables, held, strict=True):
                table.update(hooks)

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
