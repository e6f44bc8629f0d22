"""Candidates that lie near a word in a space of word vectors."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from carom.common.attacks.edits.requests import ranked
from carom.common.base.errors import CaromError
from carom.text.language.vectors import MINILM, vectors
from carom.text.words import match_case

CLOSE = 1e-6  # cosines this close are equal


@dataclass(frozen=True)
class Neighbours:
    """The nearest words by the cosine of their vectors, in the word's own case: at most `most`, at least `least` near.

    Alzantot et al. 2018 and Jin et al. 2020 take counter-fitted vectors (Mrkšić et al. 2016), which keep antonyms
    apart: give their file. MiniLM's embeddings of word pieces, the default, are there offline and do not.
    """

    source: str = MINILM
    most: int = 20
    least: float = 0.4

    def __post_init__(self) -> None:
        if self.most < 1:
            raise CaromError("at least one neighbour is needed: most=1 or more.")

    def options(self, word: str) -> tuple[str, ...]:
        return tuple(match_case(near, word) for near in nearest(self.source, word, self.most, self.least))


@lru_cache(maxsize=1 << 16)
def nearest(source: str, word: str, most: int, least: float) -> tuple[str, ...]:
    """The nearest first."""
    known = vectors(source)
    row = known.row(word)
    if row is None:
        return ()
    cosines = known.matrix @ known.matrix[row]
    cosines[row] = -1
    near = np.flatnonzero(cosines >= least - CLOSE)
    return tuple(known.words[near[n]] for n in ranked(cosines[near].tolist(), CLOSE)[:most])
