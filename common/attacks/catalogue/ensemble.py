"""Attacks on the members of an ensemble, by name."""

from __future__ import annotations

from dataclasses import replace

from carom.common.attacks.catalogue.base import Catalogue
from carom.common.attacks.catalogue.gradient import bim, mi_fgsm
from carom.common.attacks.gradient.ascent import Ascent
from carom.common.attacks.gradient.ensemble import AdaEa, CommonWeakness, OneMember, VarianceReduced
from carom.common.attacks.info import BALLS
from carom.common.core.batch import Access

MEMBERS = Catalogue(needs=Access.GRADIENT | Access.MEMBERS, threats=BALLS, models="members")


@MEMBERS.attack(
    "svre",
    "MI-FGSM on an ensemble, each step the outcome of a climb along single members",
    paper="Xiong et al. 2022, Stochastic variance reduced ensemble adversarial attack for boosting the adversarial "
    "transferability",
    cost="steps * (2 + inner) * members forward and backward",
    random=True,
    departures="the members' gradients at x are computed once, not in every inner step",
)
def svre(
    steps: int = 10,
    inner: int = 4,
    inner_decay: float = 1.0,
    decay: float = 1.0,
    size: float | None = None,
    loss: str = "ce",
) -> Ascent:
    """MI-FGSM along where `inner` steps per member lead."""
    return replace(mi_fgsm(steps, decay, size, loss), gradient=VarianceReduced(inner, decay=inner_decay))


@MEMBERS.attack(
    "cwa",
    "MI-FGSM on an ensemble, towards flat maxima that the members share",
    paper="Chen et al. 2024, Rethinking model ensemble in transfer-based adversarial attacks",
    cost="2 * steps * members forward and backward",
    departures="the downhill step is made towards a target too",
)
def cwa(
    steps: int = 10,
    reverse: float = 1 / 15,
    inner: float = 10.0,
    decay: float = 1.0,
    size: float = 0.2,
    loss: str = "ce",
) -> Ascent:
    """MI-FGSM along where one long step per member leads: MI-CWA."""
    return replace(mi_fgsm(steps, decay, size, loss), gradient=CommonWeakness(reverse, inner, decay))


@MEMBERS.attack(
    "adaea",
    "MI-FGSM on an ensemble weighted by whose steps fool the others",
    paper="Chen et al. 2023, An adaptive model ensemble adversarial attack for boosting adversarial transferability",
    cost="steps * members * (2 + members) forward, 2 * steps * members backward",
    departures="weights and agreement are each example's own, not the batch's, and all pairs of members count alike",
)
def adaea(
    steps: int = 10,
    beta: float = 10.0,
    threshold: float = -0.3,
    decay: float = 1.0,
    size: float | None = None,
    loss: str = "ce",
) -> Ascent:
    """MI-FGSM on an ensemble weighted anew for every example and step."""
    return replace(mi_fgsm(steps, decay, size, loss), gradient=AdaEa(beta, threshold))


@MEMBERS.attack(
    "lgv",
    "BIM on one random member a step, for the ensembles that `carom surrogate lgv` makes",
    paper="Gubri et al. 2022, LGV: boosting adversarial example transferability from large geometric vicinity",
    cost="steps forward, steps backward of one member",
    random=True,
)
def lgv(steps: int = 50, size: float | None = None, loss: str = "ce") -> Ascent:
    """BIM on one random member a step; steps of a tenth of the radius, or longer if ten do not fit."""
    return replace(bim(steps, max(0.1, 1 / steps) if size is None else size, loss), gradient=OneMember())
