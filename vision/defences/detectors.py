"""Defences that reject images."""

from __future__ import annotations

from carom.common.defences.catalogue import Defences
from carom.common.defences.comparing import ODDS, SQUEEZING, Disagreement, FeatureSqueezing
from carom.common.defences.shared import Noise
from carom.vision.defences.transforms import BitDepth, Median

DETECTORS = Defences(kind="detector", adaptation=("rejection",))


@DETECTORS.defence(
    "feature-squeezing",
    "rejects what fewer levels or a median filter change the answer to",
    paper=SQUEEZING,
    cost="3 passes per answer",
    departures="two squeezers, without non-local means",
)
def feature_squeezing(bits: int = 3, size: int = 2, fpr: float = 0.05) -> FeatureSqueezing:
    """Pixels of `bits` bits, and a median over squares of `size`; a share `fpr` of clean images is rejected."""
    return FeatureSqueezing((BitDepth(bits), Median(size)), fpr)


@DETECTORS.defence(
    "disagreement",
    "rejects what noise changes the answer to",
    paper=ODDS,
    adaptation=("rejection", "expectation"),
    cost="draws + 1 passes per answer",
    departures="the distance of probabilities in place of that of logits, standardised class by class; no correction",
)
def disagreement(sigma: float = 0.05, draws: int = 8, fpr: float = 0.05) -> Disagreement:
    """Over `draws` draws of noise of standard deviation `sigma`; a share `fpr` of clean images is rejected."""
    return Disagreement(Noise(sigma, 0), draws, fpr)
