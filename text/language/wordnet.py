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
REMEMBERED = 1 << 15  # words whose entries are kept: nearly all that come again, whatever the number of texts


@dataclass(frozen=True)
class _Part:
    """One part of speech."""

    synsets: dict[str, list[tuple[str, ...]]]  # lower-case lemma -> the lemmas of each synset it is in
    exceptions: dict[str, list[str]]  # irregular form -> its base forms
    rules: list[tuple[str, str]]
    forms: dict[str, list[str]]  # base form -> its irregular forms

    def bases(self, word: str) -> list[str]:
        """The lemmas that `word` is a form of: itself, and what its exception list or the rules lead to."""
        if word in self.exceptions:
            forms = self.exceptions[word]
        else:
            forms = [word.removesuffix(old) + new for old, new in self.rules if word.endswith(old)]
        return [form for form in dict.fromkeys((word, *forms)) if form in self.synsets]


@lru_cache(maxsize=REMEMBERED)
def synonyms(word: str) -> tuple[str, ...]:
    """Every other single word that shares a synset with `word` or with one of its base forms, sorted.

    All parts of speech are looked up, in lower case; lemmas keep WordNet's spelling ("Paris"). A base form is a
    synonym of its inflected forms ("film" of "films"): WordNet does not inflect. Empty if the word is unknown.
    """
    found = {lemma for lemmas in synsets(word) for lemma in lemmas}
    found.discard(word)
    return tuple(sorted(lemma for lemma in found if "_" not in lemma and len(split_words(lemma)) == 1))


def synsets(word: str) -> list[tuple[str, ...]]:
    """The lemmas of each synset that `word` or one of its base forms is in, for every part of speech."""
    bases = ((part, base) for part in _parts() for base in part.bases(word.lower()))
    return [lemmas for part, base in bases for lemmas in part.synsets[base]]


@lru_cache(maxsize=REMEMBERED)
def antonyms(word: str) -> frozenset[str]:
    """The opposites, in lower case, of `word` and of the base forms that it is a form of."""
    return frozenset(other for base in {word.lower(), *lemmas(word)} for other in _opposites().get(base, ()))


@lru_cache(maxsize=REMEMBERED)
def lemmas(word: str) -> tuple[str, ...]:
    """The lemmas that `word` is a form of, in any part of speech."""
    return tuple(dict.fromkeys(base for part in _parts() for base in part.bases(word.lower())))


@lru_cache(maxsize=REMEMBERED)
def parts_of_speech(word: str) -> frozenset[str]:
    """Those of `PARTS_OF_SPEECH` that a word can be; none if it is unknown."""
    known = zip(PARTS_OF_SPEECH, _parts(), strict=True)
    return frozenset(name for name, part in known if part.bases(word.lower()))


@lru_cache(maxsize=REMEMBERED)
def inflections(word: str) -> tuple[str, ...]:
    """Other forms of the lemmas that `word` is a form of: the irregular ones that WordNet lists and, by rule, plurals,
    verb forms and comparisons."""
    found: list[str] = []
    for name, part in zip(PARTS_OF_SPEECH, _parts(), strict=True):
        for base in part.bases(word.lower()):
            irregular = part.forms.get(base, [])
            found += [base, *irregular, *(_regular(base, name, bool(irregular)))]
    return tuple(form for form in dict.fromkeys(found) if form != word.lower() and "_" not in form)


def _regular(base: str, part: str, irregular: bool) -> list[str]:
    """The forms that English rules make. Where WordNet lists irregular ones, past and comparison are left out."""
    sibilant = base.endswith(("s", "x", "z", "ch", "sh")) or (
        part == "verb" and base[-2:-1] not in "aeio" and base[-1] == "o"
    )
    changes_y = len(base) > 2 and base.endswith("y") and base[-2] not in "aeiou"
    many = base + "es" if sibilant else base[:-1] + "ies" if changes_y else base + "s"
    short = (
        len(base) <= 4 and len(base) > 2 and base[-1] in "bdgmnprt" and base[-2] in "aeiou" and base[-3] not in "aeiou"
    )
    stem = base + base[-1] if short else base[:-1] if base.endswith("e") and not base.endswith("ee") else base
    past = base[:-1] + "i" if changes_y else stem
    if part == "noun":
        return [] if irregular else [many]
    if part == "verb":
        return [many, stem + "ing"] if irregular else [many, past + "ed", stem + "ing"]
    return [past + "er", past + "est"] if part == "adj" and not irregular and len(base) <= 6 else []


@cache
def _opposites() -> dict[str, set[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for pair in _table()["antonyms"]:
        one, other = pair.split(" ")
        found[one].add(other)
        found[other].add(one)
    return dict(found)


@cache
def _table() -> dict:
    path = Path(__file__).parents[1] / "assets" / "wordnet.json.gz"
    return json.loads(gzip.decompress(path.read_bytes()))


@lru_cache
def _parts() -> tuple[_Part, ...]:
    table = _table()
    return tuple(_read_part(table[name], _DETACHMENT[name]) for name in PARTS_OF_SPEECH)


def _read_part(table: dict, rules: str) -> _Part:
    synsets = defaultdict(list)
    for line in table["synsets"]:
        lemmas = tuple(line.split(" "))
        for lemma in {lemma.lower() for lemma in lemmas}:
            synsets[lemma].append(lemmas)
    exceptions = {form: bases.split(" ") for form, bases in table["exceptions"].items()}
    forms = defaultdict(list)
    for form, bases in exceptions.items():
        for base in bases:
            forms[base].append(form)
    return _Part(
        dict(synsets), exceptions, [(a, b) for a, b in (rule.split(":") for rule in rules.split())], dict(forms)
    )
