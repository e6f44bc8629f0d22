"""What the text defences know of words: how usual each is, and which mean the same. All of it ships."""

from __future__ import annotations

import math
from functools import cache, lru_cache

from carom.text.candidates.neighbours import CLOSE
from carom.text.language import wordnet
from carom.text.language.tokenizers import vocabulary
from carom.text.language.vectors import MINILM, vectors
from carom.text.words import STOP_WORDS, is_word, match_case

REMEMBERED = 1 << 16  # words whose answer is kept
NEAR = 0.3  # cosine of MiniLM's embeddings, from which on synonyms share the sense that is meant


@cache
def shares() -> dict[str, float]:
    """The share of training documents that a word of the shipped vocabulary stands in; a document is a sentence, or 30
    words of a review."""
    return {word: math.exp(1 - idf) for word, idf in vocabulary() if is_word(word)}


def share(word: str) -> float:
    """0 of a word that is not in the vocabulary."""
    return shares().get(word.lower(), 0.0)


def usual_first(words: set[str]) -> list[str]:
    """The most frequent first; of equally frequent ones the alphabet's first."""
    return sorted(words, key=lambda word: (-share(word), word))


@lru_cache(maxsize=REMEMBERED)
def known_synonyms(word: str) -> tuple[str, ...]:
    """The words of the vocabulary that mean the same as a word in lower case: synonyms in WordNet, either of the other's,
    whose vectors are `NEAR`. The most frequent first; function words have and are none.

    Without vectors, rare senses would make most words of English neighbours of each other.
    """
    if word in STOP_WORDS:
        return ()
    found = {other.lower() for other in wordnet.synonyms(word)} | _reverse().get(word, set())
    options = usual_first(
        {other for other in found if other != word and len(other) > 1 and other in shares()} - STOP_WORDS
    )
    cosines = vectors(MINILM).cosines(word, options)
    return tuple(option for option, cosine in zip(options, cosines, strict=True) if cosine >= NEAR - CLOSE)


@cache
def _reverse() -> dict[str, set[str]]:
    """The words of the vocabulary that have a word as their synonym: base forms do not lead to inflected ones."""
    found: dict[str, set[str]] = {}
    for word in shares():
        for other in wordnet.synonyms(word):
            found.setdefault(other.lower(), set()).add(word)
    return found


@cache
def representatives(nearest: int) -> dict[str, str]:
    """word of the vocabulary -> the word that stands for it: the clusters of Wang et al. 2021 (Natural language
    adversarial defense through synonym encoding, algorithm 1), of each word's `nearest` synonyms.

    Words are taken in the order of their frequency. One without a cluster joins that of its first synonym which has
    one, else founds its own; its synonyms without one join it.
    """
    found: dict[str, str] = {}
    for word in usual_first(set(shares())):
        near = known_synonyms(word)[:nearest]
        if word not in found:
            found[word] = next((found[other] for other in near if other in found), word)
        for other in near:
            found.setdefault(other, found[word])
    return found


@lru_cache(maxsize=REMEMBERED)
def representative(word: str, nearest: int) -> str:
    """What stands for a word, in its own case. One that is not in the vocabulary goes with its most frequent synonym
    that is; one without any stands for itself."""
    low, known = word.lower(), representatives(nearest)
    if low not in known:
        near = known_synonyms(low)
        if not near:
            return word
        low = near[0]
    return word if known[low] == word.lower() else match_case(known[low], word)


@lru_cache(maxsize=REMEMBERED)
def perturbations(word: str, most: int) -> tuple[str, ...]:
    """The perturbation set of a word in lower case (Ye, Gong and Liu 2020, SAFER, section 3.2): the word itself and
    what synonyms lead to, step by step, the most frequent of each step first, until there are `most`. Sorted."""
    found, edge = {word}, [word]
    while edge and len(found) < most:
        step = {other for near in edge for other in known_synonyms(near)} - found
        edge = usual_first(step)[: most - len(found)]
        found.update(edge)
    return tuple(sorted(found))


@lru_cache(maxsize=REMEMBERED)
def overlap(word: str, most: int) -> float:
    """How probable it is at least that a draw from a word's perturbation set can be taken for one from that of any of its
    synonyms (Ye et al. 2020, lemma 1): the least share that two sets have in common, of the larger. 1 where no synonym
    is known, so that the word cannot be exchanged."""
    own = set(perturbations(word, most))
    others = [set(perturbations(other, most)) for other in known_synonyms(word)]
    return min((len(own & other) / max(len(own), len(other)) for other in others), default=1.0)
