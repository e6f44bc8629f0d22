"""The nouns every attack shares: a Problem goes in, a Result comes out, whatever the modality."""

from __future__ import annotations

import dataclasses
import inspect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, Flag, IntEnum, StrEnum, auto
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import torch
from torch import Tensor

from carom.common.rng import Rng
from carom.common.spaces import Inputs

if TYPE_CHECKING:
    from carom.common.models import Model
    from carom.common.threats import Threat


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


@dataclass(frozen=True)
class Budget:
    """Hard limits per example; None is unlimited."""

    queries: int | None = None


@dataclass(frozen=True)
class Problem:
    """What is attacked, to what end, within which budget."""

    model: Model
    goal: Goal
    threat: Threat
    budget: Budget = field(default_factory=Budget)
    others: Batch | None = None  # clean examples the attacker has besides; none of them is under attack


class Status(IntEnum):
    """How the attack on one example ended."""

    DONE = 0  # the attack ran; `success` says whether it reached the goal
    SKIPPED = 1  # the goal was reached before anything was changed
    BAD_GRADIENT = 2  # a gradient or score was not finite: the example is unchanged
    NO_GRADIENT = 3  # every gradient was zero: the example is unchanged
    INFEASIBLE = 4  # nothing within the budget can be tried: the example is unchanged


@dataclass(frozen=True)
class Cost:
    """Per example, int64[N] each: rows sent through the model, rows differentiated, answers an attacker pays for."""

    forward: Tensor
    backward: Tensor
    queries: Tensor

    @classmethod
    def join(cls, costs: Sequence[Cost]) -> Cost:
        """Of consecutive examples."""
        return cls(*(torch.cat([getattr(cost, name) for cost in costs]) for name in COUNTS))


COUNTS = ("forward", "backward", "queries")
"""The columns that a cost is stored as."""


@dataclass(frozen=True)
class Result:
    """Adversarial inputs in stored form's values (already rounded), and what they cost."""

    inputs: Inputs
    success: Tensor  # bool[N], of the stored inputs on the attacked model
    cost: Cost
    status: Tensor  # int64[N] of Status
    notes: Mapping[str, Tensor] = field(default_factory=dict)
    """What the user has to be warned of, as what is said of the examples -> bool[N]: of which. An attack names the same
    things whatever it is asked to do."""


class Attack(Protocol):
    """One way to solve problems."""

    def __call__(self, problem: Problem, batch: Batch, rng: Rng) -> Result: ...


def describe(part: Any) -> Any:
    """The parameters of an attack or threat as JSON: its identity in the store.

    Dataclasses become their fields, functions their names; anything else is refused, because what cannot be named
    cannot be recognised when the same work is asked for again. Carom's own parts go by their names alone, which are
    unique, so that a file can move without changing what its parts are. A part that has been mended says so in an
    attribute `revision`: what its former self computed is then computed again.
    """
    if isinstance(part, float) and not math.isfinite(part):
        return str(part)  # JSON has no infinity: the radius of an unbounded threat
    if part is None or isinstance(part, bool | int | float | str):
        return part
    if isinstance(part, Enum):
        return part.value
    if isinstance(part, list | tuple):
        return [describe(p) for p in part]
    if isinstance(part, dict):
        return {str(k): describe(v) for k, v in part.items()}
    if isinstance(part, torch.dtype):
        return str(part)
    if dataclasses.is_dataclass(part) and not isinstance(part, type):
        fields = {f.name: describe(getattr(part, f.name)) for f in dataclasses.fields(part) if f.compare}
        return {"is": name_of(type(part)), **fields}
    # Not a bound method: its name says nothing of the object that it belongs to.
    if callable(part) and "<" not in getattr(part, "__qualname__", "<") and not inspect.ismethod(part):
        return {"is": name_of(part)}
    raise TypeError(f"{part!r} has no name to store results under: use a dataclass or a module-level function")


def name_of(part: Any) -> str:
    """What a class or function is called in the store: "Ascent"; "Ascent@2" in its second revision. Names from outside
    Carom keep their module."""
    own = part.__module__.partition(".")[0] == "carom"
    revision = getattr(part, "revision", 1)
    return f"{'' if own else part.__module__ + '.'}{part.__qualname__}{'' if revision == 1 else f'@{revision}'}"
