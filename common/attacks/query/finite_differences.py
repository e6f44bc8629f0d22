"""Gradient estimators for attackers who see scores, not gradients: `Ascent` with one of them is a query attack.

Each step first asks about the stored form of where it is, so that what reached the goal can leave: an answer that lets
a search stop is paid for like any other. The papers' counts leave it out. Questions beside it are about clamped inputs
that need not be on the stored lattice.

Radii are shares of the threat's, as changes of every component at once: `sigma` of .1 is a tenth of eps in the Linf
ball, and in the L2 ball as much on every component as makes a tenth of eps.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from carom.common.attacks.gradient.estimators import Estimate
from carom.common.attacks.gradient.step import Step
from carom.common.base.errors import CaromError
from carom.common.base.rng import Rng
from carom.common.core.threats import Linf, column, confine
from carom.common.core.ties import coarse, tie


def ask_stored(step: Step, x: Tensor) -> tuple[Tensor, Tensor]:
    """(logits of the stored form of x, int64[M]: the examples that go on)"""
    logits = step.oracle.logits(step.oracle.store(x))
    return logits, (~step.oracle.goal().achieved(logits)).nonzero().squeeze(1)


def slopes(step: Step, rows: Tensor, above: Tensor, below: Tensor) -> Tensor:
    """float[K, M]: by how much the objective is larger at above[K, M, ...] than at below[K, M, ...], versions of the
    examples `rows`, coarsely, and 0 where that is no more than rounding. Asked in one batch."""
    oracle, space = step.oracle, step.oracle.problem.model.space
    points = space.clamp(torch.cat([above, below]).flatten(0, 1))
    rows = rows.repeat(2 * len(above))
    logits = oracle.logits(points, rows)
    scores = oracle.goal(rows).loss(step.objective, logits).view(2, *above.shape[:2])
    near = tie(logits).view(2, *above.shape[:2]).amax(0)
    rise = scores[0] - scores[1]
    return torch.where(rise.abs() <= near, 0.0, coarse(rise))


def spread(grad: Tensor, rows: Tensor, n: int) -> Tensor:
    """[N, ...]: the rows of grad[M, ...] in their places, zeros elsewhere."""
    return grad.new_zeros(n, *grad.shape[1:]).index_copy(0, rows, grad)


def pace(step: Step) -> Tensor:
    """float[N]: how much every component changes if all change alike by the threat's radius."""
    ones = confine(torch.ones_like(step.clean), step.oracle.batch.mask())
    return step.ball.bounded(step.clean) / step.ball.norm(ones).clamp_min(1e-12)


@dataclass(frozen=True)
class FiniteDifferences:
    """The mean of random directions, each weighted by how much the objective differs between its two ends.

    Gaussian directions: NES with antithetic sampling (Ilyas et al. 2018, section 3.1). Random signs: SPSA (Uesato et
    al. 2018, Alg. 1). Ends are clamped to the space: at its bounds a direction counts for the half that is inside. The
    estimate is not divided by the distance of the ends, which no step can see. Their distance is as large as the budget
    by default, far more than in the papers: networks are as easily fooled, and forests, whose scores are constant
    between splits, only so.
    """

    pairs: int = 5
    sigma: float = 1.0
    signs: bool = False
    passes = 0

    def __post_init__(self) -> None:
        if self.pairs < 1 or not self.sigma > 0:
            raise CaromError("an estimate needs at least one pair of neighbours, at a distance sigma above 0.")

    @property
    def queries(self) -> int:
        return 1 + 2 * self.pairs

    def __call__(self, step: Step, x: Tensor, memory: None) -> Estimate:
        logits, rows = ask_stored(step, x)
        rng, at = step.rng[rows], x[rows]
        streams = Rng(torch.cat([rng.fold("neighbour", pair).keys for pair in range(self.pairs)]))
        drawn = (streams.signs if self.signs else streams.normal)(*x.shape[1:]).view(self.pairs, *at.shape)
        mask = step.oracle.batch.mask()
        drawn = confine(drawn, None if mask is None else mask[rows])
        ends = column(self.sigma * pace(step)[rows], at) * drawn
        rises = slopes(step, rows, at + ends, at - ends)
        grad = torch.zeros_like(at)
        for rise, direction in zip(rises, drawn, strict=True):  # one by one: in this order at every batch size
            grad = grad + column(rise, at) * direction
        return Estimate(spread(grad / self.pairs, rows, len(x)), None, logits)


class Prior(Protocol):
    """A coarse form of inputs in which a gradient is remembered."""

    def shape(self, shape: torch.Size) -> tuple[int, ...]:
        """Of one example's coarse form, given the shape [N, ...] of inputs."""

    def spread(self, coarse: Tensor, shape: torch.Size) -> Tensor:
        """From coarse forms [M, ...] to inputs [M, ...]."""


@dataclass(frozen=True)
class Whole:
    """No coarser than the input."""

    def shape(self, shape: torch.Size) -> tuple[int, ...]:
        return tuple(shape[1:])

    def spread(self, coarse: Tensor, shape: torch.Size) -> Tensor:
        return coarse


@dataclass(frozen=True)
class Bandits:
    """A gradient that is remembered from step to step and corrected by two questions a step (Ilyas, Engstrom and Madry
    2019, Alg. 2 and 3), in a coarse form of the input: the data-dependent prior of section 3.2.

    Exploration looks along the prior with a random direction added and taken away; the prior moves along that direction
    by what the two differ: by exponentiated gradients in the Linf ball, where it stays between -1 and 1 (its dual is
    what is remembered), by plain steps in others. The climb follows the prior.

    The paper's `eta`, the distance of a question, is here a share of the length of a change by the whole budget, and
    slopes are per such length, so that `rate` does not depend on the input's scale and size. The paper's settings for
    ImageNet within .05 are then eta=.004 and rate=4. The defaults are not the paper's: questions half a budget away,
    since forests answer nearer ones alike (see FiniteDifferences), and the smaller rate that goes with such slopes.
    """

    prior: Prior = field(default_factory=Whole)
    explore: float = 1.0  # the paper's delta
    eta: float = 0.5
    rate: float = 0.03
    passes = 0
    queries = 3

    def __call__(self, step: Step, x: Tensor, memory: Tensor | None) -> Estimate:
        logits, rows = ask_stored(step, x)
        at, shape, linf = x[rows], x.shape, isinstance(step.ball, Linf)
        coarse = self.prior.shape(shape)
        dual = torch.zeros(len(x), *coarse, dtype=x.dtype, device=x.device) if memory is None else memory
        held = dual[rows]
        prior = held.tanh() if linf else held
        drawn = step.rng[rows].fold("explore").normal(*coarse) / held[:1].numel() ** 0.5 if len(rows) else held
        mask = step.oracle.batch.mask()
        mask = None if mask is None else mask[rows]
        length = column(self.eta * pace(step)[rows] * _root(at, mask), at)

        def end(direction: Tensor) -> Tensor:
            full = confine(self.prior.spread(direction, shape), mask)
            size = full.flatten(1).norm(dim=1).clamp_min(1e-12)
            return (at + length * full / column(size, full))[None]

        (rise,) = slopes(step, rows, end(prior + self.explore * drawn), end(prior - self.explore * drawn))
        held = held + self.rate / (self.eta * self.explore) * column(rise, held) * drawn
        dual = dual.index_copy(0, rows, held)
        return Estimate(self.prior.spread(dual.tanh() if linf else dual, shape), dual, logits)


def _root(at: Tensor, mask: Tensor | None) -> Tensor:
    """float[M]: the Euclidean length of a change of every component by 1."""
    return confine(torch.ones_like(at), mask).flatten(1).norm(dim=1)
