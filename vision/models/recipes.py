"""How the image models of the zoo are trained: the pictures, their augmentation, networks and trees."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from carom.common.loading.zoo import Body, Recipe
from carom.common.models.training import Method, Progress, Schedule, fit
from carom.common.models.trees import TreeEnsemble, TreeModel
from carom.vision.models.networks import Normalise, Shape
from carom.vision.space import PIXELS

SHIFT = 2  # pixels: the largest shift of a training image
ERASED = (4, 12)  # pixels: smallest and largest side of an erased rectangle (Zhong et al., arXiv:1708.04896)

Load = Callable[[str, str], tuple[Tensor, Tensor]]
"""(data spec, split) -> images uint8[N, C, H, W] and labels int64[N], for reading only."""


@dataclass(frozen=True)
class Pictures:
    """A data set that recipes are trained on."""

    shape: Shape
    classes: tuple[str, ...]
    mean: Sequence[float]  # of the training pixels, in [0, 1]
    std: Sequence[float]
    load: Load
    digest: Callable[[Recipe], str]


@dataclass(frozen=True)
class Architecture:
    family: str
    summary: str
    build: Callable[[], Body]
    train: Callable[[Recipe, Progress | None], Body]


def scaled(images: Tensor) -> Tensor:
    return images.float() / 255


def augment(images: Tensor, generator: torch.Generator, erase: float = 0.5) -> Tensor:
    """Each image of float[B, C, H, W] shifted by up to SHIFT pixels, mirrored half of the time, and with probability
    `erase` a rectangle of it set to a random grey.
    """

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator)

    n, _, height, width = images.shape
    padded = F.pad(images, [SHIFT] * 4)
    top, left = (uniform(2, n) * (2 * SHIFT + 1)).long()
    rows = top[:, None] + torch.arange(height)
    columns = left[:, None] + torch.arange(width)
    columns = torch.where(uniform(n, 1) < 0.5, columns.flip(1), columns)
    shifted = padded[torch.arange(n)[:, None, None], :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)

    def inside(size: int) -> Tensor:  # bool[B, size]: the extent of the rectangle along one side of the image
        length = ERASED[0] + uniform(n, 1) * (ERASED[1] - ERASED[0])
        start = uniform(n, 1) * (size - length)
        place = torch.arange(size)
        return (place >= start) & (place < start + length)

    erased = inside(height)[:, None, :, None] & inside(width)[:, None, None, :] & (uniform(n, 1, 1, 1) < erase)
    return torch.where(erased, uniform(n, 1, 1, 1), shifted)


@dataclass(frozen=True)
class SignNoise:
    """Adds one size times a pattern of signs to an image, and clips to [0, 1].

    The size is uniform between 0 and `most`, and 0 for all but a `share` of the images. The pattern is that of random
    signs on a grid, one grid of `grids` for each image. On a grid of (1, 1) it is a brightness shift of the whole
    image; on small grids it is noise of low frequency, the signs of bilinearly interpolated normal noise; on the grid
    of the image itself (None) each number has a sign of its own.

    Without it networks take any random pattern for evidence, and a change that knows neither model nor image is no
    weaker than an attack: at 28/255 more light on every pixel flipped half of what a residual CNN got right, and random
    signs of 16/255 flipped 60 %.
    """

    most: float  # of the pixels' range
    share: float = 0.5
    grids: tuple[int | None, ...] = (None,)  # cells along each side

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """float[B, C, H, W] in [0, 1] from the same."""

        def uniform(*shape: int) -> Tensor:
            return torch.rand(shape, generator=generator)

        n = len(images)
        size = self.most * uniform(n, 1, 1, 1) * (uniform(n, 1, 1, 1) < self.share)
        signs = (uniform(*images.shape) - 0.5).sign()
        if self.grids != (None,):
            which = (uniform(n, 1, 1, 1) * len(self.grids)).long()
            for number, cells in enumerate(self.grids):
                if cells is not None:
                    rows = (which == number).flatten()
                    signs[rows] = self._coarse(images[rows], cells, generator)
        return (images + size * signs).clamp(0, 1)

    @staticmethod
    def _coarse(images: Tensor, cells: int, generator: torch.Generator) -> Tensor:
        """float[B, 1, H, W] of -1 and 1, changing `cells` times along each side at most."""
        coarse = torch.randn(len(images), 1, cells, cells, generator=generator)
        return F.interpolate(coarse, images.shape[2:], mode="bilinear", align_corners=False).sign()


def accuracy(pictures: Pictures, recipe: Recipe, body: Body) -> float:
    """Share of the test images that `body` gets right."""
    images, labels = pictures.load(recipe.data, "test")
    with torch.inference_mode():
        if isinstance(body, TreeEnsemble):
            answers = body.probabilities(scaled(images).flatten(1)).argmax(1)
        else:
            answers = torch.cat([body(scaled(chunk)).argmax(1) for chunk in images.split(500)])
    return (answers == labels).float().mean().item()


def network(
    pictures: Pictures,
    family: str,
    summary: str,
    kind: Callable[..., nn.Module],
    schedule: Schedule,
    erase: float = 0.25,
    noise: SignNoise | None = None,
    layout: torch.memory_format = torch.contiguous_format,
) -> Architecture:
    """A network `kind(shape, classes, normalise)`, trained on augmented pictures; `layout` is that of its weights."""

    def build() -> nn.Module:
        made = kind(pictures.shape, len(pictures.classes), Normalise(pictures.mean, pictures.std))
        return made.to(memory_format=layout)  # type: ignore[call-overload]  # torch's annotations lack it

    return Architecture(family, summary, build, partial(_train_network, pictures, schedule, erase, noise))


def trees(
    pictures: Pictures, summary: str, grow: Callable[[int], Any], noise: SignNoise | None = None, copies: int = 1
) -> Architecture:
    """Trees on raw pixels, grown on `copies` of each picture with noise; `grow(seed)` gives the unfitted scikit-learn
    classifier."""
    return Architecture("tree", summary, TreeEnsemble.empty, partial(_train_trees, pictures, grow, noise, copies))


def _chosen(labels: Tensor, half: int | None) -> Tensor:
    """The training examples of a recipe; the halves are disjoint and hold as many of each class."""
    return torch.arange(len(labels)) if half is None else labels.argsort(stable=True)[half::2]


def _train_network(
    pictures: Pictures,
    schedule: Schedule,
    erase: float,
    noise: SignNoise | None,
    recipe: Recipe,
    progress: Progress | None,
) -> Body:
    images, labels = pictures.load(recipe.data, "train")

    def sample(indices: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        seen = augment(scaled(images[indices]), generator, erase)
        return seen if noise is None else noise(seen, generator), labels[indices]

    module = recipe.build()
    assert isinstance(module, nn.Module)
    return fit(module, sample, _chosen(labels, recipe.half), schedule, recipe.seed, progress, method=recipe.method)


def _train_trees(
    pictures: Pictures,
    grow: Callable[[int], Any],
    noise: SignNoise | None,
    copies: int,
    recipe: Recipe,
    progress: Progress | None,
) -> Body:
    """They fit in minutes and report no progress."""
    images, labels = pictures.load(recipe.data, "train")
    chosen = _chosen(labels, recipe.half).repeat(copies)
    seen = scaled(images[chosen])
    if noise is not None:
        seen = noise(seen, torch.Generator().manual_seed(recipe.seed))

    def fit(seen: Tensor, labels: Tensor) -> TreeEnsemble:
        return TreeEnsemble.from_sklearn(grow(recipe.seed).fit(seen.flatten(1).numpy(), labels.numpy()))

    def model(found: TreeEnsemble) -> TreeModel:
        return TreeModel(found, name=recipe.name, modality="image", space=PIXELS, classes=pictures.classes)

    return (recipe.method or Method()).grow(fit, model, seen, labels[chosen], recipe.seed)
