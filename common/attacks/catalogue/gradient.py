"""Gradient attacks on bounded real inputs, whatever they depict: pixels and samples share them, word for word.

Budgets are the threat's; step sizes are shares of its radius, so one attack serves Linf, L2 and SNR.
"""

from __future__ import annotations

from dataclasses import replace

from carom.common.attacks.catalogue.base import Catalogue
from carom.common.attacks.gradient.ascent import Ascent
from carom.common.attacks.gradient.estimators import Nesterov
from carom.common.attacks.gradient.neighbours import Along, Flat, Relevant, Reverse, VarianceTuned
from carom.common.attacks.gradient.updates import L1Normalise, Momentum, chain
from carom.common.attacks.info import BALLS
from carom.common.core.batch import Access
from carom.common.core.objectives import objective

GRADIENT = Catalogue(needs=Access.GRADIENT, threats=BALLS, cost="steps forward, steps backward")


@GRADIENT.attack(
    "fgsm",
    "one step along the sign of the gradient",
    paper="Goodfellow, Shlens and Szegedy 2015, Explaining and harnessing adversarial examples",
    cost="1 forward, 1 backward",
)
def fgsm(loss: str = "ce") -> Ascent:
    """One step of the full radius."""
    return Ascent(steps=1, size=1.0, objective=objective(loss))


@GRADIENT.attack(
    "bim",
    "FGSM in small steps, also called I-FGSM",
    paper="Kurakin, Goodfellow and Bengio 2017, Adversarial examples in the physical world",
)
def bim(steps: int = 10, size: float | None = None, loss: str = "ce") -> Ascent:
    """I-FGSM: small steps from the input itself; by default they add up to the radius."""
    return Ascent(steps=steps, size=1 / steps if size is None else size, objective=objective(loss))


@GRADIENT.attack(
    "pgd",
    "small steps from a random start, with restarts",
    paper="Madry et al. 2018, Towards deep learning models resistant to adversarial attacks",
    threats=(*BALLS, "l1"),
    cost="steps * restarts forward and backward",
    random=True,
)
def pgd(
    steps: int = 10,
    size: float = 0.25,
    restarts: int = 1,
    loss: str = "ce",
    start: bool = True,
    stop: bool = False,
) -> Ascent:
    """Steps of a quarter radius from a random point of the ball; with `stop`, none after the source is fooled, which
    is what a white-box attack wants and one that is to transfer does not."""
    return Ascent(steps, size, objective=objective(loss), random_start=start, restarts=restarts, stop=stop)


@GRADIENT.attack(
    "mi-fgsm",
    "small steps with momentum, made to transfer",
    paper="Dong et al. 2018, Boosting adversarial attacks with momentum",
    departures="gradients are divided by their mean size, as in the released code, not by their L1 norm: the same "
    "directions",
)
def mi_fgsm(steps: int = 10, decay: float = 1.0, size: float | None = None, loss: str = "ce") -> Ascent:
    """BIM whose direction remembers earlier gradients."""
    update = chain(L1Normalise(), Momentum(decay))
    return Ascent(steps=steps, size=1 / steps if size is None else size, update=update, objective=objective(loss))


@GRADIENT.attack(
    "ni-fgsm",
    "MI-FGSM that looks ahead along its momentum",
    paper="Lin et al. 2020, Nesterov accelerated gradient and scale invariance for adversarial attacks",
)
def ni_fgsm(steps: int = 10, decay: float = 1.0, size: float | None = None, loss: str = "ce") -> Ascent:
    """MI-FGSM whose gradient is taken where the momentum leads."""
    return replace(mi_fgsm(steps, decay, size, loss), gradient=Nesterov(decay))


@GRADIENT.attack(
    "pregradient-fgsm",
    "MI-FGSM that looks ahead along its last gradient (the PI-FGSM of enhanced momentum, not the patch-wise one)",
    paper="Wang et al. 2021, Boosting adversarial transferability through enhanced momentum",
)
def pregradient_fgsm(steps: int = 10, decay: float = 1.0, size: float | None = None, loss: str = "ce") -> Ascent:
    """MI-FGSM whose gradient is taken one step along the last gradient."""
    return replace(mi_fgsm(steps, decay, size, loss), gradient=Along())


@GRADIENT.attack(
    "emi-fgsm",
    "MI-FGSM on the mean gradient along its last one",
    paper="Wang et al. 2021, Boosting adversarial transferability through enhanced momentum",
    cost="1 + (steps - 1) * samples forward and backward",
)
def emi_fgsm(
    steps: int = 10,
    samples: int = 11,
    reach: float = 7.0,
    decay: float = 1.0,
    size: float | None = None,
    loss: str = "ce",
) -> Ascent:
    """MI-FGSM on the mean gradient along a line through x, `reach` steps to either side."""
    places = tuple(reach * (2 * i / (samples - 1) - 1) if samples > 1 else 0.0 for i in range(samples))
    return replace(mi_fgsm(steps, decay, size, loss), gradient=Along(places))


@GRADIENT.attack(
    "vmi-fgsm",
    "MI-FGSM tuned by the variance of gradients in a neighbourhood",
    paper="Wang and He 2021, Enhancing the transferability of adversarial attacks through variance tuning",
    cost="steps * (1 + samples) forward and backward",
    random=True,
)
def vmi_fgsm(
    steps: int = 10,
    samples: int = 20,
    radius: float = 1.5,
    decay: float = 1.0,
    size: float | None = None,
    loss: str = "ce",
) -> Ascent:
    """MI-FGSM whose gradient is corrected by what the last one lacked of its neighbours' mean."""
    return replace(mi_fgsm(steps, decay, size, loss), gradient=VarianceTuned(samples=samples, radius=radius))


@GRADIENT.attack(
    "vni-fgsm",
    "NI-FGSM tuned by the variance of gradients in a neighbourhood",
    paper="Wang and He 2021, Enhancing the transferability of adversarial attacks through variance tuning",
    cost="steps * (1 + samples) forward and backward",
    random=True,
)
def vni_fgsm(
    steps: int = 10,
    samples: int = 20,
    radius: float = 1.5,
    decay: float = 1.0,
    size: float | None = None,
    loss: str = "ce",
) -> Ascent:
    """NI-FGSM whose gradient is corrected by what the last one lacked of its neighbours' mean."""
    return replace(mi_fgsm(steps, decay, size, loss), gradient=VarianceTuned(Nesterov(decay), samples, radius))


@GRADIENT.attack(
    "gra",
    "MI-FGSM between the gradient and its neighbours' mean, by their likeness",
    paper="Zhu et al. 2023, Boosting adversarial transferability via gradient relevance attack",
    cost="steps * (1 + samples) forward and backward",
    random=True,
    departures="the ball alone sets the size of steps: there is no decay indicator",
)
def gra(
    steps: int = 10,
    samples: int = 20,
    radius: float = 3.5,
    decay: float = 1.0,
    size: float | None = None,
    loss: str = "ce",
) -> Ascent:
    """MI-FGSM between the gradient and its neighbours' mean, by how alike they are."""
    return replace(mi_fgsm(steps, decay, size, loss), gradient=Relevant(samples, radius))


@GRADIENT.attack(
    "pgn",
    "MI-FGSM towards flat maxima, by a penalty on the gradient's norm",
    paper="Ge et al. 2023, Boosting adversarial transferability by achieving flat local maxima",
    cost="2 * steps * samples forward and backward",
    random=True,
)
def pgn(
    steps: int = 10,
    samples: int = 20,
    radius: float = 3.0,
    balance: float = 0.5,
    decay: float = 1.0,
    size: float | None = None,
    loss: str = "ce",
) -> Ascent:
    """MI-FGSM towards flat maxima: neighbours' gradients with their norm penalised."""
    return replace(mi_fgsm(steps, decay, size, loss), gradient=Flat(samples, radius, balance))


@GRADIENT.attack(
    "rap",
    "MI-FGSM at the worst point of a neighbourhood",
    paper="Qin et al. 2022, Boosting the transferability of adversarial attacks with reverse adversarial perturbation",
    cost="steps * (1 + (1 - late) * inner) forward and backward",
    random=True,
)
def rap(
    steps: int = 400,
    inner: int = 8,
    radius: float = 1.0,
    late: float = 0.25,
    decay: float = 1.0,
    size: float = 0.125,
    loss: str = "ce",
) -> Ascent:
    """MI-FGSM at the worst point of a neighbourhood, which `inner` steps look for after a share `late` of the steps."""
    return replace(mi_fgsm(steps, decay, size, loss), gradient=Reverse(inner, radius, late=late))
