"""How minimal-norm attacks move: DeepFool, FAB, DDN, FMN and the attack of Carlini and Wagner."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from carom.common.attacks.minimal.search import Look, Scene
from carom.common.core.batch import Goal
from carom.common.core.objectives import margin
from carom.common.core.threats import Ball, column
from carom.common.core.ties import closeness, falling, first_largest, tie


def annealed(start: float, end: float, progress: float) -> float:
    """Half a cosine from `start` to `end`."""
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2


def unit_gradient(grad: Tensor) -> Tensor:
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
        chosen = falling(others.detach(), tie(logits.detach()))[:, : min(self.count, logits.shape[1] - 1)]
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
        k, every = (
            first_largest(-distance, closeness(distance.amin(1))),
            torch.arange(len(look.x), device=look.x.device),
        )
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


# A radius of its own for each example.


# A penalty on the distance.
