"""Gradient estimators: how an attack obtains the direction in which its objective grows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from carom.common.objectives import Objective
from carom.common.oracle import Oracle
from carom.common.rng import Rng


class Transform(Protocol):
    """A differentiable random view of inputs: (x[N, ...], one stream per example) -> x[N, ...]."""

    def __call__(self, x: Tensor, rng: Rng) -> Tensor: ...


class Estimator(Protocol):
    """(oracle, objective, x[N, ...], rng) -> (gradient like x, logits[N, C] of the (first) forward pass)."""

    def __call__(self, oracle: Oracle, objective: Objective, x: Tensor, rng: Rng) -> tuple[Tensor, Tensor]: ...


@dataclass(frozen=True)
class Backprop:
    """The gradient itself."""

    def __call__(self, oracle: Oracle, objective: Objective, x: Tensor, rng: Rng) -> tuple[Tensor, Tensor]:
        grad, _, logits = oracle.gradient(objective, x)
        return grad, logits


@dataclass(frozen=True)
class Average:
    """The mean gradient over `copies` random views (expectation over transformation, Athalye et al. 2018).

    All copies go through the model as one batch.
    """

    transform: Transform
    copies: int = 1

    def __call__(self, oracle: Oracle, objective: Objective, x: Tensor, rng: Rng) -> tuple[Tensor, Tensor]:
        x = x.detach().requires_grad_()
        with torch.enable_grad():
            views = torch.cat([self.transform(x, rng.fold("view", i)) for i in range(self.copies)])
        grad, _, logits = oracle.gradient(objective, views, self.copies)
        (back,) = torch.autograd.grad(views, x, grad / self.copies)
        return back, logits[: len(x)]
