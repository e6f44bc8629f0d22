"""Models: anything that answers a batch of inputs, with the facts an evaluation needs beside it.

Preprocessing lives inside the model: it is called with raw inputs of its space (pixels in [0, 1], samples in [-1, 1],
texts) and attacks see nothing else.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from carom.common.base.identity import digest_of
from carom.common.core.batch import Access, Family
from carom.common.core.precision import casting, computing_in, precision
from carom.common.core.spaces import Space
from carom.common.models.answers import computes_in_double, in_single_precision, on_sides, read_logits
from carom.common.models.company import CompanyModel
from carom.common.models.evaluation.evaluator import Evaluation, Evaluator
from carom.common.models.evaluation.folding import ready_for_cudnn


class FrozenModule:
    """Puts a module into evaluation mode, without weight gradients, and back.

    cuDNN passes no gradient through recurrent layers in evaluation mode: on a GPU these are in training mode, without
    their dropout (`ready_for_cudnn`). On a CPU they run many times faster with one thread on shared cores. Arithmetic is
    float32, or what an attack is said to craft in (`carom.common.core.precision`).
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.recurrent = any(isinstance(m, nn.RNNBase) for m in module.modules())

    @contextlib.contextmanager
    def __call__(self) -> Iterator[None]:
        modes = {m: m.training for m in self.module.modules()}
        wanted = {p: p.requires_grad for p in self.module.parameters()}
        dropout = {m: m.dropout for m in modes if isinstance(m, nn.RNNBase)}
        threads = torch.get_num_threads()
        try:
            self.module.eval()
            ready_for_cudnn(self.module)
            for parameter in wanted:
                parameter.requires_grad_(False)
            if self.recurrent:
                torch.set_num_threads(1)
            with computing_in(precision()):
                yield
        finally:
            torch.set_num_threads(threads)
            for parameter, flag in wanted.items():
                parameter.requires_grad_(flag)
            for m, mode in modes.items():
                m.training = mode
            for m, share in dropout.items():
                m.dropout = share


def _float(logits: Tensor) -> Tensor:
    """Logits as float32 where they were computed in less."""
    return logits.float() if logits.dtype == torch.bfloat16 else logits


class TorchModel(CompanyModel):
    """A torch module from Tensor[N, ...] of the space's values to logits float[N, C]."""

    access = Access.LABEL | Access.SCORE | Access.GRADIENT | Access.FEATURES

    def __init__(
        self,
        module: nn.Module,
        *,
        name: str,
        modality: str,
        family: Family | str,
        space: Space,
        classes: Sequence[str],
        shape: tuple[int | None, ...] | None = None,
        takes_lengths: bool = False,
        threshold: float | None = None,
        digest: str | None = None,
    ) -> None:
        """`threshold`: the module answers one number for each input; the classes are its sides, below and above."""
        facts: list[object] = [] if threshold is None else ["threshold", threshold]
        facts += ["takes lengths"] if takes_lengths else []
        facts += [] if shape is None else ["shape", tuple(shape)]
        super().__init__(name, modality, family, space, classes, digest or digest_of(module, *facts))
        self.module, precision = in_single_precision(module)
        self._double = computes_in_double(self.module)
        if precision is not None:
            self.facts["precision"] = f"{precision}, computed in float32"
        self.threshold = threshold
        self.shape = shape  # of one input, None where any size goes
        self.takes_lengths = takes_lengths
        self._freeze = FrozenModule(self.module)
        self._frozen = 0  # how many contexts deep
        self._evaluator = Evaluator()

    def single(self, inputs: Tensor, lengths: Tensor | None) -> Tensor:
        """As the module answers: copies that fill up a block would be company."""
        with casting(inputs.device):
            answer = self.module(*self._given(inputs, lengths))
        return _float(self._read(answer, len(inputs)))

    def together(self, inputs: Tensor, lengths: Tensor | None) -> Tensor:
        """float[N, C]: of inputs that go through the module together."""
        given = self._given(inputs, lengths)
        by = self.evaluation(given)
        with casting(inputs.device):
            parts = [self._read(answer, rows) for answer, rows in by.answers(given)]
        return _float(parts[0] if len(parts) == 1 else torch.cat(parts))[: len(inputs)]

    def _given(self, inputs: Tensor, lengths: Tensor | None) -> Sequence[Tensor | None]:
        """What the module is called with."""
        inputs = inputs.double() if self._double else inputs
        return (inputs, lengths) if self.takes_lengths else (inputs,)

    def _read(self, answer: Any, rows: int) -> Tensor:
        logits = read_logits(answer, rows, len(self.classes) if self.threshold is None else 1, self.name)
        return logits if self.threshold is None else on_sides(logits, self.threshold, self.name)

    def evaluation(self, given: Sequence[Tensor | None]) -> Evaluation:
        """What computes the answers to these arguments of the module: while the model is frozen and nobody watches its
        modules, the folded network."""
        if self.alone:  # copies of the first row would be company
            return Evaluation(self.module, 1, "company changes its answers")
        if not self._frozen:
            return Evaluation(self.module, reason="is not frozen")
        if not len(given[0]):  # type: ignore[arg-type]
            return Evaluation(self.module, reason="has no inputs to compute")
        return self._evaluator.evaluation(self.module, given)

    def to(self, device: torch.device | str) -> TorchModel:
        self.module.to(device)
        self._evaluator = Evaluator()
        super().to(device)
        return self

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        with self._freeze():
            self._frozen += 1
            try:
                yield
            finally:
                self._frozen -= 1
