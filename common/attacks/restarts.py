"""Several runs of one attack: restarts, aims at other classes, and the best of all; a batch in parts."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from carom.common.base.rng import Rng
from carom.common.core.batch import Batch
from carom.common.core.oracle import Oracle
from carom.common.core.problem import Cost, Problem, Result, Status
from carom.common.core.tasks import of_classes
from carom.common.core.threats import column
from carom.common.core.ties import above, falling, tie


class End(NamedTuple):
    """How a run ended for each of N examples."""

    x: Tensor  # [N, ...]: the best point
    reached: Tensor  # bool[N]: whether its stored form reaches the goal
    rank: Tensor  # float[N]: of two points that both do, or both do not, the larger is the better, rounding aside
    finite: Tensor  # bool[N]: whether every gradient was
    moved: Tensor  # bool[N]: whether any gradient was not zero

    @classmethod
    def none(cls, x: Tensor) -> End:
        """Before the first run."""
        no = torch.zeros(len(x), dtype=torch.bool, device=x.device)
        return cls(x, no, torch.full_like(no, -torch.inf, dtype=torch.float), no, no)

    def take(self, rows: Tensor) -> End:
        return End(*(part[rows] for part in self))

    def put(self, rows: Tensor, part: End) -> End:
        """The same, these examples replaced."""
        return End(*(old.index_copy(0, rows, new) for old, new in zip(self, part, strict=True)))

    def or_better(self, other: End) -> End:
        """The better of two runs, example by example. A run that broke counts only for one without any other."""
        # Margins are made of logits, of unknown size; the sizes of changes are made of nothing larger.
        larger = torch.where(self.reached, above(other.rank, self.rank), above(other.rank, self.rank, least=1.0))
        better = (other.reached & ~self.reached) | ((other.reached == self.reached) & larger)
        better &= other.finite
        return End(
            torch.where(column(better, self.x), other.x, self.x),
            self.reached | (other.reached & other.finite),
            torch.where(better, other.rank, self.rank),
            self.finite | other.finite,
            self.moved | other.moved,
        )

    def status(self) -> Tensor:
        """int64[N]"""
        status = torch.where(self.moved, Status.DONE.value, Status.NO_GRADIENT.value)
        return torch.where(self.finite, status, Status.BAD_GRADIENT.value)


class Run(Protocol):
    """One run of an attack."""

    def __call__(self, oracle: Oracle, aim: Oracle, rng: Rng, best: End, restart: int) -> End:
        """By the gradients of `aim`, judged by the goal of `oracle`; `best` is what earlier runs found."""


def best_of_runs(
    climb: Run, problem: Problem, batch: Batch, rng: Rng, *, restarts: int, targets: int | None, stop: bool
) -> Result:
    """Run after run, each example keeping its best. With `stop`, examples that reached their goal take no further part.

    With `targets`, an untargeted goal is approached by aiming at that many other classes in turn, the likeliest on the
    clean input first; a targeted goal has its one. It costs one forward to see which examples need nothing at all.
    """
    oracle = Oracle(problem, batch)
    with problem.model.frozen():
        clean = oracle.logits(batch.inputs, pays=False)
        skipped = problem.goal.achieved(clean)
        best, aims = End.none(batch.inputs), aims_of(oracle, clean, targets)
        for run, aim in enumerate(aims * restarts):
            rows = ~skipped & ~best.reached if stop else ~skipped
            rows = rows.nonzero().squeeze(1)
            if not len(rows):
                break
            part, so_far = oracle.take(rows), best.take(rows)
            towards = part if aim is None else part.towards(aim[rows])
            end = climb(part, towards, rng[rows].fold("run", run), so_far, run // len(aims))
            best = best.put(rows, so_far.or_better(end))
        return oracle.finish(best.x, torch.where(skipped, Status.SKIPPED.value, best.status()))


def aims_of(oracle: Oracle, clean: Tensor, targets: int | None) -> list[Tensor | None]:
    """The classes int64[N] that one run after another aims at; None for the goal itself."""
    goal = oracle.goal()
    if targets is None or goal.targeted:
        return [None]
    ranked = falling(clean.scatter(1, of_classes(goal).labels[:, None], -torch.inf), tie(clean))
    return list(ranked[:, : min(targets, clean.shape[1] - 1)].unbind(1))


def chunks(batch: Batch, size: int) -> list[Tensor]:
    """The rows of a batch, `size` at a time; of an empty one, one empty part."""
    return list(torch.arange(len(batch), device=batch.labels.device).split(size))


def join(results: list[Result]) -> Result:
    """The results of consecutive parts of a batch as one."""
    return Result(
        torch.cat([r.inputs for r in results]),
        torch.cat([r.success for r in results]),
        Cost.join([r.cost for r in results]),
        torch.cat([r.status for r in results]),
    )
