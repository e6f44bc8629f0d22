"""The one loop for attackers who see labels only: strategies look for the nearest input that reaches the goal.

All live examples ask side by side. A strategy sees of an answer whether it reaches the goal, and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from carom.common.base.rng import Rng
from carom.common.core.batch import Batch
from carom.common.core.oracle import Oracle
from carom.common.core.problem import Problem, Result, Status
from carom.common.core.threats import Ball, column, confine
from carom.common.core.ties import above, finite


class HuntStrategy(Protocol):
    """How to look for near inputs that reach the goal."""

    def __call__(self, hunt: Hunt) -> None:
        """Ask until nobody is live. What was offered and is nearest is the result: nothing is handed back."""


class Noise(Protocol):
    """Random directions: of inputs of a modality, smooth ones perhaps."""

    def __call__(self, shape: torch.Size, rng: Rng) -> Tensor:
        """float[N, ...] with independent rows."""


@dataclass(frozen=True)
class White:
    """Standard normal numbers."""

    def __call__(self, shape: torch.Size, rng: Rng) -> Tensor:
        return rng.normal(*shape[1:])


class Hunt:
    """N examples that ask for labels: which may still ask, and the nearest stored input of each that reached the goal.

    An example is live while it has questions left and nothing within its budget was found; where the threat bounds
    nothing, as long as it has questions. Others are not asked about any more, whoever asks.
    """

    def __init__(self, oracle: Oracle, rng: Rng, queries: int) -> None:
        threat, x0 = oracle.problem.threat, oracle.batch.inputs
        assert isinstance(threat, Ball), "a search by labels needs a threat with a norm and a projection"
        self.oracle, self.ball, self.rng = oracle, threat, rng
        self.clean, self.mask, self.lengths = x0, oracle.batch.mask(), oracle.batch.lengths
        self.left = torch.full_like(oracle.batch.labels, queries)
        self.live = self.left > 0
        self.nearest = x0.clone()
        self.distance = torch.full((len(x0),), torch.inf, device=x0.device)
        self._box: Any = oracle.problem.model.space  # of attacks on bounded real inputs: with low, high and unit

    @property
    def width(self) -> float:
        """The largest change of one component that the space allows."""
        return self._box.high - self._box.low

    @property
    def unit(self) -> float:
        """The smallest change of one component that can be stored; 0 where nothing is rounded."""
        return self._box.unit

    def rows(self) -> Tensor:
        """int64[M]: the live examples."""
        return self.live.nonzero().squeeze(1)

    def searching(self) -> Tensor:
        """int64[M]: the live examples for which nothing is found."""
        return (self.live & self.distance.isinf()).nonzero().squeeze(1)

    def leave(self, rows: Tensor) -> None:
        """These examples have nothing more to ask."""
        self.live[rows] = False

    def within(self, rows: Tensor, change: Tensor) -> Tensor:
        """Inputs [M, ...] from changes of the examples `rows`: in the space, without what falls on padding."""
        change = confine(change, None if self.mask is None else self.mask[rows])
        return self.oracle.problem.model.space.clamp(self.clean[rows] + change)

    def random(self, rows: Tensor, rng: Rng) -> Tensor:
        """Points [M, ...] of the space, wherever: between two random bounds each."""
        ends = rng.fold("ends").uniform(2).sort(1).values.unbind(1)
        low, high = (column(self._box.low + self.width * end, self.clean) for end in ends)
        x = low + (high - low) * rng.fold("inside").uniform(*self.clean.shape[1:])
        return self.within(rows, x - self.clean[rows])

    def ask(self, x: Tensor, rows: Tensor, copies: int = 1) -> Tensor:
        """float[copies * M]: 1 where x[copies * M, ...] reaches the goal, -1 where not, 0 where it was not asked about.

        x holds `copies` versions of the examples `rows`, one stack after another: the first are asked about first.
        """
        turn = torch.arange(copies, device=rows.device).repeat_interleave(len(rows))
        owners = rows.repeat(copies)
        able = (self.live[owners] & (turn < self.left[owners])).nonzero().squeeze(1)
        said = torch.zeros(len(owners), device=x.device)
        if not len(able):
            return said
        owners = owners[able]
        hits = self.oracle.goal(owners).achieved(self.oracle.logits(x[able], owners))
        said[able] = torch.where(hits, 1.0, -1.0)
        self.left.index_add_(0, owners, -torch.ones_like(owners))
        self.live &= self.left > 0
        return said

    def offer(self, x: Tensor, rows: Tensor) -> Tensor:
        """bool[M]: whether the stored form of x[M, ...] reaches the goal. It is kept if it does and is the nearest."""
        stored = self.oracle.problem.model.space.round(x)
        hits = self.ask(stored, rows) > 0
        distance = self.ball.norm(stored - self.clean[rows])
        nearer = hits & above(self.distance[rows], distance)
        self.nearest = self.nearest.index_copy(0, rows[nearer], stored[nearer])
        self.distance = self.distance.index_copy(0, rows[nearer], distance[nearer])
        inside = self.ball.allows(self.nearest, self.clean) & self.distance.isfinite()
        self.live &= ~(inside & self.ball.radius(self.clean).isfinite())
        return hits

    def found(self) -> Tensor:
        """[N, ...]: the nearest stored input that reached the goal, if it is within the budget; else the clean one."""
        inside = self.ball.allows(self.nearest, self.clean) & self.distance.isfinite()
        return torch.where(column(inside, self.clean), self.nearest, self.clean)


@dataclass(frozen=True)
class DecisionSearch:
    """Ask `queries` times at most per example, for labels alone, after the nearest input that reaches the goal.

    Within a bounded threat the search ends with the first stored input that is inside, and what never came inside
    is handed back unchanged; where the threat bounds nothing, all questions are spent on the smallest change. The goal
    may be a target, but strategies begin at random inputs, which seldom reach one.
    """

    strategy: HuntStrategy
    queries: int = 1000

    def __call__(self, problem: Problem, batch: Batch, rng: Rng) -> Result:
        oracle = Oracle(problem, batch)
        limit = self.queries if problem.budget.queries is None else min(self.queries, problem.budget.queries)
        with problem.model.frozen():
            if limit < 1:
                return oracle.finish(batch.inputs, torch.full_like(batch.labels, Status.INFEASIBLE.value))
            clean = oracle.logits(batch.inputs)
            status = torch.where(problem.goal.achieved(clean), Status.SKIPPED.value, Status.DONE.value)
            status = torch.where(finite(clean), status, Status.BAD_GRADIENT.value)
            rows = (status == Status.DONE).nonzero().squeeze(1)
            hunt = Hunt(oracle.take(rows), rng[rows], limit - 1)
            self.strategy(hunt)
            return oracle.finish(batch.inputs.index_copy(0, rows, hunt.found()), status)
