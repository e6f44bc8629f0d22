"""The one random-search loop: score-based attacks propose, ask, and keep what raised the objective."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Protocol

import torch
from torch import Tensor

from carom.common.base.rng import Rng
from carom.common.core.batch import Batch
from carom.common.core.objectives import Objective, margin
from carom.common.core.oracle import Oracle
from carom.common.core.problem import Problem, Result, Status
from carom.common.core.tasks import AttackGoal
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


@dataclass
class SearchState:
    """Where the search of each of N examples stands. A pattern may be worth following though its input is not the best:
    the input that is handed over must not lose the goal."""

    pattern: Tensor  # [N, ...]: what the next proposal changes
    value: Tensor  # float[N]: the objective at the pattern
    place: Tensor  # int64[N]: how far each is in the proposal's own order
    x: Tensor  # [N, ...]: the best input
    best: Tensor  # float[N]: its objective
    held: Tensor  # bool[N]: whether it reached the goal

    def take(self, rows: Tensor) -> SearchState:
        """The state of some examples."""
        return SearchState(*(getattr(self, part.name)[rows] for part in fields(self)))

    def put(self, rows: Tensor, state: SearchState) -> None:
        """Set the state of some examples."""
        for part in fields(self):
            whole = getattr(self, part.name)
            setattr(self, part.name, whole.index_copy(0, rows, getattr(state, part.name)))

    def follow(self, pattern: Tensor, scores: Scores) -> Tensor:
        """Go on from the patterns that raised the objective; bool[N]: which did."""
        rose = (scores.least > self.value) & scores.finite
        self.pattern = torch.where(column(rose, pattern), pattern, self.pattern)
        self.value = torch.where(rose, scores.objective, self.value)
        return rose

    def keep(self, x: Tensor, scores: Scores) -> None:
        """Keep the inputs that are better. The first to reach the goal is kept by however little it does; none that
        misses it replaces one."""
        hit, held = scores.hit, self.held
        better = ((scores.least > self.best) & (hit | ~held) | hit & ~held) & scores.finite
        self.x = torch.where(column(better, x), x, self.x)
        self.best = torch.where(better, scores.objective, self.best)
        self.held = torch.where(better, hit, held)


@dataclass(frozen=True)
class Scores:
    """What the answers to N inputs say."""

    objective: Tensor  # float[N]
    least: Tensor  # float[N]: the objective without what may be rounding (`tie`)
    hit: Tensor  # bool[N]: whether they reach the goal
    finite: Tensor  # bool[N]: whether every logit is

    @classmethod
    def of(cls, logits: Tensor, goal: AttackGoal, objective: Objective) -> Scores:
        reached = goal.loss(objective, logits)
        return cls(reached, reached - tie(logits), goal.achieved(logits), finite(logits))


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
            best, done = problem.goal.loss(self.objective, clean), problem.goal.achieved(clean)
            status = torch.where(done & (not self.keep_going), Status.SKIPPED.value, Status.DONE.value)
            status = torch.where(best.isfinite(), status, Status.BAD_GRADIENT.value)
            first = propose.first(batch.inputs.shape, rng.fold("first"))
            state = SearchState(
                pattern=torch.zeros_like(batch.inputs) if first is None else first,
                # A first pattern is where the search starts, however it compares with the clean input.
                value=best if first is None else torch.full_like(best, -torch.inf),
                place=torch.zeros_like(batch.labels),
                x=batch.inputs,
                best=best,
                held=done,
            )
            live = status == Status.DONE
            for query in range(1, limit):
                rows = live.nonzero().squeeze(1)
                if not len(rows):
                    break
                part = state.take(rows)
                starts = query == 1 and first is not None  # asks about the first pattern as it is
                pattern = part.pattern
                if not starts:
                    lengths = None if batch.lengths is None else batch.lengths[rows]
                    turn = Turn(query / limit, part.place, rng[rows].fold("query", query), rng[rows], lengths)
                    pattern = propose.next(pattern, turn)
                x = _realise(oracle, threat, pattern, rows, propose.fills)
                scores = Scores.of(oracle.logits(x, rows), oracle.goal(rows), self.objective)
                rose = part.follow(pattern, scores)
                part.keep(x, scores)
                if not starts:
                    part.place = propose.follow(part.place, rose)
                state.put(rows, part)
                if not self.keep_going:
                    live = live.index_copy(0, rows, ~part.held)
            return oracle.finish(state.x, status)


def _realise(oracle: Oracle, threat: Ball, pattern: Tensor, rows: Tensor, fills: bool) -> Tensor:
    """The stored inputs that patterns of some rows stand for."""
    part = oracle.batch.take(rows)
    pattern, x0 = confine(pattern, part.mask()), part.inputs
    x = threat.extend(pattern, x0) if fills else threat.project(x0 + column(threat.bounded(x0), x0) * pattern, x0)
    return Oracle(oracle.problem, part).store(oracle.problem.model.space.clamp(x))
