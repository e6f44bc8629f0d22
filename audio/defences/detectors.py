"""Defences that reject sounds."""

from __future__ import annotations

from carom.audio.defences.transforms import MedianFilter, Quantised, SampleNoise
from carom.common.defences.catalogue import Defences
from carom.common.defences.comparing import ODDS, Disagreement, FeatureSqueezing

WAVEGUARD = "Hussain et al. 2021, WaveGuard: understanding and mitigating audio adversarial examples"

DETECTORS = Defences(kind="detector", adaptation=("rejection",))


@DETECTORS.defence(
    "feature-squeezing",
    "rejects what coarser samples or a median filter change the answer to",
    paper=WAVEGUARD,
    cost="3 passes per answer",
    departures="the distance of class probabilities in place of that of transcripts; two changes, the larger distance",
)
def feature_squeezing(step: int = 256, size: int = 3, fpr: float = 0.05) -> FeatureSqueezing:
    """Samples at multiples of `step`, and a median over `size` samples; a share `fpr` of clean sounds is rejected."""
    return FeatureSqueezing((Quantised(step), MedianFilter(size)), fpr)


@DETECTORS.defence(
    "disagreement",
    "rejects what noise changes the answer to",
    paper=ODDS,
    adaptation=("rejection", "expectation"),
    cost="draws + 1 passes per answer",
    departures="the distance of probabilities in place of that of logits, standardised class by class; no correction",
)
def disagreement(sigma: float = 0.005, draws: int = 8, fpr: float = 0.05) -> Disagreement:
    """Over `draws` draws of noise of standard deviation `sigma`; a share `fpr` of clean sounds is rejected."""
    return Disagreement(SampleNoise(sigma, 0), draws, fpr)
