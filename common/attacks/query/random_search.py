"""The one random-search loop: score-based attacks propose, ask, and keep what raised the objective."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from carom.common.base.rng import Rng
from carom.common.core.batch import Batch
from carom.common.core.objectives import Objective, margin
from carom.common.core.oracle import Oracle
from carom.common.core.problem import Problem, Result, Status
from carom.common.core.threats import Ball, column, confine
from carom.common.core.ties import finite, tie


@dataclass(frozen=True)
class Turn:
    """What a proposal may know of the question that it prepares, for M examples."""

    progress: float  # from 0 to 1 over the query budget
    place: Tensor  # int64[M]: how far each example is in the proposal's own order
    rng: Rng  # of this question
    seed: Rng  # of the whole search: for an order that is drawn once
    lengths: Tensor | None = None  # where padding begins


class Proposal(Protocol):
    """How a search moves. A pattern is shaped like the inputs. The threat turns it into inputs: it `fills` the whole
    radius along the pattern, or takes the pattern as the perturbation itself, in radii, projected."""

    @property
    def fills(self) -> bool: ...

    def first(self, shape: torch.Size, rng: Rng) -> Tensor | None:
        """The pattern that is tried first; None starts from the clean input, which needs no question."""

    def next(self, pattern: Tensor, turn: Turn) -> Tensor:
        """A changed pattern."""

    def follow(self, place: Tensor, rose: Tensor) -> Tensor:
        """The next place in the order, given bool[M]: whether the last proposal was kept."""

    def within(self, threat: Ball) -> Proposal:
        """The proposal for this kind of ball."""


class Everywhere:
    """What proposals do unless they say otherwise: fill the radius, count their turns, serve every ball."""

    fills = True

    def follow(self, place: Tensor, rose: Tensor) -> Tensor:
        return place + 1

    def within(self, threat: Ball) -> Any:
        return self


SQUARE_SCHEDULE = (0.001, 0.005, 0.02, 0.1, 0.2, 0.4, 0.6, 0.8)
"""Shares of the budget at which the changed area halves (Andriushchenko et al. 2020, supplementary B)."""


def shrinking(initial: float, progress: float) -> float:
    """Share of the input that a proposal changes: halved at each mark of the schedule."""
    return initial / 2 ** sum(progress > mark for mark in SQUARE_SCHEDULE)


@dataclass(frozen=True)
class RandomSearch:
    """Ask `queries` times at most per example; an example that reached its goal asks no more, unless `keep_going`.

    Every question is about the stored form of an input, so what is found is what is saved.

    A proposal is kept if its score is higher by more than rounding (`tie`). Many change what the model does not look
    at: their scores are equal but for the last digits, which depend on the rows computed beside them, and a search
    that followed those would go another way at another batch size.
    """

    propose: Proposal
    queries: int = 1000
    keep_going: bool = False
    objective: Objective = margin

    def __call__(self, problem: Problem, batch: Batch, rng: Rng) -> Result:
        oracle, threat = Oracle(problem, batch), problem.threat
        assert isinstance(threat, Ball), "RandomSearch needs a threat that can extend a direction"
        propose = self.propose.within(threat)
        limit = self.queries if problem.budget.queries is None else min(self.queries, problem.budget.queries)
        with problem.model.frozen():
            if limit < 1:
                return oracle.finish(batch.inputs, torch.full_like(batch.labels, Status.INFEASIBLE.value))
            clean = oracle.logits(batch.inputs)
            best = problem.goal.loss(self.objective, clean)
            done = problem.goal.achieved(clean)
            leave = done & (not self.keep_going)
            status = torch.where(leave, Status.SKIPPED.value, Status.DONE.value)
            status = torch.where(best.isfinite(), status, Status.BAD_GRADIENT.value)
            x, pattern = batch.inputs, propose.first(batch.inputs.shape, rng.fold("first"))
            # A first pattern is where the search starts, however it compares with the clean input.
            value, begun = torch.full_like(best, -torch.inf), pattern is None
            if pattern is None:
                pattern, value = torch.zeros_like(x), best
            place = torch.zeros_like(batch.labels)
            live, held = status == Status.DONE, done
            for query in range(1, limit):
                rows = live.nonzero().squeeze(1)
                if not len(rows):
                    break
                mine = pattern[rows]
                if begun:
                    lengths = None if batch.lengths is None else batch.lengths[rows]
                    streams = rng[rows]
                    turn = Turn(query / limit, place[rows], streams.fold("query", query), streams, lengths)
                    mine = propose.next(mine, turn)
                tried = _realise(oracle, threat, mine, rows, propose.fills)
                logits = oracle.logits(tried, rows)
                goal = oracle.goal(rows)
                reached = goal.loss(self.objective, logits)
                sound, least = finite(logits), reached - tie(logits)
                hit, had = goal.achieved(logits), held[rows]
                rises = (least > value[rows]) & sound
                # The first to reach the goal is kept by however little it does; none that misses it replaces one.
                better = ((least > best[rows]) & (hit | ~had) | hit & ~had) & sound
                pattern = pattern.index_copy(0, rows[rises], mine[rises])
                value = value.index_copy(0, rows[rises], reached[rises])
                x = x.index_copy(0, rows[better], tried[better])
                best = best.index_copy(0, rows[better], reached[better])
                held = held.index_copy(0, rows[better], hit[better])
                if begun:
                    place = place.index_copy(0, rows, propose.follow(place[rows], rises))
                begun = True
                if not self.keep_going:
                    live = live.index_copy(0, rows, ~held[rows])
            return oracle.finish(x, status)


def _realise(oracle: Oracle, threat: Ball, pattern: Tensor, rows: Tensor, fills: bool) -> Tensor:
    """The stored inputs that patterns of some rows stand for."""
    part = oracle.batch.take(rows)
    pattern, x0 = confine(pattern, part.mask()), part.inputs
    x = threat.extend(pattern, x0) if fills else threat.project(x0 + column(threat.bounded(x0), x0) * pattern, x0)
    return Oracle(oracle.problem, part).store(oracle.problem.model.space.clamp(x))
