"""Synonyms from WordNet as candidates."""

from __future__ import annotations

from dataclasses import dataclass

from carom.text.language.wordnet import synonyms
from carom.text.words import match_case


@dataclass(frozen=True)
class WordNet:
    """Words that share a synset with the word, whatever the part of speech, in the word's own case.

    The candidates of Ren et al. 2019, without named entities, and of TextAttack's `WordSwapWordNet`.
    """

    def options(self, word: str) -> tuple[str, ...]:
        return tuple(match_case(synonym, word) for synonym in synonyms(word))
