"""The one gradient loop: FGSM, BIM, PGD, MI-FGSM and everything derived from them are arguments to `Ascent`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from carom.common.attacks.gradient.estimators import Backprop, Estimator
from carom.common.attacks.gradient.step import Prepares, Step, Surgery, Transform, prepared
from carom.common.attacks.gradient.updates import Chain
from carom.common.base.errors import CaromError
from carom.common.base.rng import Rng
from carom.common.core.batch import Batch
from carom.common.core.objectives import Objective, cross_entropy, margin
from carom.common.core.oracle import Oracle
from carom.common.core.problem import Problem, Result, Status
from carom.common.core.threats import Ball, column, confine
from carom.common.core.ties import above, tie


def rows_of(state: Any, rows: Tensor) -> Any:
    """Some examples of what an update or an estimator remembers: tensors with a row each, in tuples of any depth."""
    if isinstance(state, Tensor):
        return state[rows]
    if not isinstance(state, tuple):
        return state
    parts = (rows_of(part, rows) for part in state)
    return type(state)(*parts) if hasattr(state, "_fields") else tuple(parts)


@dataclass(frozen=True)
class Ascent:
    """Climb an objective inside a ball: objective x gradient estimator x transform x surgery x update rule x threat.

    Every example makes all its steps, whether or not the attacked model is fooled before: the further steps are what
    transfers. With `stop`, examples whose stored form reaches the goal leave the batch, which is what a white-box or
    query attack wants. With restarts, each example keeps its best run: one that succeeds, then the largest margin.

    A `surgery` changes how the model passes gradients; the objective, the transform and the surgery may hold what they
    need of one batch by a method `prepared` (carom.common.attacks.gradient.step).
    """

    steps: int = 10
    size: float = 0.25  # of one step, as a share of the threat's radius
    update: Chain = field(default_factory=Chain)
    objective: Objective | Prepares = cross_entropy
    gradient: Estimator = field(default_factory=Backprop)
    transform: Transform | None = None
    surgery: Surgery | None = None
    random_start: bool = False
    restarts: int = 1
    stop: bool = False

    def __post_init__(self) -> None:
        if any(getattr(part, "prepared", None) for part in (self.objective, self.transform)):
            if self.stop:
                raise CaromError("stop=true drops examples early, which this objective or transform cannot follow.")
            if getattr(self.gradient, "splits", False):
                raise CaromError(
                    f"{type(self.gradient).__name__} asks about some examples at a time, which this objective or "
                    "transform cannot follow."
                )
        if self.gradient.queries and (self.transform or self.surgery):
            raise CaromError("this attack asks for scores: transforms and surgery change gradients, and it sees none.")

    @property
    def passes(self) -> int:
        """Gradients of the model per step and example. A surgery that differentiates parts of it again says by `extra`
        how many more each gradient counts as."""
        more = 1 + getattr(self.surgery, "extra", 0)
        return self.gradient.passes * more * (1 if self.transform is None else self.transform.copies)

    @property
    def alone(self) -> bool:
        """Whether a gradient of an ensemble is one of a single member."""
        return bool(getattr(self.gradient, "alone", False))

    def costing(self, gradients: int) -> Ascent | None:
        """The same attack with as many steps as fit into a number of gradients per example, beside those that its
        objective takes before the first step; None if not one does.

        Fewer steps get longer only as far as it takes to reach the rim: an attack of ten steps of a tenth of the radius
        becomes one of five steps of a fifth, and one of 300 steps of an eighth keeps its eighth. More steps get shorter,
        but no shorter than a tenth of the radius (or than they are, if that is less), and pay for the way back and forth
        at the rim of the ball: shorter ones just about reach it, and transfer less.
        """
        if not self.passes:
            return None
        steps = (gradients - getattr(self.objective, "passes", 0)) // (self.passes * self.restarts)
        if steps < 1:
            return None
        same_way = self.size * self.steps / steps
        size = max(min(same_way, max(self.size, 1 / steps)), min(self.size, 0.1))
        return replace(self, steps=steps, size=min(1.0, size))

    def asking(self, queries: int) -> Ascent:
        """The same climb with as many steps as a query budget pays for, each as long as before."""
        return replace(self, steps=queries // self.gradient.queries)

    def __call__(self, problem: Problem, batch: Batch, rng: Rng) -> Result:
        oracle = Oracle(problem, batch)
        with problem.model.frozen():
            x, status = self.climb(oracle, rng.fold("restart", 0))
            if self.restarts > 1:
                x, status = self._best_of_restarts(oracle, rng, x, status)
            return oracle.finish(x, status)

    def climb(self, oracle: Oracle, rng: Rng) -> tuple[Tensor, Tensor]:
        """One run: (x[N, ...] before rounding, status[N])."""
        with self._first(oracle, rng) as first:
            x = first.clean
            if self.random_start:
                start = first.ball.start(x, rng.fold("start")) - x
                x = oracle.problem.model.space.clamp(x + confine(start, oracle.batch.mask()))
            live = Live(first, x, self.update.init(x))
            settled = Settled(live)
            for index in range(first.steps):
                step = live.at(index, self.update)
                grad, live.memory, logits = self.gradient(step, live.x, live.memory)
                if self.stop:
                    reached = self._reached(step, live.x, logits) & live.finite
                    if bool(reached.any()):
                        untouched = index == 0 and not self.random_start
                        settled.take(live, reached, Status.SKIPPED if untouched else Status.DONE)
                        step, grad = live.at(index, self.update), grad[~reached]
                        if not len(live.x):
                            break
                live.climb(step, grad, self.update)
            return settled.all(live)

    @contextlib.contextmanager
    def _first(self, oracle: Oracle, rng: Rng) -> Iterator[Step]:
        """The step before the first, with what objective, transform and surgery are for this batch."""
        x0, threat = oracle.batch.inputs, oracle.problem.threat
        assert isinstance(threat, Ball), "a climb needs a threat with steps and a projection"
        length = column(self.size * threat.stride(x0), x0)
        with contextlib.ExitStack() as stack:
            objective = stack.enter_context(prepared(self.objective, oracle, rng.fold("objective")))
            transform = stack.enter_context(prepared(self.transform, oracle, rng.fold("transform")))
            announce = None if self.surgery is None else stack.enter_context(self.surgery(oracle))
            yield Step(oracle, objective, x0, length, -1, self._affordable(oracle), rng, transform, announce)

    def _affordable(self, oracle: Oracle) -> int:
        """How many steps the query budget allows, where answers are paid for."""
        limit, price = oracle.problem.budget.queries, self.gradient.queries
        return self.steps if limit is None or not price else min(self.steps, limit // price)

    def _reached(self, step: Step, x: Tensor, logits: Tensor | None) -> Tensor:
        if self.gradient.queries and logits is not None:  # what is paid for is asked about the stored form
            return step.oracle.goal().achieved(logits)
        return step.oracle.reached(x, step.oracle.logits(x, pays=False) if logits is None else logits)

    def _best_of_restarts(self, oracle: Oracle, rng: Rng, x: Tensor, status: Tensor) -> tuple[Tensor, Tensor]:
        rank, _ = self._rank(oracle, x, status)
        for restart in range(1, self.restarts):
            other, other_status = self.climb(oracle, rng.fold("restart", restart))
            other_rank, near = self._rank(oracle, other, other_status)
            better = above(other_rank, rank, near)
            x = torch.where(column(better, x), other, x)
            status, rank = torch.where(better, other_status, status), torch.where(better, other_rank, rank)
        return x, status

    @staticmethod
    def _rank(oracle: Oracle, x: Tensor, status: Tensor) -> tuple[Tensor, Tensor]:
        """(float64[N]: success outweighs any margin, runs that broke come last; how near another is the same)"""
        logits = oracle.logits(oracle.store(x), pays=False)
        goal = oracle.goal()
        rank = goal.loss(margin, logits).double().clamp(-1e6, 1e6) + 1e7 * goal.achieved(logits)
        return torch.where(status <= Status.SKIPPED, rank.nan_to_num(-1e9), -1e9), tie(
            logits.nan_to_num(neginf=-torch.inf)
        )


def climb_of(attack: Any) -> Ascent | None:
    """The climb that an attack is, or has as its field `ascent`; None where it is another kind of attack."""
    climb = attack if isinstance(attack, Ascent) else getattr(attack, "ascent", None)
    return climb if isinstance(climb, Ascent) else None


def with_climb(attack: Any, climb: Ascent) -> Any:
    """The attack with another climb."""
    return climb if isinstance(attack, Ascent) else replace(attack, ascent=climb)


@dataclass
class Live:
    """The examples that are still climbing: M of the N of the batch."""

    first: Step  # what does not change from step to step
    x: Tensor  # [M, ...]
    state: Any  # of the update rule
    memory: Any = None  # of the gradient estimator

    def __post_init__(self) -> None:
        self.rows = torch.arange(len(self.x), device=self.x.device)
        self.finite = torch.ones_like(self.rows, dtype=torch.bool)
        self.moved = torch.zeros_like(self.finite)

    def at(self, index: int, update: Chain) -> Step:
        rng = self.first.rng.fold("step", index)
        return replace(self.first, index=index, rng=rng, momentum=update.momentum(self.state))

    def climb(self, step: Step, grad: Tensor, update: Chain) -> None:
        """One step. All is kept on the device: nothing here waits for the host."""
        grad = confine(grad, step.oracle.batch.mask())
        largest = grad.flatten(1).abs().amax(1)
        self.finite &= largest.isfinite()
        self.moved |= largest > 0
        direction, self.state = update.apply(grad, self.state)
        self.x = step.moved(self.x, direction)

    def status(self) -> Tensor:
        """int64[M]: how a climb that made all its steps ended."""
        status = torch.full_like(self.rows, Status.DONE.value)
        if self.first.steps:
            status = torch.where(self.moved, status, Status.NO_GRADIENT.value)
        return torch.where(self.finite, status, Status.BAD_GRADIENT.value)

    def keep(self, rows: Tensor) -> None:
        self.first, self.x, self.rows = self.first.take(rows), self.x[rows], self.rows[rows]
        self.finite, self.moved = self.finite[rows], self.moved[rows]
        self.state, self.memory = rows_of(self.state, rows), rows_of(self.memory, rows)


class Settled:
    """Where the examples that left early ended, to be put together with those that climbed to the end."""

    def __init__(self, live: Live) -> None:
        self.x: Tensor | None = None
        self.status = torch.zeros_like(live.rows)

    def take(self, live: Live, which: Tensor, status: Status) -> None:
        """Move the examples bool[M] out of the climb."""
        self.x = live.first.clean.clone() if self.x is None else self.x
        self.x[live.rows[which]] = live.x[which]
        self.status[live.rows[which]] = status.value
        live.keep((~which).nonzero().squeeze(1))

    def all(self, live: Live) -> tuple[Tensor, Tensor]:
        """(x[N, ...], status[N])"""
        if self.x is None:
            return live.x, live.status()
        return self.x.index_copy(0, live.rows, live.x), self.status.index_copy(0, live.rows, live.status())
