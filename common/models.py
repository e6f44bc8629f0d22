"""Models: anything that answers a batch of inputs, with the facts an evaluation needs beside it.

Preprocessing lives inside the model: it is called with raw inputs of its space (pixels in [0, 1], samples in [-1, 1],
texts) and attacks see nothing else.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from carom.common.errors import CaromError
from carom.common.folding import Fast, Parts, folded
from carom.common.objectives import Objective
from carom.common.problem import Access, Batch, Family, Goal, Output
from carom.common.spaces import Inputs, Space
from carom.common.steady import ROWS_TOGETHER, filled
from carom.common.trees import TreeEnsemble


class Model:
    """The base of all models: facts, and a call from inputs to `Output`."""

    access = Access.LABEL | Access.SCORE
    card: Mapping[str, Any] = {}  # how a surrogate was made (carom.common.surrogates)
    recorded = False  # whether it only repeats what it once answered (carom.common.recorded)
    silent = False  # and whether even that is unknown
    passes = 1  # forward passes that one answer costs: more where several networks answer together

    def __init__(
        self, name: str, modality: str, family: Family | str, space: Space, classes: Sequence[str], digest: str
    ) -> None:
        self.name = name
        self.modality = modality
        self.family = Family(family)
        self.space = space
        self.classes = tuple(classes)
        self.digest = digest
        self.device = torch.device("cpu")
        self.facts: dict[str, str] = {}  # what else is told of it: which weights, at what resolution
        self.remedy = "Choose data of the shape that it takes, or wrap the model with the resizing it needs."

    def __call__(self, inputs: Inputs, lengths: Tensor | None = None) -> Output:
        raise NotImplementedError

    def loss(self, objective: Objective, inputs: Tensor, lengths: Tensor | None, goal: Goal) -> tuple[Tensor, Tensor]:
        """(what an attack climbs, float[N] or [N, K] as the objective has it; logits float[N, C])"""
        logits = self(inputs, lengths).logits.float()
        return objective(logits, goal), logits

    def to(self, device: torch.device | str) -> Model:
        """Move what computes to a device, in place."""
        self.device = torch.device(device)
        return self

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Evaluation mode with weights that need no gradient; everything is put back afterwards."""
        yield

    def predict(self, batch: Batch, size: int = 64) -> Tensor:
        """Logits float[N, C] on the CPU, computed `size` examples at a time, without gradients."""
        rows = []
        with self.frozen(), torch.inference_mode():
            for start in range(0, len(batch), size):
                part = batch.take(torch.arange(start, min(start + size, len(batch)))).to(self.device)
                rows.append(self(part.inputs, part.lengths).logits.float().cpu())
        logits = torch.cat(rows) if rows else torch.zeros(0, len(self.classes))
        if logits.shape != (len(batch), len(self.classes)):
            raise CaromError(
                f"model {self.name} answered with shape {list(logits.shape)} for {len(batch)} examples; expected "
                f"[{len(batch)}, {len(self.classes)}]. Name its classes in the order of its outputs: classes=[...]."
            )
        return logits

    def __repr__(self) -> str:
        return (
            f"<{type(self).__name__} {self.name} ({self.modality}, {self.family.value}, {len(self.classes)} classes)>"
        )


def digest_of(module: nn.Module, *facts: object) -> str:
    """sha256 over a module's class, settings, weights and buffers and the given facts: a model's identity in the store.

    Settings are what the module prints of itself and the numbers that its parts hold: a stride, an activation or a
    temperature changes what the same weights compute.
    """
    digest = hashlib.sha256(repr((type(module).__qualname__, *facts)).encode())
    digest.update(repr(module).encode())
    for name, part in module.named_modules():
        plain = {k: v for k, v in vars(part).items() if isinstance(v, bool | int | float) and k[0] != "_"}
        plain.pop("training", None)
        digest.update(f"{name}{sorted(plain.items())}".encode())
    for name, tensor in module.state_dict().items():
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


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


def check_shape(model: Any, inputs: Tensor) -> None:
    """Refuse inputs that the model cannot take, in the user's terms."""
    wanted = model.shape
    if wanted is None:
        return
    given = tuple(inputs.shape[1:])
    if len(given) != len(wanted) or any(w is not None and w != g for w, g in zip(wanted, given, strict=True)):
        say = "x".join("any" if w is None else str(w) for w in wanted)
        raise CaromError(
            f"model {model.name} takes inputs of shape {say}, the data has {'x'.join(map(str, given))}. {model.remedy}"
        )


class TreeModel(Model):
    """A decision tree, a forest or boosted trees over inputs, or over the features that a differentiable front end makes
    of them.

    Logits of trees and forests are log-probabilities, floored so that an empty leaf stays finite; of boosted trees
    they are the sums of their scores.
    """

    access = Access.LABEL | Access.SCORE | Access.LEAVES

    def __init__(
        self,
        ensemble: TreeEnsemble,
        *,
        name: str,
        modality: str,
        space: Space,
        classes: Sequence[str],
        front_end: nn.Module | None = None,
        shape: tuple[int | None, ...] | None = None,
        digest: str | None = None,
    ) -> None:
        self.ensemble = ensemble
        self.front_end = front_end  # None: the features are the flattened inputs themselves
        self.shape = shape
        holder = nn.Module()
        for key, tensor in ensemble.tensors().items():
            holder.register_buffer(key, tensor)
        sees = None if front_end is None else digest_of(front_end)
        super().__init__(name, modality, Family.TREE, space, classes, digest or digest_of(holder, sees))

    def features(self, inputs: Tensor) -> Tensor:
        """float[N, D]: what the trees look at."""
        check_shape(self, inputs)
        return inputs.flatten(1) if self.front_end is None else self.front_end(inputs)

    def __call__(self, inputs: Tensor, lengths: Tensor | None = None) -> Output:
        return Output(self.ensemble.logits(self.features(inputs)))

    def to(self, device: torch.device | str) -> TreeModel:
        self.ensemble = self.ensemble.to(device)
        if self.front_end is not None:
            self.front_end.to(device)
        super().to(device)
        return self

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        with contextlib.nullcontext() if self.front_end is None else FrozenModule(self.front_end)():
            yield


class FunctionModel(Model):
    """Any function from inputs to scores float[N, C]: scores or labels only, nothing is differentiated.

    `probabilities=True` says that the function answers probabilities, whose logarithms become the logits.
    """

    def __init__(
        self,
        function: Any,
        *,
        name: str,
        modality: str,
        family: Family | str,
        space: Space,
        classes: Sequence[str],
        digest: str,
        probabilities: bool = True,
    ) -> None:
        super().__init__(name, modality, family, space, classes, digest)
        self.function = function
        self.probabilities = probabilities

    def __call__(self, inputs: Inputs, lengths: Tensor | None = None) -> Output:
        given = inputs.cpu().numpy() if isinstance(inputs, Tensor) else inputs
        scores = torch.as_tensor(self.function(given), dtype=torch.float32)
        device = inputs.device if isinstance(inputs, Tensor) else "cpu"
        return Output((scores.clamp_min(1e-6).log() if self.probabilities else scores).to(device))
