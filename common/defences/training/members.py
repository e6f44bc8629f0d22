"""Ensembles: networks that are trained to answer together."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from carom.common.base.errors import CaromError
from carom.common.defences.info import Trains
from carom.common.defences.training.adversarial import Watched
from carom.common.defences.training.trained import part_of, taught
from carom.common.loading.zoo import Body, Recipe, network_of
from carom.common.models.averaged import Averaged
from carom.common.models.training import Progress, answer

APART = 1000
"""Between the seeds of members."""


@dataclass(frozen=True)
class Members(Trains):
    """So many networks of a recipe, whose mean probabilities answer."""

    members: int

    def __post_init__(self) -> None:
        if self.members < 2:
            raise CaromError(f"members={self.members}: an ensemble has two or more.")

    def build(self, recipe: Recipe) -> nn.Module:
        return Averaged(network_of(recipe) for _ in range(self.members))

    def train(self, recipe: Recipe, progress: Progress | None) -> Body:
        raise NotImplementedError


@dataclass(frozen=True)
class Averaging(Members):
    """Trained one by one, each from a seed of its own."""

    epochs: int | None

    def train(self, recipe: Recipe, progress: Progress | None) -> Body:
        trained = []
        for member in range(self.members):
            own = replace(recipe, seed=recipe.seed + APART * member)
            torch.manual_seed(own.seed)
            trained.append(taught(own, Watched(self.epochs), part_of(progress, member, self.members)))
        return Averaged(trained).eval()


@dataclass(frozen=True)
class Diverse(Members):
    """Trained together, with gradients that point in different directions."""

    weight: float
    epochs: int | None

    def train(self, recipe: Recipe, progress: Progress | None) -> Body:
        together = replace(recipe, build=lambda: self.build(recipe))
        return taught(together, Alignment(self.weight, self.epochs), progress)


class Alignment(Watched):
    """Each member's cross-entropy, and `weight` times the logarithm of the sum, over pairs of members, of the exponential
    of the cosine between their losses' gradients at the input (Kariyappa and Qureshi 2019, eq. 6)."""

    def __init__(self, weight: float, epochs: int | None = None) -> None:
        super().__init__(epochs)
        self.weight = weight

    def loss(
        self, module: nn.Module, inputs: Any, labels: Tensor, generator: torch.Generator, smoothing: float
    ) -> Tensor:
        if not isinstance(inputs, Tensor) or not inputs.is_floating_point():
            raise CaromError("gal compares gradients at the input, and these inputs have none: choose averaging.")
        assert isinstance(module, Averaged)
        x, losses, ways = inputs.detach().requires_grad_(), [], []
        for member in module.members:
            loss = F.cross_entropy(answer(member, x), labels, label_smoothing=smoothing)
            (grad,) = torch.autograd.grad(loss, x, create_graph=True)
            losses.append(loss)
            ways.append(grad.flatten(1) / grad.flatten(1).norm(dim=1, keepdim=True).clamp_min(1e-12))
        return torch.stack(losses).mean() + self.weight * alignment(torch.stack(ways))


def alignment(ways: Tensor) -> Tensor:
    """The mean over inputs of log sum exp of the cosines between members' directions float[M, N, D] of length 1."""
    cosines = torch.einsum("and,bnd->nab", ways, ways)
    a, b = torch.triu_indices(len(ways), len(ways), offset=1)
    return cosines[:, a, b].logsumexp(1).mean()
