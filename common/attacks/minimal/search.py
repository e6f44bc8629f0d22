"""Minimal-norm attacks: the one loop that looks for the smallest change that reaches the goal."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from carom.common.attacks.gradient.ascent import rows_of
from carom.common.attacks.restarts import End, best_of_runs
from carom.common.base.rng import Rng
from carom.common.core.batch import Batch
from carom.common.core.objectives import Objective, margin
from carom.common.core.oracle import Oracle
from carom.common.core.problem import Problem, Result
from carom.common.core.spaces import Box
from carom.common.core.threats import Ball, column, confine
from carom.common.core.ties import above


class Look(NamedTuple):
    """What the model says of one point of each of M examples."""

    x: Tensor  # [M, ...]: the point that is judged
    reached: Tensor  # bool[M]: whether its stored form reaches the goal
    gap: Tensor  # float[M]: the goal's margin there
    at: Tensor  # [M, ...]: where the gradients were taken
    values: Tensor  # float[M, K]: what the iteration climbs, there
    grads: Tensor  # [M, K, ...]


class Scene(NamedTuple):
    """What stays the same for M examples, and how far the search is."""

    x0: Tensor
    ball: Ball
    space: Box
    radius: Tensor  # float[M]: of the ball
    number: int = 0
    steps: int = 0
    size: Any = None  # float[M]: of the smallest change found so far; inf before

    def take(self, rows: Tensor) -> Scene:
        return self._replace(x0=self.x0[rows], radius=self.radius[rows], size=self.size[rows])


FARTHER = (1.02, 1.05, 1.1, 1.2, 1.4, 1.8, 2.6, 4.2)
"""How much farther out stored points are looked for than a point that lost its goal in storing."""


class Near(NamedTuple):
    """The nearest point that reached the goal before it was stored, of M examples."""

    x: Tensor  # [M, ...]
    size: Tensor  # float[M]: of its change; inf where there was none

    def or_nearer(self, look: Look, scene: Scene) -> Near:
        size = torch.where(look.gap > 0, scene.ball.norm(look.x - scene.x0), torch.inf)
        nearer = above(self.size, size)
        return Near(torch.where(column(nearer, look.x), look.x, self.x), torch.where(nearer, size, self.size))

    def put(self, rows: Tensor, part: Near) -> Near:
        return Near(*(old.index_copy(0, rows, new) for old, new in zip(self, part, strict=True)))


class Iteration(Protocol):
    """How a minimal-norm attack goes from one point to the next. What it remembers are tensors with a row each."""

    def begin(self, scene: Scene) -> Any:
        """What it remembers at first."""

    def look(self, oracle: Oracle, aim: Oracle, x: Tensor) -> Look:
        """Judge x by the goal of `oracle` and take gradients by that of `aim`."""

    def next(self, scene: Scene, look: Look, state: Any) -> tuple[Tensor, Any]:
        """(the next point, what it remembers then)"""


@dataclass(frozen=True)
class Closest:
    """`steps` points of an iteration (`move`), of which each example keeps the nearest whose stored form reaches its
    goal, measured by the threat's norm; then `refine` halvings of the segment between that and the clean input.

    Points just beyond the boundary often lose their goal when they are stored. Where the nearest point that reached it
    was lost so, points farther out on the same ray are tried, up to the rim of the ball; with `stop` the one on the rim
    at once. Libraries that keep floats need no such thing, and say nothing of images that are saved.

    The threat may be infinite. Within a finite one the search stays inside the ball, unless it may `roam`: papers
    search without bounds and compare with the budget afterwards, and FAB, which comes to the boundary from beyond, is
    weaker when it is held in. Examples for which no point of the ball reached the goal get back the one whose margin
    was largest, or the point of the ball nearest to it.

    An example leaves the search when a gradient is not finite, when its first is zero, and with `stop` as soon as it
    has reached the goal. Restarts begin at random points, half as far as the best one.
    """

    move: Iteration
    steps: int = 100
    restarts: int = 1
    targets: int | None = None
    stop: bool = False
    refine: int = 0
    roam: bool = False

    def __call__(self, problem: Problem, batch: Batch, rng: Rng) -> Result:
        return best_of_runs(
            self.climb, problem, batch, rng, restarts=self.restarts, targets=self.targets, stop=self.stop
        )

    def climb(self, oracle: Oracle, aim: Oracle, rng: Rng, best: End, restart: int) -> End:
        x0, ball, space = oracle.batch.inputs, oracle.problem.threat, oracle.problem.model.space
        assert isinstance(ball, Ball), "the smallest change is measured by a threat with a norm and a projection"
        assert isinstance(space, Box), "the smallest change is looked for between bounds"
        known = torch.where(best.reached, -best.rank, torch.inf)
        scene = Scene(x0, ball, space, ball.radius(x0), 0, self.steps, torch.full_like(known, torch.inf))
        x = space.clamp(x0 + self._start(scene, oracle, rng, known)) if restart else x0
        state, track = self.move.begin(scene), End.none(x0)
        near = Near(x0, torch.full_like(known, torch.inf))
        end, ends, live = track, near, torch.arange(len(x0), device=x0.device)
        everyone = oracle
        for index in range(self.steps):
            scene = scene._replace(number=index)
            look = self._masked(self.move.look(oracle, aim, x), oracle)
            track, size = self._judged(track, look, scene, oracle, first=index == 0)
            near = near.or_nearer(look, scene)
            scene = scene._replace(size=torch.minimum(scene.size, size))
            leave = ~track.finite | ~track.moved | (track.reached & self.stop)
            if bool(leave.any()):
                end, ends = end.put(live[leave], track.take(leave)), ends.put(live[leave], rows_of(near, leave))
                keep = (~leave).nonzero().squeeze(1)
                live, track, scene = live[keep], track.take(keep), scene.take(keep)
                look, state, near = rows_of(look, keep), rows_of(state, keep), rows_of(near, keep)
                oracle, aim = oracle.take(keep), aim.take(keep)
            if not len(live):
                break
            if index + 1 < self.steps:
                x, state = self.move.next(scene, look, state)
                x = scene.x0 + confine(x - scene.x0, oracle.batch.mask())
                x = space.clamp(x if self.roam else ball.project(x, scene.x0))
        return self._refined(everyone, self._settled(everyone, end.put(live, track), ends.put(live, near)))

    def _start(self, scene: Scene, oracle: Oracle, rng: Rng, known: Tensor) -> Tensor:
        """A random change, half as large as the smallest known or the ball; none where both are infinite."""
        noise = confine(scene.ball.noise(scene.x0, rng.fold("start")), oracle.batch.mask())
        size = torch.minimum(known, scene.radius) / 2
        return column(torch.where(size.isfinite(), size, 0.0), noise) * scene.ball.step(noise)

    @staticmethod
    def _masked(look: Look, oracle: Oracle) -> Look:
        """Padding has no gradient."""
        mask = oracle.batch.mask()
        return look if mask is None else look._replace(grads=look.grads * mask[:, None])

    def _judged(self, track: End, look: Look, scene: Scene, oracle: Oracle, first: bool) -> tuple[End, Tensor]:
        """(the best so far, the size of this point's change where it reaches the goal)"""
        stored, ball, reached = oracle.store(look.x), scene.ball, look.reached
        if self.stop:
            stored, reached = self._rim(stored, look, scene, oracle)
        size = torch.where(reached, ball.norm(stored - scene.x0), torch.inf)
        reached = reached & ball.allows(stored, scene.x0)
        x = torch.where(column(reached, look.x), stored, scene.space.clamp(ball.project(look.x, scene.x0)))
        largest = look.grads.flatten(1).abs().amax(1)
        finite = largest.isfinite()
        here = End(x, reached, torch.where(reached, -size, look.gap), finite, largest > 0)
        best = track.or_better(here)
        return best._replace(finite=finite if first else track.finite & finite), size

    @staticmethod
    def _rim(stored: Tensor, look: Look, scene: Scene, oracle: Oracle) -> tuple[Tensor, Tensor]:
        """(stored points, whether they reach the goal), those that lost it replaced by what lies behind them on the rim
        of a finite ball."""
        rows = ((look.gap > 0) & ~look.reached & scene.radius.isfinite()).nonzero().squeeze(1)
        if not len(rows):
            return stored, look.reached
        part, x0 = oracle.take(rows), scene.x0[rows]
        change = look.x[rows] - x0
        longer = (scene.radius[rows] / scene.ball.norm(change).clamp_min(1e-12)).clamp_min(1)
        x = part.store(scene.space.clamp(x0 + column(longer, x0) * change))
        hit = part.goal().achieved(part.logits(x, pays=False))
        return stored.index_copy(0, rows[hit], x[hit]), look.reached.index_copy(0, rows, hit)

    @staticmethod
    def _settled(oracle: Oracle, end: End, near: Near) -> End:
        """The best point, or a nearer one on the ray through the nearest point whose own goal was lost in storing."""
        ball, space, clean = oracle.problem.threat, oracle.problem.model.space, oracle.batch.inputs
        assert isinstance(ball, Ball)
        radius = ball.radius(clean)
        for before, length in pairwise((1.0, *FARTHER)):
            beaten = near.size * length < torch.where(end.reached, -end.rank, torch.inf)
            rows = (beaten & end.finite & (near.size * before < radius)).nonzero().squeeze(1)
            if not len(rows):
                break
            part, x0 = oracle.take(rows), clean[rows]
            x = part.store(space.clamp(x0 + length * (near.x[rows] - x0)))
            size = ball.norm(x - x0)
            reached = part.goal().achieved(part.logits(x, pays=False)) & ball.allows(x, x0)
            rank = torch.where(reached, -size, -torch.inf)
            end = end.put(rows, end.take(rows).or_better(End(x, reached, rank, reached, reached)))
        return end

    def _refined(self, oracle: Oracle, end: End) -> End:
        """Halve the distance between the clean input and the best point, from that whose stored form still succeeds."""
        rows = (end.reached & end.finite).nonzero().squeeze(1)
        if not self.refine or not len(rows):
            return end
        part, x0 = oracle.take(rows), oracle.batch.inputs[rows]
        far, ball = end.x[rows], oracle.problem.threat
        assert isinstance(ball, Ball)
        best, low, high = far, torch.zeros_like(end.rank[rows]), torch.ones_like(end.rank[rows])
        for _ in range(self.refine):
            middle = (low + high) / 2
            x = part.store(x0 + column(middle, x0) * (far - x0))
            reached = part.goal().achieved(part.logits(x, pays=False))
            low, high = torch.where(reached, low, middle), torch.where(reached, middle, high)
            best = torch.where(column(reached, x), x, best)
        return end.put(rows, end.take(rows)._replace(x=best, rank=-ball.norm(best - x0)))


def judged(oracle: Oracle, aim: Oracle, x: Tensor, objective: Objective) -> Look:
    """A look with one gradient."""
    grad, loss, logits = aim.gradient(objective, x)
    return Look(x, oracle.reached(x, logits), oracle.goal().loss(margin, logits), x, loss[:, None], grad[:, None])


@dataclass(frozen=True)
class Undirected:
    """What moves do unless they say otherwise: remember nothing, and look where they are along one objective."""

    objective: Objective = margin

    def begin(self, scene: Scene) -> Any:
        return ()

    def look(self, oracle: Oracle, aim: Oracle, x: Tensor) -> Look:
        return judged(oracle, aim, x, self.objective)
