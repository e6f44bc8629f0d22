"""Fashion-MNIST (Xiao, Rasul and Vollgraf, arXiv:1708.07747): the subset that ships with Carom.

10 000 training images (1 000 a class) and 2 000 test images (200 a class) of 28 x 28 grey pixels, made by
scripts/make_fashion.py from the original's training and test files.
"""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from carom.common.base.errors import UnknownName

PATH = Path(__file__).parents[1] / "assets" / "fashion.npz"
SPLITS = ("train", "test")
CLASSES = (
    "t-shirt",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)


def load(split: str) -> tuple[Tensor, Tensor, list[str]]:
    """(images uint8[N, 1, 28, 28], labels int64[N], ids) of `split`, "train" or "test"; the caller owns the tensors.

    An id such as fashion-test-00012 holds the image's index in the original file of that split.
    Raises UnknownName for any other split.
    """
    if split not in SPLITS:
        raise UnknownName("split of Fashion-MNIST", split, SPLITS)
    with np.load(PATH, allow_pickle=False) as stored:
        images, labels, index = (stored[f"{split}_{part}"] for part in ("images", "labels", "index"))
    ids = [f"fashion-{split}-{i:05d}" for i in index]
    return torch.from_numpy(images)[:, None], torch.from_numpy(labels).long(), ids


@functools.cache
def digest() -> str:
    """sha256 of the arrays' content: images, labels and indices of both splits, however they are compressed."""
    total = hashlib.sha256()
    with np.load(PATH, allow_pickle=False) as stored:
        for name in sorted(stored.files):
            array = stored[name]
            total.update(f"{name}:{array.dtype.str}:{array.shape}".encode())
            total.update(array.tobytes())
    return total.hexdigest()
