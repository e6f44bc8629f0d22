"""DDN: direction and norm of the change apart."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from carom.common.attacks.minimal.linearised import annealed, unit_gradient
from carom.common.attacks.minimal.search import Look, Scene, Undirected
from carom.common.core.objectives import Objective, cross_entropy
from carom.common.core.threats import column


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
        change = look.x - scene.x0 + length * unit_gradient(look.grads[:, 0])
        radius = radius * torch.where(look.reached, 1 - self.gamma, 1 + self.gamma)
        radius = torch.minimum(radius, scene.radius)
        change = change * column(radius / scene.ball.norm(change).clamp_min(1e-12), change)
        return scene.x0 + change, radius
