"""How minimal-norm attacks move: DeepFool, FAB, DDN, FMN and the attack of Carlini and Wagner."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from carom.common.closest import Look, Scene, Undirected, judged
from carom.common.objectives import Objective, cross_entropy, margin
from carom.common.oracle import Oracle
from carom.common.problem import Goal
from carom.common.threats import Ball, column
from carom.common.updates import Adam


def annealed(start: float, end: float, progress: float) -> float:
    """Half a cosine from `start` to `end`."""
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2


def unit(grad: Tensor) -> Tensor:
    """Each example's gradient at Euclidean length 1; zero stays zero."""
    grad = grad / column(grad.flatten(1).abs().amax(1).clamp_min(1e-30), grad)
    return grad / column(grad.flatten(1).norm(dim=1).clamp_min(1e-12), grad)


def slope(grad: Tensor, ball: Ball) -> Tensor:
    """float[M]: what a change of norm 1 gains at most of a linear function, which is the dual norm of its gradient."""
    return (grad * ball.step(grad)).flatten(1).sum(1)


# The nearest of several boundaries.


@dataclass(frozen=True)
class Rivals:
    """An objective for each of the `count` likeliest other classes: its logit minus the label's. Targeted, the goal's
    margin alone."""

    count: int

    def __call__(self, logits: Tensor, goal: Goal) -> Tensor:
        if goal.targeted:
            return margin(logits, goal)[:, None]
        others = logits.scatter(1, goal.labels[:, None], -torch.inf)
        chosen = others.topk(min(self.count, logits.shape[1] - 1), 1).indices
        return logits.gather(1, chosen) - logits.gather(1, goal.labels[:, None])


def lead(logits: Tensor, goal: Goal) -> Tensor:
    """The target's logit minus the label's, as an objective for each of one class."""
    assert goal.targets is not None
    return logits.gather(1, goal.targets[:, None]) - logits.gather(1, goal.labels[:, None])


class Boundary(NamedTuple):
    """A linear boundary for each example: where `value` + <`grad`, x - `at`> = 0."""

    at: Tensor
    value: Tensor
    grad: Tensor

    @classmethod
    def nearest(cls, look: Look, ball: Ball) -> Boundary:
        """Of the K boundaries of a look, the one that the ball's norm says is nearest."""
        slopes = torch.stack([slope(grad, ball) for grad in look.grads.unbind(1)], 1)
        distance = torch.where(slopes > 0, look.values.abs() / slopes.clamp_min(1e-30), torch.inf)
        k, every = distance.argmin(1), torch.arange(len(look.x), device=look.x.device)
        return cls(look.at, look.values[every, k], look.grads[every, k])

    def gap(self, x: Tensor) -> Tensor:
        """float[M]: what x lacks to lie on it."""
        return -(self.value + ((x - self.at) * self.grad).flatten(1).sum(1))


def across(x: Tensor, grad: Tensor, gap: Tensor, scene: Scene) -> Tensor:
    """The change of least norm that adds `gap` (either sign) to a linear function of `grad`, between the bounds of the
    space: x moves along the ball's steepest direction, and every component stops at its bound. Within Linf and L2
    this is the projection of FAB (Croce and Hein 2020b, section 2.2), here found by one sort instead of by cases.

    A gap too wide for the bounds takes all components to theirs.
    """
    grad = grad * column(gap.sign(), grad)
    direction, w, start = (part.flatten(1).double() for part in (scene.ball.step(grad), grad, x))
    bound = torch.where(direction > 0, scene.space.high, scene.space.low)
    room = torch.where(direction == 0, 0.0, (bound - start) / torch.where(direction == 0, 1.0, direction)).clamp_min(0)
    room, order = room.sort(1)
    rate = (w * direction).gather(1, order)
    done = (rate * room).cumsum(1) - rate * room  # gained by components that have stopped before
    going = rate.flip(1).cumsum(1).flip(1)  # and per step by those that have not
    need = gap.abs().double()[:, None]
    reach = (need - done) / going.clamp_min(1e-300)
    fits = reach <= room
    first = torch.where(fits.any(1), fits.int().argmax(1), room.shape[1] - 1)[:, None]
    length = torch.minimum(reach.gather(1, first), room.gather(1, first)).clamp_min(0)
    moved = torch.minimum(
        torch.maximum(start + length * direction, start.new_tensor(scene.space.low)), bound.new_tensor(scene.space.high)
    )
    return (moved - start).to(x.dtype).view_as(x)


@dataclass(frozen=True)
class DeepFool:
    """To the nearest of the linearised boundaries, with a little overshoot of the whole way (Moosavi-Dezfooli et al.
    2016, Alg. 2; in the norm of the threat, section 3.3).

    Every step is longer by `least`, as in foolbox: where the bounds of the space cut steps off, they would otherwise
    shrink towards a boundary that they never cross.
    """

    overshoot: float = 0.02
    rivals: int = 9
    least: float = 1e-4

    def begin(self, scene: Scene) -> Tensor:
        return torch.zeros_like(scene.x0)

    def look(self, oracle: Oracle, aim: Oracle, x: Tensor) -> Look:
        grads, values, logits = aim.gradients(Rivals(self.rivals), x)
        return Look(x, oracle.reached(x, logits), margin(logits, oracle.goal()), x, values, grads)

    def next(self, scene: Scene, look: Look, total: Tensor) -> tuple[Tensor, Tensor]:
        nearest = Boundary.nearest(look, scene.ball)
        length = self.least + nearest.value.abs() / slope(nearest.grad, scene.ball).clamp_min(1e-30)
        total = total + column(length, total) * scene.ball.step(nearest.grad)
        return scene.x0 + (1 + self.overshoot) * total, total


@dataclass(frozen=True)
class Fab:
    """FAB (Croce and Hein 2020b, Alg. 1): between the projections of x and of the clean input onto the nearest
    linearised boundary, a little beyond it; from a point that reaches the goal first a step back to the clean input.

    `rivals` likeliest classes are linearised, where the paper takes all. Towards one class (FAB-T, of AutoAttack) only
    its boundary with the label is.
    """

    alpha: float = 0.1  # largest share of the clean input's projection
    eta: float = 1.05  # overshoot
    beta: float = 0.9  # of the step back
    rivals: int = 9

    def begin(self, scene: Scene) -> tuple[()]:
        return ()

    def look(self, oracle: Oracle, aim: Oracle, x: Tensor) -> Look:
        logits, x0 = oracle.logits(x, pays=False), oracle.batch.inputs
        reached = oracle.reached(x, logits)
        # Whether x itself has crossed: its stored form may not have, being that near.
        back = column(oracle.goal().achieved(logits), x)
        at = torch.where(back, x0 + self.beta * (x - x0), x)
        one = aim.goal().targeted and not oracle.goal().targeted
        grads, values, _ = aim.gradients(lead if one else Rivals(self.rivals), at)
        return Look(x, reached, margin(logits, oracle.goal()), at, values, grads)

    def next(self, scene: Scene, look: Look, state: tuple[()]) -> tuple[Tensor, tuple[()]]:
        ball, x, x0 = scene.ball, look.at, scene.x0
        nearest = Boundary.nearest(look, ball)
        change, change0 = (across(z, nearest.grad, nearest.gap(z), scene) for z in (x, x0))
        near, far = ball.norm(change), ball.norm(change0)
        share = column((near / (near + far).clamp_min(1e-12)).clamp_max(self.alpha), x)
        return (1 - share) * (x + self.eta * change) + share * (x0 + self.eta * change0), state


# A radius of its own for each example.


@dataclass(frozen=True)
class Decoupled(Undirected):
    """DDN (Rony et al. 2019, Alg. 1), within L2: steps along the gradient, put on a sphere whose radius shrinks by a
    share `gamma` where the point reached the goal and grows where it did not."""

    objective: Objective = cross_entropy
    gamma: float = 0.05
    size: float = 1.0  # of the first step; the last is a hundredth
    radius: float = 1.0  # of the first sphere

    def begin(self, scene: Scene) -> Tensor:
        return torch.minimum(torch.full_like(scene.radius, self.radius), scene.radius)

    def next(self, scene: Scene, look: Look, radius: Tensor) -> tuple[Tensor, Tensor]:
        length = annealed(self.size, self.size / 100, scene.number / scene.steps)
        change = look.x - scene.x0 + length * unit(look.grads[:, 0])
        radius = radius * torch.where(look.reached, 1 - self.gamma, 1 + self.gamma)
        radius = torch.minimum(radius, scene.radius)
        change = change * column(radius / scene.ball.norm(change).clamp_min(1e-12), change)
        return scene.x0 + change, radius


@dataclass(frozen=True)
class FastMinimumNorm(Undirected):
    """FMN (Pintor et al. 2021, Alg. 1): steps along the gradient of the margin, projected onto a ball whose radius is
    at first the distance to the linearised boundary; it then grows by a share `gamma` where the point falls short, and
    shrinks where it does not. Where the norm counts what has changed (L0) radii are whole numbers, begin at 1 and
    change by 1 at least.

    Until a first point reaches the goal the paper takes the distance to the boundary at every step. Where the bounds of
    the space cut steps off that comes ever nearer and never across, so here the radius grows then too.
    """

    gamma: float = 0.05  # falls to .001
    size: float = 1.0  # of the first step, in Euclidean length; the last is a hundredth

    def begin(self, scene: Scene) -> Tensor:
        return torch.full_like(scene.radius, 1.0 if scene.ball.counts else torch.inf)

    def next(self, scene: Scene, look: Look, radius: Tensor) -> tuple[Tensor, Tensor]:
        progress, grad, ball = scene.number / scene.steps, look.grads[:, 0], scene.ball
        gamma = annealed(self.gamma, 0.001, progress)
        radius = self._counted(scene, look, radius, gamma) if ball.counts else self._grown(scene, look, radius, gamma)
        radius = torch.minimum(radius, scene.radius)
        x = look.x + annealed(self.size, self.size / 100, progress) * unit(grad)
        return ball.project(x, scene.x0, radius), radius

    @staticmethod
    def _counted(scene: Scene, look: Look, radius: Tensor, gamma: float) -> Tensor:
        fewer = torch.minimum(torch.minimum(radius - 1, (radius * (1 - gamma)).floor()), scene.size)
        return torch.where(look.reached, fewer, torch.maximum(radius + 1, (radius * (1 + gamma)).floor())).clamp_min(1)

    @staticmethod
    def _grown(scene: Scene, look: Look, radius: Tensor, gamma: float) -> Tensor:
        grad, ball = look.grads[:, 0], scene.ball
        boundary = ball.norm(look.x - scene.x0) + look.values[:, 0].abs() / slope(grad, ball).clamp_min(1e-30)
        grown = radius * (1 + gamma)
        farther = torch.where(scene.size.isfinite() | (grown.isfinite() & (grown > boundary)), grown, boundary)
        return torch.where(look.reached, torch.minimum(radius * (1 - gamma), scene.size), farther)


# A penalty on the distance.


class Weight(NamedTuple):
    """A search for the weight of the margin against the distance, for each of M examples: by factors of 10, then by
    halving (Carlini and Wagner 2017, section VI.A)."""

    value: Tensor  # float[M]
    low: Tensor  # the largest known to be too small
    high: Tensor  # the smallest known to do
    reached: Tensor  # bool[M]: whether this one does

    @classmethod
    def begin(cls, first: float, like: Tensor) -> Weight:
        none = torch.zeros_like(like)
        return cls(torch.full_like(none, first), none, torch.full_like(none, torch.inf), none.bool())

    def noted(self, look: Look) -> Weight:
        return self._replace(reached=self.reached | look.reached)

    def next(self) -> Weight:
        low = torch.where(self.reached, self.low, self.value)
        high = torch.where(self.reached, self.value, self.high)
        value = torch.where(high.isfinite(), (low + high) / 2, 10 * self.value)
        return Weight(value, low, high, torch.zeros_like(self.reached))

    def slope(self, scene: Scene, look: Look, kappa: float) -> Tensor:
        """The gradient of ||x - x0||_2^2 + weight * max(-margin, -kappa)."""
        short = column(self.value * (look.gap < kappa), look.x)
        return 2 * (look.x - scene.x0) - torch.where(short > 0, short * look.grads[:, 0], 0.0)


class Penalty(NamedTuple):
    """What the attack of Carlini and Wagner remembers."""

    w: Tensor  # the point, where bounds are at infinity
    adam: Any
    weight: Weight


@dataclass(frozen=True)
class Penalised(Undirected):
    """Carlini and Wagner 2017 (section VI.A): descend ||x - x0||_2^2 + weight * max(-margin, -kappa) by Adam, over w
    whose tanh lies between the bounds; the weight is searched for each example, by factors of 10, then by halving.

    Every search begins anew from the clean input and makes all its steps: the released code also ends one whose loss
    has stopped to fall.
    """

    searches: int = 9
    rate: float = 0.01
    weight: float = 1e-3  # the first
    kappa: float = 0.0  # the margin to be reached
    adam: Adam = field(default_factory=Adam)

    def look(self, oracle: Oracle, aim: Oracle, x: Tensor) -> Look:
        look = judged(oracle, aim, x, margin)
        return look._replace(reached=look.reached & (look.gap >= self.kappa))

    def begin(self, scene: Scene) -> Penalty:
        w = self._opened(scene)
        return Penalty(w, self.adam.init(w), Weight.begin(self.weight, scene.radius))

    def next(self, scene: Scene, look: Look, state: Penalty) -> tuple[Tensor, Penalty]:
        middle, half = self._box(scene)
        weight = state.weight.noted(look)
        if (scene.number + 1) % (scene.steps // self.searches) == 0:
            w = self._opened(scene)  # from the clean input
            state = Penalty(w, self.adam.init(w), weight.next())
        else:
            grad = weight.slope(scene, look, self.kappa)
            step, adam = self.adam.apply(grad * half * (1 - state.w.tanh().square()), state.adam)
            state = Penalty(state.w - self.rate * step, adam, weight)
        return middle + half * state.w.tanh(), state

    @staticmethod
    def _box(scene: Scene) -> tuple[float, float]:
        return (scene.space.high + scene.space.low) / 2, (scene.space.high - scene.space.low) / 2

    def _opened(self, scene: Scene) -> Tensor:
        """w at the clean input; at a bound it would be infinite, and stay there."""
        middle, half = self._box(scene)
        return ((scene.x0 - middle) / half * 0.999999).atanh()
