"""Defences that reject images."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from carom.common.base.rng import Rng
from carom.common.core.batch import Output
from carom.common.core.model import Model
from carom.common.defences.catalogue import Defences
from carom.common.defences.detectors import Detector
from carom.common.defences.transforms import InputTransform, seen
from carom.vision.defences.transforms import SQUEEZING, BitDepth, Median

DETECTORS = Defences(kind="detector", adaptation=("rejection",))


@dataclass(frozen=True)
class FeatureSqueezing(Detector):
    """How far the probabilities move when the image is squeezed: the largest L1 distance over the squeezers."""

    squeezers: tuple[InputTransform, ...]
    fpr: float

    @property
    def passes(self) -> int:
        return 1 + len(self.squeezers)

    def score(self, model: Model, inputs: Tensor, lengths: Tensor | None, *rng: Rng) -> tuple[Output, Tensor]:
        output = model(inputs)
        shares = output.logits.float().softmax(1)
        squeezed = [model(seen(part, inputs, None)).logits.float().softmax(1) for part in self.squeezers]
        return output, torch.stack([(shares - other).abs().sum(1) for other in squeezed]).amax(0)


@DETECTORS.defence(
    "feature-squeezing",
    "rejects what fewer levels or a median filter change the answer to",
    paper=SQUEEZING,
    cost="3 passes per answer",
    departures="two squeezers, without non-local means",
)
def feature_squeezing(bits: int = 3, size: int = 2, fpr: float = 0.05) -> FeatureSqueezing:
    """Pixels of `bits` bits, and a median over squares of `size`; a share `fpr` of clean images is rejected."""
    return FeatureSqueezing((BitDepth(bits), Median(size)), fpr)
