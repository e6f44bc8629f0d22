"""Auto-PGD: ascent that chooses its own step sizes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from carom.common.attacks.gradient.ascent import rows_of
from carom.common.attacks.restarts import End, best_of_runs
from carom.common.base.rng import Rng
from carom.common.core.batch import Batch
from carom.common.core.objectives import Objective, cross_entropy, margin
from carom.common.core.oracle import Oracle
from carom.common.core.problem import Problem, Result
from carom.common.core.spaces import Box
from carom.common.core.threats import Ball, column, confine
from carom.common.core.ties import above

LEAST = 1 / 16
"""Losses closer than rounding of this are equal, however small they are: so far off are logarithms of probabilities near 1."""


@lru_cache(maxsize=16)
def checkpoints(steps: int) -> dict[int, int]:
    """Step of each checkpoint -> steps since the last: at 22 % of all, then in intervals that shrink by 3 % down to 6 %
    (Croce and Hein 2020, section 3.1)."""
    marks, place, interval, last = {}, 22, 22, 0
    while place <= 100:
        step = -(-place * steps // 100)
        if step > last:
            marks[step], last = step - last, step
        interval = max(interval - 3, 6)
        place += interval
    return marks


class Track(NamedTuple):
    """M climbs: where each is and was, the best of it, and what its next checkpoint asks. One row an example."""

    x: Tensor
    before: Tensor
    loss: Tensor  # at x
    length: Tensor  # float[M]: of the next step
    best: Tensor
    best_grad: Tensor
    best_loss: Tensor
    best_margin: Tensor  # of the goal, at the best point
    rises: Tensor  # steps since the last checkpoint that raised the loss
    best_before: Tensor  # the best loss at the last checkpoint
    halved: Tensor  # whether the last checkpoint halved the step
    finite: Tensor  # whether every gradient was
    moved: Tensor  # whether any gradient was not zero

    @classmethod
    def at(cls, x: Tensor, radius: Tensor) -> Track:
        low = torch.full_like(radius, -torch.inf)
        no = torch.zeros_like(radius, dtype=torch.bool)
        return cls(x, x, low, 2 * radius, x, torch.zeros_like(x), low, low, torch.zeros_like(radius), low, no, ~no, no)

    def evaluated(self, grad: Tensor, loss: Tensor, gap: Tensor) -> Track:
        """What the gradient, the loss and the goal's margin at x say."""
        rose, largest = above(loss, self.best_loss, least=LEAST), grad.flatten(1).abs().amax(1)
        return self._replace(
            rises=self.rises + (above(loss, self.loss, least=LEAST) & self.loss.isfinite()),
            loss=loss,
            best=torch.where(column(rose, self.x), self.x, self.best),
            best_grad=torch.where(column(rose, self.x), grad, self.best_grad),
            best_loss=torch.where(rose, loss, self.best_loss),
            best_margin=torch.where(rose, gap, self.best_margin),
            finite=self.finite & largest.isfinite(),
            moved=self.moved | (largest > 0),
        )

    def at_checkpoint(self, grad: Tensor, least: float) -> tuple[Track, Tensor]:
        """Half the step, from the best point, where fewer than `least` steps rose, or where neither the step nor the
        best loss has changed since the last checkpoint (Alg. 1, conditions 1 and 2)."""
        halve = (self.rises < least) | (~self.halved & (self.best_loss <= self.best_before))
        back = column(halve, self.x)
        track = self._replace(
            x=torch.where(back, self.best, self.x),
            loss=torch.where(halve, self.best_loss, self.loss),
            length=torch.where(halve, self.length / 2, self.length),
            rises=torch.zeros_like(self.rises),
            best_before=self.best_loss,
            halved=halve,
        )
        return track, torch.where(back, self.best_grad, grad)

    def left(self, reached: Tensor | None = None) -> End:
        """How the climbs that reached the goal ended, or those that never did."""
        if reached is None:
            no = torch.zeros_like(self.halved)
            return End(self.best, no, self.best_margin, self.finite, self.moved)
        margin = torch.full_like(self.loss[reached], torch.inf)
        return End(self.x[reached], reached[reached], margin, self.finite[reached], self.moved[reached])


@dataclass(frozen=True)
class AutoPGD:
    """APGD (Croce and Hein 2020, Alg. 1): momentum, steps that start at twice the radius and halve at checkpoints that
    see no progress, and a return to the best point there.

    With `targets`, an untargeted goal is approached by aiming at that many other classes in turn, the likeliest first
    (APGD-T, section 4.1); a targeted goal has its one. Examples leave as soon as their stored form reaches the goal;
    restarts and further targets are for those that have not reached it. The released code climbs on with all examples
    until a run ends, and starts on the edge of the ball; here starts are uniform in the ball. Within L1 it takes the
    steps of `L1.ascent`; the authors' APGD for L1 (Croce and Hein 2021) adapts how many components move.
    """

    steps: int = 100
    restarts: int = 1
    objective: Objective = cross_entropy
    targets: int | None = None
    momentum: float = 0.75  # share of the new step; the rest goes on as the last one did
    rho: float = 0.75  # share of the steps between two checkpoints that has to raise the loss

    def costing(self, gradients: int) -> AutoPGD | None:
        """The same attack with as many steps as fit into a number of gradients per example; None if not one does. A run
        asks for one gradient more than it makes steps."""
        steps = gradients // (self.restarts * (self.targets or 1)) - 1
        return replace(self, steps=steps) if steps > 0 else None

    def __call__(self, problem: Problem, batch: Batch, rng: Rng) -> Result:
        return best_of_runs(self.climb, problem, batch, rng, restarts=self.restarts, targets=self.targets, stop=True)

    def climb(self, oracle: Oracle, aim: Oracle, rng: Rng, best: End, restart: int) -> End:
        x0, ball, space = oracle.batch.inputs, oracle.problem.threat, oracle.problem.model.space
        assert isinstance(space, Box), "APGD climbs between bounds"
        clamp = space.clamp
        assert isinstance(ball, Ball), "APGD needs a threat with steps and a projection"
        radius = ball.bounded(x0)
        x = clamp(x0 + confine(ball.start(x0, rng.fold("start")) - x0, oracle.batch.mask()))
        track, end, live = Track.at(x, radius), End.none(x0), torch.arange(len(x0), device=x0.device)
        marks = checkpoints(self.steps)
        for index in range(self.steps + 1):
            grad, loss, logits = aim.gradient(self.objective, track.x)
            grad = confine(grad, oracle.batch.mask())
            track = track.evaluated(grad, loss, oracle.goal().loss(margin, logits))
            reached = oracle.reached(track.x, logits)
            if bool(reached.any()):
                end = end.put(live[reached], track.left(reached))
                keep = (~reached).nonzero().squeeze(1)
                live, track, grad = live[keep], rows_of(track, keep), grad[keep]
                if not len(live):
                    break
                oracle, aim, x0 = oracle.take(keep), aim.take(keep), x0[keep]
            if index in marks:
                track, grad = track.at_checkpoint(grad, self.rho * marks[index])
            if index < self.steps:
                share = self.momentum if index else 1.0
                step = track.x + column(track.length, x0) * ball.ascent(grad, track.x, space.low, space.high)
                step = ball.inside(step, x0, space.low, space.high)
                step = track.x + share * (step - track.x) + (1 - share) * (track.x - track.before)
                track = track._replace(x=ball.inside(step, x0, space.low, space.high), before=track.x)
        return end.put(live, track.left())
