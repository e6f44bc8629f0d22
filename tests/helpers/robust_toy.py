"""A problem on which it is known what adversarial training does: one feature that no attack of the budget crosses and that
errs at times, and many that never err together and that it crosses (Tsipras et al. 2019, section 2.1).
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from carom.common.core.data import Dataset
from carom.common.loading.zoo import Body, Recipe
from carom.common.models.networks import TorchModel
from carom.common.models.training import Progress, Schedule, fit
from carom.vision.space import PIXELS

EPS = 0.1
FEATURES = 20
SHAPE = (1, 4, 5)


def inputs(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """float[n, 1, 4, 5] and labels int64[n]; the first number of each is the robust feature, right in nine of ten."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(2, (n,), generator=generator)
    sign = 2.0 * labels - 1
    right = torch.where(torch.rand(n, generator=generator) < 0.9, 1.0, -1.0)
    weak = 0.05 * sign[:, None] + 0.03 * torch.randn(n, FEATURES - 1, generator=generator)
    x = 0.5 + torch.cat([(0.2 * sign * right)[:, None], weak], 1)
    return x.clamp(0.11, 0.89).view(n, *SHAPE), labels


def data(n: int = 400, seed: int = 0, name: str = "toy") -> Dataset:
    x, labels = inputs(n, seed)
    return Dataset(name, "image", PIXELS, PIXELS.encode(x), labels, [f"{name}{i}" for i in range(n)], ("a", "b"))


class Centred(nn.Module):
    """float[N, 20] around 0: gradients are then those of the features, not of their mean."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) - 0.5


def network() -> nn.Module:
    return nn.Sequential(Centred(), nn.Linear(FEATURES, 2))


def deep() -> nn.Module:
    return nn.Sequential(Centred(), nn.Linear(FEATURES, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 2))


def model(module: nn.Module | None = None, name: str = "toy") -> TorchModel:
    torch.manual_seed(0)
    made = network() if module is None else module
    return TorchModel(made, name=name, modality="image", family="linear", space=PIXELS, classes=("a", "b"), shape=SHAPE)


def robust_accuracy(linear: nn.Module, n: int = 1000, eps: float = EPS) -> float:
    """Of a linear network, in closed form: what is left of the margin after the worst change."""
    x, labels = inputs(n, seed=99)
    layer = [part for part in linear.modules() if isinstance(part, nn.Linear)][-1]
    weight, bias = layer.weight.detach(), layer.bias.detach()
    way = weight[1] - weight[0]
    margin = (2 * labels - 1) * ((x.flatten(1) - 0.5) @ way + bias[1] - bias[0])
    return (margin > eps * way.abs().sum()).float().mean().item()


def _accuracy(recipe: Recipe, body: Body) -> float:
    x, labels = inputs(200, seed=99)
    assert isinstance(body, nn.Module)
    with torch.inference_mode():
        return (body(x).argmax(1) == labels).float().mean().item()


def _train(recipe: Recipe, progress: Progress | None) -> Body:
    module, (x, labels) = recipe.build(), inputs(400, seed=0)
    assert isinstance(module, nn.Module)
    schedule = Schedule(12, batch=50, lr=0.05)

    def sample(rows: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        return x[rows], labels[rows]

    return fit(module, sample, torch.arange(400), schedule, recipe.seed, progress, method=recipe.method)


def recipe(seed: int = 0) -> Recipe:
    """A recipe of a user's own."""
    return Recipe(
        name="toy",
        modality="image",
        family="linear",
        summary="a linear toy",
        build=network,
        train=_train,
        evaluate=_accuracy,
        data="toy",
        data_digest=lambda recipe: "none",
        folder=Path(),
        seed=seed,
    )
