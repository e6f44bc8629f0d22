"""What the parts of a gradient attack are told of the step they serve, and how they ask for gradients."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from carom.common.base.rng import Rng
from carom.common.core.model import Model
from carom.common.core.objectives import Objective
from carom.common.core.oracle import Oracle
from carom.common.core.spaces import Box
from carom.common.core.threats import Ball, confine


class Transform(Protocol):
    """Differentiable random views of inputs, each row with numbers of its own."""

    @property
    def copies(self) -> int:
        """How many views of one input belong together: 5 for scales 1 to 1/16, 1 where any number will do. If an
        objective compares them, `in_one_pass = True` has them all go through the model in one pass."""

    def __call__(self, x: Tensor, rng: Rng, copy: Tensor) -> Tensor:
        """(x[R, ...], one stream a row, int64[R]: which of its copies each row is) -> views[R, ...]"""


class Surgery(Protocol):
    """A change to how a model passes its gradients, in force inside the context. What it yields is told, before each
    pass through the model, the streams of the rows that come next; None when it is not random."""

    def __call__(self, oracle: Oracle) -> AbstractContextManager[Any]: ...


class Prepares(Protocol):
    """A part that is made anew for each batch: an objective that needs the clean features, a transform that needs other
    examples. An objective's `passes`, if it has any, say how many gradients it takes for that."""

    def prepared(self, oracle: Oracle, rng: Rng) -> AbstractContextManager[Any]: ...


@contextlib.contextmanager
def prepared(part: Any, oracle: Oracle, rng: Rng) -> Iterator[Any]:
    """`part` itself, or what its own `prepared(oracle, rng)` makes of it for one batch."""
    own = getattr(part, "prepared", None)
    if own is None:
        yield part
    else:
        with own(oracle, rng) as bound:
            yield bound


class GradientAnswer(NamedTuple):
    """Gradients like x, and the logits of each row's first view."""

    grad: Tensor
    logits: Tensor


@dataclass(frozen=True)
class Step:
    """One step of a climb on N examples."""

    oracle: Oracle
    objective: Objective
    clean: Tensor  # [N, ...]: where the climb is centred
    length: Tensor  # float[N, 1, ...]: of the step
    index: int
    steps: int
    rng: Rng
    transform: Transform | None = None
    announce: Any = None  # what the surgery yielded
    momentum: Tensor | None = None  # the accumulated direction before this step

    @property
    def ball(self) -> Ball:
        threat = self.oracle.problem.threat
        assert isinstance(threat, Ball), "a climb needs a threat with steps and a projection"
        return threat

    def take(self, rows: Tensor) -> Step:
        """The same step for some of its examples."""
        momentum = None if self.momentum is None else self.momentum[rows]
        part = replace(self, oracle=self.oracle.take(rows), clean=self.clean[rows], rng=self.rng[rows])
        return replace(part, length=self.length[rows], momentum=momentum)

    def of(self, model: Model) -> Step:
        """The same step, asked of another model: a member of an ensemble. Its cost is counted as this one's."""
        return replace(self, oracle=self.oracle.of(model))

    def moved(self, x: Tensor, direction: Tensor, length: Tensor | None = None) -> Tensor:
        """x after a step of a climb along `direction`, back in the ball and the space."""
        space = self.oracle.problem.model.space
        assert isinstance(space, Box), "a climb stays between bounds"
        way = self.ball.ascent(direction, x, space.low, space.high)
        x = x + (self.length if length is None else length) * way
        return self.ball.inside(x, self.clean, space.low, space.high)

    def ahead(self, x: Tensor, direction: Tensor) -> Tensor:
        """x[..., N, ...] + length * direction, which leads farther where `direction` is larger: the look-ahead of the
        Linf ball's papers, beyond ball and space. In other balls it is shorter by the norm of a change of 1 everywhere.
        Padding stays as it is.
        """
        pace = self.length / self.ball.norm(torch.ones_like(self.clean)).view_as(self.length)
        return x + confine(pace * direction, self.oracle.batch.mask())

    def gradient(self, x: Tensor, samples: int = 1, key: str = "view") -> GradientAnswer:
        """d objective / dx at x[samples * N, ...], `samples` versions of the N examples stacked one after another, each
        averaged over the copies of its view.

        All copies of all samples go through the model together, in as few batches as memory allows. `key` tells apart
        several askings within a step: equal keys see equal views.
        """
        views = 1 if self.transform is None else self.transform.copies
        n, passes = len(self.clean), samples * views
        if passes == 1:
            return self._pass(x, self.rng.fold(key, 0), torch.zeros(n, dtype=torch.long, device=x.device), 1)
        x = x.view(samples, n, *x.shape[1:])
        grad, logits = torch.zeros_like(x), []
        start = 0
        while start < passes:
            # Samples of one copy after another, so that the first `samples` passes are the first views.
            most = passes if getattr(self.transform, "in_one_pass", False) else self.oracle.copies_at_once()
            chosen = range(start, min(start + most, passes))
            rng = Rng(torch.cat([self.rng.fold(key, view).keys for view in chosen]))
            number = torch.arange(chosen.start, chosen.stop, device=x.device)
            sample, copy = number % samples, (number // samples).repeat_interleave(n)
            part = self._pass(x[sample].flatten(0, 1), rng, copy, len(chosen))
            # In order, one by one: index_add_ of several to one place adds as a GPU's threads happen to come.
            for place, one in zip(chosen, part.grad.view(len(chosen), *x.shape[1:]), strict=True):
                grad[place % samples] += one
            logits.append(part.logits)
            start = chosen[-1] + 1
        return GradientAnswer(grad.flatten(0, 1) / views, torch.cat(logits)[: samples * n])

    def _pass(self, x: Tensor, rng: Rng, copy: Tensor, copies: int) -> GradientAnswer:
        transform = self.transform
        if self.announce is not None:
            self.announce(rng)
        through = None if transform is None else lambda x: transform(x, rng, copy)
        grad, _, logits = self.oracle.gradient(self.objective, x, copies, through)
        return GradientAnswer(grad, logits)
