"""Rotations and shifts of the whole image: the budget, and the attack that tries them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from carom.common.attacks.catalogue.base import Catalogue
from carom.common.base.errors import CaromError
from carom.common.base.rng import Rng
from carom.common.core.batch import Access, Batch
from carom.common.core.objectives import margin
from carom.common.core.oracle import Oracle
from carom.common.core.problem import Problem, Result, Status
from carom.common.core.threats import Threat

ROTATIONS = Catalogue(needs=Access.SCORE, threats=("spatial",), random=True)

DEGREES, SHIFT = 30.0, 3 / 28
ANGLES, SHIFTS = 31, 5
GRID = ANGLES * SHIFTS * SHIFTS
"""Engstrom et al. 2019, section 3: at most 30 degrees and 3 of 28 pixels; their grid has 31 and 5 x 5 values."""

CLOSE = 0.6 / 255
"""How far a pixel may lie from the transformed one: half a stored step, and what float32 loses."""


@dataclass(frozen=True)
class Spatial(Threat):
    """The image turned by at most `eps` * 30 degrees and shifted by at most `eps` * 3/28 of its sides, black beyond its
    borders: one of the 775 transformations of the paper's grid, so that a stored image can be checked against them."""

    eps: float
    control_follows: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not self.eps >= 0:
            raise CaromError(f"a budget of {self.eps} is no share of 30 degrees: give 0 or more, say 1.")

    def moved(self, x0: Tensor, number: Tensor) -> Tensor:
        """The images under the transformations int64[N] of the grid."""
        angle, shifts = number // SHIFTS**2, (number // SHIFTS % SHIFTS, number % SHIFTS)
        turn = self.eps * math.radians(DEGREES) * (2 * angle / (ANGLES - 1) - 1)
        down, across = (self.eps * SHIFT * (2 * shift / (SHIFTS - 1) - 1) for shift in shifts)
        height, width = x0.shape[2:]
        cos, sin = turn.cos(), turn.sin()
        # From places of the result to places of the image, both from -1 to 1: sides of other lengths skew a turn.
        rows = (cos, sin * height / width, -2 * across), (-sin * width / height, cos, -2 * down)
        matrix = torch.stack([torch.stack(row, 1) for row in rows], 1).to(x0.dtype)
        grid = F.affine_grid(matrix, list(x0.shape), align_corners=False)
        return F.grid_sample(x0, grid, align_corners=False)

    def find(self, x: Tensor, x0: Tensor) -> Tensor:
        """int64[N]: the first transformation of the grid that takes x0 to x; -1 where none does."""
        found = torch.full((len(x),), -1, device=x.device)
        for number in [IDENTITY, *range(GRID)]:
            rows = (found < 0).nonzero().squeeze(1)
            if not len(rows):
                break
            tried = self.moved(x0[rows], torch.full_like(rows, number))
            same = (tried - x[rows]).flatten(1).abs().amax(1) <= CLOSE
            found[rows[same]] = number
        return found

    def allows(self, x: Tensor, x0: Tensor) -> Tensor:
        return self.find(x, x0) >= 0

    def control(self, batch: Batch, rng: Rng, like: Tensor) -> Tensor:
        """A random transformation of the grid."""
        return self.moved(batch.inputs, rng.integers(GRID))

    def swap(self, batch: Batch, rng: Rng, other: Tensor, other0: Tensor) -> Tensor:
        return self.moved(batch.inputs, self.find(other, other0).clamp_min(0))


IDENTITY = GRID // 2


@dataclass(frozen=True)
class Tries:
    """The transformation with the largest margin among `queries` - 1 that are drawn for each example, none twice; an
    example that has reached its goal asks no more. 776 queries are the whole grid and the clean image."""

    queries: int = 11

    def __call__(self, problem: Problem, batch: Batch, rng: Rng) -> Result:
        oracle, threat, x = Oracle(problem, batch), problem.threat, batch.inputs
        space = problem.model.space
        assert isinstance(threat, Spatial), "turning and shifting need a threat of rotations and shifts"
        limit = self.queries if problem.budget.queries is None else min(self.queries, problem.budget.queries)
        with problem.model.frozen():
            if limit < 1:
                return oracle.finish(x, torch.full_like(batch.labels, Status.INFEASIBLE.value))
            clean = oracle.logits(x)
            best, done = problem.goal.loss(margin, clean), problem.goal.achieved(clean)
            status = torch.where(done, Status.SKIPPED.value, Status.DONE.value)
            status = torch.where(best.isfinite(), status, Status.BAD_GRADIENT.value)
            live, order = status == Status.DONE, rng.uniform(GRID).argsort(1)
            for number in order.unbind(1)[: limit - 1]:
                rows = live.nonzero().squeeze(1)
                if not len(rows):
                    break
                tried = space.round(space.clamp(threat.moved(batch.inputs[rows], number[rows])))
                logits, goal = oracle.logits(tried, rows), oracle.goal(rows)
                better = (goal.loss(margin, logits) > best[rows]) & logits.isfinite().all(1)
                x = x.index_copy(0, rows[better], tried[better])
                best = best.index_copy(0, rows[better], goal.loss(margin, logits)[better])
                live = live.index_copy(0, rows, ~(goal.achieved(logits) & better))
            return oracle.finish(x, status)


@ROTATIONS.attack(
    "spatial",
    "the worst of several rotations and shifts",
    paper="Engstrom et al. 2019, Exploring the landscape of spatial robustness",
    cost="at most `queries` forward",
)
def spatial(queries: int = 11) -> Tries:
    """The worst of ten random transformations; queries=776 tries all of the grid."""
    return Tries(queries)
