"""Defences that change a text otherwise at every query."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, takewhile
from typing import ClassVar

import torch
from torch import Tensor

from carom.common.base.errors import CaromError
from carom.common.base.rng import Rng
from carom.common.defences.catalogue import Defences
from carom.common.defences.smoothing import ABSTAINS, CertifyingChange, Smoothing
from carom.common.defences.transforms import InputTransform
from carom.text.defences.lexicon import overlap, perturbations
from carom.text.sentence import UNKNOWN
from carom.text.words import Word, match_case, replace, split_words

DELETION = (
    "Huang et al. 2023, RS-Del: edit distance robustness certificates for sequence classifiers via randomized deletion"
)
RANMASK = "Zeng et al. 2023, Certified robustness to text adversarial attacks by randomized [MASK]"
SAFER = (
    "Ye, Gong and Liu 2020, SAFER: a structure-free approach for certified robustness to adversarial word substitutions"
)

RANDOM = Defences(kind="random", adaptation=("around", "expectation"))

SMOOTHING = Defences(
    kind="smoothing", adaptation=("surrogate", "expectation", "rejection", "around"), cost="draws passes per answer"
)


class WordChange(InputTransform):
    """The base of random changes of single words."""

    random: ClassVar[bool] = True

    def __call__(self, x: Sequence[str], *rng: Rng) -> list[str]:
        """Each text is given one number of [0, 1) for each of its words."""
        read = [split_words(text) for text in x]
        longest = max((len(words) for words in read), default=0)
        draws = rng[0].uniform(longest).tolist() if longest else [[] for _ in x]
        rows = zip(x, read, draws, strict=True)
        return [self.changed(text, words, drawn[: len(words)]) if words else text for text, words, drawn in rows]

    def changed(self, text: str, words: Sequence[Word], drawn: Sequence[float]) -> str:
        raise NotImplementedError


@dataclass(frozen=True)
class WordDropout(WordChange):
    """Each word is left out by itself, with a probability; one is always left."""

    share: float
    seed: int

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise CaromError(f"word-dropout: share={self.share} is no share of the words: above 0 and below 1.")

    def changed(self, text: str, words: Sequence[Word], drawn: Sequence[float]) -> str:
        kept = drawn.index(max(drawn))
        gone = [word for at, word in enumerate(words) if drawn[at] < self.share and at != kept]
        return replace(text, [((word.start - text[: word.start].endswith(" "), word.stop), "") for word in gone])


@RANDOM.defence(
    "word-dropout",
    "words left out at random",
    paper=DELETION,
    departures="words, not bytes; one draw for an answer and no certificate: vote over several; no training with it",
)
def word_dropout(share: float = 0.2, seed: int = 0) -> WordDropout:
    """Each with the probability `share`."""
    return WordDropout(share, seed)


def borne(low: float, lost: Iterable[float]) -> int:
    """How many changes a majority bears of which each next leaves it with so much less."""
    return sum(1 for _ in takewhile(lambda less: low - less > 0.5, lost))


def masked(words: int, share: float) -> int:
    """How many of the words of a text are masked: a share, rounded, and at least one is left."""
    return min(round(words * share), words - 1) if words else 0


@dataclass(frozen=True)
class Masking(WordChange, CertifyingChange):
    """A share of the words, drawn from all sets of that size, becomes a word that no model knows.

    Of a text that is exchanged in d of its h words, of which k are left, the majority's probability is less by at most
    the chance that one of the d is seen, 1 - C(h - d, k) / C(h, k) (Zeng et al. 2023, theorem 1, with its beta as 1).
    """

    share: float
    seed: int
    unit: ClassVar[str] = "words exchanged for single words"

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise CaromError(f"masking: share={self.share} is no share of the words: above 0 and below 1.")

    def changed(self, text: str, words: Sequence[Word], drawn: Sequence[float]) -> str:
        order = sorted(range(len(words)), key=lambda at: (drawn[at], at))
        return replace(text, [(words[at].span, UNKNOWN) for at in order[: masked(len(words), self.share)]])

    def radius(self, low: Tensor, inputs: Sequence[str], lengths: Tensor | None) -> Tensor:
        found = []
        for share, text in zip(low.tolist(), inputs, strict=True):
            words = len(split_words(text))
            kept = words - masked(words, self.share)
            sets = math.comb(words, kept)
            seen = (1 - math.comb(words - d, kept) / sets for d in range(1, words + 1))
            found.append(borne(share, seen))
        return torch.tensor(found, dtype=torch.float64)


@RANDOM.defence(
    "masking",
    "words masked at random",
    paper=RANMASK,
    departures="the unknown word in place of [MASK]; one draw for an answer: vote over several, or `ranmask`, which "
    "certifies; no training with it",
)
def masking(share: float = 0.3, seed: int = 0) -> Masking:
    """A `share` of the words."""
    return Masking(share, seed)


@dataclass(frozen=True)
class SynonymSampling(WordChange, CertifyingChange):
    """Each word becomes one of its perturbation set, all as likely, the word itself among them.

    Of a text of which r words are exchanged for synonyms, the majority's probability is less by at most 1 minus the
    product of the r smallest overlaps of sets (Ye, Gong and Liu 2020, proposition 1).
    """

    nearest: int
    seed: int
    unit: ClassVar[str] = "words exchanged for known synonyms"

    def __post_init__(self) -> None:
        if self.nearest < 2:
            raise CaromError(f"synonym-sampling: a set of {self.nearest} leaves nothing to draw: nearest=2 or more.")

    def changed(self, text: str, words: Sequence[Word], drawn: Sequence[float]) -> str:
        return replace(text, [(word.span, self.drawn(word.text, u)) for word, u in zip(words, drawn, strict=True)])

    def radius(self, low: Tensor, inputs: Sequence[str], lengths: Tensor | None) -> Tensor:
        found = []
        for share, text in zip(low.tolist(), inputs, strict=True):
            overlaps = sorted(overlap(word.text.lower(), self.nearest) for word in split_words(text))
            lost = (1 - left for left in accumulate(overlaps, operator.mul))
            found.append(borne(share, lost))
        return torch.tensor(found, dtype=torch.float64)

    def drawn(self, word: str, u: float) -> str:
        options = perturbations(word.lower(), self.nearest)
        option = options[min(int(u * len(options)), len(options) - 1)]
        # Its own word too: what is drawn then follows from the option and the word's case alone.
        return match_case(option, word)


@RANDOM.defence(
    "synonym-sampling",
    "words replaced by synonyms at random",
    paper=SAFER,
    departures="synonyms of WordNet that the shipped vocabulary holds, the nearest by steps from word to word and then the "
    "most frequent, in place of GloVe's; one draw for an answer: vote over several, or `safer`, which certifies; no "
    "training with it",
)
def synonym_sampling(nearest: int = 8, seed: int = 0) -> SynonymSampling:
    """Sets of at most `nearest` words."""
    return SynonymSampling(nearest, seed)


@SMOOTHING.defence(
    "ranmask",
    "the majority over random masks, with certificates in words",
    paper=RANMASK,
    departures="the unknown word in place of [MASK]; one bound for every class (beta 1), which certifies less; no training "
    "with it: " + ABSTAINS,
)
def ranmask(share: float = 0.3, draws: int = 100, alpha: float = 0.001, seed: int = 0) -> Smoothing:
    """A `share` of the words is masked; `alpha` is how often an answer may be one by chance."""
    return Smoothing(draws=draws, change=Masking(share, seed), alpha=alpha)


@SMOOTHING.defence(
    "safer",
    "the majority over random synonyms, with certificates in words",
    paper=SAFER,
    departures="synonyms and sets as in `synonym-sampling`: a certificate is about these synonyms and no other words; no "
    "training with it: " + ABSTAINS,
)
def safer(nearest: int = 8, draws: int = 100, alpha: float = 0.001, seed: int = 0) -> Smoothing:
    """Sets of at most `nearest` words; `alpha` is how often an answer may be one by chance."""
    return Smoothing(draws=draws, change=SynonymSampling(nearest, seed), alpha=alpha)
