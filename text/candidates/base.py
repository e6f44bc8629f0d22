"""Where replacement words come from: every word has the same options, whether an attack asks or its control."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

from carom.text.words import Word, is_word


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


@dataclass(frozen=True)
class Union:
    """The options of several sources, one after another."""

    sources: tuple[Candidates, ...]

    @property
    def free(self) -> bool:
        return any(map(is_free, self.sources))

    def options(self, word: str) -> tuple[str, ...]:
        return tuple(dict.fromkeys(option for source in self.sources for option in source.options(word)))
