"""The budget of an attack on words: how many may change, to what, under which constraints."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from carom.common.base.errors import CaromError
from carom.common.base.rng import Rng
from carom.common.core.batch import Batch
from carom.common.core.threats import Threat
from carom.text.blind import CHANGES, changed
from carom.text.candidates.base import Candidates, Merged, is_contextual, is_free, options_in, options_of
from carom.text.candidates.synonyms import WordNet
from carom.text.pairs import is_pair, open_span, open_text, open_words
from carom.text.sentence import REMEMBERED, Sentence
from carom.text.space import Words, _changed, changes, kept
from carom.text.words import STOP_WORDS, Word, match_case, replace, split_words


@lru_cache(maxsize=REMEMBERED)
def _in_order(candidates: Candidates, word: str, rest: str) -> tuple[str, ...]:
    """The options of a word, in the order of the texts that they make, as TextAttack tries them."""
    return tuple(sorted(options_of(candidates, word), key=lambda option: option + rest))


@lru_cache(maxsize=1 << 14)
def _blind(budget: WordBudget, text: str, number: int) -> str:
    """All models are asked about the same."""
    return changed(budget.editable(text), number, lambda made: budget.admits([(made, text)])[0])


@dataclass(frozen=True)
class WordBudget(Threat):
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
            options = [kept(keep, words[i].text, own) for i, own in zip(sites, options, strict=True)]
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
    def judges_inputs(self) -> bool:
        """Whether `admits` refuses any."""
        return bool(self._judges("holds"))

    @property
    def redraws(self) -> int:
        return DRAWS if self.judges_inputs else 0

    def keeps(self, x: Sequence[str], x0: Sequence[str]) -> Tensor | None:  # type: ignore[override]
        if not self.judges_inputs:
            return None  # words that constraints spare and options that they take away are never drawn
        pairs = list(zip(Words().clamp(x), Words().clamp(x0), strict=True))
        return torch.tensor(self.admits(pairs, SLACK), dtype=torch.bool)

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
        sentences = [self.editable(text) for text in batch.inputs]
        counts = [self._count(s, other, s.text) for s, other in zip(sentences, like, strict=True)]
        return self.draw(sentences, counts, rng)

    def draw(self, sentences: Sequence[Sentence], counts: Sequence[int], rng: Rng) -> list[str]:
        """Each text with so many changes, at random places that have options, each a random one of them. Where
        constraints judge the whole text, the first of `DRAWS` draws that they admit; the last, if they admit none."""
        drawn, left = [sentence.text for sentence in sentences], list(range(len(sentences)))
        for number in range(max(1, self.redraws)):
            for i in left:
                mine = rng[torch.tensor([i])]
                mine = mine.fold("draw", number) if number else mine
                drawn[i] = sentences[i].edit(_random_edit(sentences[i], counts[i], mine))
            if not left or not self.judges_inputs:
                break
            admitted = self.admits([(drawn[i], sentences[i].text) for i in left])
            left = [i for i, ok in zip(left, admitted, strict=True) if not ok]
        return drawn

    @property
    def blind_changes(self) -> int:
        return CHANGES

    def blind(self, batch: Batch, number: int) -> list[str]:
        """One of `carom.text.blind`'s rules, as often as the budget lets a text be changed."""
        return [_blind(self, text, number) for text in batch.inputs]

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


DRAWS = 20
"""Of a control under constraints on whole texts, until one keeps them."""


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
    as were changed. Constraints that these attacks have of their own (`held_to`) are not asked of controls."""

    held_to: tuple[str, ...] = field(default=(), compare=False)

    @property
    def unkept(self) -> tuple[str, ...]:
        return self.held_to

    @property
    def blind_changes(self) -> int:
        """None without a bound: it would let all words be changed."""
        return 0 if self.max_changed == 1 else CHANGES

    def _allows(self, text: str, text0: str) -> bool:
        if text == text0 or self.max_changed == 1:
            return True
        return self.max_changed > 0 and _changed(text, text0) <= self.limit(len(split_words(text0)))

    def _count(self, sentence: Sentence, text: str, text0: str) -> int:
        return _changed(text, text0)
