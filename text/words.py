"""Words as word-substitution attacks see them: where they lie in a text, and how to replace one and nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

STOP_WORDS = frozenset((Path(__file__).parent / "assets" / "stopwords.txt").read_text(encoding="utf-8").split())
"""English function words, lower case: attacks leave them alone."""

Span = tuple[int, int]
"""(start, stop): characters of a text, stop not included."""

# A word begins and ends with a letter, a digit or one of three signs that are no word characters for Python; inside it
# ' - _ * @ may stand as well. These are those of TextAttack 0.3.11 (`words_from_text`), so that results can be compared
# word by word.
_END, _INSIDE = r"(?:[^\W_]|[`×˗])", r"[\w`×˗'\-*@]*"
_WORD = re.compile(f"{_END}(?:{_INSIDE}{_END})?")


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
    return [Word(match.group(), *match.span()) for match in _WORD.finditer(text)]


def replace(text: str, changes: Iterable[tuple[Span, str]]) -> str:
    """`text` with the characters of each span replaced; all others stay. Raises ValueError if spans overlap."""
    parts, at = [], 0
    for (start, stop), new in sorted(changes):
        if not at <= start <= stop <= len(text):
            raise ValueError(f"span {start}:{stop} overlaps another or lies outside a text of {len(text)} characters")
        parts += [text[at:start], new]
        at = stop
    return "".join(parts) + text[at:]


def is_word(text: str) -> bool:
    """Whether `text` is one word from end to end: put in place of another, it leaves the text's other words alone."""
    words = split_words(text)
    return len(words) == 1 and words[0].text == text


def match_case(word: str, like: str) -> str:
    """`word` in capitals or capitalised if `like` is; otherwise as it is."""
    if len(like) > 1 and like.isupper():
        return word.upper()
    return word[:1].upper() + word[1:] if like[:1].isupper() else word


_LONGEST = 1 << 22  # letters times letters beyond which an edit distance is bounded, not computed


def trim(a: Sequence, b: Sequence) -> tuple[Sequence, Sequence]:
    """Two sequences without their common beginning and end."""
    start = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    a, b = a[start:], b[start:]
    stop = next(
        (i for i, (x, y) in enumerate(zip(reversed(a), reversed(b), strict=False)) if x != y), min(len(a), len(b))
    )
    return a[: len(a) - stop], b[: len(b) - stop]


def edits(a: Sequence, b: Sequence) -> int:
    """Levenshtein distance; of very long texts the length of what differs, which is no less."""
    first, second = trim(a, b)
    if not first or not second or len(first) * len(second) > _LONGEST:
        return max(len(first), len(second))
    row = list(range(len(second) + 1))
    for i, x in enumerate(first, 1):
        above, row[0] = row[0], i
        for j, y in enumerate(second, 1):
            above, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, above + (x != y))
    return row[-1]
