"""Randomized smoothing: the majority over a random change of the input, which certifies its own answers.

Cohen, Rosenfeld and Kolter 2019, Certified adversarial robustness via randomized smoothing. The change is drawn in the
space of the inputs, before all that the model does to them, so that a certificate is about the inputs that an attacker
changes. What the space's bounds cut off is cut off after it: that is part of the model that is smoothed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
from scipy import stats
from torch import Tensor
from torch.nn import functional as F

from carom.common.base.errors import CaromError
from carom.common.core.batch import Output
from carom.common.core.model import Model
from carom.common.core.spaces import Inputs
from carom.common.defences.shared import Noise
from carom.common.defences.transforms import Around, InputTransform, Transformed
from carom.common.defences.voting import Vote, Voted, majority_of

ABSTAINS = "abstention is rejection, which an attacker gains nothing by; no training with what is smoothed over"


class CertifyingChange(InputTransform):
    """A random change of the input under which a majority says how far it holds."""

    random: ClassVar[bool] = True
    unit: ClassVar[str]  # what radii are counted in, in a sentence

    def radius(self, low: Tensor, inputs: Inputs, lengths: Tensor | None) -> Tensor:
        """float64[N]: up to which size no change of the inputs changes the majority, whose probability is at least `low`
        float64[N], each above 1/2."""
        raise NotImplementedError

    def terms(self, radii: Tensor, inputs: Inputs) -> dict[str, Tensor]:
        """What the radii mean for these inputs in other units, float64[N] each."""
        return {}


@dataclass(frozen=True)
class GaussianNoise(Noise, CertifyingChange):
    """Gaussian noise: the radius is sigma * Phi^-1(low), in L2 (theorem 1, with the runner-up bounded by 1 - low)."""

    unit: ClassVar[str] = "L2 distance"

    def radius(self, low: Tensor, inputs: Inputs, lengths: Tensor | None) -> Tensor:
        return self.sigma * torch.from_numpy(stats.norm.ppf(low.numpy()))


@dataclass(frozen=True)
class Smoothing(Vote):
    """The majority over `draws` draws of a change, or none: where the first class does not lead the second by so much
    that chance is ruled out up to `alpha`, it abstains (Cohen et al., PREDICT)."""

    rule: str = field(init=False, default="majority")
    change: CertifyingChange = field(kw_only=True)
    alpha: float = field(kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.alpha < 1:
            raise CaromError(f"alpha={self.alpha} is no probability of a wrong certificate: give one such as 0.001.")
        if 2 * 0.5**self.draws > self.alpha:
            need = math.ceil(1 - math.log2(self.alpha))
            raise CaromError(
                f"{self.draws} draws rule out chance for no answer up to alpha={self.alpha:g}: each is abstained from. Give "
                f"draws={need} or more."
            )

    def wrap(self, model: Model) -> Model:
        if model.rejects:
            raise CaromError(
                f"{model.name} may reject an input, and a majority cannot: put smoothing before the detector."
            )
        return Smoothed(Transformed(model, self.change), self)


class Smoothed(Voted):
    """A model's majority under a random change. Its alarm is the logarithm of the p-value of the lead over alpha; its
    gradient is that of a normal approximation over the mean probabilities."""

    part: Smoothing

    def __init__(self, base: Model, part: Smoothing) -> None:
        super().__init__(base, part)
        self.rejects = True

    def __call__(self, inputs: Inputs, lengths: Tensor | None = None) -> Output:
        answers = self.answers(inputs, lengths)
        if answers.shape[2] == 1:
            raise CaromError(f"{self.name}: a majority is of classes, and {self.base.name} answers one number.")
        votes = F.one_hot(answers.argmax(2), answers.shape[2]).sum(0)
        alarm = (chance_of_lead(votes) / self.part.alpha).log().to(answers)
        first, second = answers.softmax(2).mean(0).topk(2, 1).values.unbind(1)
        lead = (first - second) * (self.part.draws / (first + second)) ** 0.5
        smooth = torch.special.log_ndtr(-lead) + math.log(2 / self.part.alpha)
        alarm = Around.apply(alarm, smooth)
        return Output(majority_of(answers), rejected=alarm > 0, alarm=alarm)

    def _own_adaptation(self) -> tuple[str, ...]:
        return ("surrogate", "expectation", "rejection")


def chance_of_lead(votes: Tensor) -> Tensor:
    """float64[N]: of votes int64[N, C], how probable it is that the first two classes are apart by so many or more although
    both are as likely (two-sided binomial test)."""
    first, second = votes.topk(2, 1).values.cpu().numpy().T
    tail = stats.binom.sf(first - 1, first + second, 0.5)
    return torch.from_numpy(np.minimum(1.0, 2 * tail)).to(votes.device)


def lower_bound(hits: Tensor, draws: int, alpha: float) -> Tensor:
    """float64[N]: what a probability is at least, given hits int64[N] in `draws` draws, but for a chance of `alpha`
    (Clopper and Pearson 1934, one-sided)."""
    found = hits.cpu().numpy()
    low = stats.beta.ppf(alpha, np.maximum(found, 1), draws - found + 1)
    return torch.from_numpy(np.where(found > 0, low, 0.0))


GAUSSIAN = "the majority under Gaussian noise, with certificates in L2"
CUT = f"inputs that noise takes out of the space are cut off at its bounds, as part of the model; {ABSTAINS}"
