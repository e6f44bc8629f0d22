"""Defences that reject images."""

from __future__ import annotations

from carom.common.defences.catalogue import Defences
from carom.common.defences.comparing import SQUEEZING, FeatureSqueezing
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
