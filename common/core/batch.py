"""What attacks and models exchange: batches of examples, goals, answers, and what a model grants."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Flag, StrEnum, auto
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from carom.common.core.spaces import Inputs

if TYPE_CHECKING:
    pass


class Access(Flag):
    """What an attack needs of a model, and what a model grants."""

    LABEL = auto()  # the predicted class
    SCORE = auto()  # logits or probabilities
    GRADIENT = auto()  # derivatives with respect to the input, or to word embeddings
    LEAVES = auto()  # the splits of a tree or forest
    FEATURES = auto()  # inner activations
    MEMBERS = auto()  # the networks of an ensemble, one by one
    EXAMPLES = auto()  # not of a model: other labelled examples of the task, `Problem.others`

    def words(self) -> list[str]:
        return [flag.name.lower() for flag in Access if flag in self and flag.name]


class Family(StrEnum):
    """Kinds of model between which transfer is compared."""

    CNN = "cnn"
    RNN = "rnn"
    TRANSFORMER = "transformer"
    MLP = "mlp"
    TREE = "tree"
    LINEAR = "linear"
    OTHER = "other"


class Output(NamedTuple):
    """What a model answers: logits float[N, C] and, for sequence outputs, their lengths."""

    logits: Tensor
    lengths: Tensor | None = None


def take(inputs: Inputs, rows: Tensor) -> Inputs:
    """Some examples of a batch, tensors and lists alike."""
    if isinstance(inputs, Tensor):
        return inputs[rows.to(inputs.device)]
    return [inputs[i] for i in rows.tolist()]


@dataclass(frozen=True)
class Batch:
    """N labelled examples. `ids` key the per-example randomness; `lengths` say where padded inputs end."""

    inputs: Inputs  # Tensor[N, ...] or list[str]
    labels: Tensor  # int64[N]
    ids: Sequence[str]
    lengths: Tensor | None = None  # int64[N], along the last axis

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: Tensor) -> Batch:
        lengths = None if self.lengths is None else self.lengths[rows.to(self.lengths.device)]
        ids = [self.ids[i] for i in rows.tolist()]
        return Batch(take(self.inputs, rows), self.labels[rows.to(self.labels.device)], ids, lengths)

    def to(self, device: torch.device | str) -> Batch:
        """Labels stay where inputs are lists: only tensors have a device to go to."""
        inputs = self.inputs.to(device) if isinstance(self.inputs, Tensor) else self.inputs
        lengths = None if self.lengths is None else self.lengths.to(device)
        return Batch(inputs, self.labels.to(device), self.ids, lengths)

    def mask(self) -> Tensor | None:
        """float[N, 1..., L]: 1 inside each input, 0 in its padding; None where nothing is padded."""
        if self.lengths is None or not isinstance(self.inputs, Tensor):
            return None
        inside = torch.arange(self.inputs.shape[-1], device=self.inputs.device) < self.lengths[:, None]
        return inside.float().view(len(self), *[1] * (self.inputs.dim() - 2), self.inputs.shape[-1])


@dataclass(frozen=True)
class Goal:
    """Untargeted when `targets` is None: any answer but the label. Targeted: exactly the target."""

    labels: Tensor  # int64[N]
    targets: Tensor | None = None  # int64[N]

    @property
    def targeted(self) -> bool:
        return self.targets is not None

    def achieved(self, logits: Tensor) -> Tensor:
        """bool[N]. Logits that are not finite achieve nothing."""
        answer = logits.argmax(1)
        hit = answer != self.labels if self.targets is None else answer == self.targets
        return hit & logits.isfinite().all(1)

    def take(self, rows: Tensor) -> Goal:
        return Goal(self.labels[rows], None if self.targets is None else self.targets[rows])

    def repeat(self, copies: int) -> Goal:
        return Goal(self.labels.repeat(copies), None if self.targets is None else self.targets.repeat(copies))
