"""Detectors that compare a model's answer with what it answers of a changed input. They know nothing of a kind of input."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from carom.common.base.rng import Rng
from carom.common.core.batch import Output
from carom.common.core.model import Model
from carom.common.core.spaces import Inputs
from carom.common.defences.detectors import Detector
from carom.common.defences.transforms import InputTransform, behind

SQUEEZING = "Xu, Evans and Qi 2018, Feature squeezing: detecting adversarial examples in deep neural networks"
ODDS = "Roth, Kilcher and Hofmann 2019, The odds are odd: a statistical test for detecting adversarial examples"


def moved(output: Output, other: Output) -> Tensor:
    """float[N], 0 to 2: the L1 distance between two answers' probabilities."""
    return (output.logits.float().softmax(-1) - other.logits.float().softmax(-1)).abs().flatten(1).sum(1)


@dataclass(frozen=True)
class FeatureSqueezing(Detector):
    """How far the probabilities move when the input is squeezed: the largest L1 distance over the squeezers."""

    squeezers: tuple[InputTransform, ...]
    fpr: float

    @property
    def passes(self) -> int:
        return 1 + len(self.squeezers)

    def score(self, model: Model, inputs: Inputs, lengths: Tensor | None, *rng: Rng) -> tuple[Output, Tensor]:
        output = model(inputs, lengths)
        squeezed = [model(behind(part, model.space, inputs, lengths), lengths) for part in self.squeezers]
        return output, torch.stack([moved(output, other) for other in squeezed]).amax(0)


@dataclass(frozen=True)
class Disagreement(Detector):
    """How far the probabilities move, on average over draws of a random change of the input."""

    change: InputTransform
    draws: int
    fpr: float
    random: ClassVar[bool] = True

    @property
    def passes(self) -> int:
        return 1 + self.draws

    def score(self, model: Model, inputs: Inputs, lengths: Tensor | None, *rng: Rng) -> tuple[Output, Tensor]:
        output = model(inputs, lengths)
        total = torch.zeros(len(inputs), device=output.logits.device)
        for draw in range(self.draws):
            own = rng[0].fold("disagreement", draw)
            total = total + moved(output, model(behind(self.change, model.space, inputs, lengths, own), lengths))
        return output, total / self.draws
