"""The substitution attack: one search for each example, run side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from carom.common.attacks.edits.editable import EditThreat
from carom.common.attacks.edits.requests import (
    EditStrategy,
)
from carom.common.attacks.edits.scheduler import Lockstep
from carom.common.base.errors import CaromError
from carom.common.base.rng import Rng
from carom.common.core.batch import Batch
from carom.common.core.problem import Problem, Result
from carom.common.core.tasks import of_classes


@dataclass(frozen=True)
class Substitution:
    """Solve problems whose threat edits inputs, by one strategy.

    Examples on which the goal is reached before anything is changed are skipped, unchanged. Where it is not reached,
    the best edit that was found is kept: an example that fails on its source may still transfer. With `confidence`, the
    searches' goal is an answer that the model gives at least that probability; success is the answer by itself.
    """

    strategy: EditStrategy
    confidence: float | None = None

    def __post_init__(self) -> None:
        if self.confidence is not None and not 0 < self.confidence < 1:
            raise CaromError(f"confidence={self.confidence} is no probability to go on to: give one between 0 and 1.")

    def __call__(self, problem: Problem, batch: Batch, rng: Rng) -> Result:
        threat = problem.threat
        assert isinstance(threat, EditThreat), "substitutions need a threat that edits inputs"
        examples = [threat.editable(x) for x in batch.inputs]
        goal = of_classes(problem.goal).to("cpu")
        streams = replace(rng, keys=rng.keys.cpu())
        admits = None
        if threat.judges_inputs:

            def admits(owners: Sequence[int], edited: Sequence[Any]) -> list[bool]:
                return threat.admits([(x, batch.inputs[i]) for i, x in zip(owners, edited, strict=True)])

        lockstep = Lockstep(
            problem.model,
            examples,
            goal,
            problem.budget.queries,
            admits=admits,
            confidence=self.confidence,
            streams=Rng.of(0, batch.ids).fold("query", *problem.stream),
        )
        searches = [self.strategy.search(e, streams[torch.tensor([i])]) for i, e in enumerate(examples)]
        with problem.model.frozen():
            found = lockstep.run(searches)
        return Result(
            [example.edit(f.edit) for example, f in zip(examples, found, strict=True)],
            torch.tensor([f.reached or lockstep.fooled(i, f.edit) for i, f in enumerate(found)], dtype=torch.bool),
            lockstep.costs(),
            torch.tensor([int(f.status) for f in found], dtype=torch.long),
        )
