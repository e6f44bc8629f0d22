"""Gradient estimators: from which points, and from what of the model, an attack learns where its objective grows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from carom.common.attacks.gradient.step import Step


class Estimate(NamedTuple):
    """What an estimator says of one step."""

    grad: Tensor  # like x
    memory: Any = None  # tensors with one row an example, or tuples of such; given back at the next step
    logits: Tensor | None = None  # of x, where computed on the way: of its stored form where answers are paid for


class Estimator(Protocol):
    """Gradients for the steps of a climb. What is remembered travels beside it, never in it."""

    @property
    def passes(self) -> int:
        """Gradients of the model per step and example, before the copies that a transform asks for. One gradient of an
        ensemble is one of each of its members. An estimator that asks about some of the examples at a time says so by
        `splits = True`."""

    @property
    def queries(self) -> int:
        """Answers that the attacker pays for, per step and example: 0 where gradients are seen."""

    def __call__(self, step: Step, x: Tensor, memory: Any) -> Estimate:
        """`memory` is None at the first step."""


@dataclass(frozen=True)
class Backprop:
    """The gradient itself."""

    passes = 1
    queries = 0

    def __call__(self, step: Step, x: Tensor, memory: Any) -> Estimate:
        grad, logits = step.gradient(x)
        return Estimate(grad, None, logits if step.transform is None else None)


@dataclass(frozen=True)
class Average:
    """The mean gradient over `samples` views of the ascent's transform (expectation over transformation, Athalye et al.
    2018, section 4.1.3), or over the repeated answers of a surgery that is random."""

    samples: int = 10
    queries = 0

    @property
    def passes(self) -> int:
        return self.samples

    def __call__(self, step: Step, x: Tensor, memory: Any) -> Estimate:
        grad, _ = step.gradient(torch.cat([x] * self.samples), self.samples)
        return Estimate(grad.view(self.samples, *x.shape).mean(0))


@dataclass(frozen=True)
class Nesterov:
    """The gradient where the accumulated momentum leads (NI-FGSM, Lin et al. 2020, eq. 6)."""

    decay: float = 1.0
    passes = 1
    queries = 0

    def __call__(self, step: Step, x: Tensor, memory: Any) -> Estimate:
        ahead = x if step.momentum is None else step.ahead(x, self.decay * step.momentum)
        return Estimate(step.gradient(ahead).grad)
