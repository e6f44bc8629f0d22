"""The image zoo: every network, forest and tree that Carom ships, and how each was trained.

Those for Fashion-MNIST are trained on the shipped 10 000 images, so that `carom train zoo:NAME` reproduces any
checkpoint anywhere. Those for CIFAR-10, whose name starts with image-cifar, are trained on all of its 50 000 images,
which the user provides: `carom train zoo:NAME --data folder:PATH`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from carom.common.base.errors import CaromError
from carom.common.base.specs import call_with, split_parameters
from carom.common.defences.catalogue import defences_in
from carom.common.defences.training.trained import trained_by
from carom.common.loading.zoo import Recipe
from carom.common.models.training import Schedule
from carom.vision.data import cifar, fashion
from carom.vision.data.load import load_data
from carom.vision.defences.training import TRAINING
from carom.vision.models.networks import MLP, VGG, Mixer, ResNet, RowGRU, SweepGRU, ViT
from carom.vision.models.recipes import Architecture, Pictures, SignNoise, accuracy, network, trees

NOISE = SignNoise(0.15, share=0.75, grids=(None, 1, 1, 2, 3, 4, 7))  # budgets on Fashion-MNIST go up to 28/255
CIFAR_NOISE = SignNoise(0.06)  # those on CIFAR-10 are smaller: twice 8/255


@cache
def _fashion(spec: str, split: str) -> tuple[Tensor, Tensor]:
    images, labels, _ = fashion.load(split)
    return images, labels


@cache
def _cifar(spec: str, split: str) -> tuple[Tensor, Tensor]:
    """The images that `spec` names, in the order of their sha256: the same whatever they were loaded from."""
    data = load_data(spec, split=split)
    assert isinstance(data.stored, Tensor)
    found = f"{'x'.join(map(str, data.stored.shape[1:]))} images of {', '.join(data.classes)}"
    if data.stored.shape[1:] != cifar.SHAPE or tuple(data.classes) != cifar.CLASSES:
        wanted = f"{'x'.join(map(str, cifar.SHAPE))} images of {', '.join(cifar.CLASSES)}"
        raise CaromError(f"{spec} holds {found}; the recipe needs {wanted}. {cifar.ORIGIN}")
    keys = [hashlib.sha256(image.numpy().tobytes()).digest() for image in data.stored]
    order = torch.tensor(sorted(range(len(keys)), key=lambda i: (keys[i], int(data.labels[i]))))
    images, labels = data.stored[order], data.labels[order]
    if split == "train" and torch.equal(images, _cifar(spec, "test")[0]):
        raise CaromError(f"{spec}: train and test hold the same images. Lay them out as PATH/train and PATH/test.")
    return images, labels


def _cifar_digest(recipe: Recipe) -> str:
    """sha256 of the training and test images and labels in that order."""
    total = hashlib.sha256()
    for split in ("train", "test"):
        for tensor in _cifar(recipe.data, split):
            total.update(tensor.numpy().tobytes())
    return total.hexdigest()


def _forest(seed: int) -> Any:
    from sklearn.ensemble import RandomForestClassifier

    return RandomForestClassifier(48, max_leaf_nodes=512, max_features=0.1, bootstrap=False, random_state=seed)


def _tree(seed: int) -> Any:
    """Each split looks at a random fifth of the pixels: that is all in which two seeds differ."""
    from sklearn.tree import DecisionTreeClassifier

    return DecisionTreeClassifier(max_leaf_nodes=160, max_features=0.2, random_state=seed)


FASHION = Pictures((1, 28, 28), fashion.CLASSES, (0.286,), (0.353,), load=_fashion, digest=lambda _: fashion.digest())
CIFAR = Pictures(
    cifar.SHAPE, cifar.CLASSES, (0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616), load=_cifar, digest=_cifar_digest
)

_CNN = Schedule(22, lr=6e-3, weight_decay=0.02)
_on_fashion = partial(network, FASHION, noise=NOISE)
_trees_on_fashion = partial(trees, FASHION, noise=NOISE, copies=4)
_FASHION = {
    "resnet": _on_fashion("cnn", "residual CNN, three stages", ResNet, _CNN, layout=torch.channels_last),
    "vgg": _on_fashion("cnn", "VGG-like CNN, six convolutions", VGG, _CNN, layout=torch.channels_last),
    "gru": _on_fashion("rnn", "two-layer bidirectional GRU over rows", RowGRU, Schedule(24, lr=4e-3)),
    "vit": _on_fashion("transformer", "vision transformer, patches of 7 x 7 pixels", ViT, Schedule(40), erase=0.0),
    "mlp": _on_fashion("mlp", "MLP with two hidden layers", MLP, Schedule(40, lr=4e-3)),
    "forest": _trees_on_fashion("random forest on raw pixels, 48 trees of 512 leaves", _forest),
    "tree": _trees_on_fashion("single decision tree on raw pixels, 160 leaves", _tree),
}

# Sized for one CPU core: 7 to 25 minutes each. In so few epochs nothing is learnt by heart, so nothing is erased.
_on_cifar = partial(network, CIFAR, erase=0.0, noise=CIFAR_NOISE)
_on_cifar_fast = partial(_on_cifar, layout=torch.channels_last)  # a step takes two thirds to four fifths of the time
_CIFAR = {
    "cifar-resnet": _on_cifar_fast(
        "cnn",
        "residual CNN for CIFAR-10, three stages",
        partial(ResNet, widths=(48, 96, 192), stem=32),
        Schedule(14, lr=4e-3, weight_decay=0.05),
    ),
    "cifar-vgg": _on_cifar_fast(
        "cnn",
        "VGG-like CNN for CIFAR-10, eight convolutions",
        partial(VGG, widths=(24, 48, 96, 128), hidden=128, dropout=0.1),
        Schedule(8, lr=4e-3, weight_decay=0.05),
    ),
    "cifar-gru": _on_cifar(
        "rnn",
        "bidirectional GRUs that sweep rows and columns of patches, for CIFAR-10",
        SweepGRU,
        Schedule(7, lr=3e-3),
    ),
    "cifar-vit": _on_cifar(
        "transformer",
        "vision transformer for CIFAR-10, convolutional stem, patches of 4 x 4 pixels",
        partial(ViT, patch=4, depth=4, dropout=0.0, stem=(32, 64)),
        Schedule(14, lr=1.5e-3, weight_decay=0.05),
    ),
    "cifar-mixer": _on_cifar(
        "mlp", "MLP-Mixer for CIFAR-10, patches of 4 x 4 pixels", Mixer, Schedule(5, lr=2e-3, weight_decay=0.05)
    ),
    "cifar-forest": trees(CIFAR, "random forest on CIFAR-10's raw pixels, 48 trees of 512 leaves", _forest),
}

TRAINERS = defences_in(TRAINING)

_FIRST = {"": (0, None, "")}  # suffix: seed, half, what the summary adds
_SEEDS = _FIRST | {"-s1": (1, None, ", second seed")}
_HALVES = {"-halfa": (2, 0, ", first half of the data"), "-halfb": (3, 1, ", second half of the data")}
_VARIANTS = {kind: _SEEDS for kind in _FASHION} | {"resnet": _SEEDS | _HALVES}


def _recipes(
    pictures: Pictures, architectures: Mapping[str, Architecture], data: str, origin: str = ""
) -> dict[str, Recipe]:
    made = [
        Recipe(
            name=f"image-{kind}{suffix}",
            modality="image",
            family=architecture.family,
            summary=architecture.summary + note,
            build=architecture.build,
            train=architecture.train,
            evaluate=partial(accuracy, pictures),
            data=data,
            data_digest=pictures.digest,
            folder=Path(__file__).parents[1] / "weights",
            seed=seed,
            half=half,
            origin=origin,
        )
        for kind, architecture in architectures.items()
        for suffix, (seed, half, note) in _VARIANTS.get(kind, _FIRST).items()
    ]
    return {recipe.name: recipe for recipe in made}


# What defends the residual CNN, for the budget that the embedded study attacks with. Its inputs are changed by an attack
# on the network itself, so they see no noise besides. As many steps and epochs as one CPU core makes in minutes.
_SHORT = Schedule(7, lr=5e-3)
_residual = partial(_on_fashion, "cnn", "residual CNN, three stages", ResNet, _SHORT, layout=torch.channels_last)
_PURE = _residual(erase=0.0, noise=None)
_STEPS = "pgd?steps=2&size=0.75"
_DEFENDED: dict[str, tuple[Architecture, str, str]] = {  # suffix: what is trained, the defence, what the summary adds
    "-at": (_PURE, f"pgd-at?eps=28/255&attack=({_STEPS})", "adversarially trained with PGD at 28/255"),
}


def _defended() -> dict[str, Recipe]:
    made = {}
    for suffix, (architecture, spec, note) in _DEFENDED.items():
        (plain,) = _recipes(FASHION, {f"resnet{suffix}": architecture}, "builtin:fashion-mnist").values()
        name, parameters = split_parameters(spec)
        defence = call_with(TRAINERS[name].build, parameters, f"defence {name}")
        made[plain.name] = trained_by(plain, defence, spec, plain.name, note)
    return made


_OF_CIFAR = _recipes(CIFAR, _CIFAR, "torchvision:CIFAR10?root=PATH", cifar.ORIGIN)
RECIPES: dict[str, Recipe] = _recipes(FASHION, _FASHION, "builtin:fashion-mnist") | _defended() | _OF_CIFAR


def pictures_of(name: str) -> Pictures:
    """What the model `name` of the zoo was trained on: its shape of images and its classes."""
    return CIFAR if name in _OF_CIFAR else FASHION
