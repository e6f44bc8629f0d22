"""The space of texts and the budget of an attacker who exchanges words."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any

import torch
from torch import Tensor

from carom.common.attacks.edits.editable import BLANK, DROPPED, Chosen
from carom.common.base.errors import CaromError
from carom.common.base.rng import Rng
from carom.common.core.batch import Batch
from carom.text.candidates import (
    Candidates,
    Merged,
    WordNet,
    is_contextual,
    is_free,
    match_case,
    options_in,
    options_of,
)
from carom.text.pairs import is_pair, open_span, open_text, open_words
from carom.text.words import STOP_WORDS, Span, Word, replace, split_words

UNKNOWN = "[UNK]"
"""What stands for a word that no model knows, as in TextAttack; BERT's tokenisers read it as their unknown token."""

_SURROGATE = re.compile("[\ud800-\udfff]")
REMEMBERED = 1 << 15  # words whose options are kept: enough for all that come again soon
_LONGEST = 1 << 22  # letters times letters beyond which an edit distance is bounded, not computed


@dataclass(frozen=True)
class Words:
    """Texts, as list[str]. Every text that UTF-8 can hold is stored as it is; lone surrogates become U+FFFD.

    With `pairs`, each is two texts with a separator between them (`carom.text.pairs`).
    """

    name: str = "words"
    pairs: bool = False

    def __str__(self) -> str:
        return "pairs of texts" if self.pairs else "single texts"

    @property
    def remedy(self) -> str:
        """What a user can do whose data and model do not belong together."""
        if self.pairs:
            return "Name the columns of both with text= and second=, or load the model with pairs=false."
        return "Load the model with pairs=true if it takes pairs, or name the one column to read with text=."

    def clamp(self, x: Sequence[str]) -> list[str]:
        return [_SURROGATE.sub("\ufffd", text) for text in x]

    def round(self, x: Sequence[str], toward: Sequence[str] | None = None) -> list[str]:
        return self.clamp(x)

    def encode(self, x: Sequence[str]) -> list[str]:
        return self.clamp(x)

    def decode(self, stored: Sequence[str]) -> list[str]:
        return list(stored)

    def distance(self, x: Sequence[str], x0: Sequence[str]) -> dict[str, Tensor]:
        """`words`: how many were changed, added or removed; `share`: of the words of x0 that may be changed (all, unless
        it is a pair); `characters`: edited inside
        these words (Levenshtein; an upper bound where texts differ over thousands of characters)."""
        measured = [_distance(text, text0) for text, text0 in zip(x, x0, strict=True)]
        columns = zip(*measured, strict=True) if measured else ([], [], [])
        return {
            name: torch.tensor(column, dtype=torch.float32)
            for name, column in zip(("words", "share", "characters"), columns, strict=True)
        }


@lru_cache(maxsize=1 << 9)  # a batch is measured by several metrics
def _distance(text: str, text0: str) -> tuple[float, float, float]:
    pairs = changes(text, text0)
    count = _changed(text, text0) if pairs is None else len(pairs)
    characters = edits(text, text0) if pairs is None else sum(edits(new, old.text) for _, old, new in pairs)
    return count, count / max(1, len(split_words(open_text(text0)))), characters


def _changed(text: str, text0: str) -> int:
    """How many words were changed, added or left out (Levenshtein over words)."""
    return edits([w.text for w in split_words(text)], [w.text for w in split_words(text0)])


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


@dataclass(frozen=True)
class Sentence:
    """One text whose words can be exchanged (an `Editable`). Sites are the words that may be changed, in order."""

    text: str
    words: Sequence[Word]  # of a pair, those of the side that may be changed
    sites: Sequence[int]  # indices into words
    options: Sequence[tuple[str, ...]]  # of each site
    limit: int

    @cached_property
    def sizes(self) -> list[int]:
        return [len(options) for options in self.options]

    def price(self, site: int, option: int) -> int:
        """How many changes an option counts as."""
        return 2 if option >= 0 and isinstance(self.options[site][option], Merged) else 1

    def word(self, site: int) -> Word:
        return self.words[self.sites[site]]

    def edit(self, chosen: Chosen) -> str:
        """Of changes that overlap, the first one stands."""
        made: list[tuple[Span, str]] = []
        for site, option in sorted(chosen.items()):
            change = self.change(site, option)
            if not made or made[-1][0][1] <= self.word(site).start:
                made.append(change)
        return replace(self.text, made)

    def change(self, site: int, option: int) -> tuple[Span, str]:
        """The characters that an option replaces, and by what."""
        word = self.word(site)
        new = UNKNOWN if option == BLANK else "" if option == DROPPED else self.options[site][option]
        if not new:  # with the space before it, so that no two are left
            start = word.start - (word.start > 0 and self.text[word.start - 1] == " ")
            return (start, word.stop), ""
        if isinstance(new, Merged) and (behind := self.sites[site] + 1) < len(self.words):
            return (word.start, self.words[behind].stop), new
        return word.span, new

    def plain(self, site: int, option: int) -> bool:
        """Whether an option stands exactly where its word stood."""
        return option == BLANK or (option >= 0 and bool(o := self.options[site][option]) and not isinstance(o, Merged))

    def spans(self, chosen: Chosen) -> list[Span]:
        """Where each site's word stands in the edited text; of no width if it is gone."""
        moved, gone, spans = 0, 0, []
        for site in range(len(self.sites)):
            word = self.word(site)
            if word.start < gone:  # another has taken its place
                spans.append((gone + moved, gone + moved))
                continue
            start, stop, new = word.start, word.stop, word.text
            if site in chosen:
                (start, stop), new = self.change(site, chosen[site])
                gone = stop
            spans.append((start + moved, start + moved + len(new)))
            moved += len(new) - (stop - start)
        return spans

    def derive(self, text: str) -> dict[int, int] | None:
        """The least changes that make `text` of this one; None if none do."""
        # (characters read of this text, of the other) -> (price, changes, the last one first)
        states: dict[tuple[int, int], tuple[int, tuple]] = {(0, 0): (0, ())}
        for site, options in enumerate(self.options):
            word, then = self.word(site), {}  # type: tuple[Word, dict[tuple[int, int], tuple[int, tuple]]]
            for (read, made), (price, path) in states.items():
                if read > word.start:
                    _keep(then, (read, made), price, path)
                    continue
                lead = self.text[read : word.stop]
                if text.startswith(lead, made):
                    _keep(then, (word.stop, made + len(lead)), price, path)
                for option in range(len(options)):
                    cost = price + self.price(site, option)
                    if cost <= self.limit:
                        (start, stop), new = self.change(site, option)
                        lead = self.text[read:start] + new
                        if text.startswith(lead, made):
                            _keep(then, (stop, made + len(lead)), cost, ((site, option), path))
            states = then
        ends = [end for (read, made), end in states.items() if text[made:] == self.text[read:]]
        if not ends:
            return None
        _, path = min(ends, key=lambda end: end[0])
        found = {}
        while path:
            (site, option), path = path
            found[site] = option
        return found


def _keep(states: dict, at: tuple[int, int], price: int, path: tuple) -> None:
    if at not in states or price < states[at][0]:
        states[at] = (price, path)


@lru_cache(maxsize=REMEMBERED)
def _in_order(candidates: Candidates, word: str, rest: str) -> tuple[str, ...]:
    """The options of a word, in the order of the texts that they make, as TextAttack tries them."""
    return tuple(sorted(options_of(candidates, word), key=lambda option: option + rest))


@lru_cache(maxsize=REMEMBERED)
def _kept(constraints: tuple[Any, ...], word: str, options: tuple[str, ...]) -> tuple[str, ...]:
    """The options that every constraint on single words keeps."""
    for constraint in constraints:
        if options:
            kept = constraint.keeps(word, options)
            options = tuple(o for o, keep in zip(options, kept, strict=True) if keep)
    return options


@dataclass(frozen=True)
class WordBudget:
    """At most `max_changed` (a share) of a text's words may be exchanged, each for one of the options that `candidates`
    offers in its place; rounded down, but never below one word unless the share is 0. Of a pair of texts, that is a
    share of the side that may be changed, and the other stays as it is.

    Stop words stay as they are. A new word must be an option of the original, so no word is changed twice.
    `constraints` (`carom.text.constraints`) take further words and options away, or judge the edited text as a whole.
    """

    max_changed: float
    candidates: Candidates = field(default_factory=WordNet)
    keep_stop_words: bool = True
    constraints: tuple[Any, ...] = ()

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

    def _judges(self, method: str) -> tuple[Any, ...]:
        return tuple(constraint for constraint in self.constraints if hasattr(constraint, method))

    def editable(self, x: str) -> Sentence:
        """The text's words and their options; of a pair, those of the side that may be changed."""
        start, stop = open_span(x)
        part = x[start:stop]
        words = split_words(part)
        limit = self.limit(len(words))
        if hasattr(self.candidates, "rewrites"):
            return self._rewritten(x, start, part, limit)
        sites = [i for i, word in enumerate(words) if self.may_change(word.text)]
        for constraint in self._judges("spares"):
            spared = constraint.spares(part, words)
            sites = [i for i in sites if i not in spared]
        if is_contextual(self.candidates):
            every = options_in(self.candidates, part, words)
            options = [every[i] for i in sites]
        else:
            behind = (part[words[i].stop : words[i].stop + 8] for i in sites)
            options = [_in_order(self.candidates, words[i].text, rest) for i, rest in zip(sites, behind, strict=True)]
        if keep := self._judges("keeps"):
            options = [_kept(keep, words[i].text, own) for i, own in zip(sites, options, strict=True)]
        if is_free(self.candidates):  # of two words, both must be ones that may be changed
            may = set(sites)
            options = [
                own if i + 1 in may else tuple(o for o in own if not isinstance(o, Merged))
                for i, own in zip(sites, options, strict=True)
            ]
        if start:
            words = [Word(word.text, start + word.start, start + word.stop) for word in words]
        return Sentence(x, words, sites, options, limit)

    def _rewritten(self, x: str, start: int, part: str, limit: int) -> Sentence:
        """All that may be changed as one site."""
        texts = Words().clamp(self.candidates.rewrites(part))  # type: ignore[attr-defined]
        new = [t for t in dict.fromkeys(texts) if t and t != part and not is_pair(t)]
        fit = tuple(t for t in new if _changed(t, part) <= limit)
        return Sentence(x, [Word(part, start, start + len(part))], [0], [fit], min(1, limit))

    def admits(self, pairs: Sequence[tuple[str, str]], slack: float = 0.0) -> list[bool]:
        """Which edited texts every constraint on whole texts admits, given (edited, clean). Of pairs of texts they judge
        the side that was changed."""
        admitted = [True] * len(pairs)
        judges = self._judges("holds")
        if judges:
            pairs = [(open_text(edited), open_text(clean)) for edited, clean in pairs]
        for constraint in judges:
            left = [i for i, ok in enumerate(admitted) if ok and pairs[i][0] != pairs[i][1]]
            for i, ok in zip(left, constraint.holds([pairs[i] for i in left], slack) if left else [], strict=True):
                admitted[i] = ok
        return admitted

    @property
    def judges_texts(self) -> bool:
        """Whether `admits` refuses any."""
        return bool(self._judges("holds"))

    def allows(self, x: Sequence[str], x0: Sequence[str]) -> Tensor:
        pairs = list(zip(Words().clamp(x), Words().clamp(x0), strict=True))
        allowed = [self._allows(*pair) for pair in pairs]
        left = [i for i, ok in enumerate(allowed) if ok]
        for i, ok in zip(left, self.admits([pairs[i] for i in left], SLACK), strict=True):
            allowed[i] = ok
        return torch.tensor(allowed, dtype=torch.bool)

    def _allows(self, text: str, text0: str) -> bool:
        if text == text0:
            return True
        if self.max_changed == 0:
            return False
        if is_free(self.candidates) or hasattr(self.candidates, "rewrites"):
            return self.editable(text0).derive(text) is not None
        changed = changes(text, text0)
        if changed is None or len(changed) > self.limit(len(open_words(text0))):
            return False
        if self.constraints or is_contextual(self.candidates):
            sentence = self.editable(text0)
            options = {sentence.word(site).start: own for site, own in enumerate(sentence.options)}
            return all(new in options.get(old.start, ()) for _, old, new in changed)
        start, stop = open_span(text0)
        return all(
            start <= old.start < stop and self.may_change(old.text) and new in options_of(self.candidates, old.text)
            for _, old, new in changed
        )

    def control(self, batch: Batch, rng: Rng, like: Sequence[str]) -> list[str]:
        """As many changes as `like` holds, at random places (`draw`)."""
        texts = []
        for i, (text, adversarial) in enumerate(zip(batch.inputs, like, strict=True)):
            sentence = self.editable(text)
            count = self._count(sentence, adversarial, text)
            texts.append(self.draw(sentence, count, rng[torch.tensor([i])]))
        return texts

    def draw(self, sentence: Sentence, count: int, rng: Rng) -> str:
        """The text with `count` changes, at random places that have options, each a random one of them. Where
        constraints judge the whole text, the first of `DRAWS` draws that they admit; the last, if they admit none."""
        drawn = sentence.text
        for number in range(DRAWS if self.judges_texts else 1):
            drawn = sentence.edit(_random_edit(sentence, count, rng.fold("draw", number) if number else rng))
            if not self.judges_texts or self.admits([(drawn, sentence.text)])[0]:
                break
        return drawn

    def _count(self, sentence: Sentence, text: str, text0: str) -> int:
        """How many changes lead from text0 to text."""
        found = changes(text, text0)
        if found is not None and not hasattr(self.candidates, "rewrites"):
            return len(found)
        derived = sentence.derive(text)
        if derived is None:
            return _changed(text, text0)
        return sum(sentence.price(site, option) for site, option in derived.items())

    def swap(self, batch: Batch, rng: Rng, other: Sequence[str], other0: Sequence[str]) -> list[str]:
        """The words that were put into `other0`, at random places of these texts: as many as fit the budget, and not
        among the options of the words they replace."""
        texts = []
        for i, text in enumerate(batch.inputs):
            found = changes(other[i], other0[i])
            if found is not None:
                put = [word for _, _, word in found]
            else:
                sentence = self.editable(other0[i])
                derived = sentence.derive(other[i]) or {}
                put = [
                    o for s, n in sorted(derived.items()) if (o := sentence.options[s][n]) and len(sentence.words) > 1
                ]
            sentence, mine = self.editable(text), rng[torch.tensor([i])]
            new = _draw(put, sentence.limit, mine.fold("word"))
            drawn = _draw(range(len(sentence.sites)), len(new), mine.fold("place"))
            pairs = [(sentence.word(site), word) for site, word in zip(drawn, new, strict=False)]
            texts.append(replace(text, [(old.span, match_case(word, old.text)) for old, word in pairs]))
        return texts


SLACK = 1e-4  # what rounding may take from a constraint between a search and the check of its outcome
DRAWS = 8  # of a control under constraints on whole texts


def _random_edit(sentence: Sentence, count: int, rng: Rng) -> dict[int, int]:
    """Changes at `count` random places, or as many as there are; each a random option."""
    places = _draw([site for site, size in enumerate(sentence.sizes) if size], count, rng.fold("place"))
    shares = rng.fold("option").uniform(len(places))[0].tolist()
    found: dict[int, int] = {}
    for site, share in zip(places, shares, strict=True):
        option = int(share * sentence.sizes[site])
        if sentence.price(site, option) <= count:
            found[site] = option
            count -= sentence.price(site, option)
    return found


def _draw(things: Sequence, count: int, rng: Rng) -> list:
    """`count` of the things at random (all, if there are no more), by one stream."""
    order = rng.uniform(len(things))[0].argsort(stable=True).tolist()
    return [things[i] for i in order[:count]]


@dataclass(frozen=True)
class AnyWords(WordBudget):
    """At most `max_changed` (a share) of a text's words changed, added or left out, whatever is put in their place; no
    bound at all at 1. For attacks that bring words of their own: `candidates` are only what controls draw from, as many
    as were changed."""

    def _allows(self, text: str, text0: str) -> bool:
        if text == text0 or self.max_changed == 1:
            return True
        return self.max_changed > 0 and _changed(text, text0) <= self.limit(len(split_words(text0)))

    def _count(self, sentence: Sentence, text: str, text0: str) -> int:
        return _changed(text, text0)
