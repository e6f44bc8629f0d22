"""DeepFool: to the nearest of the linearised boundaries."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from carom.common.attacks.minimal.linearised import Boundary, Rivals, slope
from carom.common.attacks.minimal.search import Look, Scene
from carom.common.core.objectives import margin
from carom.common.core.oracle import Oracle
from carom.common.core.threats import column


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
        return Look(x, oracle.reached(x, logits), oracle.goal().loss(margin, logits), x, values, grads)

    def next(self, scene: Scene, look: Look, total: Tensor) -> tuple[Tensor, Tensor]:
        nearest = Boundary.nearest(look, scene.ball)
        length = self.least + nearest.value.abs() / slope(nearest.grad, scene.ball).clamp_min(1e-30)
        total = total + column(length, total) * scene.ball.step(nearest.grad)
        return scene.x0 + (1 + self.overshoot) * total, total
