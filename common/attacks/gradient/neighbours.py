"""Gradient estimators that look around: along the last gradient, at random neighbours, against the objective.

Radii are shares of the threat's. Neighbours may lie outside the space, as in the papers' code; padding stays as it is.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from carom.common.attacks.gradient.estimators import Backprop, Estimate, Estimator
from carom.common.attacks.gradient.step import Step
from carom.common.attacks.gradient.updates import levelled
from carom.common.base.errors import CaromError
from carom.common.base.rng import Rng
from carom.common.core.threats import confine


def scattered(step: Step, samples: int, radius: float) -> Tensor:
    """float[samples, N, ...]: random points of the threat's ball around zero, `radius` times as wide."""
    clean = torch.cat([step.clean] * samples)
    rng = Rng(torch.cat([step.rng.fold("neighbour", sample).keys for sample in range(samples)]))
    change = radius * (step.ball.start(clean, rng) - clean)
    return confine(change.view(samples, *step.clean.shape), step.oracle.batch.mask())


def gradients(step: Step, points: Tensor) -> Tensor:
    """Gradients like points[samples, N, ...]; each sample is seen through views of its own, the same whenever asked."""
    return step.gradient(points.flatten(0, 1), len(points), "neighbour").grad.view_as(points)


@dataclass(frozen=True)
class Along:
    """The mean gradient at places along the last one, in steps (Wang et al. 2021, Boosting adversarial transferability
    through enhanced momentum): one step ahead is PI-FGSM's (eq. 6), evenly from -7 to 7 EMI-FGSM's (eq. 8 and 9).

    "The last one" is this mean itself, divided by its mean absolute value. The first step has none: it asks once.
    """

    places: tuple[float, ...] = (1.0,)
    queries = 0

    @property
    def passes(self) -> int:
        return len(self.places)

    def __call__(self, step: Step, x: Tensor, memory: Tensor | None) -> Estimate:
        points = x[None] if memory is None else torch.stack([step.ahead(x, place * memory) for place in self.places])
        grad = gradients(step, points).mean(0)
        return Estimate(grad, levelled(grad))


@dataclass(frozen=True)
class VarianceTuned:
    """The gradient plus what it lacked at the last step of the mean over neighbours (Wang and He 2021, Alg. 1).

    Over Backprop it is VMI-FGSM's, over Nesterov VNI-FGSM's; neighbours are those of x itself in both, as in the
    released code.
    """

    base: Estimator = field(default_factory=Backprop)
    samples: int = 20
    radius: float = 1.5  # the paper's beta
    queries = 0

    @property
    def passes(self) -> int:
        return self.base.passes + self.samples

    def __call__(self, step: Step, x: Tensor, memory: Any) -> Estimate:
        kept, lacking = (None, torch.zeros_like(x)) if memory is None else memory
        grad, kept, logits = self.base(step, x, kept)
        mean = gradients(step, x + scattered(step, self.samples, self.radius)).mean(0)
        return Estimate(grad + lacking, (kept, mean - grad), logits)


@dataclass(frozen=True)
class Flat:
    """Where the objective is high and flat: at each neighbour, the gradient there and a step downhill from there, which
    penalises the gradient's norm by finite differences (PGN, Ge et al. 2023, Alg. 1)."""

    samples: int = 20
    radius: float = 3.0  # the paper's zeta
    balance: float = 0.5  # the paper's delta: the share of the second gradient
    queries = 0

    @property
    def passes(self) -> int:
        return 2 * self.samples

    def __call__(self, step: Step, x: Tensor, memory: None) -> Estimate:
        near = x + scattered(step, self.samples, self.radius)
        here = gradients(step, near)
        below = gradients(step, step.ahead(near, -levelled(here.flatten(0, 1)).view_as(here)))
        return Estimate(torch.lerp(here, below, self.balance).mean(0))


@dataclass(frozen=True)
class Relevant:
    """The gradient and the mean over neighbours, in shares by how alike they are (GRA, Zhu et al. 2023, eq. 6 to 8).

    The paper also shortens the steps of pixels whose direction turns (its decay indicator); here the ball sets the
    length of every step.
    """

    samples: int = 20
    radius: float = 3.5  # the paper's beta
    queries = 0

    @property
    def passes(self) -> int:
        return 1 + self.samples

    def __call__(self, step: Step, x: Tensor, memory: None) -> Estimate:
        grad = step.gradient(x).grad
        mean = gradients(step, x + scattered(step, self.samples, self.radius)).mean(0)
        alike = torch.cosine_similarity(levelled(grad).flatten(1), levelled(mean).flatten(1))
        return Estimate(torch.lerp(mean, grad, alike.view_as(step.length)))


@dataclass(frozen=True)
class Reverse:
    """The gradient where the worst of the neighbourhood is: `inner` steps against the objective come before each
    (RAP, Qin et al. 2022, Alg. 1), after the first share `late` of the steps (late start, section 3.3)."""

    inner: int = 8
    radius: float = 1.0  # the paper's eps_n
    size: float = 0.125  # of an inner step, as a share of the radius: the paper's 2/255 of 16/255
    late: float = 0.25
    queries = 0

    def __post_init__(self) -> None:
        if not self.radius > 0:
            raise CaromError(f"a neighbourhood of radius {self.radius} has no worst point: give a share above 0.")

    @property
    def passes(self) -> int:
        """After the late start; before it, 1."""
        return 1 + self.inner

    def __call__(self, step: Step, x: Tensor, memory: None) -> Estimate:
        if step.index < self.late * step.steps:
            return Backprop()(step, x, None)
        space, clean, ball = step.oracle.problem.model.space, step.clean, step.ball
        length = self.size * self.radius * ball.radius(clean).view_as(step.length)
        change = scattered(step, 1, self.radius)[0]
        for index in range(self.inner):
            grad = step.gradient(space.clamp(x + change), key=f"inner {index}").grad
            change = change + confine(length * ball.step(-grad), step.oracle.batch.mask())
            change = self.radius * (ball.project(clean + change / self.radius, clean) - clean)
        return Estimate(step.gradient(space.clamp(x + change)).grad)
