"""A small language model of our own: how usual a run of three words is in film reviews. It ships as nothing but code.

Interpolated Kneser-Ney smoothing over three words (Kneser and Ney 1995, Improved backing-off for m-gram language
modeling; Chen and Goodman 1999, An empirical study of smoothing techniques for language modeling, eq. 21 ff.), one
discount for all counts. It is counted, in some seconds, from the training sentences of Rotten Tomatoes and from
some training documents of IMDB, so that no text under attack is among them. No match for a neural model, and at home
in film reviews alone; but it needs no download, and sees a word that nobody writes there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cache

import numpy as np

from carom.text.language.tokenizers import tokens

START, END, UNKNOWN = 0, 1, 2
ORDER = 3  # words
DISCOUNT = 0.75  # off every count, for what was not seen
DOCUMENTS = 5000  # of IMDB: more are slower to count than they are worth

Level = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""Runs of words (as one number each, sorted) and their counts; what they begin with (sorted), its count and its kinds
of next word."""


class Trigrams:
    """The probability of a word after two others, from the texts it is made of.

    Words that occur once there are all one, the unknown word; any other word that it meets is one of them, each as
    likely as the next.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        read = [[token for token, _ in tokens(text)] for text in texts]
        count = Counter(token for row in read for token in row)
        known = [token for token, times in count.items() if times > 1]
        self.ids = {token: number for number, token in enumerate(known, start=3)}
        self.rare = max(1, len(count) - len(known))
        self.words = len(known) + 3
        runs, counts = np.unique(self._runs(read), return_counts=True)
        self.levels: list[Level] = []
        for order in range(ORDER, 0, -1):
            begins, first = np.unique(runs // self.words, return_index=True)
            kinds = np.diff(np.append(first, len(runs)))
            self.levels.append((runs, counts, begins, np.add.reduceat(counts, first), kinds))
            # Shorter runs count once for each word that stands before them.
            runs, counts = np.unique(runs % self.words ** (order - 1), return_counts=True)

    def _runs(self, read: Sequence[Sequence[str]]) -> np.ndarray:
        """int64: every word, with the end of each text, behind the two before it, as one number."""
        rows = [[START, START, *(self.ids.get(token, UNKNOWN) for token in row), END] for row in read]
        flat = np.fromiter((number for row in rows for number in row), np.int64)
        runs = (flat[:-2] * self.words + flat[1:-1]) * self.words + flat[2:]
        return runs[flat[2:] != START]

    def likely(self, runs: np.ndarray) -> np.ndarray:
        """float64: the probability of the last word of each run, the unknown word being one word."""
        likely = np.full(len(runs), 1 / (self.words - 1))  # of every word but the start
        for order, (known, counts, begins, totals, kinds) in enumerate(reversed(self.levels), start=1):
            own = runs % self.words**order
            count, before = _found(known, counts, own), own // self.words
            total, kind = _found(begins, totals, before), _found(begins, kinds, before)
            kept = np.maximum(count - DISCOUNT, 0) + DISCOUNT * kind * likely
            likely = np.where(total > 0, kept / np.maximum(total, 1), likely)
        return likely

    def perplexity(self, texts: Sequence[str]) -> np.ndarray:
        """float64[N]: exp of the mean negative log-likelihood of a text's words and of its end."""
        read = [[token for token, _ in tokens(text)] for text in texts]
        if not read:
            return np.zeros(0)
        runs = self._runs(read)
        surprise = -np.log(self.likely(runs)) + np.log(self.rare) * (runs % self.words == UNKNOWN)
        lengths = np.array([len(row) + 1 for row in read])
        return np.exp(np.add.reduceat(surprise, np.cumsum(lengths) - lengths) / lengths)


def _found(keys: np.ndarray, values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The value of each wanted key; 0 for one that is not there."""
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[at] == wanted, values[at], 0)


@cache
def of_reviews() -> Trigrams:
    """The model of the training reviews."""
    return Trigrams(reviews_read())


def reviews_read() -> list[str]:
    """The texts that it is made of."""
    from carom.text.language import reviews

    return reviews.load("rotten-tomatoes", "train")[0] + reviews.load("imdb", "train")[0][:DOCUMENTS]
