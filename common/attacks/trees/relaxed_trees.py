"""Trees made differentiable, for attacks that climb towards their leaves through a front end.

`NearLeaves` and `NearValues` say how near leaves are, `SoftForest` makes every split a sigmoid; `TreeClimb` climbs
either and is judged on the trees themselves.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from carom.common.attacks.gradient.ascent import Ascent
from carom.common.attacks.restarts import chunks, join
from carom.common.attacks.trees.leaf_boxes import leaves_of
from carom.common.base.errors import CaromError
from carom.common.base.rng import Rng
from carom.common.core.batch import Access, Batch, Output
from carom.common.core.model import Model
from carom.common.core.oracle import Oracle
from carom.common.core.problem import Problem, Result
from carom.common.models.trees import LEAF, TreeEnsemble, TreeModel


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
    """Trees made differentiable, over the features that its front end makes of the inputs.

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
        if (base := self.model.ensemble.base) is not None:
            return Output(base + shares)
        return Output((shares / shares.sum(1, keepdim=True).clamp_min(1e-12)).clamp_min(1e-6).log())

    def shares(self, x: Tensor) -> Tensor:
        """Votes float64[N, C] for features float64[N, D]; of boosted trees, what they add to the base."""
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


class NearValues(Differentiable):
    """Boosted trees in which every tree answers with all its leaves' values, each the less the farther it is: weighed
    by exp(-distance), in shares of their sum. The distance to a leaf is that of `NearLeaves`."""

    def __init__(self, model: TreeModel, temperature: float) -> None:
        super().__init__(model)
        self.leaves = leaves_of(model.ensemble)
        self.scale = temperature * _spread(model.ensemble).double()

    def shares(self, x: Tensor) -> Tensor:
        away = distances(self.model.ensemble, self.scale, x)  # [N, K]
        trees, tree = self.model.ensemble.trees, self.leaves.tree.expand(len(x), -1)
        # A leaf of every tree is 0 away: no sum of weights vanishes.
        weight = away.neg().exp()
        total = weight.new_zeros(len(x), trees).scatter_add(1, tree, weight)
        return (weight / total.gather(1, tree)) @ self.leaves.value.double()


def distances(ensemble: TreeEnsemble, scale: Tensor, x: Tensor) -> Tensor:
    """float64[N, K]: what the path to each leaf asks the features to change, in units of `scale` float64[D]; what is
    asked of a feature twice counts twice."""
    found, number = [], []
    asked = x.new_zeros(len(x), ensemble.trees)  # [N, W]: on the way to each node
    for level in levels_of(ensemble):
        found.append(asked[:, level.leaves])
        number.append(level.number)
        beyond = (x[:, level.feature] - level.threshold) / scale[level.feature]
        here = asked[:, level.splits]
        asked = torch.cat([here + beyond.clamp_min(0), here - beyond.clamp_max(0)], 1)
    return torch.cat(found, 1)[:, torch.cat(number).argsort()]


def near(model: TreeModel, temperature: float) -> Differentiable:
    """The trees as seen from a point between leaves: what tells a climb which are near."""
    return NearValues(model, temperature) if model.ensemble.additive else NearLeaves(model, temperature)


class NearLeaves(Differentiable):
    """A forest in which every tree votes for every class, the less the farther its nearest leaf of that class is: by
    exp(-distance). The distance to a leaf is what its path asks the features to change, in spreads of their own
    thresholds, summed over the path; to find the nearest, a feature that is asked twice counts twice.
    """

    def __init__(self, model: TreeModel, temperature: float) -> None:
        super().__init__(model)
        self.leaves = leaves_of(model.ensemble)
        # Padded paths ask nothing of the extra column, whose scale is the last.
        self.scale = temperature * F.pad(_spread(model.ensemble).double(), (0, 1), value=1.0)
        classes = model.ensemble.classes
        self.group = self.leaves.tree * classes + self.leaves.value.argmax(1)  # int64[K]: tree and class of each leaf
        self.groups = model.ensemble.trees * classes

    def shares(self, x: Tensor) -> Tensor:
        nearest = self._nearest(x.detach())  # int64[N, G]
        none = nearest == len(self.group)  # classes that a tree has no leaf of
        nearest = nearest.clamp_max(len(self.group) - 1)
        asked = self.leaves.feature[nearest]  # [N, G, P]
        feature = asked % (x.shape[1] + 1)
        here = F.pad(x, (0, 1)).gather(1, feature.flatten(1)).view_as(feature)
        inside = here.clamp(self.leaves.low[nearest].double(), self.leaves.high[nearest].double())
        away = ((here - inside).abs() / self.scale[asked]).sum(2)
        return away.neg().exp().masked_fill(none, 0.0).unflatten(1, (self.model.ensemble.trees, -1)).mean(1)

    def _nearest(self, x: Tensor) -> Tensor:
        """int64[N, G]: the nearest leaf of each tree and class; K where there is none."""
        count = len(self.group)
        away = distances(self.model.ensemble, self.scale, x)
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
            return join([self._part(problem, soft, batch.take(rows), rows, rng) for rows in chunks(batch, self.chunk)])

    def _part(self, problem: Problem, soft: Model, part: Batch, rows: Tensor, rng: Rng) -> Result:
        goal = problem.goal.take(rows)
        climber = Oracle(replace(problem, model=soft, goal=goal), part)
        x, status = self.ascent.climb(climber, rng[rows])
        judge = Oracle(replace(problem, goal=goal), part)
        judge.forward, judge.backward = climber.forward, climber.backward
        return judge.finish(x, status)
