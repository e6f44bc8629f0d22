"""The search for the budget at which an attack fools its own source to a wanted share.

Budgets are places on a scale, weakest first. The search bisects that scale on half of the examples that the source gets
right, and settles on all of them. An example that fell within a budget counts as fallen within every larger one, so
each budget is tried only on the examples that are still open, and a second level reuses what the first one learnt.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from carom.common.attacks.info import AttackChoice
from carom.common.core.data import Dataset
from carom.common.core.model import Model
from carom.common.measure.stats import wilson
from carom.common.modality.budgets import ScalePoint
from carom.common.study.comparisons.matching import Match, Matching
from carom.common.work.answers import verdict_of
from carom.common.work.store import Store
from carom.common.work.units import Clean, Craft, Judge, Unit

LEAST_SEARCHED = 64  # examples; of more, the search takes half
TRIES = 3  # budgets measured on all examples, where the first one misses the level

Bools = NDArray[np.bool_]
Rows = NDArray[np.int64]


class Bisection:
    """For each level, the place on a scale of `size` budgets at which that share of `count` examples has fallen: of the
    two neighbours around the level, the nearer; an end of the scale where the level is never or always passed.
    """

    def __init__(self, levels: Sequence[float], size: int, count: int) -> None:
        self.levels, self.size = sorted(levels), size
        self.places: dict[float, int] = {}  # of the levels that are found
        self._stood = np.full(count, -1)  # the strongest budget that each example withstood
        self._fell = np.full(count, size)  # the weakest that was too much for it

    def fallen(self, place: int) -> float:
        """The share of the examples that fell within this budget or a smaller one."""
        return float((self._fell <= place).mean())

    def next_try(self) -> tuple[int, Rows] | None:
        """(place, the examples of which it is open whether they fall there); None when every level is found."""
        for level in self.levels:
            if level in self.places:
                continue
            low, high = -1, self.size
            while high - low > 1:
                place = (low + high) // 2
                rows = np.flatnonzero((self._stood < place) & (place < self._fell))
                if len(rows):
                    return place, rows
                low, high = (low, place) if self.fallen(place) >= level else (place, high)
            around = [place for place in (low, high) if 0 <= place < self.size]
            self.places[level] = min(around, key=lambda place: abs(self.fallen(place) - level))
        return None

    def learn(self, place: int, rows: Rows, fooled: Bools) -> None:
        """Take in which of these examples the attack fooled at a place."""
        self._stood[rows[~fooled]], self._fell[rows[fooled]] = place, place


class Refinement:
    """From the place that the bisection found to one whose 95 % interval holds the level, a step at a time; of at most
    `TRIES` places, the one nearest to the level.
    """

    def __init__(self, level: float, start: int, size: int) -> None:
        self.level, self.size = level, size
        self._next: int | None = start
        self._shares: dict[int, float] = {}

    def next_place(self) -> int | None:
        """The place to be measured next, on all examples; None when it has settled."""
        return self._next

    def learn(self, place: int, fooled: int, count: int) -> None:
        """Take in how many of how many examples the attack fooled at a place."""
        share = self._shares[place] = fooled / count
        low, high = wilson(fooled, count)
        step = place + (1 if share < self.level else -1)
        ends = low <= self.level <= high or len(self._shares) == TRIES
        self._next = None if ends or not 0 <= step < self.size or step in self._shares else step

    @property
    def place(self) -> int:
        """Of the measured places, the one nearest to the level."""
        return min(self._shares, key=lambda place: abs(self._shares[place] - self.level))


class BudgetSearch:
    """The budgets at which one attack brings one source to the levels of a comparison.

    Ask for `needed_units`, compute them, let it `learn` from the store, and again, until nothing is needed. Then
    `matches` holds what was found: nothing where the source is never right, or where a unit failed.
    """

    def __init__(
        self,
        source: Model,
        chosen: AttackChoice,
        data: Dataset,
        matching: Matching,
        shards: Callable[[Dataset], list[Dataset]],
        craft: Callable[[ScalePoint, Dataset], Craft],
    ) -> None:
        """`shards` cuts data into units of work; `craft` is the attack on the source, within a budget, on some data."""
        self.matches: list[Match] = []
        self._source, self._chosen, self._data, self._matching = source, chosen, data, matching
        self._shards, self._craft = shards, craft
        self._right: Bools | None = None  # which examples the source gets right; asked first
        self._refinements: list[Refinement] = []  # one a level, once all are found
        self._asked = [Judge(source, Clean(s), s, f"{source.name} on clean inputs") for s in shards(data)]

    def needed_units(self) -> list[Unit]:
        """What has to be in the store before the search can go on; empty: it has ended."""
        crafts = [judge.artefact for judge in self._asked if isinstance(judge.artefact, Craft)]
        return [*crafts, *self._asked]

    def learn(self, store: Store) -> None:
        """Go on with the answers to the needed units. Where one is missing it has failed: the search ends."""
        judges, self._asked = self._asked, []
        if not judges or not all(store.has(judge.key) for judge in judges):
            return
        reference = np.concatenate([judge.data.reference for judge in judges])
        verdict = verdict_of([store.rows(judge.key) for judge in judges], self._data.task, reference)
        if self._right is None:
            self._begin(verdict.right)
        elif self._refinements:
            self._refinement.learn(self._place, int(verdict.fooled[self._right].sum()), int(self._right.sum()))
        else:
            self._bisection.learn(self._place, self._rows, verdict.fooled)
        if self._right is not None and self._right.any():
            self._asked = self._next_judges()

    def _begin(self, right: Bools) -> None:
        """Bisect on half of the examples that the source gets right, chosen by a hash of their ids."""
        self._right, count = right, int(right.sum())
        if count:
            known = self._data.take(torch.from_numpy(right).nonzero().squeeze(1))
            self._sample = known.sample(max(LEAST_SEARCHED, (count + 1) // 2))
            self._bisection = Bisection(self._matching.levels, len(self._matching.scale), len(self._sample))

    def _next_judges(self) -> list[Judge]:
        """What is asked of the source next; nothing when every level is found and settled."""
        tried, size = self._bisection.next_try(), len(self._matching.scale)
        if tried is not None:
            self._place, self._rows = tried
            return self._judges(self._place, self._sample.take(torch.from_numpy(self._rows)))
        self._refinements = self._refinements or [Refinement(*found, size) for found in self._bisection.places.items()]
        for refining in self._refinements:
            if (place := refining.next_place()) is not None:
                self._refinement, self._place = refining, place
                return self._judges(place, self._data)
        self.matches = [self._match(refining.level, refining.place) for refining in self._refinements]
        return []

    def _judges(self, place: int, part: Dataset) -> list[Judge]:
        """Whether the source is fooled within this budget of the scale."""
        crafts = [self._craft(self._matching.scale[place], shard) for shard in self._shards(part)]
        return [Judge(self._source, c, c.data, f"{self._source.name} on {c.what}") for c in crafts]

    def _match(self, level: float, place: int) -> Match:
        scale = self._matching.scale
        end = "weakest" if place == 0 else "strongest" if place == len(scale) - 1 else ""
        promised = self._bisection.fallen(place)
        return Match(self._source, self._chosen, level, scale[place], len(self._sample), promised, end)


def search_together(
    searches: Sequence[BudgetSearch], store: Store, compute: Callable[[list[Unit]], None]
) -> list[Match]:
    """The matches of several searches, run side by side: what all of them need next is computed at once."""
    while needed := {unit.key: unit for search in searches for unit in search.needed_units()}:
        compute(list(needed.values()))
        for search in searches:
            search.learn(store)
    return [match for search in searches for match in search.matches]
