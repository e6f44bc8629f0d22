"""FAB: between the projections of the point and of the clean input onto a linearised boundary."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from carom.common.attacks.minimal.linearised import Boundary, Rivals, across, lead
from carom.common.attacks.minimal.search import Look, Scene
from carom.common.core.objectives import margin
from carom.common.core.oracle import Oracle
from carom.common.core.threats import column


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
        return Look(x, reached, oracle.goal().loss(margin, logits), at, values, grads)

    def next(self, scene: Scene, look: Look, state: tuple[()]) -> tuple[Tensor, tuple[()]]:
        ball, x, x0 = scene.ball, look.at, scene.x0
        nearest = Boundary.nearest(look, ball)
        change, change0 = (across(z, nearest.grad, nearest.gap(z), scene) for z in (x, x0))
        near, far = ball.norm(change), ball.norm(change0)
        share = column((near / (near + far).clamp_min(1e-12)).clamp_max(self.alpha), x)
        return (1 - share) * (x + self.eta * change) + share * (x0 + self.eta * change0), state
