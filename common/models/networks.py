"""Models: anything that answers a batch of inputs, with the facts an evaluation needs beside it.

Preprocessing lives inside the model: it is called with raw inputs of its space (pixels in [0, 1], samples in [-1, 1],
texts) and attacks see nothing else.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from carom.common.base.identity import digest_of
from carom.common.core.batch import Access, Family, Output
from carom.common.core.model import Model, check_shape
from carom.common.core.spaces import Space
from carom.common.models.folding import Fast, Parts, folded
from carom.common.models.row_blocks import ROWS_TOGETHER, filled


class FrozenModule:
    """Puts a module into evaluation mode, without weight gradients, and back.

    Recurrent layers need cuDNN off for a backward pass in evaluation mode (training mode would turn dropout on), and
    run many times faster with one thread on shared cores.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.recurrent = any(isinstance(m, nn.RNNBase) for m in module.modules())

    @contextlib.contextmanager
    def __call__(self) -> Iterator[None]:
        modes = {m: m.training for m in self.module.modules()}
        wanted = {p: p.requires_grad for p in self.module.parameters()}
        threads = torch.get_num_threads()
        cudnn = torch.backends.cudnn.flags(enabled=False) if self.recurrent else contextlib.nullcontext()
        try:
            self.module.eval()
            for parameter in wanted:
                parameter.requires_grad_(False)
            if self.recurrent:
                torch.set_num_threads(1)
            with cudnn:
                yield
        finally:
            torch.set_num_threads(threads)
            for parameter, flag in wanted.items():
                parameter.requires_grad_(flag)
            for m, mode in modes.items():
                m.training = mode


class TorchModel(Model):
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
        digest: str | None = None,
    ) -> None:
        super().__init__(name, modality, family, space, classes, digest or digest_of(module))
        self.module = module
        self.shape = shape  # of one input, None where any size goes
        self.takes_lengths = takes_lengths
        self._freeze = FrozenModule(module)
        self._frozen = 0  # how many contexts deep
        self._parts: Parts | None = None
        self._folded: tuple[Parts, Fast] | None = None  # of which parts

    def __call__(self, inputs: Tensor, lengths: Tensor | None = None) -> Output:
        check_shape(self, inputs)
        given: Sequence[Tensor | None] = (inputs, lengths) if self.takes_lengths else (inputs,)
        fast = self.fast(given)
        answer = fast.network(*(filled(given, fast.rows) if inputs.device.type == "cpu" else given))
        return Output(getattr(answer, "logits", answer)[: len(inputs)])

    def fast(self, given: Sequence[Tensor | None]) -> Fast:
        """What computes the answers: while the model is frozen and nobody watches its modules, the folded network."""
        if not self._frozen or not len(given[0]):  # type: ignore[arg-type]
            return Fast(self.module)
        if self._parts is None or self._parts.stale(self.module):
            self._parts = Parts(self.module)
        if self._parts.watched():
            return Fast(self.module)
        if self._folded is None or self._folded[0] is not self._parts:
            # Whoever asks first, the network has to serve backward passes later.
            with torch.inference_mode(False), torch.no_grad():
                first = [None if part is None else part[:ROWS_TOGETHER].detach().clone() for part in given]
                self._folded = self._parts, folded(self.module, filled(first, ROWS_TOGETHER))
        return self._folded[1]

    def to(self, device: torch.device | str) -> TorchModel:
        self.module.to(device)
        self._folded = None
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
