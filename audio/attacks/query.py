"""Attacks on sounds that only see answers: scores, or the predicted class."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from carom.common.attacks.catalogue import white_box
from carom.common.attacks.catalogue.base import Catalogue
from carom.common.attacks.catalogue.query import estimated
from carom.common.attacks.gradient.ascent import Ascent
from carom.common.attacks.info import BALLS
from carom.common.attacks.query.finite_differences import Bandits
from carom.common.attacks.query.label_search import DecisionSearch
from carom.common.attacks.query.proposals import Directions
from carom.common.attacks.query.random_search import Everywhere, RandomSearch, Turn, shrinking
from carom.common.attacks.query.surfree import SurFree
from carom.common.attacks.worst_case import Worst
from carom.common.base.errors import UnknownName
from carom.common.base.rng import Rng
from carom.common.core.batch import Access

QUERY = Catalogue(needs=Access.SCORE, threats=BALLS, cost="at most `queries`", random=True)

SHORTEST = 32  # samples: of a segment
PERIODS = (2.3, 80.0)  # samples: from 7 kHz to 200 Hz at 16 kHz


@dataclass(frozen=True)
class Tones(Everywhere):
    """Square Attack along time: segments of the sound that shrink, each given one more tone of random pitch and phase.

    One sign per segment, as squares have on images, would be a constant offset, which no front end of speech hears.
    Tones add up, and the threat scales their sum to its radius: energy gathers where it raised the objective.
    """

    p: float = 0.05  # share of the sound in the first segments

    def first(self, shape: torch.Size, rng: Rng) -> Tensor:
        return 1e-3 * rng.signs(shape[1])  # drowned by the first tone

    def next(self, pattern: Tensor, turn: Turn) -> Tensor:
        samples, rng, lengths = pattern.shape[1], turn.rng, turn.lengths
        sounding = torch.full((len(pattern),), samples, device=pattern.device) if lengths is None else lengths
        size = (shrinking(self.p, turn.progress) * sounding).round().long().clamp_min(SHORTEST)[:, None]
        start = rng.fold("start").integers((sounding[:, None] - size + 1).clamp_min(1), 1)
        place = (torch.arange(samples, device=pattern.device) - start).float()
        share = place / size
        window = (math.pi * share).sin().square() * ((share >= 0) & (share < 1))
        low, high = PERIODS
        period = low * (high / low) ** rng.fold("pitch").uniform(1)  # each octave as likely
        return pattern + window * (2 * math.pi * (place / period + rng.fold("phase").uniform(1))).sin()


@QUERY.attack(
    "square",
    "random search over short tones, by scores alone",
    paper="after Andriushchenko et al. 2020, Square attack",
    departures="tones instead of squares",
)
def square(queries: int = 1000, p: float = 0.05, keep_going: bool = False) -> RandomSearch:
    """Random search over tones; `keep_going` widens the margin after the first success, for transfer."""
    return RandomSearch(Tones(p), queries=queries, keep_going=keep_going)


@QUERY.attack(
    "simba",
    "cosine waves or single samples, kept where they help",
    paper="after Guo et al. 2019, Simple black-box adversarial attacks",
    threats=("l2", "snr"),
    departures="steps are projected onto the ball, of which the paper knows none",
)
def simba(
    queries: int = 1000, step: float = 0.5, basis: str = "wave", share: float = 0.5, keep_going: bool = False
) -> RandomSearch:
    """Random search along orthonormal directions: basis=wave, cosines of the lowest `share` of frequencies as long as
    the sound, or basis=sample. A step is a share of the radius."""
    if basis not in ("sample", "wave"):
        raise UnknownName("basis", basis, ("sample", "wave"))
    return RandomSearch(Directions(step, share, basis == "wave", axes=1), queries=queries, keep_going=keep_going)


@QUERY.attack(
    "bandits",
    "PGD on a gradient that is learnt along the way",
    paper="after Ilyas, Engstrom and Madry 2019, Prior convictions: black-box attacks with bandits and priors",
    departures="no coarse form of sounds is remembered; distances and rates are shares of the budget, and questions "
    "are asked farther away by default",
)
def bandits(
    queries: int = 1000,
    size: float = 0.1,
    explore: float = 1.0,
    eta: float = 0.5,
    rate: float = 0.03,
    loss: str = "margin",
) -> Ascent:
    """Steps along a remembered gradient, refined by two questions a step. No coarse form of sounds is known to help."""
    return estimated(Bandits(explore=explore, eta=eta, rate=rate), queries, size, 0.0, loss)


@QUERY.attack(
    "surfree",
    "circles through the boundary, by labels alone",
    paper="Maho, Furon and Le Merrer 2021, SurFree: a fast surrogate-free black-box attack",
    needs=Access.LABEL,
    threats=("l2", "snr"),
    targeted=False,
    departures="directions are orthogonal to the clean one alone, and drawn from all frequencies",
)
def surfree(queries: int = 1000) -> DecisionSearch:
    """Circles through the boundary in random planes."""
    return DecisionSearch(SurFree(), queries)


@white_box.auto_of(QUERY)
def auto(steps: int = 100, restarts: int = 1, targets: int = 9, queries: int = 5000) -> Worst:
    """AutoAttack with tones for squares."""
    return white_box.auto(square(queries), steps, restarts, targets)
