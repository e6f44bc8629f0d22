"""Defences that change a sound before the model hears it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from carom.common.base.errors import CaromError
from carom.common.base.rng import Rng
from carom.common.defences.catalogue import Defences
from carom.common.defences.shared import COHEN, NOISE, Noise
from carom.common.defences.smoothing import CUT, GAUSSIAN, GaussianNoise, Smoothing
from carom.common.defences.transforms import InputTransform

YANG = "Yang et al. 2019, Characterizing audio adversarial examples using temporal dependency"
RAJARATNAM = (
    "Rajaratnam, Shah and Kalita 2018, Isolated and ensemble audio preprocessing methods for detecting adversarial "
    "examples against automatic speech recognition"
)
GUO = "Guo et al. 2018, Countering adversarial images using input transformations"

TRANSFORMS = Defences(kind="transform", adaptation=("exact",))
RANDOM = Defences(kind="random", adaptation=("exact", "expectation"))
SMOOTHING = Defences(kind="smoothing", adaptation=("surrogate", "expectation", "rejection", "exact"))


@dataclass(frozen=True)
class Quantised(InputTransform):
    """Samples rounded to multiples of `step`, of 32768."""

    step: int

    def __call__(self, x: Tensor, *rng: Rng) -> Tensor:
        unit = self.step / 32768
        return (x / unit).round() * unit


@TRANSFORMS.defence("quantise", "samples rounded to coarser steps", paper=YANG, adaptation=("around",))
def quantise(step: int = 256) -> Quantised:
    """To multiples of `step`, of samples from -32768 to 32767."""
    return Quantised(step)


def low_pass(cutoff: float, half: int) -> Tensor:
    """float64[2 half + 1]: a windowed sinc (Hann) that passes frequencies below `cutoff`, as a share of the sample rate."""
    place = torch.arange(-half, half + 1, dtype=torch.float64)
    taps = (
        2 * cutoff * torch.sinc(2 * cutoff * place) * torch.hann_window(2 * half + 3, False, dtype=torch.float64)[1:-1]
    )
    return taps / taps.sum()


def filtered(x: Tensor, taps: Tensor) -> Tensor:
    """x[N, L] under an odd filter; before and behind it is silence. In float64, since the order in which a convolution
    adds up depends on how many sounds it is given."""
    double = x.double()[:, None]
    return F.conv1d(double, taps.to(double)[None, None], padding=len(taps) // 2)[:, 0].to(x)


@dataclass(frozen=True)
class Resampled(InputTransform):
    """Every `factor`-th sample of the low-passed sound, and back: what lies above the lower rate's half is lost."""

    factor: int
    half: ClassVar[int] = 32  # zero crossings of the filter to each side
    gradient: ClassVar[str] = "exact"

    def __call__(self, x: Tensor, *rng: Rng) -> Tensor:
        if self.factor == 1:
            return x
        taps = low_pass(0.5 / self.factor, self.half * self.factor)
        kept = torch.arange(x.shape[-1], device=x.device) % self.factor == 0
        return filtered(filtered(x, taps) * kept, self.factor * taps)


@TRANSFORMS.defence("resample", "sampled down and up again", paper=YANG)
def resample(factor: int = 2) -> Resampled:
    """By a whole `factor`."""
    return Resampled(factor)


@dataclass(frozen=True)
class BandPass(InputTransform):
    """What lies between two frequencies, as shares of the sample rate, by a filter of 2 * half + 1 taps."""

    low: float
    high: float
    half: ClassVar[int] = 256
    gradient: ClassVar[str] = "exact"

    def __post_init__(self) -> None:
        if not 0 <= self.low < self.high <= 0.5:
            raise CaromError(
                f"band-pass: from {self.low:g} to {self.high:g} of the sample rate is no band: 0 <= low < high <= 0.5."
            )

    def __call__(self, x: Tensor, *rng: Rng) -> Tensor:
        taps = torch.zeros(2 * self.half + 1, dtype=torch.float64)
        taps[self.half] = 1.0
        taps = low_pass(self.high, self.half) if self.high < 0.5 else taps
        return filtered(x, taps - low_pass(self.low, self.half) if self.low > 0 else taps)


@TRANSFORMS.defence(
    "band-pass",
    "only the frequencies of speech",
    paper=RAJARATNAM,
    departures="a filter of 513 taps; frequencies as shares of the sample rate",
)
def band_pass(low: float = 0.01, high: float = 0.25) -> BandPass:
    """Between two shares of the sample rate: at 16 kHz by default 160 Hz and 4 kHz."""
    return BandPass(low, high)


@dataclass(frozen=True)
class MedianFilter(InputTransform):
    """The median of `size` samples around each, mirrored at the ends."""

    size: int
    gradient: ClassVar[str] = "exact"

    def __call__(self, x: Tensor, *rng: Rng) -> Tensor:
        before, after = (self.size - 1) // 2, self.size // 2
        if x.shape[-1] <= after:
            raise CaromError(f"median: {self.size} samples do not fit a sound of {x.shape[-1]}.")
        return F.pad(x, (before, after), mode="reflect").unfold(1, self.size, 1).median(2).values


@TRANSFORMS.defence(
    "median",
    "median filter",
    paper=YANG,
    departures="of an even number of samples the lower of the two middle ones",
)
def median(size: int = 3) -> MedianFilter:
    """Over `size` samples."""
    return MedianFilter(size)


@RANDOM.defence(
    "noise",
    "Gaussian noise",
    paper=NOISE,
    departures="before the network alone, not before each layer; no training with it",
)
def noise(sigma: float = 0.005, seed: int = 0) -> Noise:
    """Of standard deviation `sigma`, samples in [-1, 1)."""
    return Noise(sigma, seed)


@dataclass(frozen=True)
class SampleNoise(GaussianNoise):
    """Gaussian noise on samples; a radius is also a ratio of energies, another one for every sound."""

    def terms(self, radii: Tensor, inputs: Tensor) -> dict[str, Tensor]:
        """`snr_db`: whatever changes a sound and stays so many decibels below it is within the radius."""
        return {"snr_db": 20 * (inputs.double().norm(dim=1) / radii).log10()}


@SMOOTHING.defence("smoothing", GAUSSIAN, paper=COHEN, cost="draws passes per answer", departures=CUT)
def smoothing(sigma: float = 0.02, draws: int = 100, alpha: float = 0.001, seed: int = 0) -> Smoothing:
    """Noise of standard deviation `sigma`, samples in [-1, 1); `alpha` is how often an answer may be one by chance."""
    return Smoothing(draws=draws, change=SampleNoise(sigma, seed), alpha=alpha)


@dataclass(frozen=True)
class Shifted(InputTransform):
    """Moved by up to `most` samples either way; what is moved in is silence."""

    most: int
    seed: int
    gradient: ClassVar[str] = "exact"
    random: ClassVar[bool] = True

    def __call__(self, x: Tensor, *rng: Rng) -> Tensor:
        by = rng[0].integers(2 * self.most + 1)[:, None] - self.most
        place = torch.arange(x.shape[-1], device=x.device) - by.to(x.device)
        inside = (place >= 0) & (place < x.shape[-1])
        return x.gather(1, place.clamp(0, x.shape[-1] - 1)) * inside


@RANDOM.defence(
    "shift",
    "moved in time at random",
    paper=GUO,
    departures="a crop in time of one sound",
)
def shift(most: int = 800, seed: int = 0) -> Shifted:
    """By up to `most` samples either way."""
    return Shifted(most, seed)
