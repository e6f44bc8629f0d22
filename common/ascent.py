"""The one gradient loop: FGSM, BIM, PGD, MI-FGSM and everything derived from them are arguments to `Ascent`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from carom.common.estimators import Backprop, Estimator
from carom.common.objectives import Objective, cross_entropy
from carom.common.oracle import Oracle
from carom.common.problem import Batch, Problem, Result, Status
from carom.common.rng import Rng
from carom.common.threats import Ball, confine
from carom.common.updates import Chain


@dataclass(frozen=True)
class Ascent:
    """Climb an objective inside a ball: objective x gradient estimator x update rule x threat.

    Every example makes all its steps, whether or not the attacked model is fooled before: the further steps are what
    transfers. With restarts, each example keeps its best run: one that succeeds, then the highest objective.
    """

    steps: int = 10
    size: float = 0.25  # of one step, as a share of the threat's radius
    update: Chain = field(default_factory=Chain)
    objective: Objective = cross_entropy
    gradient: Estimator = field(default_factory=Backprop)
    random_start: bool = False
    restarts: int = 1

    def __call__(self, problem: Problem, batch: Batch, rng: Rng) -> Result:
        oracle = Oracle(problem, batch)
        with problem.model.frozen():
            x, status = self.climb(oracle, rng.fold("restart", 0))
            if self.restarts > 1:
                x, status = self._best_of_restarts(oracle, rng, x, status)
            return oracle.finish(x, status)

    def climb(self, oracle: Oracle, rng: Rng) -> tuple[Tensor, Tensor]:
        """One run: (x[N, ...] before rounding, status[N])."""
        threat, space, batch = oracle.problem.threat, oracle.problem.model.space, oracle.batch
        assert isinstance(threat, Ball), "Ascent needs a threat with steps and a projection"
        x0, mask = batch.inputs, batch.mask()
        size = (self.size * threat.radius(x0)).view(-1, *[1] * (x0.dim() - 1))
        x = x0
        if self.random_start:
            x = space.clamp(x0 + confine(threat.start(x0, rng.fold("start")) - x0, mask))
        state: Any = self.update.init(x)
        finite = torch.ones(len(x0), dtype=torch.bool, device=x0.device)
        moved = torch.zeros_like(finite)
        for step in range(self.steps):
            grad, _ = self.gradient(oracle, self.objective, x, rng.fold("step", step))
            grad = confine(grad, mask)
            # Kept on the device: nothing here waits for the host.
            largest = grad.flatten(1).abs().amax(1)
            finite &= largest.isfinite()
            moved |= largest > 0
            direction, state = self.update.apply(grad, state)
            x = space.clamp(threat.project(x + size * threat.step(direction), x0))
        status = torch.full((len(x0),), Status.DONE.value, device=x0.device)
        status = torch.where(moved | (self.steps == 0), status, Status.NO_GRADIENT.value)
        return x, torch.where(finite, status, Status.BAD_GRADIENT.value)

    def _best_of_restarts(self, oracle: Oracle, rng: Rng, x: Tensor, status: Tensor) -> tuple[Tensor, Tensor]:
        rank, shape = self._rank(oracle, x, status), (-1, *[1] * (x.dim() - 1))
        for restart in range(1, self.restarts):
            other, other_status = self.climb(oracle, rng.fold("restart", restart))
            other_rank = self._rank(oracle, other, other_status)
            better = other_rank > rank
            x = torch.where(better.view(shape), other, x)
            status, rank = torch.where(better, other_status, status), torch.where(better, other_rank, rank)
        return x, status

    def _rank(self, oracle: Oracle, x: Tensor, status: Tensor) -> Tensor:
        """float64[N]: success outweighs any objective; runs that broke come last."""
        logits = oracle.logits(oracle.store(x), pays=False)
        goal = oracle.goal()
        rank = self.objective(logits, goal).double().clamp(-1e6, 1e6) + 1e7 * goal.achieved(logits)
        return torch.where(status == Status.DONE, rank.nan_to_num(-1e9), -1e9)
