"""Words as word-substitution attacks see them: where they lie in a text, and how to replace one and nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

STOP_WORDS = frozenset((Path(__file__).parent / "assets" / "stopwords.txt").read_text(encoding="utf-8").split())
"""English function words, lower case: attacks leave them alone."""

Span = tuple[int, int]
"""(start, stop): characters of a text, stop not included."""

# Characters that may stand inside a word but not at its ends. They, and the three below that are no word characters
# for Python, are those of TextAttack 0.3.11 (`words_from_text`), so that results can be compared word by word.
_JOINERS = "'-_*@"
_WORD = re.compile(rf"[\w`×˗{re.escape(_JOINERS)}]+")


class Word(NamedTuple):
    """One word and the characters of the text that it takes."""

    text: str
    start: int
    stop: int

    @property
    def span(self) -> Span:
        return self.start, self.stop


def split_words(text: str) -> list[Word]:
    """The words of `text` in order; what lies between them (spaces, punctuation, line breaks) belongs to none."""
    words = []
    for match in _WORD.finditer(text):
        found, (start, stop) = match.group(), match.span()
        word = found.strip(_JOINERS)
        if word == found:
            words.append(Word(word, start, stop))
        elif word:
            start += len(found) - len(found.lstrip(_JOINERS))
            words.append(Word(word, start, start + len(word)))
    return words


def replace(text: str, changes: Iterable[tuple[Span, str]]) -> str:
    """`text` with the characters of each span replaced; all others stay. Raises ValueError if spans overlap."""
    parts, at = [], 0
    for (start, stop), new in sorted(changes):
        if not at <= start <= stop <= len(text):
            raise ValueError(f"span {start}:{stop} overlaps another or lies outside a text of {len(text)} characters")
        parts += [text[at:start], new]
        at = stop
    return "".join(parts) + text[at:]
