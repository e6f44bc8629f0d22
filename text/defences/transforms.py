"""Defences that bring a text back to words that the model knows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from carom.common.base.rng import Rng
from carom.common.defences.catalogue import Defences
from carom.common.defences.transforms import InputTransform
from carom.text.defences.lexicon import REMEMBERED, representative, share, shares
from carom.text.language import wordnet
from carom.text.words import match_case, replace, split_words

PRUTHI = "Pruthi, Dhingra and Lipton 2019, Combating adversarial misspellings with robust word recognition"
SEM = "Wang et al. 2021, Natural language adversarial defense through synonym encoding"

LETTERS = "abcdefghijklmnopqrstuvwxyz'"

TRANSFORMS = Defences(kind="transform", adaptation=("around",))


class WordMap(InputTransform):
    """The base of changes that replace each word by what stands for it."""

    def __call__(self, x: Sequence[str], *rng: Rng) -> list[str]:
        return [replace(text, [(word.span, self.word(word.text)) for word in split_words(text)]) for text in x]

    def word(self, word: str) -> str:
        raise NotImplementedError


@dataclass(frozen=True)
class SpellCheck(WordMap):
    """Each word of at least `shortest` letters that no dictionary holds becomes the most frequent word of the vocabulary
    that is one edit away, if there is one: a letter put in, left out or exchanged, or two neighbours swapped."""

    shortest: int

    def word(self, word: str) -> str:
        return corrected(word) if len(word) >= self.shortest else word


@lru_cache(maxsize=REMEMBERED)
def corrected(word: str) -> str:
    low = word.lower()
    if low in shares() or low.isdigit() or wordnet.parts_of_speech(low):
        return word
    known = [other for other in edited(low) if other in shares()]
    return match_case(min(known, key=lambda other: (-share(other), other)), word) if known else word


def edited(word: str) -> Iterator[str]:
    """Every text one edit away (Damerau 1964), some of them twice."""
    for at in range(len(word) + 1):
        before, after = word[:at], word[at:]
        yield from (before + letter + after for letter in LETTERS)
        if after:
            yield before + after[1:]
            yield from (before + letter + after[1:] for letter in LETTERS)
        if len(after) > 1:
            yield before + after[1] + after[0] + after[2:]


@TRANSFORMS.defence(
    "spell-check",
    "misspelt words corrected",
    paper=PRUTHI,
    departures="the nearest word of the shipped vocabulary by edit distance and frequency, without a network that reads the "
    "words beside it",
)
def spell_check(shortest: int = 4) -> SpellCheck:
    """Words of `shortest` letters and more that neither the vocabulary nor WordNet knows, by one edit."""
    return SpellCheck(shortest)


@dataclass(frozen=True)
class SynonymEncoding(WordMap):
    """Each word becomes the one that stands for its cluster of synonyms."""

    nearest: int

    def word(self, word: str) -> str:
        return representative(word, self.nearest)


@TRANSFORMS.defence(
    "synonym-normalise",
    "synonyms become one word",
    paper=SEM,
    departures="synonyms of WordNet, the most frequent in place of the nearest; no training with it",
)
def synonym_normalise(nearest: int = 4) -> SynonymEncoding:
    """Clusters of each word's `nearest` most frequent synonyms."""
    return SynonymEncoding(nearest)
