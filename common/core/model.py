"""The base of all models: anything that answers a batch of inputs, with the facts an evaluation needs beside it.

Preprocessing lives inside the model: it is called with raw inputs of its space (pixels in [0, 1], samples in [-1, 1],
texts) and attacks see nothing else.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from carom.common.base.errors import CaromError
from carom.common.base.rng import Rng
from carom.common.core.batch import Access, Batch, Family, Output, seen_by
from carom.common.core.objectives import Objective
from carom.common.core.spaces import Inputs, Space
from carom.common.core.tasks import AttackGoal

T = TypeVar("T")

MISFITS = (RuntimeError, ValueError, TypeError, IndexError, AssertionError)
"""What torch, numpy and a user's own code raise at inputs of the wrong shape."""


class Model:
    """The base of all models: facts, and a call from inputs to `Output`."""

    access = Access.LABEL | Access.SCORE
    card: Mapping[str, Any] = {}  # how a surrogate was made (carom.common.surrogates.files)
    recorded = False  # whether it only repeats what it once answered (carom.common.study.replay)
    silent = False  # and whether even that is unknown
    rejects = False  # whether its outputs say which inputs it rejects
    passes = 1  # forward passes that one answer costs: more where several networks answer together
    random = False  # whether two askings of one input may be answered differently
    guides: tuple[
        str, ...
    ] = ()  # methods that give its gradients at the parts of inputs; what stands before it is gone around
    eot = 1  # how many of its draws an attacker who knows it averages over, unless told otherwise

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

    def loss(
        self, objective: Objective, inputs: Tensor, lengths: Tensor | None, goal: AttackGoal
    ) -> tuple[Tensor, Tensor]:
        """(what an attack climbs, float[N] or [N, K] as the objective has it; the logits that it judges by: `seen_by`)"""
        output = self(inputs, lengths)
        output = output._replace(logits=output.logits.float())
        return goal.loss(objective, output), seen_by(goal, output)

    def keyed(self, rng: Rng) -> Model:
        """The model for one call on N inputs, which draws for each what its stream gives: a random model's answers then
        depend on the streams, and on nothing that was asked before. Other models are themselves.

        Whoever asks in an evaluation keys: an `Oracle` by example and how often it was asked, `ask` by example and what
        is asked for. A random model that is called without draws anew at each call.
        """
        return self

    def renew(self) -> None:
        """Take the identity of what the model is now: what was handed in may have been trained or changed since."""
        if (again := getattr(self.digest, "again", None)) is not None:
            self.digest = again()

    def to(self, device: torch.device | str) -> Model:
        """Move what computes to a device, in place."""
        self.device = torch.device(device)
        return self

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Evaluation mode with weights that need no gradient; everything is put back afterwards."""
        yield

    def ask(
        self, batch: Batch, read: Callable[[Output], T], size: int = 64, width: int | None = None, stream: str = ""
    ) -> list[tuple[Tensor, T]]:
        """What `read` makes of the answers, `size` examples at a time: (which rows int64[M] of the batch, what of them).

        It is given logits as float32, all on the CPU, without gradients. `width` is how many numbers an example is
        answered with, where that is known. Random models draw from the stream of that name."""
        parts = []
        with self.frozen(), torch.inference_mode():
            for start in range(0, len(batch), size):
                rows = torch.arange(start, min(start + size, len(batch)))
                part = batch.take(rows).to(self.device)
                asked = self.keyed(Rng.of(0, part.ids, self.device).fold("answer", stream)) if self.random else self
                output = asked(part.inputs, part.lengths)
                logits = output.logits.float().cpu()
                if len(logits) != len(rows) or (width is not None and logits.shape != (len(rows), width)):
                    raise CaromError(self._misshapen(logits, len(rows), width))
                if output.rejected is not None and not self.rejects:
                    raise CaromError(
                        f"model {self.name} rejects inputs and does not say so: give its class rejects = True."
                    )
                rest = [None if value is None else value.cpu() for value in output[1:]]
                parts.append((rows, read(Output(logits, *rest))))
        return parts

    def _misshapen(self, logits: Tensor, count: int, width: int | None) -> str:
        expected = f"[{count}, {'...' if width is None else width}]"
        remedy = "Hand in a model that answers each example with one row of numbers, one a class."
        if logits.dim() == 2 and len(logits) == count:
            remedy = f"Name its {logits.shape[1]} classes in the order of its outputs: classes=[...]."
        if width != len(self.classes):
            remedy = "So many numbers the task of the data takes for an example: choose a model made for it."
        said = f"model {self.name} answered with shape {list(logits.shape)} for {count} examples"
        return f"{said}; expected {expected}. {remedy}"

    def predict(self, batch: Batch, size: int = 64) -> Tensor:
        """Logits float[N, C] on the CPU, computed `size` examples at a time, without gradients."""
        parts = self.ask(batch, lambda output: output.logits, size, len(self.classes))
        if not parts:
            return torch.zeros(0, len(self.classes))
        return torch.cat([logits for _, logits in parts])[torch.cat([rows for rows, _ in parts]).argsort()]

    def settle(self, batch: Batch, width: int | None) -> None:
        """See, on the first few examples of a study and before anything is computed, that the model can answer them, each
        with `width` numbers (`Task.width`)."""
        self.ask(batch, lambda output: None, width=width)

    def __repr__(self) -> str:
        return (
            f"<{type(self).__name__} {self.name} ({self.modality}, {self.family.value}, {len(self.classes)} classes)>"
        )


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
