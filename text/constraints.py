"""What an adversarial text must keep of the clean one. Each is a part of a `WordBudget`, and holds of the final text.

A constraint has one or more of: `spares(text, words)`, the indices of words that may not be changed; `keeps(word,
options)`, which of a word's options may stand in its place; `holds(pairs, slack)`, which edited texts may stand, given
with their clean ones. The last are judged for all edits of all examples together; they are asked once more, with a
little slack for rounding, about the text that is stored.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

from carom.common.base.errors import CaromError, UnknownName
from carom.text.candidates.base import Merged
from carom.text.language.wordnet import antonyms, lemmas, parts_of_speech
from carom.text.words import Word, split_words

Pairs = Sequence[tuple[str, str]]
"""(edited, clean)"""

_NEGATIONS = """
no not never none nobody nothing nowhere neither nor without hardly scarcely barely cannot can't don't doesn't didn't
isn't aren't wasn't weren't won't wouldn't shouldn't couldn't mustn't haven't hasn't hadn't ain't
"""
NEGATIONS = frozenset(_NEGATIONS.split())
TAGGERS = ("wordnet", "nltk")


@dataclass(frozen=True)
class PartOfSpeech:
    """A word is exchanged for one of its own kind. By WordNet, whatever part of speech both can be (unknown words are
    kept out); or by NLTK's tagger, where its data are installed, word by word."""

    tagger: str = "wordnet"

    def __post_init__(self) -> None:
        if self.tagger not in TAGGERS:
            raise UnknownName("tagger", self.tagger, TAGGERS)

    def keeps(self, word: str, options: Sequence[str]) -> list[bool]:
        if self.tagger == "nltk":
            own = _nltk_tag(word)
            return [_nltk_tag(option) == own for option in options]
        kinds = parts_of_speech(word)
        return [bool(kinds & parts_of_speech(option)) for option in options]


@lru_cache(maxsize=1 << 16)
def _nltk_tag(word: str) -> str:
    try:
        import nltk

        return nltk.pos_tag([word], tagset=None)[0][1][:2]
    except (ImportError, LookupError) as error:
        raise CaromError(
            "the tagger of NLTK is not here. Install nltk and put averaged_perceptron_tagger_eng where it looks, or "
            "use PartOfSpeech('wordnet')."
        ) from error


@dataclass(frozen=True)
class EditDistance:
    """At most `most` letters of a word are changed (Levenshtein)."""

    most: int

    def keeps(self, word: str, options: Sequence[str]) -> list[bool]:
        from carom.text.words import edits

        return [edits(option, word) <= self.most for option in options]


@dataclass(frozen=True)
class EmbeddingDistance:
    """The cosine of both words' vectors is at least `least`; unknown words are kept out."""

    least: float = 0.5
    source: str = "minilm"

    def keeps(self, word: str, options: Sequence[str]) -> list[bool]:
        from carom.text.language.vectors import vectors

        return [cosine >= self.least for cosine in vectors(self.source).cosines(word, options)]


@dataclass(frozen=True)
class NotAntonyms:
    """No word is exchanged for its opposite, by WordNet."""

    def keeps(self, word: str, options: Sequence[str]) -> list[bool]:
        opposite = antonyms(word)
        return [not opposite & {option.lower(), *lemmas(option)} for option in options]


@dataclass(frozen=True)
class KeepNegations:
    """Words that negate stay, none is brought in, and none is merged into another."""

    def spares(self, text: str, words: Sequence[Word]) -> set[int]:
        return {i for i, word in enumerate(words) if word.text.lower() in NEGATIONS}

    def keeps(self, word: str, options: Sequence[str]) -> list[bool]:
        return [not NEGATIONS & {w.text.lower() for w in split_words(option)} for option in options]


_ENDS = re.compile(r"[.!?:;\n\"“(]\s*$")


@dataclass(frozen=True)
class KeepNames:
    """Names stay: capitalised words that begin no sentence, in texts that are not capitalised throughout. A heuristic;
    texts in lower case have no names for it."""

    def spares(self, text: str, words: Sequence[Word]) -> set[int]:
        capital = [word.text[:1].isupper() for word in words]
        if sum(capital) > 0.7 * len(words):
            return set()
        begins = [not i or bool(_ENDS.search(text[words[i - 1].stop : word.start])) for i, word in enumerate(words)]
        return {i for i, (upper, first) in enumerate(zip(capital, begins, strict=True)) if upper and not first}


@dataclass(frozen=True)
class SameLength:
    """No word is merged, added or left out."""

    def keeps(self, word: str, options: Sequence[str]) -> list[bool]:
        return [len(split_words(option)) == 1 and not isinstance(option, Merged) for option in options]


@dataclass(frozen=True)
class Similar:
    """The cosine of both texts' vectors is at least `least`, by MiniLM (for the Universal Sentence Encoder of Jin et
    al. 2020; whole texts, where TextFooler compares fifteen words around the change)."""

    least: float = 0.8

    def holds(self, pairs: Pairs, slack: float = 0.0) -> list[bool]:
        from carom.text.language.models import sentence_vectors

        edited, clean = zip(*pairs, strict=True)
        cosines = (sentence_vectors(edited) * sentence_vectors(clean)).sum(1)
        return (cosines >= self.least - slack).tolist()


@dataclass(frozen=True)
class Likely:
    """The perplexity by a language model grows to at most `most` times that of the clean text."""

    lm: str
    most: float = 2.0
    masked: bool = False

    def holds(self, pairs: Pairs, slack: float = 0.0) -> list[bool]:
        from carom.text.language.models import perplexity

        ratios = [perplexity(self.lm, a, self.masked) / perplexity(self.lm, b, self.masked) for a, b in pairs]
        return [ratio <= self.most * (1 + slack) for ratio in ratios]


@dataclass(frozen=True)
class Grammatical:
    """No more errors than the clean text has, by LanguageTool (package `language_tool_python`, Java)."""

    language: str = "en-US"

    def holds(self, pairs: Pairs, slack: float = 0.0) -> list[bool]:
        return [errors(self.language, edited) <= errors(self.language, clean) for edited, clean in pairs]


@cache
def _language_tool(language: str) -> Any:
    try:
        import language_tool_python
    except ModuleNotFoundError as error:
        raise CaromError("grammar needs a package, and Java: pip install language_tool_python") from error
    try:
        return language_tool_python.LanguageTool(language)
    except Exception as error:
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CaromError(
            f"LanguageTool does not start ({said}). It needs Java and its own files: set LTP_PATH to a folder that "
            "holds them, or leave the constraint out."
        ) from error


@lru_cache(maxsize=1 << 14)
def errors(language: str, text: str) -> int:
    """How many errors of grammar, style and spelling LanguageTool finds."""
    return len(_language_tool(language).check(text))
