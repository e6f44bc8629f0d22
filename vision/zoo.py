"""The image zoo: every network, forest and tree that Carom ships for Fashion-MNIST, and how each was trained.

All are trained on the shipped 10 000 images, so that `carom train zoo:NAME` reproduces any checkpoint anywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from carom.common.training import Progress, Schedule, fit
from carom.common.trees import TreeEnsemble
from carom.common.zoo import Body, Recipe
from carom.vision import fashion
from carom.vision.networks import MLP, VGG, Normalise, ResNet, RowGRU, ViT

SHAPE = (1, 28, 28)
MEAN, STD = (0.286,), (0.353,)  # of the training pixels
SHIFT = 2  # pixels: the largest shift of a training image
NOISE = 0.12  # of the pixels' range: the largest random signs that convolutional networks are trained on
ERASED = (4, 12)  # pixels: smallest and largest side of an erased rectangle (Zhong et al., arXiv:1708.04896)


@cache
def _pixels(split: str) -> tuple[Tensor, Tensor]:
    """float[N, 1, 28, 28] in [0, 1] and int64[N], for reading only."""
    images, labels, _ = fashion.load(split)
    return images.float() / 255, labels


def _indices(half: int | None) -> Tensor:
    """The training examples of a recipe; the halves are disjoint and hold as many of each class."""
    labels = _pixels("train")[1]
    return torch.arange(len(labels)) if half is None else labels.argsort(stable=True)[half::2]


def augment(images: Tensor, generator: torch.Generator, erase: float = 0.5, noise: float = 0.0) -> Tensor:
    """Each image of float[B, C, H, W] shifted by up to SHIFT pixels, mirrored half of the time, and with probability
    `erase` a rectangle of it set to a random grey. Half of the images get random signs of up to `noise` on top.

    Without that noise the convolutional networks take any random pattern for evidence: at a Linf budget of 16/255
    random signs flipped 60 % of what they got right, and next to such a control no attack could be told from chance.
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
    erased_images = torch.where(erased, uniform(n, 1, 1, 1), shifted)
    if not noise:
        return erased_images
    size = noise * uniform(n, 1, 1, 1) * (uniform(n, 1, 1, 1) < 0.5)
    return (erased_images + size * (uniform(*images.shape) - 0.5).sign()).clamp(0, 1)


def accuracy(recipe: Recipe, body: Body) -> float:
    """Share of the 2 000 test images that `body` gets right."""
    images, labels = _pixels("test")
    with torch.inference_mode():
        if isinstance(body, TreeEnsemble):
            answers = body.probabilities(images.flatten(1)).argmax(1)
        else:
            answers = torch.cat([body(chunk).argmax(1) for chunk in images.split(500)])
    return (answers == labels).float().mean().item()


def _build(network: Callable[..., nn.Module]) -> nn.Module:
    return network(SHAPE, len(fashion.CLASSES), Normalise(MEAN, STD))


def _train_network(recipe: Recipe, progress: Progress | None, schedule: Schedule, erase: float, noise: float) -> Body:
    images, labels = _pixels("train")

    def sample(indices: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        return augment(images[indices], generator, erase, noise), labels[indices]

    network = recipe.build()
    assert isinstance(network, nn.Module)
    return fit(network, sample, _indices(recipe.half), schedule, recipe.seed, progress)


def _train_trees(recipe: Recipe, progress: Progress | None, grow: Callable[[int], Any]) -> Body:
    """`grow(seed)` gives the unfitted scikit-learn classifier. It fits in seconds and reports no progress."""
    images, labels = _pixels("train")
    chosen = _indices(recipe.half)
    return TreeEnsemble.from_sklearn(grow(recipe.seed).fit(images[chosen].flatten(1).numpy(), labels[chosen].numpy()))


def _forest(seed: int) -> Any:
    from sklearn.ensemble import RandomForestClassifier

    return RandomForestClassifier(48, max_leaf_nodes=512, max_features=0.1, bootstrap=False, random_state=seed)


def _tree(seed: int) -> Any:
    """Each split looks at a random fifth of the pixels: that is all in which two seeds differ."""
    from sklearn.tree import DecisionTreeClassifier

    return DecisionTreeClassifier(max_leaf_nodes=160, max_features=0.2, random_state=seed)


@dataclass(frozen=True)
class _Architecture:
    family: str
    summary: str
    build: Callable[[], Body]
    train: Callable[[Recipe, Progress | None], Body]


def _network(
    family: str,
    summary: str,
    network: Callable[..., nn.Module],
    schedule: Schedule,
    erase: float = 0.25,
    noise: float = 0.0,
) -> _Architecture:
    train = partial(_train_network, schedule=schedule, erase=erase, noise=noise)
    return _Architecture(family, summary, partial(_build, network), train)


def _trees(summary: str, grow: Callable[[int], Any]) -> _Architecture:
    return _Architecture("tree", summary, TreeEnsemble.empty, partial(_train_trees, grow=grow))


_CNN = Schedule(22, lr=6e-3, weight_decay=0.02)
_ARCHITECTURES = {
    "resnet": _network("cnn", "residual CNN, three stages", ResNet, _CNN, noise=NOISE),
    "vgg": _network("cnn", "VGG-like CNN, six convolutions", VGG, _CNN, noise=NOISE),
    "gru": _network("rnn", "two-layer bidirectional GRU over rows", RowGRU, Schedule(24, lr=4e-3)),
    "vit": _network("transformer", "vision transformer, patches of 7 x 7 pixels", ViT, Schedule(40), erase=0.0),
    "mlp": _network("mlp", "MLP with two hidden layers", MLP, Schedule(40, lr=4e-3)),
    "forest": _trees("random forest on raw pixels, 48 trees of 512 leaves", _forest),
    "tree": _trees("single decision tree on raw pixels, 160 leaves", _tree),
}
_SEEDS = {"": (0, None, ""), "-s1": (1, None, ", second seed")}  # suffix: seed, half, what the summary adds
_HALVES = {"-halfa": (2, 0, ", first half of the data"), "-halfb": (3, 1, ", second half of the data")}


def _recipe(kind: str, suffix: str, seed: int, half: int | None, note: str) -> Recipe:
    architecture = _ARCHITECTURES[kind]
    return Recipe(
        name=f"image-{kind}{suffix}",
        modality="image",
        family=architecture.family,
        summary=architecture.summary + note,
        build=architecture.build,
        train=architecture.train,
        evaluate=accuracy,
        data="builtin:fashion-mnist",
        data_digest=fashion.digest,
        folder=Path(__file__).parent / "weights",
        seed=seed,
        half=half,
    )


def _recipes() -> Iterator[Recipe]:
    for kind in _ARCHITECTURES:
        variants = _SEEDS | _HALVES if kind == "resnet" else _SEEDS
        for suffix, (seed, half, note) in variants.items():
            yield _recipe(kind, suffix, seed, half, note)


RECIPES: dict[str, Recipe] = {recipe.name: recipe for recipe in _recipes()}
