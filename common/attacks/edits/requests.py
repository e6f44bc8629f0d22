"""Inputs made of parts that are exchanged whole, such as the words of a text: what a search sees of them, what it may
ask, and how the answers are compared. Inputs are described as edits of the clean one (`Edit`); only the example
itself knows what a part is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from carom.common.attacks.edits.editable import Edit, Editable, Gains, Move
from carom.common.base.rng import Rng
from carom.common.core.batch import Goal
from carom.common.core.problem import Status
from carom.common.core.ties import ROUNDING


@dataclass(frozen=True)
class ScoreEdits:
    """A search wants the scores of these edits, of those that may not stand -inf. With `judged=False` it asks by
    `CheckAllowed` itself about the few that it would take: without a query budget, the others are scored whether or not they
    may stand, since judging a text can take longer than asking about it."""

    edits: Sequence[Edit]
    judged: bool = True


@dataclass(frozen=True)
class ScoreMoves:
    """A search wants the scores of one edit with one more change each: the same as `ScoreEdits`, for less."""

    at: Edit
    moves: Sequence[Move]
    judged: bool = True


@dataclass(frozen=True)
class CheckAllowed:
    """A search wants to know which of these edits the threat admits as a whole: list[bool]."""

    edits: Sequence[Edit]


@dataclass(frozen=True)
class GradientAt:
    """A search wants the gains of all options at this edit; or, with `mixture` [site][option], at the clean input in
    which the parts of each site are mixed with these shares of its options."""

    at: Edit
    mixture: Gains | None = None


@dataclass(frozen=True)
class AttentionAt:
    """A search wants to know how much the model attends to each site of the clean input."""


@dataclass(frozen=True)
class EditScores:
    """Scores of the rows that were asked for: fewer than asked if the query budget ran out, which `over` says.

    A score is the log-odds of any answer but the label, or of the target: it orders inputs as their probability does,
    but does not saturate. -inf where a logit is not finite. Scores are settled (`ties.Settled`): those of one search
    that differ by rounding alone are equal.
    """

    scores: Sequence[float]
    reached: Sequence[bool]  # the goal
    over: bool

    def best(self, among: Sequence[int] | None = None) -> int | None:
        """The row with the highest score; of rows that tie, the first."""
        rows = range(len(self.scores)) if among is None else among
        if not rows:
            return None
        top = max(self.scores[row] for row in rows)
        return next(row for row in rows if self.scores[row] == top)


@dataclass(frozen=True)
class Found:
    """How a search ended. An unchanged example that nothing could be done about says so in its status."""

    edit: Edit
    reached: bool
    status: Status = Status.DONE
    score: float = -math.inf


Request = ScoreEdits | ScoreMoves | CheckAllowed | GradientAt | AttentionAt


EditSearch = Generator[Request, Any, Found]


def edits_of(ask: ScoreEdits | ScoreMoves) -> Sequence[Edit]:
    """The edits whose scores are asked for."""
    return ask.edits if isinstance(ask, ScoreEdits) else [{**ask.at, site: option} for site, option in ask.moves]


def some_of(ask: ScoreEdits | ScoreMoves, places: Sequence[int]) -> ScoreEdits | ScoreMoves:
    """The same question about some of the rows."""
    if isinstance(ask, ScoreEdits):
        return ScoreEdits([ask.edits[n] for n in places], ask.judged)
    return ScoreMoves(ask.at, [ask.moves[n] for n in places], ask.judged)


class EditStrategy(Protocol):
    """How one example is searched."""

    def search(self, example: Editable, rng: Rng) -> EditSearch: ...


def odds(logits: Tensor, goal: Goal) -> Tensor:
    """float[N]: log-odds of any answer but the label or, targeted, of the target; of logits float[N, C]."""
    anchor = goal.labels if goal.targets is None else goal.targets
    own = logits.gather(1, anchor[:, None]).squeeze(1)
    others = logits.scatter(1, anchor[:, None], -torch.inf).logsumexp(1)
    score = others - own if goal.targets is None else own - others
    return torch.where(logits.isfinite().all(1), score, -torch.inf)


def ranked(scores: Sequence[float], tie: float = 0.0) -> list[int]:
    """Positions by falling score. Scores within `tie` of their neighbour stay in the order they came in."""
    order = sorted(range(len(scores)), key=lambda i: -scores[i])
    groups: list[list[int]] = []
    for at, i in enumerate(order):
        if at and scores[order[at - 1]] - scores[i] <= tie:
            groups[-1].append(i)
        else:
            groups.append([i])
    return [i for group in groups for i in sorted(group)]


def steepest(gains: Sequence[float], count: int | None = None) -> list[int]:
    """Positions of the `count` largest gains (of all), by falling gain, compared to four digits."""
    tie = 1e-4 * max(map(abs, gains), default=0.0)
    if count == 1 and gains:  # most often one is far above the others
        top = max(gains)
        near = [i for i, gain in enumerate(gains) if top - gain <= tie]
        if len(near) == 1:
            return near
    return ranked(gains, tie)[:count]


def wanted_odds(until: float | None) -> float:
    """The log-odds at which no more than `until` of the probability is left against the goal."""
    if until is None:
        return 0.0
    return math.log((1 - until) / until) if until > 0 else math.inf


def enough(score: float, reached: bool, until: float | None) -> bool:
    """Whether a search may stop: at the goal, and with no more than `until` of the probability left against it."""
    return reached and (until is None or score >= wanted_odds(until) - ROUNDING)


def better(
    answer: EditScores, edit: Callable[[int], Edit], score: float, reached: bool
) -> Generator[CheckAllowed, Sequence[bool], int | None]:
    """The row that a greedy search moves to, if any improves: the best edit that may stand. Once at the goal, it stays
    there. `edit` makes a row."""
    scores = list(answer.scores)
    if reached:
        scores = [s if hit else -math.inf for s, hit in zip(scores, answer.reached, strict=True)]
    while True:
        top = max(scores, default=-math.inf)
        level = [row for row, s in enumerate(scores) if s == top]
        if not level or not top > score:
            return None
        verdicts = yield CheckAllowed([edit(row) for row in level])
        if all(verdicts):
            return level[0]
        for row, ok in zip(level, verdicts, strict=True):
            scores[row] = scores[row] if ok else -math.inf


def share(score: float) -> float:
    """The probability that log-odds stand for."""
    return 1 / (1 + math.exp(-score)) if score > 0 else math.exp(score) / (1 + math.exp(score))


def ended(clean: EditScores, example: Editable) -> Found | None:
    """The result of a search that need not or cannot begin, judged by the answer to the clean input."""
    if not clean.scores or clean.scores[0] == -torch.inf:
        return Found({}, False, Status.BAD_GRADIENT if clean.scores else Status.INFEASIBLE)
    if clean.reached[0]:
        return Found({}, True, Status.SKIPPED)
    if example.limit < 1 or not any(example.sizes):
        return Found({}, False, Status.INFEASIBLE)
    return None
