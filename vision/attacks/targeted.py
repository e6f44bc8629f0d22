"""Targeted transfer attacks on images: many steps of MI-FGSM on resized images and smoothed gradients (Zhao, Liu and
Larson 2021, section 3), with objectives that do not level off near the target.

Without a target each falls back to leading away from the label: `logit` lowers its logit.
"""

from __future__ import annotations

from dataclasses import replace

from carom.common.attacks.catalogue.base import Catalogue
from carom.common.attacks.catalogue.gradient import mi_fgsm
from carom.common.attacks.gradient.ascent import Ascent
from carom.common.attacks.gradient.step import Prepares
from carom.common.attacks.gradient.transforms import compose
from carom.common.attacks.inside.feature_losses import Alike
from carom.common.attacks.inside.feature_mixup import FeatureMix
from carom.common.core.batch import Access
from carom.common.core.objectives import Objective, logit, po_trip
from carom.vision.attacks.input_transforms import seen, smoothed
from carom.vision.attacks.scenes import Rendered
from carom.vision.attacks.views import Parted, Resized

ODI = "Byun et al. 2022, Improving the transferability of targeted adversarial examples through object-based diverse input"

SIZE = "the model sees its own size, shrunken views instead of enlarged ones"

TARGETED = Catalogue(needs=Access.GRADIENT, threats=("linf", "l2"), cost="steps forward and backward", random=True)


def long_climb(
    objective: Objective | Prepares, steps: int, size: float, rate: float, p: float, kernel: int, decay: float
) -> Ascent:
    """MI-FGSM on resized images and smoothed gradients."""
    climb = smoothed(seen(mi_fgsm(steps, decay, max(size, 1 / steps)), Resized((rate,), p)), kernel)
    return replace(climb, objective=objective)


@TARGETED.attack(
    "logit",
    "DI-TI-MI-FGSM in many steps towards a larger target logit",
    paper="Zhao, Liu and Larson 2021, On success and simplicity: a second look at transferable targeted attacks",
    departures=SIZE,
)
def logit_attack(
    steps: int = 300, size: float = 0.125, rate: float = 1.1, p: float = 0.7, kernel: int = 5, decay: float = 1.0
) -> Ascent:
    """DI-TI-MI-FGSM towards a larger target logit."""
    return long_climb(logit, steps, size, rate, p, kernel, decay)


@TARGETED.attack(
    "po-trip",
    "DI-TI-MI-FGSM in many steps towards a smaller Poincare distance to the target",
    paper="Li et al. 2020, Towards transferable targeted attack",
    departures=f"the smallest logit is taken from all before they are divided by their sum; {SIZE}",
)
def po_trip_attack(
    steps: int = 300, size: float = 0.125, rate: float = 1.1, p: float = 0.7, kernel: int = 5, decay: float = 1.0
) -> Ascent:
    """DI-TI-MI-FGSM towards a smaller Poincare distance to the target."""
    return long_climb(po_trip, steps, size, rate, p, kernel, decay)


@TARGETED.attack(
    "cfm",
    "the logit attack with features of other, clean images mixed into the source's layers",
    paper="Byun et al. 2023, Introducing competition to boost the transferability of targeted adversarial examples "
    "through clean feature mixup",
    needs=Access.GRADIENT | Access.FEATURES | Access.EXAMPLES,
    cost="partners + steps forward, steps backward",
    departures="every example has clean partners of its own, from other data than the batch, and draws for itself at "
    "every layer",
)
def cfm(
    steps: int = 300,
    size: float = 0.125,
    mix: float = 0.1,
    most: float = 0.75,
    partners: int = 3,
    width: float = 0.25,
    rate: float = 1.14,
    p: float = 1.0,
    kernel: int = 5,
    decay: float = 1.0,
) -> Ascent:
    """The logit attack with features of clean images mixed into the source's layers, those at most `width` as wide as
    the image."""
    surgery = FeatureMix(mix, most, partners, width)
    return replace(long_climb(logit, steps, size, rate, p, kernel, decay), surgery=surgery)


@TARGETED.attack(
    "su",
    "the logit attack on images and parts of them under one perturbation, their features alike",
    paper="Wei et al. 2023, Enhancing the self-universality for transferable targeted attacks",
    needs=Access.GRADIENT | Access.FEATURES,
    cost="2 * steps forward and backward",
    models="layers",
    departures=f"every image draws a part of its own, and its view is resized apart from the part's; {SIZE}; the layer "
    "is the last of the middle stage, where the released code takes a ResNet's third of four",
)
def su(
    steps: int = 300,
    size: float = 0.125,
    area: float = 0.1,
    weight: float = 1e-3,
    layer: str | None = None,
    rate: float = 1.1,
    p: float = 0.7,
    kernel: int = 5,
    decay: float = 1.0,
) -> Ascent:
    """The logit attack on each image and a part of it, whose features at a layer are to be alike."""
    climb = long_climb(Alike(logit, weight, layer), steps, size, rate, p, kernel, decay)
    return replace(climb, transform=compose(Parted(area), climb.transform))


@TARGETED.attack(
    "odi",
    "TI-MI-FGSM in many steps towards a larger target logit, on images rendered as the skin of solid objects",
    paper=ODI,
    departures="objects are formulas, boxes, cylinders and balls, not meshes",
)
def odi(
    steps: int = 300,
    size: float = 0.125,
    p: float = 1.0,
    degrees: float = 35.0,
    behind: float = 1.0,
    kernel: int = 5,
    decay: float = 1.0,
) -> Ascent:
    """TI-MI-FGSM towards a larger target logit on images rendered as the skin of solid objects."""
    view = Rendered(p, degrees, behind=behind)
    return replace(smoothed(seen(mi_fgsm(steps, decay, max(size, 1 / steps)), view), kernel), objective=logit)


@TARGETED.transform("odi", "rendered as the skin of solid objects", paper=ODI)
def with_odi(attack: Ascent) -> Ascent:
    return seen(attack, Rendered())
