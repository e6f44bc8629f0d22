"""The audio attacks: the shared gradient, tree and query attacks, and a random search over tones."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from carom.audio.space import SNR
from carom.common.attacks.catalogue import ensemble, white_box
from carom.common.attacks.catalogue.gradient import GRADIENT_ATTACKS
from carom.common.attacks.catalogue.query import QUERY_ATTACKS, estimated, query_info
from carom.common.attacks.catalogue.trees import LEAF_PATH_THROUGH, SOFT_LEAF_PATH
from carom.common.attacks.catalogue.universal import UAP
from carom.common.attacks.gradient.ascent import Ascent
from carom.common.attacks.info import BALLS, AttackInfo
from carom.common.attacks.query.finite_differences import Bandits
from carom.common.attacks.query.label_search import DecisionSearch
from carom.common.attacks.query.proposals import Directions
from carom.common.attacks.query.random_search import Everywhere, RandomSearch, Turn, shrinking
from carom.common.attacks.query.surfree import SurFree
from carom.common.attacks.worst_case import Worst
from carom.common.base.errors import UnknownName
from carom.common.base.rng import Rng
from carom.common.core.batch import Access
from carom.common.core.threats import L2, Linf

THREATS = {"linf": Linf, "l2": L2, "snr": SNR}
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


def square(queries: int = 1000, p: float = 0.05, keep_going: bool = False) -> RandomSearch:
    """Random search over tones; `keep_going` widens the margin after the first success, for transfer."""
    return RandomSearch(Tones(p), queries=queries, keep_going=keep_going)


def simba(
    queries: int = 1000, step: float = 0.5, basis: str = "wave", share: float = 0.5, keep_going: bool = False
) -> RandomSearch:
    """Random search along orthonormal directions: basis=wave, cosines of the lowest `share` of frequencies as long as
    the sound, or basis=sample. A step is a share of the radius."""
    if basis not in ("sample", "wave"):
        raise UnknownName("basis", basis, ("sample", "wave"))
    return RandomSearch(Directions(step, share, basis == "wave", axes=1), queries=queries, keep_going=keep_going)


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


def surfree(queries: int = 1000) -> DecisionSearch:
    """Circles through the boundary in random planes."""
    return DecisionSearch(SurFree(), queries)


def auto(steps: int = 100, restarts: int = 1, targets: int = 9, queries: int = 5000) -> Worst:
    """AutoAttack with tones for squares."""
    return white_box.auto(square(queries), steps, restarts, targets)


QUERY = [
    white_box.auto_info(auto),
    query_info(
        "square",
        "random search over short tones, by scores alone",
        "after Andriushchenko et al. 2020, Square attack (tones instead of squares are ours)",
        Access.SCORE,
        BALLS,
        square,
    ),
    query_info(
        "simba",
        "cosine waves or single samples, kept where they help",
        "after Guo et al. 2019, Simple black-box adversarial attacks",
        Access.SCORE,
        ("l2", "snr"),
        simba,
    ),
    query_info(
        "bandits",
        "PGD on a gradient that is learnt along the way",
        "after Ilyas, Engstrom and Madry 2019, Prior convictions: black-box attacks with bandits and priors",
        Access.SCORE,
        BALLS,
        bandits,
    ),
    query_info(
        "surfree",
        "circles through the boundary, by labels alone",
        "Maho, Furon and Le Merrer 2021, SurFree: a fast surrogate-free black-box attack",
        Access.LABEL,
        ("l2", "snr"),
        surfree,
        targeted=False,
    ),
]

ATTACKS: dict[str, AttackInfo] = {
    info.name: replace(info, threats=tuple(kind for kind in info.threats if kind in THREATS))
    for info in [
        *GRADIENT_ATTACKS,
        LEAF_PATH_THROUGH,
        SOFT_LEAF_PATH,
        *ensemble.INFOS,
        UAP,
        *white_box.INFOS,
        *QUERY_ATTACKS,
        *QUERY,
    ]
}
