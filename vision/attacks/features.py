"""Transfer attacks on an inner layer of the source (carom.common.attacks.inside.feature_losses)."""

from __future__ import annotations

from dataclasses import replace

from carom.common.attacks.catalogue.base import Catalogue
from carom.common.attacks.catalogue.gradient import bim, mi_fgsm
from carom.common.attacks.gradient.ascent import Ascent
from carom.common.attacks.inside.feature_losses import Attributed, Important, Onward
from carom.common.core.batch import Access

FEATURES = Catalogue(needs=Access.GRADIENT | Access.FEATURES, threats=("linf", "l2"), models="layers")


@FEATURES.attack(
    "fia",
    "MI-FGSM away from the features that matter to the label in masked images",
    paper="Wang et al. 2021, Feature importance-aware transferable adversarial attacks",
    cost="samples + steps forward and backward",
    random=True,
    departures="aimed at a target as well",
)
def fia(steps: int = 10, samples: int = 30, drop: float = 0.3, layer: str | None = None, decay: float = 1.0) -> Ascent:
    """MI-FGSM away from the features that matter to the label in masked images."""
    return replace(mi_fgsm(steps, decay), objective=Important(layer, samples, drop))


@FEATURES.attack(
    "naa",
    "MI-FGSM away from the features that the label is attributed to",
    paper="Zhang et al. 2022, Improving adversarial transferability via neuron attribution-based attacks",
    cost="1 + samples + steps forward, samples + steps backward",
    random=True,
    departures="inputs on the way are blurred by noise, as in the released code",
)
def naa(
    steps: int = 10,
    samples: int = 30,
    balance: float = 1.0,
    noise: float = 0.1,
    layer: str | None = None,
    decay: float = 1.0,
) -> Ascent:
    """MI-FGSM away from the features that the label is attributed to."""
    return replace(mi_fgsm(steps, decay), objective=Attributed(layer, samples, balance, noise))


@FEATURES.attack(
    "ila",
    "BIM along the change that BIM made at an inner layer",
    paper="Huang et al. 2019, Enhancing adversarial example transferability with an intermediate level attack",
    cost="2 + first + steps forward, first + steps backward",
)
def ila(steps: int = 10, first: int = 10, layer: str | None = None, loss: str = "ce") -> Ascent:
    """I-FGSM along the change of the features that `first` steps of I-FGSM made."""
    return replace(bim(steps), objective=Onward(bim(first, loss=loss), layer))
