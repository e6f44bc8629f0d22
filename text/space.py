"""The space of texts: what a text is, and how far two texts are apart."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from carom.text.pairs import open_text
from carom.text.sentence import REMEMBERED
from carom.text.words import Word, edits, split_words

_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Words:
    """Texts, as list[str]. Every text that UTF-8 can hold is stored as it is; lone surrogates become U+FFFD.

    With `pairs`, each is two texts with a separator between them (`carom.text.pairs`).
    """

    name: str = "words"
    pairs: bool = False

    def __str__(self) -> str:
        return "pairs of texts" if self.pairs else "single texts"

    @property
    def remedy(self) -> str:
        """What a user can do whose data and model do not belong together."""
        if self.pairs:
            return "Name the columns of both with text= and second=, or load the model with pairs=false."
        return "Load the model with pairs=true if it takes pairs, or name the one column to read with text=."

    def clamp(self, x: Sequence[str]) -> list[str]:
        return [_SURROGATE.sub("\ufffd", text) for text in x]

    def round(self, x: Sequence[str], toward: Sequence[str] | None = None) -> list[str]:
        return self.clamp(x)

    def encode(self, x: Sequence[str]) -> list[str]:
        return self.clamp(x)

    def decode(self, stored: Sequence[str]) -> list[str]:
        return list(stored)

    def distance(self, x: Sequence[str], x0: Sequence[str]) -> dict[str, Tensor]:
        """`words`: how many were changed, added or removed; `share`: of the words of x0 that may be changed (all, unless
        it is a pair); `characters`: edited inside
        these words (Levenshtein; an upper bound where texts differ over thousands of characters)."""
        measured = [_distance(text, text0) for text, text0 in zip(x, x0, strict=True)]
        columns = zip(*measured, strict=True) if measured else ([], [], [])
        return {
            name: torch.tensor(column, dtype=torch.float32)
            for name, column in zip(("words", "share", "characters"), columns, strict=True)
        }


@lru_cache(maxsize=1 << 9)  # a batch is measured by several metrics
def _distance(text: str, text0: str) -> tuple[float, float, float]:
    pairs = changes(text, text0)
    count = _changed(text, text0) if pairs is None else len(pairs)
    characters = edits(text, text0) if pairs is None else sum(edits(new, old.text) for _, old, new in pairs)
    return count, count / max(1, len(split_words(open_text(text0)))), characters


def _changed(text: str, text0: str) -> int:
    """How many words were changed, added or left out (Levenshtein over words)."""
    return edits([w.text for w in split_words(text)], [w.text for w in split_words(text0)])


def changes(text: str, text0: str) -> list[tuple[int, Word, str]] | None:
    """(index, old word, new word) of the words in which two texts differ; None unless they differ only in words, one
    in place of another."""
    if text == text0:
        return []
    old, new = split_words(text0), split_words(text)
    if len(old) != len(new) or between(text0, old) != between(text, new):
        return None
    pairs = enumerate(zip(old, new, strict=True))
    return [(i, before, after.text) for i, (before, after) in pairs if before.text != after.text]


def between(text: str, words: Iterable[Word]) -> list[str]:
    """What no word covers: before the first word, between words, after the last."""
    parts, at = [], 0
    for word in words:
        parts.append(text[at : word.start])
        at = word.stop
    return [*parts, text[at:]]


@lru_cache(maxsize=REMEMBERED)
def kept(constraints: tuple[Any, ...], word: str, options: tuple[str, ...]) -> tuple[str, ...]:
    """The options that every constraint on single words keeps."""
    for constraint in constraints:
        if options:
            kept = constraint.keeps(word, options)
            options = tuple(o for o, keep in zip(options, kept, strict=True) if keep)
    return options
