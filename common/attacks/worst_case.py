"""The worst of several attacks: each tries what the ones before it left standing."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from carom.common.attacks.restarts import End
from carom.common.base.rng import Rng
from carom.common.core.batch import Batch
from carom.common.core.objectives import margin
from carom.common.core.oracle import Oracle
from carom.common.core.problem import COUNTS, Attack, Problem, Result, Status
from carom.common.core.tasks import of_classes

ALIKE = 1e-4
"""How far the answers to one question may lie apart, relative to their size, before they count as different."""


STUCK = "gave an attack by gradients only zeros: gradients may be masked"
MASKED = "fell to scores alone after every attack by gradients had failed: gradients may be masked"


@dataclass(frozen=True)
class Worst:
    """Named attacks in order. An example that one of them carries to its goal leaves; of those that none does, the
    result with the largest margin is handed back. Queries that one attack has used are not there for the next.

    `gradients` are the names of those that follow gradients. What the others find beyond them, and what else hints that
    gradients mislead, is noted by example (the checks that AutoAttack's released code makes of the whole data).

    An example whose gradients are zero or not finite is left alone only by those that follow gradients; where one of
    the others goes by scores, it may still change and succeed. It is then marked DONE, and its gradients in the notes.
    """

    attacks: tuple[tuple[str, Attack], ...]
    gradients: tuple[str, ...] = ()

    def __call__(self, problem: Problem, batch: Batch, rng: Rng) -> Result:
        with problem.model.frozen():
            return self._result(problem, batch, rng)

    def _result(self, problem: Problem, batch: Batch, rng: Rng) -> Result:
        oracle, x = Oracle(problem, batch), batch.inputs
        of_classes(problem.goal)  # the notes are about logits of classes
        clean = oracle.logits(x, pays=False)  # of a model that says it is random, draws are averaged already
        notes = answer_notes(clean, clean if problem.model.random else oracle.logits(x, pays=False))
        none = torch.zeros_like(batch.labels, dtype=torch.bool)
        best, stuck, masked = End.none(x), none.clone(), none.clone()
        status = torch.full_like(batch.labels, max(Status))
        for number, (name, attack) in enumerate(self.attacks):
            for rows, queries in self._open(problem, oracle, best.reached):
                budget, goal = replace(problem.budget, queries=queries), problem.goal.take(rows)
                part = replace(problem, goal=goal, budget=budget, stream=(*problem.stream, "attack", number))
                found = attack(part, batch.take(rows), rng[rows].fold("attack", number))
                end, ended = self._end(oracle, rows, found), found.status.to(status)
                status[rows] = torch.minimum(status[rows], ended)
                best = best.put(rows, best.take(rows).or_better(end))
                if name in self.gradients:
                    stuck[rows] |= ended == Status.NO_GRADIENT
                elif self.gradients:
                    masked[rows] |= end.reached & (ended != Status.SKIPPED)
        if self.gradients:
            notes[STUCK], notes[MASKED] = stuck, masked
        result = oracle.finish(best.x, status)
        return replace(result, notes={words: marks.cpu() for words, marks in notes.items()})

    @staticmethod
    def _open(problem: Problem, oracle: Oracle, reached: Tensor) -> list[tuple[Tensor, int | None]]:
        """(examples that still stand, the queries that each of them has left)"""
        standing = (~reached).nonzero().squeeze(1)
        limit = problem.budget.queries
        if not len(standing):
            return []
        if limit is None:
            return [(standing, None)]
        left = limit - oracle.queries[standing]
        return [(standing[left == queries], queries) for queries in left.unique().tolist()]

    @staticmethod
    def _end(oracle: Oracle, rows: Tensor, found: Result) -> End:
        """One attack's result, its cost added to that of the others."""
        for name in COUNTS:
            counter = getattr(oracle, name)
            counter.index_add_(0, rows, getattr(found.cost, name).to(counter))
        part = oracle.take(rows)
        logits = part.logits(found.inputs, pays=False)
        gap = part.goal().loss(margin, logits)
        every = torch.ones_like(gap, dtype=torch.bool)
        return End(found.inputs, part.goal().achieved(logits), gap.nan_to_num(-torch.inf), every, every)


def answer_notes(clean: Tensor, again: Tensor) -> dict[str, Tensor]:
    """What the answers to the clean inputs, asked twice, say against an attack by gradients: words -> bool[N]."""
    size = clean.norm(dim=1).clamp_min(1e-10)
    shares = (clean >= 0).all(1) & ((clean.sum(1) - 1).abs() < ALIKE)
    few = torch.full_like(shares, clean.shape[1] < 4)
    return {
        "were answered otherwise when asked again: average gradients over the randomness (EOT)": (
            (clean - again).norm(dim=1) > ALIKE * size
        ),
        "were answered with probabilities where logits are expected: gradients vanish with confidence": shares,
        "have fewer than four classes, where the targeted loss dlr is not defined: the margin was climbed instead": few,
    }
