"""Edits that change the number of words, other forms of a word, and texts rewritten by a function of the user's."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from carom.common.base.errors import CaromError
from carom.common.base.specs import import_object
from carom.text.language.wordnet import inflections
from carom.text.words import match_case


@dataclass(frozen=True)
class LeaveOut:
    """The word is left out."""

    free = True

    def options(self, word: str) -> tuple[str, ...]:
        return ("",)


@dataclass(frozen=True)
class Insert:
    """One of some words before the word, or behind it."""

    words: tuple[str, ...]
    before: bool = True
    free = True

    def options(self, word: str) -> tuple[str, ...]:
        return tuple(f"{new} {word}" if self.before else f"{word} {new}" for new in self.words)


@dataclass(frozen=True)
class Inflections:
    """Other forms of the same word, in its case.

    Tan, Joty, Kan and Socher 2020, It's morphin' time! Combating linguistic discrimination with inflectional
    perturbations. By WordNet's lists and the rules of English spelling; with `lemminflect`, by that package.
    """

    lemminflect: bool = False

    def options(self, word: str) -> tuple[str, ...]:
        found = _by_package(word) if self.lemminflect else inflections(word)
        return tuple(match_case(form, word) for form in found if form != word.lower())


def _by_package(word: str) -> tuple[str, ...]:
    try:
        import lemminflect
    except ModuleNotFoundError as error:
        raise CaromError("inflections by lemminflect need a package: pip install lemminflect") from error
    lemmas = lemminflect.getAllLemmas(word.lower())
    forms = [
        form
        for part, bases in sorted(lemmas.items())
        for base in bases
        for _, own in sorted(lemminflect.getAllInflections(base, upos=part).items())
        for form in own
    ]
    return tuple(dict.fromkeys(forms))


@dataclass(frozen=True)
class Rewrites:
    """Whole texts from a function of the user's: `py:package.module:function`, from one text to a list of others.

    The budget counts the words in which a text differs. The function must answer the same every time.
    """

    function: str
    free = True

    def options(self, word: str) -> tuple[str, ...]:
        return ()

    def rewrites(self, text: str) -> tuple[str, ...]:
        return _rewritten(self.function, text)


@lru_cache(maxsize=1 << 12)
def _rewritten(path: str, text: str) -> tuple[str, ...]:
    function: Any = import_object(path.removeprefix("py:"), path)
    found = function(text)
    if isinstance(found, str) or not all(isinstance(other, str) for other in found):
        raise CaromError(f"{path} must answer a list of texts, not {type(found).__name__}.")
    return tuple(found)
