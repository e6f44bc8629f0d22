"""Universal perturbations: one for all inputs, learned on other examples than those attacked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from carom.common.base.errors import CaromError
from carom.common.base.rng import Rng
from carom.common.core.batch import Batch, Goal
from carom.common.core.data import digest_inputs
from carom.common.core.model import Model
from carom.common.core.objectives import Objective, cross_entropy
from carom.common.core.oracle import Oracle
from carom.common.core.problem import Problem, Result, Status
from carom.common.core.tasks import of_classes
from carom.common.core.threats import Ball, column, confine
from carom.common.models.evaluation.evaluator import state_of, watched

T = TypeVar("T")


@dataclass(frozen=True)
class Capped:
    """An objective that gains nothing above `cap`: examples that are fooled for good leave the rest a say."""

    objective: Objective
    cap: float

    def __call__(self, logits: Tensor, goal: Goal) -> Tensor:
        value = self.objective(logits, goal)
        return torch.where(value > self.cap, self.cap, value)  # not clamp, whose gradient at NaN is 0


@dataclass(frozen=True)
class Universal:
    """Learn one perturbation on `Problem.others` and put it on every example (Moosavi-Dezfooli et al. 2017), by
    projected steepest steps on the summed gradient of mini-batches (Shafahi et al. 2020, Alg. 2 and eq. 5, whose cap on
    the loss is 9).

    The perturbation is a pattern of norm 1 that each example takes times its own radius, so that one pattern serves
    threats that are relative to the example; padding takes none of it. Targeted, there is one pattern for each class
    aimed at, learned on examples of other classes.

    What is learned follows from model, threat, others and goal alone: no seed, and none of the attacked examples. It is
    learned once and kept with the model for further batches, but its cost is charged in full to every example that it
    serves, as if that were the only one: a share of it would depend on how many others there are. Attacking n examples
    costs less than the sum.
    """

    steps: int = 100
    batch: int = 32
    size: float = 0.05  # of a step, as a share of the radius
    objective: Objective = Capped(cross_entropy, 9.0)

    def __call__(self, problem: Problem, batch: Batch, rng: Rng) -> Result:
        assert isinstance(problem.threat, Ball), "a pattern is scaled to a ball"
        if problem.others is None or not len(problem.others):
            raise CaromError(
                "a universal perturbation is learned on examples that are not under attack; none were given."
            )
        oracle, x0 = Oracle(problem, batch), batch.inputs
        radius = column(problem.threat.bounded(x0), x0)
        change, status = torch.zeros_like(x0), torch.full_like(batch.labels, Status.DONE.value)
        with problem.model.frozen():
            for target, rows in self._classes(of_classes(problem.goal)):
                pattern, forward, backward = self.known(problem, problem.others, target)
                change[rows] = radius[rows] * pattern
                status[rows] = _outcome(pattern).value
                oracle.forward[rows] += forward
                oracle.backward[rows] += backward
            moved = problem.model.space.clamp(x0 + confine(change, batch.mask()))
            return oracle.finish(moved, status)

    @staticmethod
    def _classes(goal: Goal) -> Iterator[tuple[int | None, Tensor]]:
        """(class aimed at, which examples it is the goal of)"""
        if not len(goal.labels):
            return
        if goal.targets is None:
            yield None, torch.arange(len(goal.labels), device=goal.labels.device)
            return
        for target in goal.targets.unique().tolist():
            yield target, (goal.targets == target).nonzero().squeeze(1)

    def known(self, problem: Problem, others: Batch, target: int | None) -> tuple[Tensor, int, int]:
        """(the pattern, forward and backward passes that it took): learned now, or before on the same."""

        def learned() -> tuple[Tensor, int, int]:
            learner = self.learner(problem, others, target)
            pattern = self.learn(learner)
            return pattern, int(learner.forward.sum()), int(learner.backward.sum())

        return once(problem.model, (self, problem.threat, content(others), target), learned)

    @staticmethod
    def learner(problem: Problem, others: Batch, target: int | None) -> Oracle:
        """The same problem about the others: led away from their labels, or to a class that is not theirs."""
        if target is not None and bool((others.labels != target).any()):
            others = others.take((others.labels != target).nonzero().squeeze(1))
        targets = None if target is None else torch.full_like(others.labels, target)
        return Oracle(replace(problem, goal=Goal(others.labels, targets)), others)

    def learn(self, learner: Oracle) -> Tensor:
        """[1, ...]: the pattern, in the ball of radius 1; NaN if ever a gradient was not finite."""
        ball, space, others = learner.problem.threat, learner.problem.model.space, learner.batch
        assert isinstance(ball, Ball)
        radius = column(ball.radius(others.inputs), others.inputs)
        pattern = torch.zeros_like(others.inputs[:1])
        origin, one = pattern, torch.ones(1, device=pattern.device, dtype=pattern.dtype)
        for rows in self._turns(others):
            part = learner.take(rows)
            scale = confine(radius[rows].expand_as(part.batch.inputs), part.batch.mask())
            x = part.batch.inputs + scale * pattern
            grad, _, _ = part.gradient(self.objective, x, through=space.clamp)
            total = (scale * grad).sum(0, keepdim=True)
            moved = pattern + self.size * ball.step(total) + 0 * total  # the sign of NaN is 0
            pattern = ball.project(moved, origin, one)
        return pattern

    def _turns(self, others: Batch) -> Iterator[Tensor]:
        """The rows of each mini-batch: all others in a random order, then in another one, and so on."""
        stream = Rng.of(0, others.ids, others.labels.device)
        per_epoch = -(-len(others) // self.batch)
        for step in range(self.steps):
            epoch, at = divmod(step, per_epoch)
            order = stream.fold("epoch", epoch).uniform().argsort()
            yield order[at * self.batch : (at + 1) * self.batch]


LEARNED: WeakKeyDictionary[Model, dict[Any, tuple[Any, Any]]] = WeakKeyDictionary()
"""Model -> what was learned, on which others and for which goal -> (of which weights, what came of it)."""


def once(model: Model, key: Any, learn: Callable[[], T]) -> T:
    """What `learn` answers: asked now, or before under the same key with the same weights."""
    state, kept = _state(model), LEARNED.setdefault(model, {})
    if key not in kept or state is None or kept[key][0] != state:
        kept[key] = state, learn()
    return kept[key][1]


def _state(model: Model) -> Any:
    """What tells that a model's weights have changed; None where that cannot be told, or where hooks want to see."""
    parts = [_state(part) for part in getattr(model, "members", ())]
    module = getattr(model, "module", None)
    if module is not None:
        parts.append(None if watched(module) else (str(model.device), id(module), state_of(module)))
    return None if not parts or None in parts else tuple(parts)


def content(others: Batch) -> tuple[str, ...]:
    """What tells these examples from others."""
    parts = [list(others.ids), others.labels, others.inputs, *([] if others.lengths is None else [others.lengths])]
    return tuple(map(digest_inputs, parts))


def _outcome(pattern: Tensor) -> Status:
    if not bool(pattern.isfinite().all()):
        return Status.BAD_GRADIENT
    return Status.DONE if bool(pattern.any()) else Status.NO_GRADIENT
