"""How far an adversarial image lies from the clean one: norms, PSNR, SSIM, CIEDE2000 and LPIPS, of 8-bit images.

All are taken on pixels as they are stored, k / 255, one number an image; a grey image counts as three equal channels
where colour matters. Inputs that are no images [N, 1 or 3, H, W] have no values (NaN) in all but the norms.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from carom.common.core.metrics import Metric, distance
from carom.common.core.spaces import Space
from carom.vision.quality import colours, lpips

WINDOW, SIGMA = 11, 1.5
K1, K2 = 0.01, 0.03


def l0(x: Tensor, x0: Tensor) -> Tensor:
    """float[N]: pixels that differ in any channel."""
    return (x != x0).any(1).flatten(1).sum(1).double()


def psnr(x: Tensor, x0: Tensor) -> Tensor:
    """float[N]: 10 log10(1 / mean squared error over pixels and channels), in decibels; infinite without a change."""
    return -10 * (x.double() - x0.double()).square().flatten(1).mean(1).log10()


def ssim(x: Tensor, x0: Tensor) -> Tensor:
    """float[N]: mean structural similarity of images [N, C, H, W] in [0, 1], averaged over the channels.

    Wang, Bovik, Sheikh and Simoncelli 2004, Image quality assessment: from error visibility to structural similarity,
    eqs. 13 to 17: an 11 x 11 Gaussian window of standard deviation 1.5 and weight 1, K1 = .01, K2 = .03, population
    moments, the mean over all places where the window lies inside the image. The paper is about luminance; here every
    channel is measured. Images are not shrunk first, as the authors' later script does with large ones. Where a side
    is below 11 pixels the window is the largest odd one that fits, its deviation in proportion.
    """
    x, x0 = x.double(), x0.double()
    side = min(WINDOW, *x.shape[-2:])
    side -= 1 - side % 2
    place = torch.arange(side, dtype=x.dtype, device=x.device) - side // 2
    weight = (-(place**2) / (2 * (SIGMA * side / WINDOW) ** 2)).exp()
    weight = weight / weight.sum()

    def mean(image: Tensor) -> Tensor:
        flat = image.flatten(0, 1)[:, None]
        return F.conv2d(F.conv2d(flat, weight.view(1, 1, -1, 1)), weight.view(1, 1, 1, -1)).view(len(x), -1)

    m, m0 = mean(x), mean(x0)
    variance, variance0, covariance = mean(x * x) - m * m, mean(x0 * x0) - m0 * m0, mean(x * x0) - m * m0
    c1, c2 = K1**2, K2**2
    likeness = (2 * m * m0 + c1) * (2 * covariance + c2)
    return (likeness / ((m * m + m0 * m0 + c1) * (variance + variance0 + c2))).mean(1)


def ciede2000(x: Tensor, x0: Tensor) -> Tensor:
    """float[N]: colour difference Delta E 00 of sRGB images [N, 3, H, W], the mean over pixels."""
    return colours.ciede2000(colours.lab(x), colours.lab(x0)).flatten(1).mean(1)


@dataclass(frozen=True)
class OfImages:
    """A measure of images as a metric: NaN where inputs are none; grey images made of three channels on request."""

    measure: Callable[[Tensor, Tensor], Tensor]
    colour: bool = False

    def __call__(self, space: Space, x: Tensor, x0: Tensor) -> Tensor:
        if x.dim() != 4 or x.shape[1] not in (1, 3):
            return torch.full((len(x),), torch.nan)
        if self.colour and x.shape[1] == 1:
            x, x0 = x.expand(-1, 3, -1, -1), x0.expand(-1, 3, -1, -1)
        return self.measure(x, x0)


METRICS = (
    distance("linf", "Linf", "largest change of a component, of 1"),
    distance("l2", "L2", "Euclidean length of the change, components in [0, 1]"),
    Metric("l0", "L0", "pixels changed in any channel", "", OfImages(l0)),
    Metric("psnr", "PSNR", "10 log10(1 / mean squared error), dB", "", OfImages(psnr)),
    Metric(
        "ssim",
        "SSIM",
        "structural similarity, 11 x 11 Gaussian window; 1 is equal",
        "Wang, Bovik, Sheikh and Simoncelli 2004, Image quality assessment: from error visibility to structural "
        "similarity",
        OfImages(ssim),
    ),
    Metric(
        "ciede2000",
        "CIEDE2000",
        "colour difference Delta E 00, mean over pixels",
        "Sharma, Wu and Dalal 2005, The CIEDE2000 color-difference formula",
        OfImages(ciede2000, colour=True),
    ),
    Metric(
        "lpips",
        "LPIPS",
        "distance in AlexNet's features, version 0.1; images below 64 pixels are enlarged to it",
        "Zhang, Isola, Efros, Shechtman and Wang 2018, The unreasonable effectiveness of deep features as a perceptual "
        "metric",
        OfImages(lpips.lpips, colour=True),
        lpips.missing,
    ),
)
