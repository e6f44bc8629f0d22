"""Defences that reject texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from carom.common.base.errors import CaromError
from carom.common.base.rng import Rng
from carom.common.core.batch import Output
from carom.common.core.data import Dataset
from carom.common.core.model import Model
from carom.common.defences.catalogue import Defences
from carom.common.defences.comparing import Disagreement
from carom.common.defences.detectors import Detector
from carom.text.defences.lexicon import known_synonyms, share
from carom.text.defences.random import SynonymSampling
from carom.text.language import trigrams
from carom.text.words import match_case, replace, split_words

FGWS = "Mozes et al. 2021, Frequency-guided word substitutions for detecting textual adversarial examples"
PERPLEXITY = "Alon and Kamfonas 2023, Detecting language model attacks with perplexity"
VOTE = "Wang et al. 2022, Detecting textual adversarial examples through randomized substitution and vote"

DETECTORS = Defences(kind="detector", adaptation=("rejection",))


@dataclass(frozen=True)
class FrequencyGuided(Detector):
    """By how much the model's confidence in its answer falls when every word that is rarer than `below` becomes its most
    frequent synonym, if that is more frequent."""

    below: float
    fpr: float

    @property
    def passes(self) -> int:
        return 2

    def score(self, model: Model, inputs: Sequence[str], lengths: Tensor | None, *rng: Rng) -> tuple[Output, Tensor]:
        output, other = model(inputs), model([self.usual(text) for text in inputs])
        before, after = (found.logits.float().softmax(1) for found in (output, other))
        answer = before.argmax(1, keepdim=True)
        return output, (before - after).gather(1, answer).squeeze(1)

    def usual(self, text: str) -> str:
        return replace(text, [(word.span, self._usual(word.text)) for word in split_words(text)])

    def _usual(self, word: str) -> str:
        own, near = share(word), known_synonyms(word.lower())
        if own >= self.below or not near or share(near[0]) <= own:
            return word
        return match_case(near[0], word)


@DETECTORS.defence(
    "fgws",
    "rejects texts whose rare words carry the answer",
    paper=FGWS,
    cost="2 passes per answer",
    departures="synonyms of WordNet that lie near in MiniLM's embeddings, without GloVe's neighbours; frequencies of the "
    "shipped vocabulary, as shares of documents",
)
def fgws(below: float = 1e-3, fpr: float = 0.05) -> FrequencyGuided:
    """Words in less than a share `below` of documents are replaced; a share `fpr` of clean texts is rejected."""
    return FrequencyGuided(below, fpr)


@dataclass(frozen=True)
class Unusual(Detector):
    """The logarithm of a text's perplexity to the trigram model of film reviews that ships, over windows of `window`
    words: of the least usual one."""

    window: int
    fpr: float

    def score(self, model: Model, inputs: Sequence[str], lengths: Tensor | None, *rng: Rng) -> tuple[Output, Tensor]:
        output = model(inputs)
        parts = [self.windows(text) for text in inputs]
        found = trigrams.of_reviews().perplexity([one for part in parts for one in part])
        split = torch.from_numpy(found).log().split([len(part) for part in parts])
        scores = torch.stack([part.max() for part in split]) if len(split) else torch.zeros(0, dtype=torch.float64)
        return output, scores.to(output.logits.device)

    def calibrated(self, model: Model, clean: Dataset) -> Model:
        if not set(trigrams.reviews_read()).isdisjoint(clean.stored):
            raise CaromError(
                f"{clean.name}: its texts are among those that the language model is made of, which are less perplexing than "
                "any others: find the threshold on another split, perplexity?split=calibration."
            )
        return super().calibrated(model, clean)

    def windows(self, text: str) -> list[str]:
        """Windows that overlap by half; a short text is one."""
        words, half = split_words(text), max(1, self.window // 2)
        if len(words) <= self.window:
            return [text]
        starts = range(0, len(words) - self.window + half, half)
        return [text[words[at].start : words[min(at + self.window, len(words)) - 1].stop] for at in starts]


@DETECTORS.defence(
    "perplexity",
    "rejects texts that a language model finds unusual",
    paper=PERPLEXITY,
    departures="trigrams of film reviews in place of GPT-2, the threshold of a share of clean texts in place of a classifier "
    "over perplexity and length; the least usual of overlapping windows, so that one odd word counts in a long text too",
    calibration={"split": "calibration"},
)
def perplexity(window: int = 10, fpr: float = 0.05) -> Unusual:
    """Over windows of `window` words; a share `fpr` of clean texts is rejected."""
    return Unusual(window, fpr)


@DETECTORS.defence(
    "disagreement",
    "rejects what random synonyms change the answer to",
    paper=VOTE,
    adaptation=("rejection", "expectation"),
    cost="draws + 1 passes per answer",
    departures="the mean distance of probabilities in place of the vote's label; synonyms as in `synonym-sampling`, for "
    "every word",
)
def disagreement(draws: int = 8, nearest: int = 4, fpr: float = 0.05) -> Disagreement:
    """Over `draws` draws from sets of `nearest` words; a share `fpr` of clean texts is rejected."""
    return Disagreement(SynonymSampling(nearest, 0), draws, fpr)
