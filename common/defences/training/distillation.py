"""Defensive distillation, and distillation from a robust teacher."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from carom.common.defences.info import Trains
from carom.common.defences.training.adversarial import Adversarial, Distilled, Network, Watched
from carom.common.defences.training.inner import Inner
from carom.common.defences.training.trained import part_of, taught
from carom.common.loading.zoo import Body, Recipe
from carom.common.models.training import Progress, answer


class Softened(Watched):
    """Cross-entropy at a temperature, of the labels or of what a teacher answers at the same temperature (Papernot et al.
    2016, Alg. 1)."""

    def __init__(self, temperature: float, teacher: nn.Module | None = None, epochs: int | None = None) -> None:
        super().__init__(epochs)
        self.temperature, self.teacher = temperature, teacher

    def loss(
        self, module: nn.Module, inputs: Any, labels: Tensor, generator: torch.Generator, smoothing: float
    ) -> Tensor:
        wanted: Tensor = labels
        if self.teacher is not None:
            with torch.no_grad():
                wanted = (answer(self.teacher, inputs) / self.temperature).softmax(1)
        return F.cross_entropy(answer(module, inputs) / self.temperature, wanted)


@dataclass(frozen=True)
class DefensiveDistillation(Trains):
    """A teacher and a student of one architecture, both trained at a temperature, the student on the teacher's answers.
    It answers at temperature 1, so its logits are as many times larger."""

    temperature: float
    epochs: int | None

    def train(self, recipe: Recipe, progress: Progress | None) -> Body:
        teacher = taught(recipe, Softened(self.temperature, None, self.epochs), part_of(progress, 0, 2))
        return taught(recipe, Softened(self.temperature, teacher, self.epochs), part_of(progress, 1, 2))


@dataclass(frozen=True)
class RobustDistillation(Trains):
    """A student taught on adversarial inputs by the answers of a robust `teacher`. `inner` makes them, given it."""

    teacher: Callable[[], Network]
    inner: Callable[[Network], Inner]
    temperature: float
    alpha: float
    epochs: int | None

    def train(self, recipe: Recipe, progress: Progress | None) -> Body:
        teacher = self.teacher()
        outer = Distilled(teacher, self.temperature, self.alpha)
        return taught(recipe, Adversarial(self.inner(teacher), outer, self.epochs), progress)
