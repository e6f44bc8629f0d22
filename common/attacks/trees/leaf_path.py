"""Attacks that read a tree: walk to a leaf of another class and change only the features on its path.

Papernot, McDaniel and Goodfellow (2016, section 4.2, algorithm 2) take the nearest leaf of another class in the tree's
structure. `LeafPath` compares all leaves by the change they ask for, which on a single tree over its own inputs is
exact: no smaller perturbation in the threat's norm crosses to another class. On forests and boosted trees it compares
all regions of constant answer that meet the ball, which is exact too, where these are few (Chen et al. 2019, whose
cliques of leaves they are); where they are too many it is a greedy search over leaves, in the spirit of Zhang, Zhang
and Hsieh (2020), each move checked against all trees.

Where a front end stands between input and trees, no leaf box can be written down in input space. There the boxes are
those of the features, and a gradient attack climbs towards them (carom.common.attacks.trees.relaxed_trees).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from carom.common.attacks.restarts import chunks, join
from carom.common.attacks.trees.leaf_boxes import Leaves, leaves_of, on_lattice
from carom.common.attacks.trees.relaxed_trees import TreeClimb
from carom.common.base.errors import CaromError
from carom.common.base.rng import Rng
from carom.common.core.batch import Batch, Goal
from carom.common.core.model import Model
from carom.common.core.objectives import margin
from carom.common.core.oracle import Oracle
from carom.common.core.problem import Problem, Result, Status
from carom.common.core.spaces import Box
from carom.common.core.tasks import of_classes
from carom.common.core.threats import Ball
from carom.common.core.ties import above, closeness, falling, first_largest, tie
from carom.common.models.trees import TreeEnsemble, TreeModel


@dataclass(frozen=True)
class LeafPath:
    """Single tree: the smallest change that reaches a leaf of another class (of the target), or INFEASIBLE.

    Forest or boosted trees: the input of the ball with the largest margin, since a larger margin transfers further.
    That is exact where the regions of constant answer that meet the ball, merged tree by tree, never take more than
    `room` numbers to write down: in small balls and few dimensions. Else it is a search: up to `steps` moves, each to
    the leaf of one tree that most raises the margin of all, among the `width` leaves that promise most; it goes on
    after the first success.

    Trees behind a front end: `through` climbs towards the nearest leaves in the space of the features, which is no
    exact search: which features a bounded input can reach is not known.
    """

    steps: int = 60
    width: int = 8
    room: int = 2**20  # 0: search always
    through: TreeClimb | None = None
    chunk: int = 16  # examples whose leaves are compared at once: bounds memory, never changes results

    def __call__(self, problem: Problem, batch: Batch, rng: Rng) -> Result:
        model = problem.model
        if isinstance(model, TreeModel) and model.front_end is not None and self.through is not None:
            return self.through(problem, batch, rng)
        if not isinstance(model, TreeModel) or model.front_end is not None:
            raise CaromError(
                f"leaf-path reads the splits of trees over the inputs themselves; {model.name} has none to read. "
                "Use soft-leaf-path for trees behind a front end, or square."
            )
        if model.device.type != "cpu":
            return self._on_cpu(model, problem, batch, rng)
        parts = []
        for rows in chunks(batch, self.chunk):
            part = batch.take(rows)
            oracle = Oracle(replace(problem, goal=problem.goal.take(rows)), part)
            search = self._single if model.ensemble.trees == 1 else self._forest
            parts.append(oracle.finish(*search(oracle, model)))
        return join(parts)

    def _on_cpu(self, model: TreeModel, problem: Problem, batch: Batch, rng: Rng) -> Result:
        """A search through leaves looks at one number after another, and a GPU makes the host wait for each."""
        device = model.device
        model.to("cpu")
        try:
            result = self(replace(problem, goal=problem.goal.to("cpu")), batch.to("cpu"), Rng(rng.keys.cpu()))
        finally:
            model.to(device)
        return replace(result, inputs=result.inputs.to(device)) if isinstance(result.inputs, Tensor) else result

    def _single(self, oracle: Oracle, model: TreeModel) -> tuple[Tensor, Tensor]:
        threat, leaves = _ball(oracle), on_lattice(leaves_of(model.ensemble), _box(model))
        x0 = oracle.batch.inputs.flatten(1)
        wanted = _reaches(model.ensemble.answer(leaves.value), of_classes(oracle.problem.goal))
        wanted = wanted & (leaves.low <= leaves.high).all(1)
        here = _extended(x0)[:, leaves.feature]  # [N, K, P]
        change = here.clamp(leaves.low, leaves.high) - here
        length = threat.norm(change.flatten(0, 1)).view(change.shape[:2]).masked_fill(~wanted, torch.inf)
        nearest = first_largest(-length, closeness(length.amin(1)))
        found = length.gather(1, nearest[:, None]).squeeze(1) <= threat.radius(x0) * (1 + 1e-6)
        moved = _move(x0, leaves, nearest)
        x = torch.where(found[:, None], moved, x0).view_as(oracle.batch.inputs)
        return x, torch.where(found, Status.DONE.value, Status.INFEASIBLE.value)

    def _forest(self, oracle: Oracle, model: TreeModel) -> tuple[Tensor, Tensor]:
        threat, leaves = _ball(oracle), on_lattice(leaves_of(model.ensemble), _box(model))
        ensemble, goal, shape = model.ensemble, of_classes(oracle.problem.goal), oracle.batch.inputs.shape
        x0 = oracle.batch.inputs.flatten(1)
        # A point of the ball, clamped to an interval that meets the ball, stays in the ball (feature by feature), so
        # which leaves can be reached is fixed by x0 alone.
        here = _extended(x0)[:, leaves.feature]
        gap = (here.clamp(leaves.low, leaves.high) - here).abs().amax(2)
        reachable = (gap <= threat.radius(x0)[:, None] * (1 + 1e-6)) & (leaves.low <= leaves.high).all(1)
        width, moves = min(self.width, len(leaves.tree)), self.steps
        if (limit := oracle.problem.budget.queries) is not None:  # one for the clean input, `width` for each move
            moves = min(moves, (limit - 1) // width)
        if moves < 0:
            return x0.view(shape), torch.full_like(goal.labels, Status.INFEASIBLE.value)
        x, best = x0.clone(), margin(oracle.logits(oracle.batch.inputs), goal)
        status = torch.where(reachable.any(1), Status.DONE.value, Status.INFEASIBLE.value)
        live = status == Status.DONE
        for row in live.nonzero().squeeze(1).tolist() if moves else ():
            regions = _regions(leaves, x0[row], reachable[row], threat, threat.radius(x0[row : row + 1]), self.room)
            if regions is not None:
                points, total = regions
                same = torch.full((len(points),), row, device=x0.device)
                logits = ensemble.answer(total)
                x[row] = points[first_largest(margin(logits, goal.take(same)), tie(logits).amax())]
                live[row] = False
        for _ in range(moves):
            rows = live.nonzero().squeeze(1)
            if not len(rows):
                break
            part = goal.take(rows)
            promise = self._promise(leaves, ensemble, x[rows], part).masked_fill(~reachable[rows], -torch.inf)
            chosen = falling(promise, closeness(promise.amax(1)))[:, :width]  # [n, width]
            gain = promise.gather(1, chosen)
            tried = _move(x[rows].repeat_interleave(width, 0), leaves, chosen.flatten())
            many = rows.repeat_interleave(width)
            fits = threat.allows(tried, x0[many]) & gain.flatten().isfinite()
            logits = oracle.logits(tried.view(-1, *shape[1:]), many)
            reached = margin(logits, part.take(torch.arange(len(rows), device=x.device).repeat_interleave(width)))
            reached = reached.masked_fill(~fits, -torch.inf).view(len(rows), width)
            near = tie(logits).view(len(rows), width).amax(1)
            top = first_largest(reached, near)
            value = reached.gather(1, top[:, None]).squeeze(1)
            better = above(value, best[rows], near)
            took = rows[better]
            x = x.index_copy(0, took, tried.view(len(rows), width, -1)[better, top[better]])
            best = best.index_copy(0, took, value[better])
            live = live.index_copy(0, rows, better)
        return x.view(shape), status

    @staticmethod
    def _promise(leaves: Leaves, ensemble: TreeEnsemble, x: Tensor, goal: Goal) -> Tensor:
        """float[n, K]: by how much moving one tree to a leaf raises that tree's share of the margin."""
        current = ensemble.leaves(x)  # [n, T] nodes
        rival, own = rivals(ensemble.logits(x), goal)
        worth = leaves.value[:, rival].T - leaves.value[:, own].T  # [n, K]
        numbers = leaves.index[torch.arange(ensemble.trees, device=x.device), current]  # [n, T] leaf numbers
        return worth - worth.gather(1, numbers)[:, leaves.tree]


def _regions(
    leaves: Leaves, x0: Tensor, reachable: Tensor, threat: Ball, radius: Tensor, room: int
) -> tuple[Tensor, Tensor] | None:
    """(points [B, D], the sums [B, C] of all trees there): of every region of constant answer that meets the ball, the
    point nearest to x0[D]. None if they take more than `room` numbers. `reachable` bool[K] are the leaves to combine.
    """
    numbers = reachable.nonzero().squeeze(1)
    _, of, counts = leaves.tree[numbers].unique(return_inverse=True, return_counts=True)
    settled = counts[of] == 1  # one leaf of a tree can be reached: all of the ball lies in it
    value = leaves.value[numbers[settled]].sum(0, keepdim=True)
    numbers, of = numbers[~settled], of[~settled]
    asked = leaves.feature[numbers].unique()
    columns = asked[asked >= 0]
    place = columns.new_full((len(x0) + 1,), len(columns))
    place[columns] = torch.arange(len(columns), device=x0.device)
    here = _extended(x0[columns][None])
    low, high = torch.full_like(here, -torch.inf), torch.full_like(here, torch.inf)
    for tree in counts.argsort(stable=True).tolist():
        own = numbers[of == tree]
        if counts[tree] == 1:
            continue
        if len(low) * len(own) * here.shape[1] > room:
            return None
        at = place[leaves.feature[own] % len(place)]
        wide = here.expand(len(own), -1)
        own_low = torch.full_like(wide, -torch.inf).scatter(1, at, leaves.low[own])
        own_high = torch.full_like(wide, torch.inf).scatter(1, at, leaves.high[own])
        low, high = (
            torch.maximum(low[:, None], own_low).flatten(0, 1),
            torch.minimum(high[:, None], own_high).flatten(0, 1),
        )
        value = (value[:, None] + leaves.value[own]).flatten(0, 1)
        keep = (low <= high).all(1) & (threat.norm(here.clamp(low, high) - here) <= radius * (1 + 1e-6))
        low, high, value = low[keep], high[keep], value[keep]
    points = x0.expand(len(low), -1).index_copy(1, columns, here.clamp(low, high)[:, :-1])
    return points, value


def _ball(oracle: Oracle) -> Ball:
    assert isinstance(oracle.problem.threat, Ball)
    return oracle.problem.threat


def _box(model: Model) -> Box:
    assert isinstance(model.space, Box)
    return model.space


def rivals(logits: Tensor, goal: Goal) -> tuple[Tensor, Tensor]:
    """(the class that is to win, the class that is in its way), int64[N] each."""
    anchor = goal.labels if goal.targets is None else goal.targets
    other = first_largest(logits.scatter(1, anchor[:, None], -torch.inf), tie(logits))
    return (other, anchor) if goal.targets is None else (anchor, other)


def _reaches(value: Tensor, goal: Goal) -> Tensor:
    """bool[N, K]: whether a leaf's class achieves each example's goal."""
    answer = value.argmax(1)
    return answer != goal.labels[:, None] if goal.targets is None else answer == goal.targets[:, None]


def _extended(x: Tensor) -> Tensor:
    """x[N, D] with a column of zeros behind it, which padded paths read and write."""
    return F.pad(x, (0, 1))


def _move(x: Tensor, leaves: Leaves, chosen: Tensor) -> Tensor:
    """x[n, D] with the features on the path of leaf chosen[n] moved into its intervals."""
    wide = _extended(x)
    features = leaves.feature[chosen] % wide.shape[1]
    inside = wide.gather(1, features).clamp(leaves.low[chosen], leaves.high[chosen])
    return wide.scatter(1, features, inside)[:, :-1]
