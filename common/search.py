"""The one random-search loop: score-based attacks propose, ask, and keep what raised the objective."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from carom.common.objectives import Objective, margin
from carom.common.oracle import Oracle
from carom.common.problem import Batch, Problem, Result, Status
from carom.common.rng import Rng
from carom.common.threats import Ball, confine


class Proposal(Protocol):
    """How a search moves. Patterns are directions shaped like the inputs; the threat turns them into inputs."""

    def first(self, shape: torch.Size, rng: Rng) -> Tensor:
        """The pattern that is tried first."""

    def next(self, pattern: Tensor, progress: float, rng: Rng, lengths: Tensor | None) -> Tensor:
        """A changed pattern; `progress` runs from 0 to 1 over the query budget; `lengths` say where padding begins."""


SQUARE_SCHEDULE = (0.001, 0.005, 0.02, 0.1, 0.2, 0.4, 0.6, 0.8)
"""Shares of the budget at which the changed area halves (Andriushchenko et al. 2020, supplementary B)."""


def shrinking(initial: float, progress: float) -> float:
    """Share of the input that a proposal changes: halved at each mark of the schedule."""
    return initial / 2 ** sum(progress > mark for mark in SQUARE_SCHEDULE)


@dataclass(frozen=True)
class RandomSearch:
    """Ask `queries` times at most per example; an example that reached its goal asks no more, unless `keep_going`.

    Every question is about the stored form of an input, so what is found is what is saved.
    """

    propose: Proposal
    queries: int = 1000
    keep_going: bool = False
    objective: Objective = margin

    def __call__(self, problem: Problem, batch: Batch, rng: Rng) -> Result:
        oracle = Oracle(problem, batch)
        limit = self.queries if problem.budget.queries is None else min(self.queries, problem.budget.queries)
        with problem.model.frozen():
            if limit < 1:
                return oracle.finish(batch.inputs, torch.full_like(batch.labels, Status.INFEASIBLE.value))
            clean = oracle.logits(batch.inputs)
            best = self.objective(clean, problem.goal)
            done = problem.goal.achieved(clean)
            status = torch.where(done, Status.SKIPPED.value, Status.DONE.value)
            status = torch.where(best.isfinite(), status, Status.BAD_GRADIENT.value)
            x, pattern = batch.inputs, self.propose.first(batch.inputs.shape, rng.fold("first"))
            # The first pattern is where the search starts, however it compares with the clean input.
            value = torch.full_like(best, -torch.inf)
            live = (status == Status.DONE) | (self.keep_going & done)
            for query in range(1, limit):
                rows = live.nonzero().squeeze(1)
                if not len(rows):
                    break
                mine = pattern[rows]
                if query > 1:
                    lengths = None if batch.lengths is None else batch.lengths[rows]
                    mine = self.propose.next(mine, query / limit, rng[rows].fold("query", query), lengths)
                tried = self._realise(oracle, mine, rows)
                logits = oracle.logits(tried, rows)
                goal = oracle.goal(rows)
                reached = self.objective(logits, goal)
                finite = logits.isfinite().all(1)
                rises, better = (reached > value[rows]) & finite, (reached > best[rows]) & finite
                pattern = pattern.index_copy(0, rows[rises], mine[rises])
                value = value.index_copy(0, rows[rises], reached[rises])
                x = x.index_copy(0, rows[better], tried[better])
                best = best.index_copy(0, rows[better], reached[better])
                if not self.keep_going:
                    live = live.index_copy(0, rows, ~(goal.achieved(logits) & better))
            return oracle.finish(x, status)

    @staticmethod
    def _realise(oracle: Oracle, pattern: Tensor, rows: Tensor) -> Tensor:
        """The stored inputs that patterns of some rows stand for."""
        threat, space = oracle.problem.threat, oracle.problem.model.space
        assert isinstance(threat, Ball), "RandomSearch needs a threat that can extend a direction"
        part = oracle.batch.take(rows)
        x = space.clamp(threat.extend(confine(pattern, part.mask()), part.inputs))
        return Oracle(oracle.problem, part).store(x)
