"""Pairs of texts (premise and hypothesis, question and answer) as ONE text, of which one side is open to changes.

Between the two stands a separator, a control character that no text may hold otherwise; which of the two separators it
is says which side is open. So a pair is stored, compared, digested and searched like any text: words on the other side
are simply none that may be changed.

>>> pair = join("A man sleeps.", "A man is awake.")
>>> open_text(pair), sides(pair)
('A man is awake.', ('A man sleeps.', 'A man is awake.'))
>>> open_text(join("A man sleeps.", "A man is awake.", "first"))
'A man sleeps.'
"""

from __future__ import annotations

import re

from carom.common.base.errors import UnknownName
from carom.text.words import Span, Word, split_words

SEPARATORS = {"first": "\x1e", "second": "\x1f"}
"""The side that is open -> what stands between the sides (the record and unit separators of ASCII)."""

_SEPARATOR = re.compile("[\x1e\x1f]")


def join(first: str, second: str, change: str = "second") -> str:
    """A pair of which the side `change` ("first" or "second") may be changed."""
    if change not in SEPARATORS:
        raise UnknownName("side of a pair", str(change), SEPARATORS)
    return first + SEPARATORS[change] + second


def is_pair(text: str) -> bool:
    return _SEPARATOR.search(text) is not None


def sides(text: str) -> tuple[str, str] | None:
    """Both texts of a pair; None for a single text."""
    found = _SEPARATOR.search(text)
    return None if found is None else (text[: found.start()], text[found.end() :])


def open_span(text: str) -> Span:
    """The characters that may be changed: of a single text all."""
    found = _SEPARATOR.search(text)
    if found is None:
        return 0, len(text)
    return (0, found.start()) if found.group() == SEPARATORS["first"] else (found.end(), len(text))


def open_text(text: str) -> str:
    """What may be changed of a text."""
    start, stop = open_span(text)
    return text[start:stop]


def open_words(text: str) -> list[Word]:
    """The words of what may be changed, where they stand in the whole."""
    start, stop = open_span(text)
    return [Word(word.text, start + word.start, start + word.stop) for word in split_words(text[start:stop])]
