"""Defences that reject inputs: a score of how suspicious an input looks, and a threshold found on clean examples."""

from __future__ import annotations

import copy
import hashlib
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from carom.common.base.errors import CaromError
from carom.common.base.identity import Digest
from carom.common.base.rng import Rng
from carom.common.core.batch import Output
from carom.common.core.data import Dataset
from carom.common.core.model import Model
from carom.common.core.spaces import Inputs
from carom.common.defences.defended import Defended


class Detector:
    """The base of detectors: a frozen dataclass with a field `fpr`, the share of clean inputs that may be rejected, and a
    method `score`.

    An attacker who knows it differentiates the score beside the logits, so it is computed in torch of what `model`
    answers; steps without a gradient are gone around as in `transforms.seen`.
    """

    random: ClassVar[bool] = False
    fpr: float

    @property
    def passes(self) -> int:
        """Forward passes of the model that one score takes, its answer among them."""
        return 1

    def score(self, model: Model, inputs: Inputs, lengths: Tensor | None, *rng: Rng) -> tuple[Output, Tensor]:
        """(the model's answers to the inputs, how suspicious each is float[N], larger is more); a random detector is
        given a stream for each input."""
        raise NotImplementedError

    def calibrated(self, model: Model, clean: Dataset) -> Model:
        """The model behind the detector, its threshold found on clean examples."""
        return Detecting(model, self).calibrated(clean)


@dataclass(frozen=True)
class RejectionLevel:
    """Where rejection begins, and by how much scores of clean inputs differ."""

    threshold: float
    spread: float

    @classmethod
    def of(cls, scores: Tensor, fpr: float) -> RejectionLevel:
        """Between the clean scores that are rejected and those that are not: at most a share `fpr` lies above."""
        ranked = scores.double().sort().values
        most = int(fpr * len(ranked) + 1e-9)
        above, below = ranked[len(ranked) - most] if most else ranked[-1] + ranked.std(), ranked[len(ranked) - most - 1]
        return cls(float((above + below) / 2), max(float(ranked.std()), 1e-6))


class Detecting(Defended):
    """A model that rejects what its detector finds suspicious. Its `alarm` is how far the score lies above the threshold,
    in standard deviations of clean scores."""

    part: Detector

    def __init__(self, base: Model, part: Detector) -> None:
        super().__init__(base, part, draws=part.random)
        self.rejects, self.passes = True, base.passes * part.passes
        self.level: RejectionLevel | None = None  # before it is calibrated, the alarm is the score
        self.calibrated_on: frozenset[str] = frozenset()

    def calibrated(self, clean: Dataset) -> Detecting:
        """The same with its threshold found on clean examples."""
        self._check(clean)
        asked = self.ask(clean.batch(), lambda output: output.alarm, stream="calibration")
        scores = torch.cat([alarm for _, alarm in asked if alarm is not None])
        if not bool(scores.isfinite().all()):
            raise CaromError(f"{self.name}: a clean example of {clean.name} scores no finite number.")
        other, level = copy.copy(self), RejectionLevel.of(scores, self.part.fpr)
        other.level, other.calibrated_on = level, frozenset(clean.contents())
        other.digest = Digest(hashlib.sha256(repr((self.digest, "calibrated", clean.digest)).encode()).hexdigest())
        other.digest.why = self.digest.why  # type: ignore[attr-defined]
        said = f"{level.threshold:.4g}, above which lie {self.part.fpr:.1%} of {len(clean)} examples of {clean.name}"
        other.facts = {**self.facts, "rejection threshold": said}
        return other

    def _check(self, clean: Dataset) -> None:
        if not 0 <= self.part.fpr < 1:
            raise CaromError(
                f"fpr={self.part.fpr} is no share of clean inputs to reject: give one below 1, such as 0.05."
            )
        if clean.modality != self.modality or clean.space != self.space:
            raise CaromError(f"{clean.name} is not of the inputs that {self.base.name} takes: calibrate on others.")
        if (len(clean) * self.part.fpr < 1 and self.part.fpr > 0) or len(clean) < 2:
            need = max(2, round(1 / self.part.fpr)) if self.part.fpr else 2
            raise CaromError(
                f"{len(clean)} clean examples of {clean.name} cannot tell a false positive rate of {self.part.fpr:g}: "
                f"give {need} or more (limit=)."
            )

    def __call__(self, inputs: Inputs, lengths: Tensor | None = None) -> Output:
        rng = (self.streams(len(inputs)),) if self.part.random else ()
        output, score = self.part.score(self.base, inputs, lengths, *rng)
        if self.level is None:
            return output._replace(rejected=torch.zeros_like(score, dtype=torch.bool), alarm=score)
        alarm = (score - self.level.threshold) / self.level.spread
        if output.alarm is not None:
            alarm = torch.maximum(alarm, output.alarm)
        rejected = ~(alarm <= 0)  # what is no number is rejected
        if output.rejected is not None:
            rejected = rejected | output.rejected
        return output._replace(rejected=rejected, alarm=alarm)

    def _own_adaptation(self) -> tuple[str, ...]:
        return ("rejection", *(("expectation",) if self.part.random else ()))
