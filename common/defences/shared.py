"""Defences that know nothing of a kind of input: noise, and the vote over draws of whatever is random."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from carom.common.base.rng import Rng
from carom.common.defences.catalogue import Defences
from carom.common.defences.transforms import InputTransform
from carom.common.defences.voting import Vote

COHEN = "Cohen, Rosenfeld and Kolter 2019, Certified adversarial robustness via randomized smoothing"
NOISE = "Liu et al. 2018, Towards robust neural networks via random self-ensemble"


@dataclass(frozen=True)
class Noise(InputTransform):
    """Gaussian noise of a standard deviation in the space's own units, cut off at its bounds."""

    sigma: float
    seed: int
    gradient: ClassVar[str] = "exact"
    random: ClassVar[bool] = True

    def __call__(self, x: Tensor, *rng: Rng) -> Tensor:
        return x + self.sigma * rng[0].normal(*x.shape[1:]).to(x)


VOTES = Defences()


@VOTES.defence(
    "vote",
    "the mean or the majority of several draws of a random model",
    paper=COHEN,
    kind="vote",
    adaptation=("surrogate", "expectation"),
    cost="draws passes per answer",
    departures="no certificate and no abstention; between equal shares of a majority the mean probability decides",
)
def vote(draws: int = 10, rule: str = "majority") -> Vote:
    """Asked `draws` times; `rule` is "majority" (of the answers) or "mean" (of the probabilities)."""
    return Vote(draws, rule)
