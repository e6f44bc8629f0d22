"""Makes assets/fashion.npz, the subset of Fashion-MNIST that Carom ships.

Source: the Debian package dataset-fashion-mnist, which installs the four original idx.gz files
(Xiao, Rasul and Vollgraf, "Fashion-MNIST: a novel image dataset", arXiv:1708.07747). Run:

    python vision/scripts/make_fashion.py /usr/share/datasets/fashion-mnist
"""

from __future__ import annotations

import argparse
import gzip
import math
import struct
from pathlib import Path
from typing import Any

import numpy as np

TARGET = Path(__file__).parents[1] / "assets" / "fashion.npz"
SPLITS = {"train": ("train", 1000), "test": ("t10k", 200)}  # the original's name, images per class
SEED = 0


def read_idx(path: Path) -> np.ndarray:
    """The unsigned bytes of an idx file: two zero bytes, type 8, number of dimensions, their big-endian sizes, data."""
    content = gzip.decompress(path.read_bytes())
    zero, kind, dimensions = struct.unpack(">HBB", content[:4])
    if zero or kind != 8:
        raise SystemExit(f"{path}: not an idx file of unsigned bytes")
    start = 4 + 4 * dimensions
    shape = struct.unpack(f">{dimensions}I", content[4:start])
    if len(content) - start != math.prod(shape):
        raise SystemExit(f"{path}: {len(content) - start} bytes of data where {shape} was announced")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def stratified(labels: np.ndarray, per_class: int, rng: np.random.Generator) -> np.ndarray:
    """Indices of `per_class` random examples of each class, in the original's order."""
    chosen = [rng.choice(np.flatnonzero(labels == c), per_class, replace=False) for c in np.unique(labels)]
    return np.sort(np.concatenate(chosen)).astype(np.int32)


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the subset of Fashion-MNIST that Carom ships.")
    parser.add_argument("source", type=Path, help="folder of the four idx.gz files")
    parser.add_argument("--target", type=Path, default=TARGET)
    arguments = parser.parse_args()
    rng = np.random.default_rng(SEED)
    arrays: dict[str, Any] = {}
    for split, (original, per_class) in SPLITS.items():
        images = read_idx(arguments.source / f"{original}-images-idx3-ubyte.gz")
        labels = read_idx(arguments.source / f"{original}-labels-idx1-ubyte.gz")
        index = stratified(labels, per_class, rng)
        arrays |= {f"{split}_images": images[index], f"{split}_labels": labels[index], f"{split}_index": index}
    np.savez_compressed(arguments.target, **arrays)


if __name__ == "__main__":
    main()
