"""Attacks that read a tree: walk to a leaf of another class and change only the features on its path.

Papernot, McDaniel and Goodfellow (2016, section 4.2, algorithm 2) take the nearest leaf of another class in the tree's
structure. `LeafPath` compares all leaves by the change they ask for, which on a single tree over its own inputs is
exact: no smaller perturbation in the threat's norm crosses to another class. On a forest it is a greedy search over
leaves, in the spirit of Zhang, Zhang and Hsieh (2020), each move checked against the whole forest.

Where a front end stands between input and trees, no leaf box can be written down in input space. There the boxes are
those of the features: `NearLeaves` votes by how near the leaves of each class are, `SoftForest` makes every split a
sigmoid, and a gradient attack climbs either through the front end.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from carom.common.ascent import Ascent
from carom.common.errors import CaromError
from carom.common.models import Model, TreeModel
from carom.common.objectives import margin
from carom.common.oracle import Oracle
from carom.common.problem import Access, Batch, Cost, Goal, Output, Problem, Result, Status
from carom.common.rng import Rng
from carom.common.spaces import Box
from carom.common.threats import Ball
from carom.common.trees import LEAF, TreeEnsemble


@dataclass(frozen=True, eq=False)
class Leaves:
    """All K leaves of an ensemble, each with the interval that its path leaves to every feature on it.

    low < feature <= high. Paths are padded to P features with feature -1 and an interval that holds everything;
    `_extended` gives inputs the extra column that -1 points to.
    """

    tree: Tensor  # int64[K]
    node: Tensor  # int64[K]
    feature: Tensor  # int64[K, P]
    low: Tensor  # float32[K, P]
    high: Tensor  # float32[K, P]
    value: Tensor  # float32[K, C]
    index: Tensor  # int64[T, M]: the number of the leaf at a tree's node


@lru_cache(maxsize=16)
def leaves_of(ensemble: TreeEnsemble) -> Leaves:
    """Walk every path of the ensemble once."""
    left, right = ensemble.left.tolist(), ensemble.right.tolist()
    feature, threshold = ensemble.feature.tolist(), ensemble.threshold.tolist()
    found: list[tuple[int, int, dict[int, tuple[float, float]]]] = []
    for tree in range(ensemble.trees):
        stack: list[tuple[int, dict[int, tuple[float, float]]]] = [(0, {})]
        while stack:
            node, path = stack.pop()
            if left[tree][node] == LEAF:
                found.append((tree, node, path))
                continue
            f, cut = feature[tree][node], threshold[tree][node]
            low, high = path.get(f, (-torch.inf, torch.inf))
            stack.append((left[tree][node], {**path, f: (low, min(high, cut))}))
            stack.append((right[tree][node], {**path, f: (max(low, cut), high)}))
    width = max(1, max(len(path) for *_, path in found))
    rows = [[*path.items(), *[(-1, (-torch.inf, torch.inf))] * (width - len(path))] for *_, path in found]
    device = ensemble.left.device
    tree_of = torch.tensor([tree for tree, *_ in found], device=device)
    node_of = torch.tensor([node for _, node, _ in found], device=device)
    index = torch.full_like(ensemble.left, LEAF)
    index[tree_of, node_of] = torch.arange(len(found), device=device)
    return Leaves(
        tree=tree_of,
        node=node_of,
        feature=torch.tensor([[f for f, _ in row] for row in rows], device=device),
        low=torch.tensor([[low for _, (low, _) in row] for row in rows], device=device),
        high=torch.tensor([[high for _, (_, high) in row] for row in rows], device=device),
        value=ensemble.value[tree_of, node_of],
        index=index,
    )


def on_lattice(leaves: Leaves, space: Box) -> Leaves:
    """The same leaves with CLOSED intervals between stored values: the smallest above low, the largest up to high."""
    if not space.unit:
        above = torch.nextafter(leaves.low, torch.full_like(leaves.low, torch.inf))
        return replace(leaves, low=above.clamp_min(space.low), high=leaves.high.clamp_max(space.high))
    low = (leaves.low.clamp(space.low - space.unit, space.high) / space.unit).floor() - 1
    high = (leaves.high.clamp(space.low - space.unit, space.high) / space.unit).floor() + 1
    for _ in range(3):  # float32 comparisons decide, exactly as the trees will make them
        low = torch.where(low * space.unit <= leaves.low, low + 1, low)
        high = torch.where(high * space.unit > leaves.high, high - 1, high)
    return replace(leaves, low=(low * space.unit).clamp_min(space.low), high=(high * space.unit).clamp_max(space.high))


@dataclass(frozen=True)
class LeafPath:
    """Single tree: the smallest change that reaches a leaf of another class (of the target), or INFEASIBLE.

    Forest: up to `steps` moves, each to the leaf of one tree that most raises the margin of the whole forest, among
    the `width` leaves that promise most. It goes on after the first success, since a larger margin transfers further.

    Trees behind a front end: `through` climbs towards the nearest leaves in the space of the features, which is no
    exact search: which features a bounded input can reach is not known.
    """

    steps: int = 60
    width: int = 8
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
        parts = []
        for rows in _chunks(batch, self.chunk):
            part = batch.take(rows)
            oracle = Oracle(replace(problem, goal=problem.goal.take(rows)), part)
            search = self._single if model.ensemble.trees == 1 else self._forest
            parts.append(oracle.finish(*search(oracle, model)))
        return join(parts)

    def _single(self, oracle: Oracle, model: TreeModel) -> tuple[Tensor, Tensor]:
        threat, leaves = _ball(oracle), on_lattice(leaves_of(model.ensemble), _box(model))
        x0 = oracle.batch.inputs.flatten(1)
        wanted = _reaches(leaves.value, oracle.problem.goal) & (leaves.low <= leaves.high).all(1)
        here = _extended(x0)[:, leaves.feature]  # [N, K, P]
        change = here.clamp(leaves.low, leaves.high) - here
        length = threat.norm(change.flatten(0, 1)).view(change.shape[:2]).masked_fill(~wanted, torch.inf)
        nearest = length.argmin(1)
        found = length.gather(1, nearest[:, None]).squeeze(1) <= threat.radius(x0) * (1 + 1e-6)
        moved = _move(x0, leaves, nearest)
        x = torch.where(found[:, None], moved, x0).view_as(oracle.batch.inputs)
        return x, torch.where(found, Status.DONE.value, Status.INFEASIBLE.value)

    def _forest(self, oracle: Oracle, model: TreeModel) -> tuple[Tensor, Tensor]:
        threat, leaves = _ball(oracle), on_lattice(leaves_of(model.ensemble), _box(model))
        ensemble, goal, shape = model.ensemble, oracle.problem.goal, oracle.batch.inputs.shape
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
        x, best = x0, margin(oracle.logits(oracle.batch.inputs), goal)
        status = torch.where(reachable.any(1), Status.DONE.value, Status.INFEASIBLE.value)
        live = status == Status.DONE
        for _ in range(moves):
            rows = live.nonzero().squeeze(1)
            if not len(rows):
                break
            part = goal.take(rows)
            promise = self._promise(leaves, ensemble, x[rows], part).masked_fill(~reachable[rows], -torch.inf)
            gain, chosen = promise.topk(width, dim=1)  # [n, width]
            tried = _move(x[rows].repeat_interleave(width, 0), leaves, chosen.flatten())
            many = rows.repeat_interleave(width)
            fits = threat.allows(tried, x0[many]) & gain.flatten().isfinite()
            logits = oracle.logits(tried.view(-1, *shape[1:]), many)
            reached = margin(logits, part.take(torch.arange(len(rows), device=x.device).repeat_interleave(width)))
            reached = reached.masked_fill(~fits, -torch.inf).view(len(rows), width)
            top = reached.argmax(1)
            value = reached.gather(1, top[:, None]).squeeze(1)
            better = value > best[rows]
            took = rows[better]
            x = x.index_copy(0, took, tried.view(len(rows), width, -1)[better, top[better]])
            best = best.index_copy(0, took, value[better])
            live = live.index_copy(0, rows, better)
        return x.view(shape), status

    @staticmethod
    def _promise(leaves: Leaves, ensemble: TreeEnsemble, x: Tensor, goal: Goal) -> Tensor:
        """float[n, K]: by how much moving one tree to a leaf raises that tree's share of the margin."""
        current = ensemble.leaves(x)  # [n, T] nodes
        mean = ensemble.probabilities(x)
        if goal.targets is None:
            rival = mean.scatter(1, goal.labels[:, None], -1).argmax(1)
            own = goal.labels
        else:
            rival = goal.targets
            own = mean.scatter(1, goal.targets[:, None], -1).argmax(1)
        worth = leaves.value[:, rival].T - leaves.value[:, own].T  # [n, K]
        numbers = leaves.index[torch.arange(ensemble.trees, device=x.device), current]  # [n, T] leaf numbers
        return worth - worth.gather(1, numbers)[:, leaves.tree]


def _ball(oracle: Oracle) -> Ball:
    assert isinstance(oracle.problem.threat, Ball)
    return oracle.problem.threat


def _box(model: Model) -> Box:
    assert isinstance(model.space, Box)
    return model.space


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


def _chunks(batch: Batch, size: int) -> list[Tensor]:
    """The rows of a batch, `size` at a time; of an empty one, one empty part."""
    return list(torch.arange(len(batch), device=batch.labels.device).split(size))


def join(results: list[Result]) -> Result:
    """The results of consecutive parts of a batch as one."""
    costs = [r.cost for r in results]
    return Result(
        torch.cat([r.inputs for r in results]),
        torch.cat([r.success for r in results]),
        Cost(*(torch.cat([getattr(c, name) for c in costs]) for name in ("forward", "backward", "queries"))),
        torch.cat([r.status for r in results]),
    )


@dataclass(frozen=True, eq=False)
class Level:
    """The nodes at one depth of all trees, W of them, as the walk from the roots finds them."""

    leaves: Tensor  # int64[L]: which of the W are leaves
    number: Tensor  # int64[L]: their numbers in `Leaves`
    splits: Tensor  # int64[S]: which of the W split; their left children, then their right ones, are the next level
    feature: Tensor  # int64[S]
    threshold: Tensor  # float64[S]


@lru_cache(maxsize=16)
def levels_of(ensemble: TreeEnsemble) -> list[Level]:
    """The ensemble from the roots down, all trees side by side."""
    tree = torch.arange(ensemble.trees, device=ensemble.left.device)
    node, index, levels = torch.zeros_like(tree), leaves_of(ensemble).index, []
    while len(tree):
        inner = ensemble.left[tree, node] != LEAF
        leaves, splits = (~inner).nonzero().squeeze(1), inner.nonzero().squeeze(1)
        number = index[tree[leaves], node[leaves]]
        tree, node = tree[splits], node[splits]
        levels.append(
            Level(leaves, number, splits, ensemble.feature[tree, node], ensemble.threshold[tree, node].double())
        )
        node = torch.cat([ensemble.left[tree, node], ensemble.right[tree, node]])
        tree = torch.cat([tree, tree])
    return levels


class Differentiable(Model):
    """A forest made differentiable, over the features that its front end makes of the inputs.

    It computes in float64, front end and all: sums over many gates would otherwise depend, in their last digit, on how
    many examples are summed at once, and an attack's steps would carry that into what is stored.
    """

    access = Access.LABEL | Access.SCORE | Access.GRADIENT

    def __init__(self, model: TreeModel) -> None:
        super().__init__(model.name, model.modality, model.family, model.space, model.classes, model.digest)
        self.model = copy.copy(model)
        if model.front_end is not None:
            self.model.front_end = copy.deepcopy(model.front_end).double()
        self.device = model.device

    def __call__(self, inputs: Tensor, lengths: Tensor | None = None) -> Output:
        shares = self.shares(self.model.features(inputs.double()).double())
        return Output((shares / shares.sum(1, keepdim=True).clamp_min(1e-12)).clamp_min(1e-6).log())

    def shares(self, x: Tensor) -> Tensor:
        """Votes float64[N, C] for features float64[N, D]."""
        raise NotImplementedError


class SoftForest(Differentiable):
    """A forest whose splits are sigmoids: the probability of a leaf is the product of the gates on its way."""

    def __init__(self, model: TreeModel, temperature: float) -> None:
        super().__init__(model)
        self.width = temperature * _spread(model.ensemble).double()  # float64[D]: of the gates
        self.value = leaves_of(model.ensemble).value.double()

    def shares(self, x: Tensor) -> Tensor:
        reach = x.new_ones(len(x), self.model.ensemble.trees)  # [N, W]: how much of x arrives at each node
        shares = x.new_zeros(len(x), self.model.ensemble.classes)
        for level in levels_of(self.model.ensemble):
            shares = shares + reach[:, level.leaves] @ self.value[level.number]
            here = reach[:, level.splits]
            right = here * torch.sigmoid((x[:, level.feature] - level.threshold) / self.width[level.feature])
            reach = torch.cat([here - right, right], 1)
        return shares


class NearLeaves(Differentiable):
    """A forest in which every tree votes for every class, the less the farther its nearest leaf of that class is: by
    exp(-distance). The distance to a leaf is what its path asks the features to change, in spreads of their own
    thresholds, summed over the path; to find the nearest, a feature that is asked twice counts twice.
    """

    def __init__(self, model: TreeModel, temperature: float) -> None:
        super().__init__(model)
        self.leaves = leaves_of(model.ensemble)
        # Padded paths ask nothing of the extra column.
        self.scale = temperature * F.pad(_spread(model.ensemble).double(), (0, 1), value=1.0)
        classes = model.ensemble.classes
        self.group = self.leaves.tree * classes + self.leaves.value.argmax(1)  # int64[K]: tree and class of each leaf
        self.groups = model.ensemble.trees * classes

    def shares(self, x: Tensor) -> Tensor:
        nearest = self._nearest(x.detach())  # int64[N, G]
        none = nearest == len(self.group)  # classes that a tree has no leaf of
        nearest = nearest.clamp_max(len(self.group) - 1)
        feature = self.leaves.feature[nearest] % (x.shape[1] + 1)  # [N, G, P]
        here = F.pad(x, (0, 1)).gather(1, feature.flatten(1)).view_as(feature)
        inside = here.clamp(self.leaves.low[nearest].double(), self.leaves.high[nearest].double())
        away = ((here - inside).abs() / self.scale[feature]).sum(2)
        return away.neg().exp().masked_fill(none, 0.0).unflatten(1, (self.model.ensemble.trees, -1)).mean(1)

    def _nearest(self, x: Tensor) -> Tensor:
        """int64[N, G]: the nearest leaf of each tree and class; K where there is none."""
        count = len(self.group)
        away = x.new_empty(len(x), count)
        asked = x.new_zeros(len(x), self.model.ensemble.trees)  # [N, W]: on the way to each node
        for level in levels_of(self.model.ensemble):
            away[:, level.number] = asked[:, level.leaves]
            beyond = (x[:, level.feature] - level.threshold) / self.scale[level.feature]
            here = asked[:, level.splits]
            asked = torch.cat([here + beyond.clamp_min(0), here - beyond.clamp_max(0)], 1)
        group = self.group.expand(len(x), -1)
        least = away.new_full((len(x), self.groups), torch.inf).scatter_reduce(1, group, away, "amin")
        number = torch.arange(count, device=x.device).expand(len(x), -1)
        number = number.masked_fill(away > least.gather(1, group), count)
        return number.new_full((len(x), self.groups), count).scatter_reduce(1, group, number, "amin")


def _spread(ensemble: TreeEnsemble) -> Tensor:
    """float[D]: gates are measured in the deviation of each feature's own thresholds: pixels and cepstra differ."""
    inner = ensemble.left != LEAF
    cuts, features = ensemble.threshold[inner], ensemble.feature[inner]
    overall = cuts.std().clamp_min(1e-6) if len(cuts) > 1 else cuts.new_tensor(1.0)
    count, mean, square = cuts.new_zeros(3, int(ensemble.feature.max()) + 1)
    count.index_add_(0, features, torch.ones_like(cuts))
    mean.index_add_(0, features, cuts).div_(count.clamp_min(1))
    square.index_add_(0, features, (cuts - mean[features]) ** 2).div_(count.clamp_min(1))
    return torch.where(count > 2, square.sqrt(), overall).clamp_min(overall * 0.01)


@dataclass(frozen=True)
class TreeClimb:
    """A gradient attack on a differentiable version of the forest, judged on the forest itself."""

    ascent: Ascent
    version: Callable[[TreeModel, float], Differentiable] = SoftForest
    temperature: float = 0.2
    chunk: int = 64  # examples at once: bounds memory

    def __call__(self, problem: Problem, batch: Batch, rng: Rng) -> Result:
        if not isinstance(problem.model, TreeModel):
            raise CaromError(f"soft-leaf-path relaxes the splits of trees; {problem.model.name} has none to read.")
        with problem.model.frozen():
            soft = self.version(problem.model, self.temperature)
            return join([self._part(problem, soft, batch.take(rows), rows, rng) for rows in _chunks(batch, self.chunk)])

    def _part(self, problem: Problem, soft: Model, part: Batch, rows: Tensor, rng: Rng) -> Result:
        goal = problem.goal.take(rows)
        climber = Oracle(replace(problem, model=soft, goal=goal), part)
        x, status = self.ascent.climb(climber, rng[rows])
        judge = Oracle(replace(problem, goal=goal), part)
        judge.forward, judge.backward = climber.forward, climber.backward
        return judge.finish(x, status)
