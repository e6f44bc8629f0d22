"""The attack of Carlini and Wagner: a penalty on the distance, its weight searched for each example."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from carom.common.attacks.gradient.updates import Adam
from carom.common.attacks.minimal.search import Look, Scene, Undirected, judged
from carom.common.core.objectives import margin
from carom.common.core.oracle import Oracle
from carom.common.core.threats import column


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
