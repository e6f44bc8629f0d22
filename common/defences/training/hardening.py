"""Trees hardened by adversarial resampling: grown again on what fools them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from carom.common.base.errors import CaromError
from carom.common.base.rng import Rng
from carom.common.core.batch import Batch, Goal
from carom.common.core.model import Model
from carom.common.core.problem import Attack, Problem
from carom.common.core.threats import Threat
from carom.common.defences.info import Trains
from carom.common.loading.zoo import Body, Recipe
from carom.common.models.training import Method, Progress
from carom.common.models.trees import TreeEnsemble

BATCH = 64  # examples attacked at once


@dataclass(frozen=True)
class Hardening(Trains):
    """In each of so many `rounds` adversarial versions of `share` of the training inputs, against the trees so far, are
    added to them, and the trees are grown anew (Kantchelian, Tygar and Joseph 2016, section 5)."""

    attack: Attack
    threat: Threat
    rounds: int
    share: float
    trees: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.rounds < 1 or not 0 < self.share <= 1:
            raise CaromError(f"harden: rounds={self.rounds} and share={self.share}: 1 or more, and above 0 up to 1.")

    def train(self, recipe: Recipe, progress: Progress | None) -> Body:
        if recipe.family != "tree":
            raise CaromError(f"harden grows trees, and {recipe.name} is a network: choose pgd-at, or another recipe.")
        return recipe.train(replace(recipe, method=Resampled(self, progress)), None)


class Resampled(Method):
    """What `Hardening` asks of the recipe that grows the trees."""

    def __init__(self, how: Hardening, progress: Progress | None) -> None:
        self.how, self.progress = how, progress

    def grow(
        self,
        fit: Callable[[Tensor, Tensor], TreeEnsemble],
        model: Callable[[TreeEnsemble], Model],
        inputs: Tensor,
        labels: Tensor,
        seed: int,
    ) -> TreeEnsemble:
        generator = torch.Generator().manual_seed(seed)
        seen, told, trees = inputs, labels, fit(inputs, labels)
        for turn in range(self.how.rounds):
            rows = torch.randperm(len(inputs), generator=generator)[: max(1, round(self.how.share * len(inputs)))]
            attacked = self._attacked(model(trees), inputs[rows], labels[rows], seed, turn)
            seen, told = torch.cat([seen, attacked]), torch.cat([told, labels[rows]])
            trees = fit(seen, told)
            if self.progress is not None:
                self.progress(turn + 1, self.how.rounds, 0.0)
        return trees

    def _attacked(self, victim: Model, inputs: Tensor, labels: Tensor, seed: int, turn: int) -> Tensor:
        found = []
        for at in range(0, len(inputs), BATCH):
            part, own = inputs[at : at + BATCH], labels[at : at + BATCH]
            ids = [f"{turn} {row}" for row in range(at, at + len(part))]
            problem = Problem(victim, Goal(own), self.how.threat)
            found.append(self.how.attack(problem, Batch(part, own, ids), Rng.of(seed, ids)).inputs)
        return torch.cat(found)
