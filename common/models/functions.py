"""Models that are plain functions from inputs to scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from carom.common.core.batch import Family, Output
from carom.common.core.model import Model
from carom.common.core.spaces import Inputs, Space


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
    ) -> None:
        super().__init__(name, modality, family, space, classes, digest)
        self.function = function
        self.probabilities = probabilities

    def __call__(self, inputs: Inputs, lengths: Tensor | None = None) -> Output:
        given = inputs.cpu().numpy() if isinstance(inputs, Tensor) else inputs
        scores = torch.as_tensor(self.function(given), dtype=torch.float32)
        device = inputs.device if isinstance(inputs, Tensor) else "cpu"
        return Output((scores.clamp_min(1e-6).log() if self.probabilities else scores).to(device))
