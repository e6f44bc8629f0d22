"""The audio attacks: the shared gradient and tree attacks, and a random search over segments of the waveform."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from carom.audio.space import SNR
from carom.common.attacks import BALLS, GRADIENT_ATTACKS, SOFT_LEAF_PATH
from carom.common.modality import AttackInfo
from carom.common.problem import Access
from carom.common.rng import Rng
from carom.common.search import RandomSearch, shrinking
from carom.common.threats import L2, Linf

THREATS = {"linf": Linf, "l2": L2, "snr": SNR}
LONGEST = 20  # samples: half a period of the slowest tone, 400 Hz at 16 kHz


@dataclass(frozen=True)
class Segments:
    """Square Attack along time: segments whose length shrinks, each a square wave of random pitch and sign.

    One sign per segment, as squares have on images, would be a constant offset, which no front end of speech hears.
    """

    p: float = 0.3  # share of the sound in the first segments

    def first(self, shape: torch.Size, rng: Rng) -> Tensor:
        return rng.signs(shape[1])

    def next(self, pattern: Tensor, progress: float, rng: Rng, lengths: Tensor | None) -> Tensor:
        samples = pattern.shape[1]
        sounding = torch.full((len(pattern),), samples, device=pattern.device) if lengths is None else lengths
        size = (shrinking(self.p, progress) * sounding).round().long().clamp_min(1)[:, None]
        start = rng.fold("start").integers((sounding[:, None] - size + 1).clamp_min(1), 1)
        place = torch.arange(samples, device=pattern.device) - start
        # Half a period of 1 to LONGEST samples, each octave as likely.
        half = (LONGEST ** rng.fold("pitch").uniform(1)).long()
        tone = rng.fold("sign").signs(1) * (1 - 2 * (place // half % 2)).float()
        return torch.where((place >= 0) & (place < size), tone, pattern)


def square(queries: int = 1000, p: float = 0.3, keep_going: bool = False) -> RandomSearch:
    """Random search over segments; `keep_going` widens the margin after the first success, for transfer."""
    return RandomSearch(Segments(p), queries=queries, keep_going=keep_going)


SQUARE = AttackInfo(
    "square",
    "random search over segments of the waveform, by scores alone",
    "after Andriushchenko et al. 2020, Square attack (segments of tones are ours)",
    Access.SCORE,
    BALLS,
    square,
    "at most `queries` forward",
)

ATTACKS: dict[str, AttackInfo] = {info.name: info for info in [*GRADIENT_ATTACKS, SOFT_LEAF_PATH, SQUARE]}
