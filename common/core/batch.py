"""What attacks and models exchange: batches of examples, goals, answers, and what a model grants."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Flag, StrEnum, auto
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

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
    """What a model answers: logits float[N, C]; for sequence outputs float[N, T, C] and their lengths int64[N]; which
    inputs it rejects instead of answering, bool[N], None where it never does; and, where it can tell, how far each lies
    beyond what it accepts, float[N], above 0 exactly where it is rejected. The last may be differentiated."""

    logits: Tensor
    lengths: Tensor | None = None
    rejected: Tensor | None = None
    alarm: Tensor | None = None


def ended(output: Output) -> Tensor:
    """The logits, those past the end of each sequence at -inf: alone they still tell the lengths (`as_output`)."""
    if output.lengths is None:
        return output.logits
    past = torch.arange(output.logits.shape[1], device=output.logits.device) >= output.lengths[:, None]
    return output.logits.masked_fill(past[:, :, None], -torch.inf)


def as_output(found: Output | Tensor) -> Output:
    """Logits as the output of a model that rejects nothing; an output as it is."""
    if not isinstance(found, Tensor):
        return found
    return Output(found, (~found.isneginf().all(2)).sum(1) if found.dim() == 3 else None)


def decided(output: Output, labels: Tensor) -> Tensor:
    """Logits float[N, C] of the decision that is really taken, as an attacker has to read it who wants a wrong answer
    that is not rejected (Carlini and Wagner 2017, Adversarial examples are not easily detected, section 3.3: rejection
    as one more class). Rejection counts like the label: the label's logit is at least the largest of all plus the
    alarm. So the margin to any other answer is the smaller of two: that of the classes, and that of the alarm. The label
    leads wherever the input is rejected, and nowhere that it did not lead before otherwise.
    """
    logits, rejected = output.logits, output.rejected
    if rejected is None:
        return logits
    alarm = torch.where(rejected, 1.0, -torch.inf).to(logits) if output.alarm is None else output.alarm.to(logits)
    own, most = logits.gather(1, labels[:, None]).squeeze(1), logits.amax(1)
    raised = torch.maximum(own, most + alarm)
    # An alarm may be less than the last digit of a logit.
    up, down = (torch.nextafter(most.detach(), torch.full_like(most, to)) for to in (torch.inf, -torch.inf))
    raised = torch.where(rejected, raised.maximum(up), torch.where(own < most, raised.minimum(down), own))
    return logits.scatter(1, labels[:, None], raised[:, None])


def joined(parts: Sequence[Tensor]) -> Tensor:
    """Logits of consecutive examples; of sequences, as long as the longest."""
    if parts[0].dim() == 3:
        longest = max(part.shape[1] for part in parts)
        parts = [F.pad(part, (0, 0, 0, longest - part.shape[1]), value=-torch.inf) for part in parts]
    return torch.cat(list(parts))


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
    """What an attacker wants of classes. Untargeted when `targets` is None: any answer but the label. Targeted: exactly
    the target. Other tasks have goals of their own (`carom.common.core.tasks.AttackGoal`)."""

    labels: Tensor  # int64[N]
    targets: Tensor | None = None  # int64[N]

    @property
    def targeted(self) -> bool:
        return self.targets is not None

    def achieved(self, output: Output | Tensor) -> Tensor:
        """bool[N], of an output or its logits. Logits that are not finite achieve nothing, nor do rejected inputs."""
        found = as_output(output)
        logits, rejected = found.logits, found.rejected
        answer = logits.argmax(1)
        hit = answer != self.labels if self.targets is None else answer == self.targets
        hit = hit & logits.isfinite().all(1)
        return hit if rejected is None else hit & ~rejected

    def loss(self, objective: Callable[[Tensor, Goal], Tensor], output: Output | Tensor) -> Tensor:
        """What an attack climbs (`carom.common.core.objectives`): float[N], or [N, K] as the objective has it; of the
        decision that is really taken (`decided`)."""
        return objective(decided(as_output(output), self.labels), self)

    def to(self, device: torch.device | str) -> Goal:
        return Goal(self.labels.to(device), None if self.targets is None else self.targets.to(device))

    def take(self, rows: Tensor) -> Goal:
        return Goal(self.labels[rows], None if self.targets is None else self.targets[rows])

    def repeat(self, copies: int) -> Goal:
        return Goal(self.labels.repeat(copies), None if self.targets is None else self.targets.repeat(copies))


def seen_by(goal: object, output: Output) -> Tensor:
    """The logits by which an attacker of that goal judges an output: of classes, those of the decision that is really
    taken; of sequences, `ended`."""
    return decided(output, goal.labels) if isinstance(goal, Goal) else ended(output)
