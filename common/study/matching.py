"""The budget at which an attack fools its own source to a wanted share: what makes attacks and modalities comparable.

A modality says how its budgets run, weakest first (`Modality.scales`); here they are only places on a scale. The search
bisects that scale. An example that fell within a budget counts as fallen within every larger one, so each budget is
tried only on the examples that are still open, and a second level reuses what the first one learnt. What is reported is
measured afterwards, on all examples, and makes no such assumption.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from carom.common.attacks.info import AttackChoice
from carom.common.base.errors import CaromError
from carom.common.core.data import Dataset
from carom.common.core.model import Model
from carom.common.measure.rates import Verdict
from carom.common.measure.stats import wilson
from carom.common.modality.budgets import ScalePoint
from carom.common.work.answers import verdict_of
from carom.common.work.store import Store
from carom.common.work.units import Clean, Craft, Judge, Unit

LEAST_SEARCHED = 64  # examples; of more, the search takes half
TRIES = 3  # budgets measured on all examples, where the first one misses the level

Bools = NDArray[np.bool_]
Rows = NDArray[np.int64]

Q = TypeVar("Q")
A = TypeVar("A")
R = TypeVar("R")


@dataclass(frozen=True)
class Matching:
    """Compare at equal white-box success: at which levels, over which budgets, on how many examples and draws."""

    levels: tuple[float, ...]
    scale: tuple[ScalePoint, ...]  # weakest first
    limit: int | None = None  # examples; None: all of the study
    controls: int | None = None  # draws; None: as many as the study

    def __post_init__(self) -> None:
        for level in self.levels:
            if not 0 < level < 1:
                raise CaromError(f"white-box success of {level:g} cannot be matched: give shares such as 0.5 and 0.9.")
        if not self.scale:
            raise CaromError("to match white-box success, a scale of at least one budget is needed.")


@dataclass(frozen=True)
class Match:
    """The budget found for one attack on one source. Whether it reached its level is measured by the cells."""

    source: Model
    chosen: AttackChoice
    level: float
    budget: ScalePoint
    searched: int  # examples that the bisection looked at
    promised: float  # the share of them that fell within this budget or a smaller one
    end: str  # "weakest" or "strongest", where the budget is that end of the scale

    def why(self, white_box: float, high: float) -> str:
        """Why a measured success, whose interval ends at `high`, is not the level."""
        if self.promised > high:
            return f"{white_box:.2f} at {self.budget.label}: examples that smaller budgets fooled stand there again"
        if self.end == "strongest" and white_box < self.level:
            return f"out of reach: {white_box:.2f} at the cap of the search, {self.budget.label}"
        if self.end == "weakest" and white_box > self.level:
            return f"already {white_box:.2f} at the weakest budget, {self.budget.label}"
        near = f"{white_box:.2f} is the nearest found, at {self.budget.label}"
        return f"{near}: success does not pass {self.level:g} in small steps"


Question = tuple[int, Rows]
"""Which of these examples does the attack fool within this budget of the scale?"""


def bisect(
    levels: Sequence[float], size: int, count: int
) -> Generator[Question, Bools, tuple[dict[float, int], Callable[[int], float]]]:
    """For each level, the place on a scale of `size` budgets at which that share of `count` examples has fallen: of the
    two neighbours around the level, the nearer; an end of the scale where the level is never or always passed. With it,
    the share that has fallen by any place.
    """
    stood, fell = np.full(count, -1), np.full(count, size)  # strongest budget withstood, weakest that was too much
    found = {}

    def fallen(at: int) -> float:
        return float((fell <= at).mean())

    for level in sorted(levels):
        low, high = -1, size
        while high - low > 1:
            at = (low + high) // 2
            rows = np.flatnonzero((stood < at) & (at < fell))
            if len(rows):
                fooled = yield at, rows
                stood[rows[~fooled]], fell[rows[fooled]] = at, at
            if fallen(at) >= level:
                high = at
            else:
                low = at
        around = [at for at in (low, high) if 0 <= at < size]
        found[level] = min(around, key=lambda at: abs(fallen(at) - level))
    return found, fallen


def settle(level: float, at: int, size: int) -> Generator[int, tuple[int, int], int]:
    """From the place that the bisection found to one whose 95 % interval holds the level, a step at a time; of at most
    `TRIES` places, answered with (fooled, of how many), the one nearest to the level.
    """
    shares: dict[int, float] = {}
    while len(shares) < TRIES and 0 <= at < size and at not in shares:
        fooled, count = yield at
        shares[at] = fooled / count
        low, high = wilson(fooled, count)
        if low <= level <= high:
            break
        at += 1 if shares[at] < level else -1
    return min(shares, key=lambda tried: abs(shares[tried] - level))


class Unfinished(Exception):
    """A unit of the search failed. The executor has named it."""


Search = Generator[list[Unit], None, list[Match]]
"""Yields units; goes on when they are in the store."""


def search(
    source: Model,
    chosen: AttackChoice,
    data: Dataset,
    matching: Matching,
    store: Store,
    shards: Callable[[Dataset], list[Dataset]],
    craft: Callable[[ScalePoint, Dataset], Craft],
) -> Search:
    """The budget for each level, on the examples that the source gets right: bisected on half of them (chosen by a hash
    of their ids), settled on all of `data`. Every question is an ordinary unit in the store.
    """

    def judged(judges: list[Judge]) -> Generator[list[Unit], None, Verdict]:
        needed: list[Unit] = [judge.artefact for judge in judges if isinstance(judge.artefact, Craft)]
        yield [*needed, *judges]
        if not all(store.has(judge.key) for judge in judges):
            raise Unfinished
        reference = np.concatenate([judge.data.reference for judge in judges])
        return verdict_of([store.rows(judge.key) for judge in judges], data.task, reference)

    def fooled(budget: ScalePoint, part: Dataset) -> Generator[list[Unit], None, Bools]:
        crafts = [craft(budget, shard) for shard in shards(part)]
        asked = [Judge(source, c, c.data, f"{source.name} on {c.what}") for c in crafts]
        return (yield from judged(asked)).fooled

    scale, size = matching.scale, len(matching.scale)

    def try_open(question: Question) -> Generator[list[Unit], None, Bools]:
        at, rows = question
        return (yield from fooled(scale[at], sample.take(torch.from_numpy(rows))))

    def measure(at: int) -> Generator[list[Unit], None, tuple[int, int]]:
        return int((yield from fooled(scale[at], data))[right].sum()), count

    try:
        clean = [Judge(source, Clean(s), s, f"{source.name} on clean inputs") for s in shards(data)]
        right = (yield from judged(clean)).right
        count = int(right.sum())
        if not count:
            return []
        sample = data.take(torch.from_numpy(right).nonzero().squeeze(1)).sample(max(LEAST_SEARCHED, (count + 1) // 2))
        places, fallen = yield from answer(bisect(matching.levels, size, len(sample)), try_open)
        matches = []
        for level, start in places.items():
            at = yield from answer(settle(level, start, size), measure)
            end = "weakest" if at == 0 else "strongest" if at == size - 1 else ""
            matches.append(Match(source, chosen, level, scale[at], len(sample), fallen(at), end))
        return matches
    except Unfinished:
        return []


def answer(
    asking: Generator[Q, A, R], reply: Callable[[Q], Generator[list[Unit], None, A]]
) -> Generator[list[Unit], None, R]:
    """The result of a generator of questions, each answered by the outcome of units."""
    try:
        question = next(asking)
        while True:
            question = asking.send((yield from reply(question)))
    except StopIteration as stop:
        return stop.value


def together(searches: Sequence[Search], execute: Callable[[list[Unit]], None]) -> Iterator[Match]:
    """The matches of several searches, run side by side: what all of them ask for next is computed at once."""
    found: dict[int, list[Match]] = {}
    live = dict(enumerate(searches))
    while live:
        asked: dict[str, Unit] = {}
        for i, one in list(live.items()):
            try:
                asked |= {unit.key: unit for unit in next(one)}
            except StopIteration as stop:
                found[i] = stop.value
                del live[i]
        if asked:
            execute(list(asked.values()))
    for i in sorted(found):
        yield from found[i]
