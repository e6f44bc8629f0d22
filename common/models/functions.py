"""Models that are plain functions from inputs to scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from carom.common.core.batch import Family, Output
from carom.common.core.model import Model
from carom.common.core.spaces import Inputs, Space
from carom.common.models.answers import on_sides, read_logits


class FunctionModel(Model):
    """Any function from inputs to scores float[N, C]: scores or labels only, nothing is differentiated.

    `probabilities=True` says that the function answers probabilities, whose logarithms become the logits.
    """

    def __init__(
        self,
        function: Any,
        *,
        name: str,
        modality: str,
        family: Family | str,
        space: Space,
        classes: Sequence[str],
        digest: str,
        probabilities: bool = True,
        threshold: float | None = None,
    ) -> None:
        super().__init__(name, modality, family, space, classes, digest)
        self.function = function
        self.probabilities = probabilities
        self.threshold = threshold  # of a function that answers one number for each input

    def __call__(self, inputs: Inputs, lengths: Tensor | None = None) -> Output:
        given = inputs.cpu().numpy() if isinstance(inputs, Tensor) else inputs
        answer = self.function(given)
        if not isinstance(answer, Tensor) and not hasattr(answer, "__array__") and not isinstance(answer, list):
            rows = len(inputs)
            answer = read_logits(answer, rows, len(self.classes), self.name)
        scores = torch.as_tensor(answer, dtype=torch.float32)
        if self.threshold is not None:
            scores = on_sides(scores, self.threshold, self.name)
        device = inputs.device if isinstance(inputs, Tensor) else "cpu"
        return Output((scores.clamp_min(1e-6).log() if self.probabilities else scores).to(device))
