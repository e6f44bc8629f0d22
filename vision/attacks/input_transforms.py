"""Transfer attacks on images by input transformation: MI-FGSM or NI-FGSM on the mean gradient over views.

The attacks that only estimate gradients otherwise (NI, VMI, PGN, ...) know no pixel: they are in
carom.common.attacks.catalogue.gradient.
"""

from __future__ import annotations

from dataclasses import replace

from carom.common.attacks.catalogue.base import Catalogue
from carom.common.attacks.catalogue.gradient import mi_fgsm, ni_fgsm
from carom.common.attacks.gradient.ascent import Ascent
from carom.common.attacks.gradient.step import Transform
from carom.common.attacks.gradient.transforms import Scales, compose
from carom.common.attacks.gradient.updates import Smooth, chain
from carom.common.core.batch import Access
from carom.vision.attacks.views import Mixed, Resized, Restructured, Shuffled, Spectrum, Warped

DI = "Xie et al. 2019, Improving transferability of adversarial examples with input diversity"
TI = "Dong et al. 2019, Evading defenses to transferable adversarial examples by translation-invariant attacks"
SI = "Lin et al. 2020, Nesterov accelerated gradient and scale invariance for adversarial attacks"
DEM = (
    "Zou et al. 2020, Improving the transferability of adversarial examples with resized-diverse-inputs, "
    "diversity-ensemble and region fitting"
)
ADMIX = "Wang et al. 2021, Admix: enhancing the transferability of adversarial attacks"
SSA = "Long et al. 2022, Frequency domain model augmentation for adversarial attack"
BSR = "Wang et al. 2024, Boosting adversarial transferability by block shuffle and rotation"
SIA = "Wang, Zhang and Zhang 2023, Structure invariant transformation for better adversarial transferability"
WARP = (
    "after Lin et al. 2024, Boosting adversarial transferability across model genus by deformation-constrained warping "
    "(without the constraint)"
)

EXAMPLES = Access.GRADIENT | Access.EXAMPLES
VIEWS = Catalogue(
    needs=Access.GRADIENT, threats=("linf", "l2"), cost="steps * samples forward and backward", random=True
)

SIZES = (1.14, 1.27, 1.4, 1.53, 1.66)
"""Zou et al. 2020, section 4.1."""


def seen(attack: Ascent, *views: Transform) -> Ascent:
    """The attack on these views, after those it has."""
    return replace(attack, transform=compose(attack.transform, *views))


def smoothed(attack: Ascent, kernel: int | None = None) -> Ascent:
    """The attack on smoothed gradients, by a Gaussian as wide as `kernel` pixels, or in proportion to the image."""
    smooth = Smooth() if kernel is None else Smooth(0.0, kernel)
    return replace(attack, update=chain(smooth, *attack.update.updates))


@VIEWS.attack(
    "di-fgsm",
    "MI-FGSM on images resized and padded at random",
    paper=DI,
    cost="steps forward and backward",
    departures="the model sees its own size, shrunken views instead of enlarged ones",
)
def di_fgsm(steps: int = 10, rate: float = 1.1, p: float = 0.5, decay: float = 1.0, loss: str = "ce") -> Ascent:
    """MI-FGSM on images resized at random: DI-MI-FGSM."""
    return seen(mi_fgsm(steps, decay, loss=loss), Resized((rate,), p))


@VIEWS.transform("di", "resized and padded at random", paper=DI)
def with_di(attack: Ascent) -> Ascent:
    return seen(attack, Resized())


@VIEWS.attack("ti-fgsm", "MI-FGSM on smoothed gradients", paper=TI, cost="steps forward and backward", random=False)
def ti_fgsm(steps: int = 10, kernel: int | None = None, decay: float = 1.0, loss: str = "ce") -> Ascent:
    """MI-FGSM on smoothed gradients: TI-MI-FGSM. `kernel` in pixels; by default 15 of 224, and 5 at least."""
    return smoothed(mi_fgsm(steps, decay, loss=loss), kernel)


@VIEWS.transform("ti", "smoothed gradients", paper=TI)
def with_ti(attack: Ascent) -> Ascent:
    return smoothed(attack)


@VIEWS.attack("si-ni-fgsm", "NI-FGSM on darker copies", paper=SI, random=False)
def si_ni_fgsm(steps: int = 10, samples: int = 5, decay: float = 1.0, loss: str = "ce") -> Ascent:
    """NI-FGSM on copies at half the brightness each."""
    return seen(ni_fgsm(steps, decay, loss=loss), Scales(samples))


@VIEWS.transform("si", "copies at half the brightness each", paper=SI)
def with_si(attack: Ascent) -> Ascent:
    return seen(attack, Scales())


@VIEWS.attack(
    "dem",
    "MI-FGSM on five sizes at once, in large steps",
    paper=DEM,
    cost="5 * steps forward and backward",
    departures="the mean of the losses over the sizes, not the loss of the mean logits; views are shrunken, not "
    "enlarged",
)
def dem(steps: int = 10, decay: float = 1.0, loss: str = "ce") -> Ascent:
    """MI-FGSM on five sizes of the image, in steps of the whole radius."""
    return seen(mi_fgsm(steps, decay, 1.0, loss), Resized(SIZES, 1.0))


@VIEWS.transform("dem", "five sizes at once", paper=DEM)
def with_dem(attack: Ascent) -> Ascent:
    return seen(attack, Resized(SIZES, 1.0))


@VIEWS.attack(
    "admix",
    "MI-FGSM on mixtures with other images",
    paper=ADMIX,
    needs=EXAMPLES,
    cost="steps * mixes * samples forward and backward",
    departures="every copy draws its own partner",
)
def admix(
    steps: int = 10, mixes: int = 3, samples: int = 5, strength: float = 0.2, decay: float = 1.0, loss: str = "ce"
) -> Ascent:
    """MI-FGSM on mixtures with images of other classes, each at `samples` scales."""
    return seen(mi_fgsm(steps, decay, loss=loss), Mixed(mixes, strength), Scales(samples))


@VIEWS.transform("mix", "a little of other images", paper=ADMIX, needs=EXAMPLES)
def with_mix(attack: Ascent) -> Ascent:
    return seen(attack, Mixed())


@VIEWS.attack(
    "ssa",
    "MI-FGSM on images of changed spectra",
    paper=SSA,
    departures="the noise is `sigma`, not the threat's eps; gradients are of the image, through the change of its "
    "spectrum, where the released code's are of the changed image",
)
def ssa(
    steps: int = 10,
    samples: int = 20,
    rho: float = 0.5,
    sigma: float = 16 / 255,
    decay: float = 1.0,
    loss: str = "ce",
) -> Ascent:
    """MI-FGSM on images of changed spectra: S2I-MI-FGSM."""
    return seen(mi_fgsm(steps, decay, loss=loss), Spectrum(samples, rho, sigma))


@VIEWS.transform("ssa", "changed spectra", paper=SSA)
def with_ssa(attack: Ascent) -> Ascent:
    return seen(attack, Spectrum())


@VIEWS.attack(
    "bsr",
    "MI-FGSM on images with shuffled, turned blocks",
    paper=BSR,
    departures="every image draws its own blocks; the blocks are turned, not the strips before they are cut as in the "
    "authors' later code",
)
def bsr(
    steps: int = 10, samples: int = 20, blocks: int = 2, degrees: float = 24.0, decay: float = 1.0, loss: str = "ce"
) -> Ascent:
    """MI-FGSM on images whose blocks are shuffled and turned."""
    return seen(mi_fgsm(steps, decay, loss=loss), Shuffled(samples, blocks, degrees))


@VIEWS.transform("bsr", "blocks shuffled and turned", paper=BSR)
def with_bsr(attack: Ascent) -> Ascent:
    return seen(attack, Shuffled())


@VIEWS.attack(
    "sia",
    "MI-FGSM on images whose blocks change each in its way",
    paper=SIA,
    departures="seven changes, as in the authors' later code: no resizing, change of the spectrum or dropout",
)
def sia(steps: int = 10, samples: int = 20, blocks: int = 3, decay: float = 1.0, loss: str = "ce") -> Ascent:
    """MI-FGSM on images whose blocks are each changed in their own way."""
    return seen(mi_fgsm(steps, decay, loss=loss), Restructured(samples, blocks))


@VIEWS.transform("sia", "blocks changed each in its way", paper=SIA)
def with_sia(attack: Ascent) -> Ascent:
    return seen(attack, Restructured())


@VIEWS.attack(
    "warp",
    "MI-FGSM on warped images",
    paper=WARP,
    departures="no search for the mildest pull, which the constraint is",
)
def warp(steps: int = 10, samples: int = 20, reach: float = 1.0, decay: float = 1.0, loss: str = "ce") -> Ascent:
    """MI-FGSM on images warped like a thin plate pulled at its centre."""
    return seen(mi_fgsm(steps, decay, loss=loss), Warped(samples, reach))


@VIEWS.transform("warp", "pulled like a thin plate", paper=WARP)
def with_warp(attack: Ascent) -> Ascent:
    return seen(attack, Warped())


@VIEWS.attack(
    "di-ti-mi-fgsm",
    "DI-FGSM on smoothed gradients",
    paper=f"{DI}; {TI}",
    cost="steps forward and backward",
    departures="the model sees its own size, shrunken views instead of enlarged ones",
)
def di_ti_mi(
    steps: int = 10,
    rate: float = 1.1,
    p: float = 0.5,
    kernel: int | None = None,
    decay: float = 1.0,
    loss: str = "ce",
) -> Ascent:
    """MI-FGSM on images resized at random, with smoothed gradients."""
    return smoothed(di_fgsm(steps, rate, p, decay, loss), kernel)


@VIEWS.attack(
    "si-ni-ti-di-fgsm",
    "SI-NI-FGSM, resized and smoothed",
    paper=f"{SI}; {TI}; {DI}",
    departures="the model sees its own size, shrunken views instead of enlarged ones",
)
def si_ni_ti_di(
    steps: int = 10,
    samples: int = 5,
    rate: float = 1.1,
    p: float = 0.5,
    kernel: int | None = None,
    decay: float = 1.0,
    loss: str = "ce",
) -> Ascent:
    """NI-FGSM on scaled copies resized at random, with smoothed gradients."""
    return smoothed(seen(si_ni_fgsm(steps, samples, decay, loss), Resized((rate,), p)), kernel)
