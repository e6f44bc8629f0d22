"""Transfer attacks on images by input transformation: MI-FGSM or NI-FGSM on the mean gradient over views.

The attacks that only estimate gradients otherwise (NI, VMI, PGN, ...) know no pixel: they are in
carom.common.attacks.catalogue.gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from carom.common.attacks.catalogue.gradient import mi_fgsm, ni_fgsm
from carom.common.attacks.gradient.ascent import Ascent
from carom.common.attacks.gradient.step import Transform
from carom.common.attacks.gradient.transforms import Scales, TransformInfo, compose
from carom.common.attacks.gradient.updates import Smooth, chain
from carom.common.attacks.info import AttackInfo
from carom.common.core.batch import Access
from carom.vision.attacks import surgery
from carom.vision.attacks.scenes import Rendered
from carom.vision.attacks.transforms import Mixed, Resized, Restructured, Shuffled, Spectrum, Warped

SIZES = (1.14, 1.27, 1.4, 1.53, 1.66)
"""Zou et al. 2020, section 4.1."""


def seen(attack: Ascent, *views: Transform) -> Ascent:
    """The attack on these views, after those it has."""
    return replace(attack, transform=compose(attack.transform, *views))


def smoothed(attack: Ascent, kernel: int | None = None) -> Ascent:
    """The attack on smoothed gradients, by a Gaussian as wide as `kernel` pixels, or in proportion to the image."""
    smooth = Smooth() if kernel is None else Smooth(0.0, kernel)
    return replace(attack, update=chain(smooth, *attack.update.updates))


def di_fgsm(steps: int = 10, rate: float = 1.1, p: float = 0.5, decay: float = 1.0, loss: str = "ce") -> Ascent:
    """MI-FGSM on images resized at random: DI-MI-FGSM."""
    return seen(mi_fgsm(steps, decay, loss=loss), Resized((rate,), p))


def ti_fgsm(steps: int = 10, kernel: int | None = None, decay: float = 1.0, loss: str = "ce") -> Ascent:
    """MI-FGSM on smoothed gradients: TI-MI-FGSM. `kernel` in pixels; by default 15 of 224, and 5 at least."""
    return smoothed(mi_fgsm(steps, decay, loss=loss), kernel)


def si_ni_fgsm(steps: int = 10, samples: int = 5, decay: float = 1.0, loss: str = "ce") -> Ascent:
    """NI-FGSM on copies at half the brightness each."""
    return seen(ni_fgsm(steps, decay, loss=loss), Scales(samples))


def dem(steps: int = 10, decay: float = 1.0, loss: str = "ce") -> Ascent:
    """MI-FGSM on five sizes of the image, in steps of the whole radius.

    The paper takes the loss of the mean logits over the sizes; here it is the mean of the losses.
    """
    return seen(mi_fgsm(steps, decay, 1.0, loss), Resized(SIZES, 1.0))


def admix(
    steps: int = 10, mixes: int = 3, samples: int = 5, strength: float = 0.2, decay: float = 1.0, loss: str = "ce"
) -> Ascent:
    """MI-FGSM on mixtures with images of other classes, each at `samples` scales."""
    return seen(mi_fgsm(steps, decay, loss=loss), Mixed(mixes, strength), Scales(samples))


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


def bsr(
    steps: int = 10, samples: int = 20, blocks: int = 2, degrees: float = 24.0, decay: float = 1.0, loss: str = "ce"
) -> Ascent:
    """MI-FGSM on images whose blocks are shuffled and turned."""
    return seen(mi_fgsm(steps, decay, loss=loss), Shuffled(samples, blocks, degrees))


def sia(steps: int = 10, samples: int = 20, blocks: int = 3, decay: float = 1.0, loss: str = "ce") -> Ascent:
    """MI-FGSM on images whose blocks are each changed in their own way."""
    return seen(mi_fgsm(steps, decay, loss=loss), Restructured(samples, blocks))


def warp(steps: int = 10, samples: int = 20, reach: float = 1.0, decay: float = 1.0, loss: str = "ce") -> Ascent:
    """MI-FGSM on images warped like a thin plate pulled at its centre."""
    return seen(mi_fgsm(steps, decay, loss=loss), Warped(samples, reach))


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


DI = "Xie et al. 2019, Improving transferability of adversarial examples with input diversity"
TI = "Dong et al. 2019, Evading defenses to transferable adversarial examples by translation-invariant attacks"
SI = "Lin et al. 2020, Nesterov accelerated gradient and scale invariance for adversarial attacks"
DEM = "Zou et al. 2020, Improving the transferability of adversarial examples with resized-diverse-inputs, diversity-ensemble and region fitting"  # noqa: E501
ADMIX = "Wang et al. 2021, Admix: enhancing the transferability of adversarial attacks"
SSA = "Long et al. 2022, Frequency domain model augmentation for adversarial attack"
BSR = "Wang et al. 2024, Boosting adversarial transferability by block shuffle and rotation"
SIA = "Wang, Zhang and Zhang 2023, Structure invariant transformation for better adversarial transferability"
ODI = "Byun et al. 2022, Improving the transferability of targeted adversarial examples through object-based diverse input"
WARP = "after Lin et al. 2024, Boosting adversarial transferability across model genus by deformation-constrained warping (without the constraint)"  # noqa: E501


def _info(name: str, summary: str, reference: str, build: Callable[..., Ascent], cost: str, **more) -> AttackInfo:  # type: ignore[no-untyped-def]
    more = {"needs": Access.GRADIENT, "threats": ("linf", "l2"), "random": True, **more}
    return AttackInfo(name, summary, reference, build=build, cost=f"{cost} forward and backward", **more)


EXAMPLES = Access.GRADIENT | Access.EXAMPLES
INFOS = [
    _info("di-fgsm", "MI-FGSM on images resized and padded at random", DI, di_fgsm, "steps"),
    _info("ti-fgsm", "MI-FGSM on smoothed gradients", TI, ti_fgsm, "steps", random=False),
    _info("si-ni-fgsm", "NI-FGSM on darker copies", SI, si_ni_fgsm, "steps * samples", random=False),
    _info("dem", "MI-FGSM on five sizes at once, in large steps", DEM, dem, "5 * steps"),
    _info("admix", "MI-FGSM on mixtures with other images", ADMIX, admix, "steps * mixes * samples", needs=EXAMPLES),
    _info("ssa", "MI-FGSM on images of changed spectra", SSA, ssa, "steps * samples"),
    _info("bsr", "MI-FGSM on images with shuffled, turned blocks", BSR, bsr, "steps * samples"),
    _info("sia", "MI-FGSM on images whose blocks change each in its way", SIA, sia, "steps * samples"),
    _info("warp", "MI-FGSM on warped images", WARP, warp, "steps * samples"),
    _info("di-ti-mi-fgsm", "DI-FGSM on smoothed gradients", f"{DI}; {TI}", di_ti_mi, "steps"),
    _info("si-ni-ti-di-fgsm", "SI-NI-FGSM, resized and smoothed", f"{SI}; {TI}; {DI}", si_ni_ti_di, "steps * samples"),
]


TRANSFORMS: dict[str, TransformInfo] = {
    info.name: info
    for info in [
        TransformInfo("di", "resized and padded at random", DI, lambda attack: seen(attack, Resized())),
        TransformInfo("ti", "smoothed gradients", TI, smoothed),
        TransformInfo("si", "copies at half the brightness each", SI, lambda attack: seen(attack, Scales())),
        TransformInfo("dem", "five sizes at once", DEM, lambda attack: seen(attack, Resized(SIZES, 1.0))),
        TransformInfo("mix", "a little of other images", ADMIX, lambda attack: seen(attack, Mixed()), EXAMPLES),
        TransformInfo("ssa", "changed spectra", SSA, lambda attack: seen(attack, Spectrum())),
        TransformInfo("bsr", "blocks shuffled and turned", BSR, lambda attack: seen(attack, Shuffled())),
        TransformInfo("sia", "blocks changed each in its way", SIA, lambda attack: seen(attack, Restructured())),
        TransformInfo("odi", "rendered as the skin of solid objects", ODI, lambda attack: seen(attack, Rendered())),
        TransformInfo("warp", "pulled like a thin plate", WARP, lambda attack: seen(attack, Warped())),
        *surgery.TRANSFORMS,
    ]
}
