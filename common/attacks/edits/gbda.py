"""GBDA: gradient ascent on a distribution over the options of every word."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from carom.common.attacks.edits.editable import Edit, Editable, spent
from carom.common.attacks.edits.population import Draws, Member, within_limit
from carom.common.attacks.edits.requests import EditSearch, Found, GradientAt, ScoreEdits, ended, enough, steepest
from carom.common.base.errors import CaromError
from carom.common.base.rng import Rng
from carom.common.core.problem import Status

CLOSE = 1e-4  # weights this close are equal


@dataclass(frozen=True)
class Relaxed:
    """Gradient ascent on a distribution over the options of every word, whose samples are relaxed by Gumbel-softmax
    (Guo et al. 2021, Gradient-based adversarial attacks against text transformers, section 3).

    Each step draws `samples` relaxed texts; Adam with rate `rate` climbs their objective, scaled to a largest slope of
    1, with `fluency` in favour of each word as it was: that stands in for the paper's terms of similarity and
    perplexity, and options are the threat's, not the whole vocabulary. `start` is the log-weight of a word's own place
    at first (15 in the paper, where every token may become any other). In the end the words that have left their place
    are changed, the surest first, one more in each of the rows that are asked; then `tries` samples are.
    """

    steps: int = 30
    samples: int = 1
    rate: float = 0.3
    temperature: float = 1.0
    fluency: float = 0.1
    start: float = 3.0
    tries: int = 10
    until: float | None = None

    def __post_init__(self) -> None:
        if min(self.steps, self.samples, self.tries) < 1 or min(self.rate, self.temperature) <= 0:
            raise CaromError("GBDA needs steps, samples and tries of 1 or more, rate and temperature above 0.")

    def search(self, example: Editable, rng: Rng) -> EditSearch:
        clean = yield ScoreEdits([{}])
        stop = ended(clean, example)
        if stop is not None:
            return stop
        over, sizes = clean.over, list(example.sizes)
        field = _Field(sizes)
        weights = np.where(field.own, self.start, 0.0)
        first, second = np.zeros_like(weights), np.zeros_like(weights)
        for step in range(1, self.steps + 1):
            if over:
                break
            slope = np.zeros_like(weights)
            for sample in range(self.samples):
                mixed = field.softmax(weights / self.temperature + self._noise(rng.fold("gumbel", step, sample), field))
                gains = yield GradientAt({}, field.split(mixed))
                if gains is None:
                    over = True
                    break
                if isinstance(gains, Status):
                    return Found({}, False, gains) if step == 1 else Found({}, False)
                gain = np.full_like(weights, self.fluency)
                flat = np.array([value for own in gains for value in own])
                gain[~field.own] = flat / (np.abs(flat).max() or 1.0)
                slope += mixed * (gain - field.spread(np.add.reduceat(mixed * gain, field.begin)))
            slope /= self.temperature * self.samples
            first, second = 0.9 * first + 0.1 * slope, 0.999 * second + 0.001 * slope**2  # Adam
            weights = weights + self.rate * (first / (1 - 0.9**step)) / (np.sqrt(second / (1 - 0.999**step)) + 1e-8)
        return (yield from self._best_sampled(example, clean.scores[0], over, field, weights, rng))

    def _noise(self, rng: Rng, field: _Field) -> NDArray[np.float64]:
        drawn = rng.uniform(len(field.own))[0].double().numpy()
        return -np.log(-np.log(drawn.clip(1e-12, 1 - 1e-12))) / self.temperature

    def _best_sampled(
        self,
        example: Editable,
        score: float,
        over: bool,
        field: _Field,
        weights: NDArray[np.float64],
        rng: Rng,
    ) -> EditSearch:
        """The best of the texts that the distribution stands for."""
        away = np.where(field.own, -np.inf, weights)
        lead = np.maximum.reduceat(away, field.begin) - weights[field.begin]
        tops = field.first(away)
        rows: list[Edit] = [{}]
        for n in steepest(lead.tolist()):
            if spent(example, row := {**rows[-1], **field.move(tops[n])}) <= example.limit:
                rows.append(row)
        draws = Draws(rng.fold("settle"))
        for sample in range(self.tries):
            noisy = weights / self.temperature + self._noise(rng.fold("sample", sample), field)
            picked = {site: option for at in field.first(noisy) for site, option in field.move(at).items()}
            rows.append(within_limit(example, picked, draws))
        best = Member({}, score, False)
        asked = [row for row in dict.fromkeys(tuple(sorted(row.items())) for row in rows) if row]
        if not over and asked:
            answer = yield ScoreEdits([dict(pairs) for pairs in asked])
            for pairs, value, reached in zip(asked, answer.scores, answer.reached, strict=False):
                stops = enough(best.score, best.reached, self.until)
                if not stops and (reached, value) > (best.reached, best.score):
                    best = Member(dict(pairs), value, reached)
        return Found(best.edit, best.reached, score=best.score)


class _Field:
    """The places of an example: for each site that has options, its own place and one for each option, in a row."""

    def __init__(self, sizes: Sequence[int]) -> None:
        self.sizes = sizes
        self.moves = [(site, option) for site, size in enumerate(sizes) for option in range(-1, size) if size]
        self.own = np.array([option < 0 for _, option in self.moves])
        self.begin = np.flatnonzero(self.own)
        self.counts = np.diff(np.append(self.begin, len(self.moves)))

    def spread(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """A number for each site, at all of its places."""
        return np.repeat(values, self.counts)

    def softmax(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        powers = np.exp(values - self.spread(np.maximum.reduceat(values, self.begin)))
        return powers / self.spread(np.add.reduceat(powers, self.begin))

    def first(self, values: NDArray[np.float64]) -> list[int]:
        """The place of the highest value of each site; of those that tie, the first."""
        ends = [*self.begin.tolist(), len(values)]
        return [a + int((values[a:b] >= values[a:b].max() - CLOSE).argmax()) for a, b in pairwise(ends)]

    def move(self, at: int) -> dict[int, int]:
        site, option = self.moves[at]
        return {site: option} if option >= 0 else {}

    def split(self, values: NDArray[np.float64]) -> list[list[float]]:
        """[site][option]"""
        flat = iter(values[~self.own].tolist())
        return [[next(flat) for _ in range(size)] for size in self.sizes]
