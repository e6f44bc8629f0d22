"""FMN: projected steps in a ball that grows and shrinks."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from carom.common.attacks.minimal.linearised import annealed, slope, unit_gradient
from carom.common.attacks.minimal.search import Look, Scene, Undirected


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
        x = look.x + annealed(self.size, self.size / 100, progress) * unit_gradient(grad)
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
