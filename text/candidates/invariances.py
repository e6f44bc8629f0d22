"""Changes after which an answer should be the same: other names, places and numbers, contractions, typos.

Ribeiro et al. 2020, Beyond accuracy: behavioral testing of NLP models with CheckList, sections 2 and 3.
"""

from __future__ import annotations

from dataclasses import dataclass

from carom.text.candidates.characters import CharacterEdits
from carom.text.words import match_case

NAMES = tuple(
    [
        "Anna",
        "Ben",
        "Carla",
        "David",
        "Elena",
        "Frank",
        "Grace",
        "Henry",
        "Irene",
        "James",
        "Karen",
        "Luis",
        "Maria",
        "Nora",
        "Oscar",
        "Paul",
        "Rosa",
        "Sam",
        "Tara",
        "Victor",
    ]
)
PLACES = tuple(
    [
        "Boston",
        "Chicago",
        "London",
        "Paris",
        "Berlin",
        "Madrid",
        "Rome",
        "Tokyo",
        "Sydney",
        "Toronto",
        "Dublin",
        "Vienna",
    ]
)
CONTRACTIONS = {
    "don't": "do not",
    "doesn't": "does not",
    "didn't": "did not",
    "isn't": "is not",
    "aren't": "are not",
    "wasn't": "was not",
    "weren't": "were not",
    "can't": "can not",
    "couldn't": "could not",
    "won't": "will not",
    "wouldn't": "would not",
    "it's": "it is",
    "that's": "that is",
    "there's": "there is",
    "i'm": "I am",
    "you're": "you are",
    "they're": "they are",
    "we're": "we are",
    "i've": "I have",
}
OTHERS = 3  # names, places or numbers offered for one


@dataclass(frozen=True)
class Invariances:
    """For a first name or a city three others, for a whole number three near it, for a contraction what it stands for;
    for every other word its letters with two neighbours swapped."""

    free = True

    def options(self, word: str) -> tuple[str, ...]:
        for known in (NAMES, PLACES):
            if word in known:
                at = known.index(word)
                return tuple(known[(at + step) % len(known)] for step in range(1, OTHERS + 1))
        if word.isascii() and word.isdigit() and len(word) < 10:
            return tuple(str(int(word) + step) for step in range(1, OTHERS + 1))
        if word.lower() in CONTRACTIONS:
            return (match_case(CONTRACTIONS[word.lower()], word),)
        return CharacterEdits(("swap",)).options(word)
