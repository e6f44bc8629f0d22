"""Leap: many sites changed at once, as many as first-order gains say are enough."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from itertools import accumulate, count

from carom.common.attacks.edits.editable import Editable
from carom.common.attacks.edits.requests import (
    EditSearch,
    Found,
    GradientAt,
    ScoreEdits,
    ended,
    enough,
    steepest,
    wanted_odds,
)
from carom.common.base.rng import Rng
from carom.common.core.problem import Status

GUESSES = 4  # by gains, before `Leap` doubles and halves


@dataclass(frozen=True)
class Leap:
    """Change the sites of the highest first-order gain together, each to its best option: as many as the gains say
    are enough, then, as what they did tells, more or fewer, until one fewer is known not to be enough. One gradient
    and a handful of rows.

    What is enough need not grow with the number of sites; where it does not, more are changed than needed.
    """

    until: float | None = None

    def search(self, example: Editable, rng: Rng) -> EditSearch:
        clean = yield ScoreEdits([{}])
        stop = ended(clean, example)
        if stop is not None:
            return stop
        start, over = clean.scores[0], clean.over
        best = Found({}, False, score=start)
        gains = None if over else (yield GradientAt({}))
        if gains is None:
            return best
        if isinstance(gains, Status):
            return Found({}, False, gains)
        options = {site: steepest(own, 1)[0] for site, own in enumerate(gains) if own}
        order = list(options)
        ranks = steepest([gains[site][options[site]] for site in order])
        prices = accumulate(example.price(order[i], options[order[i]]) for i in ranks)
        order = [order[i] for i, price in zip(ranks, prices, strict=True) if price <= example.limit]
        rises = list(accumulate(max(0.0, gains[site][options[site]]) for site in order))
        needed = wanted_odds(self.until) - start
        low, high, kept = 0, len(order) + 1, 1.0  # not enough; enough; what is kept of a promised rise
        seen: set[int] = set()
        for turn in count(1):
            if high - low < 2 or over:
                break
            if turn <= GUESSES:
                tried = bisect_left(rises, needed / kept) + 1
            else:  # the gains mislead
                tried = 2 * low if high > len(order) else (low + high) // 2
            tried = min(max(tried, low + 1), high - 1)
            seen.add(tried)
            edit = {site: options[site] for site in order[:tried]}
            answer = yield ScoreEdits([edit])
            over = answer.over
            if not answer.scores:
                return best
            score, reached = answer.scores[0], answer.reached[0]
            if score > start and rises[tried - 1] > 0:
                kept = (score - start) / rises[tried - 1]
            if enough(score, reached, self.until):
                high, best = tried, Found(edit, True, score=score)
            else:
                if (reached, score) > (best.reached, best.score) and high > len(order):
                    best = Found(edit, reached, score=score)
                low = tried
        if best.reached or over:
            return best
        # All together are not enough; fewer may be.
        halves = [n for power in range(1, len(order).bit_length()) if (n := len(order) >> power) not in seen]
        edits = [{site: options[site] for site in order[:n]} for n in halves]
        answer = yield ScoreEdits(edits)
        for edit, score, reached in zip(edits, answer.scores, answer.reached, strict=False):
            if (reached, score) > (best.reached, best.score) or (best.reached and enough(score, reached, self.until)):
                best = Found(edit, reached, score=score)
        return best
