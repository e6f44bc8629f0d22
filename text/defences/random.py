"""Defences that change a text otherwise at every query."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from carom.common.base.errors import CaromError
from carom.common.base.rng import Rng
from carom.common.defences.catalogue import Defences
from carom.common.defences.transforms import InputTransform
from carom.text.defences.lexicon import perturbations
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


def masked(words: int, share: float) -> int:
    """How many of the words of a text are masked: a share, rounded, and at least one is left."""
    return min(round(words * share), words - 1) if words else 0


@dataclass(frozen=True)
class Masking(WordChange):
    """A share of the words, drawn from all sets of that size, becomes a word that no model knows."""

    share: float
    seed: int

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise CaromError(f"masking: share={self.share} is no share of the words: above 0 and below 1.")

    def changed(self, text: str, words: Sequence[Word], drawn: Sequence[float]) -> str:
        order = sorted(range(len(words)), key=lambda at: (drawn[at], at))
        return replace(text, [(words[at].span, UNKNOWN) for at in order[: masked(len(words), self.share)]])


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
class SynonymSampling(WordChange):
    """Each word becomes one of its perturbation set, all as likely, the word itself among them."""

    nearest: int
    seed: int

    def __post_init__(self) -> None:
        if self.nearest < 2:
            raise CaromError(f"synonym-sampling: a set of {self.nearest} leaves nothing to draw: nearest=2 or more.")

    def changed(self, text: str, words: Sequence[Word], drawn: Sequence[float]) -> str:
        return replace(text, [(word.span, self.drawn(word.text, u)) for word, u in zip(words, drawn, strict=True)])

    def drawn(self, word: str, u: float) -> str:
        options = perturbations(word.lower(), self.nearest)
        option = options[min(int(u * len(options)), len(options) - 1)]
        return word if option == word.lower() else match_case(option, word)


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
