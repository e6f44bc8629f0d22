"""Where replacement words come from: every word has the same options, whether an attack asks or its control."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

from carom.common.base.errors import UnknownName
from carom.common.base.rng import Rng
from carom.text.wordnet import synonyms
from carom.text.words import Word, split_words

_LETTERS = "abcdefghijklmnopqrstuvwxyz"


class Candidates(Hashable, Protocol):
    """A frozen dataclass, so that its fields name it in the store.

    Optional: `free = True` says that options need not be single words: "" leaves the word out, "a word" puts one
    beside it, a `Merged` also stands for the word behind. `options_in(text, words)` offers options for every word of
    one clean text by its context, and `rewrites(text)` other texts for the whole; both always the same for one text.
    """

    def options(self, word: str) -> tuple[str, ...]:
        """What may stand in place of `word`, in a fixed order, without the word itself."""


class Merged(str):
    """An option that takes the place of a word and of the one behind it. It counts as two changes, and is not the
    option of the same letters that takes the place of one word."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Merged) and str.__eq__(self, other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(("merged", str(self)))


def is_free(candidates: Any) -> bool:
    return getattr(candidates, "free", False)


def is_contextual(candidates: Any) -> bool:
    """Whether options hang on the text around a word."""
    return (
        any(map(is_contextual, candidates.sources))
        if isinstance(candidates, Union)
        else hasattr(candidates, "options_in")
    )


def _usable(candidates: Any, word: str, options: Iterable[str]) -> tuple[str, ...]:
    if is_free(candidates):
        return tuple(o for o in dict.fromkeys(options) if o != word or isinstance(o, Merged))
    fold = word.casefold()
    return tuple(o for o in dict.fromkeys(options) if o.casefold() != fold and is_word(o))


@lru_cache(maxsize=1 << 15)
def options_of(candidates: Candidates, word: str) -> tuple[str, ...]:
    """The options of a source for a word; unless it is free, those that are single words and unlike `word` even when
    case is ignored."""
    return _usable(candidates, word, candidates.options(word))


def options_in(candidates: Any, text: str, words: Sequence[Word]) -> list[tuple[str, ...]]:
    """The options of a source for each word of a text."""
    if isinstance(candidates, Union):
        parts = [options_in(source, text, words) for source in candidates.sources]
        return [tuple(dict.fromkeys(o for own in rows for o in own)) for rows in zip(*parts, strict=True)]
    if not is_contextual(candidates):
        return [options_of(candidates, word.text) for word in words]
    found = candidates.options_in(text, words)
    return [_usable(candidates, word.text, own) for word, own in zip(words, found, strict=True)]


def is_word(text: str) -> bool:
    """Whether `text` is one word from end to end: put in place of another, it leaves the text's other words alone."""
    words = split_words(text)
    return len(words) == 1 and words[0].text == text


def match_case(word: str, like: str) -> str:
    """`word` in capitals or capitalised if `like` is; otherwise as it is."""
    if len(like) > 1 and like.isupper():
        return word.upper()
    return word[:1].upper() + word[1:] if like[:1].isupper() else word


@dataclass(frozen=True)
class WordNet:
    """Words that share a synset with the word, whatever the part of speech, in the word's own case.

    The candidates of Ren et al. 2019, without named entities, and of TextAttack's `WordSwapWordNet`.
    """

    def options(self, word: str) -> tuple[str, ...]:
        return tuple(match_case(synonym, word) for synonym in synonyms(word))


EDITS = ("swap", "substitute", "delete", "insert")


@dataclass(frozen=True)
class CharacterEdits:
    """One misspelling of each kind: two neighbours swapped, a letter substituted, one deleted, one inserted.

    Gao et al. 2018, Black-box generation of adversarial text sequences to evade deep learning classifiers
    (DeepWordBug). Where the edit falls and which letter it brings follow from the word and `seed` alone. Words of one
    character have no misspelling.
    """

    kinds: tuple[str, ...] = EDITS
    seed: int = 0

    def __post_init__(self) -> None:
        for kind in self.kinds:
            if kind not in EDITS:
                raise UnknownName("kind of character edit", kind, EDITS)

    def options(self, word: str) -> tuple[str, ...]:
        if len(word) < 2:
            return ()
        rng = Rng.of(self.seed, [word])
        return tuple(edit for kind in self.kinds if (edit := _edit(word, kind, rng.fold(kind))) is not None)


def _edit(word: str, kind: str, rng: Rng) -> str | None:
    def draw(what: str, count: int) -> int:
        return int(rng.fold(what).integers(count)[0])

    if kind == "swap":
        places = [i for i in range(len(word) - 1) if word[i] != word[i + 1]]
        if not places:
            return None
        i = places[draw("place", len(places))]
        return word[:i] + word[i + 1] + word[i] + word[i + 2 :]
    i = draw("place", len(word))
    if kind == "delete":
        return word[:i] + word[i + 1 :]
    others = [c for c in _LETTERS if c != word[i].lower()]
    letter = others[draw("letter", len(others))]
    if word[i].isupper():
        letter = letter.upper()
    return word[:i] + letter + word[i if kind == "insert" else i + 1 :]


@dataclass(frozen=True)
class Union:
    """The options of several sources, one after another."""

    sources: tuple[Candidates, ...]

    @property
    def free(self) -> bool:
        return any(map(is_free, self.sources))

    def options(self, word: str) -> tuple[str, ...]:
        return tuple(dict.fromkeys(option for source in self.sources for option in source.options(word)))
