"""Substitution searches: greedy by site, greedy over all edits.

A search is a generator written for ONE example: it yields what it asks (`edits.requests`) and receives the
answers. `edits.scheduler` runs the searches of all examples side by side.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from functools import partial

import torch

from carom.common.attacks.edits.editable import BLANK, DROPPED, Edit, Editable, Move, affordable, spent
from carom.common.attacks.edits.requests import (
    AttentionAt,
    EditScores,
    EditSearch,
    EditStrategy,
    Found,
    GradientAt,
    ScoreEdits,
    ScoreMoves,
    better,
    ended,
    enough,
    ranked,
    share,
    steepest,
)
from carom.common.base.errors import CaromError
from carom.common.base.rng import Rng
from carom.common.core.problem import Status


def _moved(at: Edit, moves: Sequence[Move], number: int) -> Edit:
    site, option = moves[number]
    return {**at, site: option}


ORDERS = ("unk", "delete", "saliency", "gradient", "attention", "random")


@dataclass(frozen=True)
class GreedySites:
    """Rank the sites once, then change one after another to its best option, if that raises the score.

    `order` ranks the sites: "unk" and "delete" by the score without the site (Li et al. 2016, Jin et al. 2020),
    "saliency" by that times the score of the site's best option (Ren et al. 2019), "gradient" by the first-order gain
    of its best option (Ebrahimi et al. 2018), "attention" by what the last layer attends to (Hsieh et al. 2019),
    "random" not at all. `top` tries only that many options of each site,
    those of the highest gain. The search stops at the goal or, with `until`, when no more than that probability is
    left to the label (to anything but the target); an attack that is to transfer goes on.

    With `until=None`, the results and queries are those of TextAttack 0.3.11's GreedyWordSwapWIR, ties aside: there
    the machine's sorting routine settles them, here the order of sites and options does.
    """

    order: str = "unk"
    top: int | None = None
    until: float | None = None

    def __post_init__(self) -> None:
        if self.order not in ORDERS:
            raise CaromError(f"order {self.order!r}: choose one of {', '.join(ORDERS)}.")
        if self.top is not None and (self.top < 1 or self.order != "gradient"):
            raise CaromError("top picks options by their gradient: it needs order=gradient and is at least 1.")

    def search(self, example: Editable, rng: Rng) -> EditSearch:
        clean = yield ScoreEdits([{}])
        stop = ended(clean, example)
        if stop is not None:
            return stop
        score, reached, over = clean.scores[0], False, clean.over
        options: dict[int, Sequence[int]] = {site: range(size) for site, size in enumerate(example.sizes)}
        if self.order == "gradient":
            gains = None if over else (yield GradientAt({}))
            if gains is None:
                return Found({}, False)
            if isinstance(gains, Status):
                return Found({}, False, gains)
            changeable = [site for site, size in enumerate(example.sizes) if size]
            order = [changeable[i] for i in steepest([max(gains[site]) for site in changeable])]
            if self.top is not None:
                options = {site: sorted(steepest(gains[site], self.top)) for site in changeable}
        elif self.order == "attention":
            attention = None if over else (yield AttentionAt())
            if attention is None:
                return Found({}, False)
            if not all(map(math.isfinite, attention)):
                return Found({}, False, Status.BAD_GRADIENT)
            order = steepest(attention)
        else:
            order, over = yield from self._order(example, over, rng)
        edit: dict[int, int] = {}
        for site in order:
            left = example.limit - spent(example, edit)
            if over or left < 1 or enough(score, reached, self.until):
                break
            moves = [(site, option) for option in options[site] if example.price(site, option) <= left]
            if not moves:
                continue
            answer = yield ScoreMoves(edit, moves, judged=False)
            over = answer.over
            best = yield from better(answer, partial(_moved, edit, moves), score, reached)
            if best is not None:
                edit, score, reached = {**edit, site: moves[best][1]}, answer.scores[best], answer.reached[best]
        return Found(edit, reached, score=score)

    def _order(
        self, example: Editable, over: bool, rng: Rng
    ) -> Generator[ScoreMoves, EditScores, tuple[list[int], bool]]:
        """Sites, the most important first, and whether the query budget is used up."""
        count = len(example.sizes)
        if self.order == "random":
            return rng.fold("order").uniform(count)[0].argsort(stable=True).tolist(), over
        if over:
            return [], over
        without = yield ScoreMoves({}, [(site, DROPPED if self.order == "delete" else BLANK) for site in range(count)])
        scores = list(without.scores)
        over = without.over
        if self.order == "saliency":
            pairs = [(site, option) for site, size in enumerate(example.sizes) for option in range(size)]
            peaks = [0.0] * len(scores)
            if not over:
                answer = yield ScoreMoves({}, pairs)
                over = answer.over
                for (site, _), score in zip(pairs, answer.scores, strict=False):
                    peaks[site] = max(peaks[site], share(score))
            weights = torch.tensor([share(score) for score in scores], dtype=torch.float64).softmax(0).tolist()
            scores = [weight * peak for weight, peak in zip(weights, peaks, strict=True)]
            return ranked(scores), over
        return ranked(scores), over


@dataclass(frozen=True)
class BestEdits:
    """At each step try every option of every site, and keep the `width` best edits: beam search, greedy at width 1.

    With `top`, a gradient at each kept edit picks that many options, over all sites, and only they are scored
    (Ebrahimi et al. 2018, HotFlip). The search ends when no edit raises the score; `until` as in `GreedySites`.
    """

    width: int = 1
    top: int | None = None
    until: float | None = None

    def __post_init__(self) -> None:
        if self.width < 1 or (self.top is not None and self.top < 1):
            raise CaromError("width and top are at least 1.")

    def search(self, example: Editable, rng: Rng) -> EditSearch:
        clean = yield ScoreEdits([{}])
        stop = ended(clean, example)
        if stop is not None:
            return stop
        now: Edit = {}
        score, reached, over = clean.scores[0], False, clean.over
        kept: list[Edit] = [now]
        while not over and not enough(score, reached, self.until):
            rows: dict[frozenset[tuple[int, int]], Edit] = {}
            for edit in kept:
                pairs = affordable(example, edit)
                if self.top is not None and pairs:
                    gains = yield GradientAt(edit)
                    if isinstance(gains, Status):
                        if not now:
                            return Found({}, False, gains)
                        pairs = []
                    elif gains is None:
                        over, pairs = True, []
                    else:
                        pairs = [pairs[i] for i in steepest([gains[s][o] for s, o in pairs], self.top)]
                for site, option in pairs:
                    row = {**edit, site: option}
                    rows.setdefault(frozenset(row.items()), row)
            if over or not rows:
                break
            tried = list(rows.values())
            answer = yield ScoreEdits(tried, judged=self.width > 1)
            over = answer.over
            best = yield from better(answer, tried.__getitem__, score, reached)
            if best is None:
                break
            now, score, reached = tried[best], answer.scores[best], answer.reached[best]
            kept = [now, *(tried[row] for row in ranked(answer.scores) if row != best)][: self.width]
        return Found(now, reached, score=score)


@dataclass(frozen=True)
class Cascade:
    """One search and, where it does not reach the goal, another: the quick one costs its own queries where it fails,
    and no success of the thorough one is lost."""

    first: EditStrategy
    then: EditStrategy

    def search(self, example: Editable, rng: Rng) -> EditSearch:
        found = yield from self.first.search(example, rng)
        if found.reached or found.status != Status.DONE:
            return found
        other = yield from self.then.search(example, rng.fold("then"))
        return max(found, other, key=lambda f: (f.reached, f.score, f is found))
