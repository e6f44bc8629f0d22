"""Models that are plain functions from inputs to scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from carom.common.core.batch import Family
from carom.common.core.spaces import Space
from carom.common.models.answers import numbers_of, on_sides, read_logits
from carom.common.models.company import CompanyModel


class FunctionModel(CompanyModel):
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

    def together(self, inputs: Any, lengths: Tensor | None) -> Tensor:
        given = inputs.cpu().numpy() if isinstance(inputs, Tensor) else inputs
        answer, classes = self.function(given), 1 if self.threshold is not None else len(self.classes)
        if isinstance(answer, list) or hasattr(answer, "__array__"):
            answer = numbers_of(answer, self.name)
        scores = read_logits(answer, len(inputs), classes, self.name).float()
        if self.threshold is not None:
            scores = on_sides(scores, self.threshold, self.name)
        device = inputs.device if isinstance(inputs, Tensor) else "cpu"
        return (scores.clamp_min(1e-6).log() if self.probabilities else scores).to(device)
