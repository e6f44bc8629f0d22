"""Synonyms from WordNet 3.0 without its dictionary files: a table of synsets and morphology, read once.

WordNet: Miller, "WordNet: a lexical database for English", Communications of the ACM 1995. The table holds what
substituting single words needs: the single-word lemmas of every synset and the lists of irregular forms. The phrases
that are the base of an irregular form are in it too, with underscores, but are never offered.
"""

from __future__ import annotations

import gzip
import json
from collections import defaultdict
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

from carom.text.words import split_words

# morphy(7WN), "rules of detachment": an ending and what may replace it.
_DETACHMENT = {
    "noun": "s: ses:s ves:f xes:x zes:z ches:ch shes:sh men:man ies:y",
    "verb": "s: ies:y es:e es: ed:e ed: ing:e ing:",
    "adj": "er: est: er:e est:e",
    "adv": "",
}
PARTS_OF_SPEECH = tuple(_DETACHMENT)


@dataclass(frozen=True)
class _Part:
    """One part of speech."""

    synsets: dict[str, list[tuple[str, ...]]]  # lower-case lemma -> the lemmas of each synset it is in
    exceptions: dict[str, list[str]]  # irregular form -> its base forms
    rules: list[tuple[str, str]]

    def bases(self, word: str) -> list[str]:
        """The lemmas that `word` is a form of: itself, and what its exception list or the rules lead to."""
        if word in self.exceptions:
            forms = self.exceptions[word]
        else:
            forms = [word.removesuffix(old) + new for old, new in self.rules if word.endswith(old)]
        return [form for form in dict.fromkeys((word, *forms)) if form in self.synsets]


@cache
def synonyms(word: str) -> tuple[str, ...]:
    """Every other single word that shares a synset with `word` or with one of its base forms, sorted.

    All parts of speech are looked up, in lower case; lemmas keep WordNet's spelling ("Paris"). A base form is a
    synonym of its inflected forms ("film" of "films"): WordNet does not inflect. Empty if the word is unknown.
    """
    found: set[str] = set()
    for part in _parts():
        for base in part.bases(word.lower()):
            for lemmas in part.synsets[base]:
                found.update(lemmas)
    found.discard(word)
    return tuple(sorted(lemma for lemma in found if "_" not in lemma and len(split_words(lemma)) == 1))


@lru_cache
def _parts() -> tuple[_Part, ...]:
    path = Path(__file__).parent / "assets" / "wordnet.json.gz"
    table = json.loads(gzip.decompress(path.read_bytes()))
    return tuple(_read_part(table[name], _DETACHMENT[name]) for name in PARTS_OF_SPEECH)


def _read_part(table: dict, rules: str) -> _Part:
    synsets = defaultdict(list)
    for line in table["synsets"]:
        lemmas = tuple(line.split(" "))
        for lemma in {lemma.lower() for lemma in lemmas}:
            synsets[lemma].append(lemmas)
    exceptions = {form: bases.split(" ") for form, bases in table["exceptions"].items()}
    return _Part(dict(synsets), exceptions, [(old, new) for old, new in (rule.split(":") for rule in rules.split())])
