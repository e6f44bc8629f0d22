"""Word vectors and their neighbours: from a file in the text format of word2vec and GloVe, or MiniLM's word pieces.

A file is read once and kept as an array beside it in the cache folder (`CAROM_CACHE`, else ~/.cache/carom).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from carom.common.base.environment import cache_folder
from carom.common.base.errors import BadInput
from carom.common.base.specs import existing

MINILM = "minilm"
MOST_WORDS = 400_000  # of a file; those that come later are rarer


@dataclass(frozen=True)
class Vectors:
    """Words and their vectors, each of length 1."""

    words: tuple[str, ...]
    rows: dict[str, int]
    matrix: NDArray[np.float32]  # [words, d]

    def row(self, word: str) -> int | None:
        """The row of a word, as it is written or in lower case."""
        found = self.rows.get(word)
        return self.rows.get(word.lower()) if found is None else found

    def cosines(self, word: str, others: Sequence[str]) -> list[float]:
        """Of the word and each other one; 0 if one of them is unknown."""
        row, rows = self.row(word), [self.row(other) for other in others]
        if row is None:
            return [0.0] * len(others)
        known = [r for r in rows if r is not None]
        values = iter((self.matrix[known] @ self.matrix[row]).tolist() if known else [])
        return [0.0 if r is None else next(values) for r in rows]


@cache
def vectors(source: str) -> Vectors:
    """The vectors of a file, or "minilm": the embeddings of the words that MiniLM reads as one piece."""
    words, matrix = _minilm() if source == MINILM else _indexed(existing(source, "file of word vectors"))
    norms = np.linalg.norm(matrix, axis=1, keepdims=True)
    matrix = (matrix / np.where(norms == 0, 1, norms)).astype(np.float32)
    return Vectors(tuple(words), {word: row for row, word in reversed(list(enumerate(words)))}, matrix)


def _minilm() -> tuple[list[str], NDArray[np.float32]]:
    from safetensors.numpy import load_file

    from carom.text.language.minilm import minilm_folder

    folder = minilm_folder()
    pieces = (folder / "vocab.txt").read_text(encoding="utf-8").split("\n")
    table = load_file(folder / "model.safetensors")
    name = next(name for name in table if name.endswith("word_embeddings.weight"))
    rows = [row for row, piece in enumerate(pieces) if piece.isalpha() and piece.isascii() and len(piece) > 1]
    matrix = table[name][rows].astype(np.float32)
    # What all pieces share says nothing of a word.
    return [pieces[row] for row in rows], matrix - matrix.mean(0)


def _indexed(path: Path) -> tuple[list[str], NDArray[np.float32]]:
    """The file's words and vectors, read from its index if there is one."""
    stat = path.stat()
    name = f"{path.resolve()}\0{stat.st_size}\0{stat.st_mtime_ns}".encode("utf-8", "surrogateescape")
    folder = cache_folder()
    index = folder / f"vectors-{hashlib.sha256(name).hexdigest()[:16]}.npz"
    if index.is_file():
        with np.load(index, allow_pickle=False) as stored:
            return stored["words"].tolist(), stored["matrix"]
    words, rows = [], []
    for word, row in _lines(path):
        words.append(word)
        rows.append(row)
    matrix = np.stack(rows)
    folder.mkdir(parents=True, exist_ok=True)
    partial = index.with_suffix(f".{os.getpid()}.npz")
    np.savez(partial, words=np.array(words), matrix=matrix)
    os.replace(partial, index)
    return words, matrix


def _lines(path: Path) -> Iterator[tuple[str, NDArray[np.float32]]]:
    width = None
    with path.open(encoding="utf-8", errors="strict") as lines:
        try:
            for number, line in enumerate(lines, 1):
                word, *numbers = line.rstrip().split(" ")
                if number == 1 and len(numbers) == 1:  # word2vec begins with how many words and dimensions there are
                    continue
                try:
                    row = np.array(numbers, dtype=np.float32)
                except ValueError as error:
                    raise BadInput(f"{path}, line {number}", f"not a word and numbers ({error})", _FORMAT) from error
                width = width or len(row)
                if len(row) != width or not width or not np.isfinite(row).all():
                    raise BadInput(f"{path}, line {number}", f"{len(row)} numbers, expected {width} finite", _FORMAT)
                yield word, row
                if number >= MOST_WORDS:
                    return
        except UnicodeDecodeError as error:
            raise BadInput(str(path), "not UTF-8", _FORMAT) from error
    if width is None:
        raise BadInput(str(path), "holds no vectors", _FORMAT)


_FORMAT = "Give the text format of word2vec or GloVe: a word and its numbers, separated by spaces."
