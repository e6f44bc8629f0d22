"""The space of texts and the budget of an attacker who exchanges words."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

import torch
from torch import Tensor

from carom.common.errors import CaromError
from carom.common.problem import Batch
from carom.common.rng import Rng
from carom.common.substitution import BLANK, DROPPED, Chosen
from carom.text.candidates import Candidates, WordNet, match_case, options_of
from carom.text.words import STOP_WORDS, Span, Word, replace, split_words

UNKNOWN = "[UNK]"
"""What stands for a word that no model knows, as in TextAttack; BERT's tokenisers read it as their unknown token."""

_SURROGATE = re.compile("[\ud800-\udfff]")
_LONGEST = 1 << 22  # letters times letters beyond which an edit distance is bounded, not computed


@dataclass(frozen=True)
class Words:
    """Texts, as list[str]. Every text that UTF-8 can hold is stored as it is; lone surrogates become U+FFFD."""

    name: str = "words"

    def clamp(self, x: Sequence[str]) -> list[str]:
        return [_SURROGATE.sub("\ufffd", text) for text in x]

    def round(self, x: Sequence[str], toward: Sequence[str] | None = None) -> list[str]:
        return self.clamp(x)

    def encode(self, x: Sequence[str]) -> list[str]:
        return self.clamp(x)

    def decode(self, stored: Sequence[str]) -> list[str]:
        return list(stored)

    def distance(self, x: Sequence[str], x0: Sequence[str]) -> dict[str, Tensor]:
        """`words`: how many were changed, added or removed; `share`: of the words of x0; `characters`: edited inside
        these words (Levenshtein; an upper bound where texts differ over thousands of characters)."""
        measured = [_distance(text, text0) for text, text0 in zip(x, x0, strict=True)]
        columns = zip(*measured, strict=True) if measured else ([], [], [])
        return {
            name: torch.tensor(column, dtype=torch.float32)
            for name, column in zip(("words", "share", "characters"), columns, strict=True)
        }


def _distance(text: str, text0: str) -> tuple[float, float, float]:
    pairs = changes(text, text0)
    count = _changed(text, text0) if pairs is None else len(pairs)
    characters = edits(text, text0) if pairs is None else sum(edits(new, old.text) for _, old, new in pairs)
    return count, count / max(1, len(split_words(text0))), characters


def _changed(text: str, text0: str) -> int:
    """How many words lie between the first and the last that differ."""
    new, old = trim([w.text for w in split_words(text)], [w.text for w in split_words(text0)])
    return max(len(new), len(old))


def changes(text: str, text0: str) -> list[tuple[int, Word, str]] | None:
    """(index, old word, new word) of the words in which two texts differ; None unless they differ only in words, one
    in place of another."""
    if text == text0:
        return []
    old, new = split_words(text0), split_words(text)
    if len(old) != len(new) or _between(text0, old) != _between(text, new):
        return None
    pairs = enumerate(zip(old, new, strict=True))
    return [(i, before, after.text) for i, (before, after) in pairs if before.text != after.text]


def _between(text: str, words: Iterable[Word]) -> list[str]:
    """What no word covers: before the first word, between words, after the last."""
    parts, at = [], 0
    for word in words:
        parts.append(text[at : word.start])
        at = word.stop
    return [*parts, text[at:]]


def trim(a: Sequence, b: Sequence) -> tuple[Sequence, Sequence]:
    """Two sequences without their common beginning and end."""
    start = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    a, b = a[start:], b[start:]
    stop = next(
        (i for i, (x, y) in enumerate(zip(reversed(a), reversed(b), strict=False)) if x != y), min(len(a), len(b))
    )
    return a[: len(a) - stop], b[: len(b) - stop]


def edits(a: str, b: str) -> int:
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


@dataclass(frozen=True)
class Sentence:
    """One text whose words can be exchanged (an `Editable`). Sites are the words that may be changed, in order."""

    text: str
    words: Sequence[Word]
    sites: Sequence[int]  # indices into words
    options: Sequence[tuple[str, ...]]  # of each site
    limit: int

    @cached_property
    def sizes(self) -> list[int]:
        return [len(options) for options in self.options]

    def word(self, site: int) -> Word:
        return self.words[self.sites[site]]

    def edit(self, chosen: Chosen) -> str:
        return replace(self.text, [self.change(site, option) for site, option in chosen.items()])

    def change(self, site: int, option: int) -> tuple[Span, str]:
        """The characters that an option replaces, and by what."""
        word = self.word(site)
        if option == DROPPED:  # with the space before it, so that no two are left
            start = word.start - (word.start > 0 and self.text[word.start - 1] == " ")
            return (start, word.stop), ""
        return word.span, UNKNOWN if option == BLANK else self.options[site][option]

    def spans(self, chosen: Chosen) -> list[Span]:
        """Where each site's word stands in the edited text."""
        moved, spans = 0, []
        for site in range(len(self.sites)):
            word = self.word(site)
            start, width = word.start + moved, word.stop - word.start
            if site in chosen:
                width = len(self.options[site][chosen[site]])
                moved += width - (word.stop - word.start)
            spans.append((start, start + width))
        return spans


@lru_cache(maxsize=1 << 16)
def _in_order(candidates: Candidates, word: str, rest: str) -> tuple[str, ...]:
    """The options of a word, in the order of the texts that they make, as TextAttack tries them."""
    return tuple(sorted(options_of(candidates, word), key=lambda option: option + rest))


@dataclass(frozen=True)
class WordBudget:
    """At most `max_changed` (a share) of a text's words may be exchanged, each for a word that `candidates` offers in
    its place; rounded down, but never below one word unless the share is 0.

    Stop words stay as they are. A new word must be an option of the original, so no word is changed twice.
    """

    max_changed: float
    candidates: Candidates = field(default_factory=WordNet)
    keep_stop_words: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.max_changed <= 1:
            raise CaromError(f"a word budget of {self.max_changed} is no share of the words: give 0 to 1, say 0.3.")

    def limit(self, words: int) -> int:
        """How many of a text's words may be changed."""
        if self.max_changed == 0:
            return 0
        # The slack is for shares that binary fractions miss: 0.29 * 100.
        return min(words, max(1, math.floor(self.max_changed * words + 1e-9)))

    def may_change(self, word: str) -> bool:
        return not (self.keep_stop_words and word.lower() in STOP_WORDS)

    def editable(self, x: str) -> Sentence:
        words = split_words(x)
        sites = [i for i, word in enumerate(words) if self.may_change(word.text)]
        behind = (x[words[i].stop : words[i].stop + 8] for i in sites)
        options = [_in_order(self.candidates, words[i].text, rest) for i, rest in zip(sites, behind, strict=True)]
        return Sentence(x, words, sites, options, self.limit(len(words)))

    def allows(self, x: Sequence[str], x0: Sequence[str]) -> Tensor:
        return torch.tensor([self._allows(a, b) for a, b in zip(x, x0, strict=True)], dtype=torch.bool)

    def _allows(self, text: str, text0: str) -> bool:
        text, text0 = Words().clamp([text, text0])
        changed = changes(text, text0)
        if changed is None or len(changed) > self.limit(len(split_words(text0))):
            return False
        return all(
            self.may_change(old.text) and new in options_of(self.candidates, old.text) for _, old, new in changed
        )

    def control(self, batch: Batch, rng: Rng, like: Sequence[str]) -> list[str]:
        """As many words as `like` changed, at random places that have options, each for a random one of them."""
        texts = []
        for i, (text, adversarial) in enumerate(zip(batch.inputs, like, strict=True)):
            found = changes(adversarial, text)
            count = _changed(adversarial, text) if found is None else len(found)
            sentence, mine = self.editable(text), rng[torch.tensor([i])]
            places = [site for site, size in enumerate(sentence.sizes) if size]
            drawn = _draw(places, count, mine.fold("place"))
            shares = mine.fold("option").uniform(len(drawn))[0].tolist()
            texts.append(sentence.edit({s: int(u * sentence.sizes[s]) for s, u in zip(drawn, shares, strict=True)}))
        return texts

    def swap(self, batch: Batch, rng: Rng, other: Sequence[str], other0: Sequence[str]) -> list[str]:
        """The words that were put into `other0`, at random places of these texts: as many as fit the budget, and not
        among the options of the words they replace."""
        texts = []
        for i, text in enumerate(batch.inputs):
            found = changes(other[i], other0[i]) or []
            sentence, mine = self.editable(text), rng[torch.tensor([i])]
            new = _draw([word for _, _, word in found], sentence.limit, mine.fold("word"))
            drawn = _draw(range(len(sentence.sites)), len(new), mine.fold("place"))
            pairs = [(sentence.word(site), word) for site, word in zip(drawn, new, strict=False)]
            texts.append(replace(text, [(old.span, match_case(word, old.text)) for old, word in pairs]))
        return texts


def _draw(things: Sequence, count: int, rng: Rng) -> list:
    """`count` of the things at random (all, if there are no more), by one stream."""
    order = rng.uniform(len(things))[0].argsort(stable=True).tolist()
    return [things[i] for i in order[:count]]
