"""Front ends as torch modules, inside the model: a gradient with respect to the waveform passes through them.

All take float[N, L] in [-1, 1] and have finite gradients on digital silence: the spectrum enters as |X|^2 =
re^2 + im^2, never through a square root, and every logarithm has a floor.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from carom.audio.data.keywords import SAMPLE_RATE

WINDOW, HOP, FFT = 400, 160, 512  # 25 ms every 10 ms
FLOOR = 1e-3
"""Added to the mel energies. Speech peaks near 100; the faint background of a quiet clip lies below the floor."""


class LogMel(nn.Module):
    """Log energies of `bands` mel bands: float[N, L] -> float[N, bands, L // 160].

    Each band weighs the power spectrum of a Hann window of 25 ms; HTK mel scale, 20 Hz to 8 kHz. The logarithm is
    shifted and scaled by constants to about zero mean and unit deviation; no statistic of the clip is used, so frames
    do not influence each other here.
    """

    window: Tensor  # [WINDOW]
    mel: Tensor  # [FFT / 2 + 1, bands]

    def __init__(self, bands: int = 40):
        from torchaudio.functional import melscale_fbanks

        super().__init__()
        mel = melscale_fbanks(FFT // 2 + 1, 20.0, SAMPLE_RATE / 2, bands, SAMPLE_RATE)
        self.register_buffer("window", torch.hann_window(WINDOW), persistent=False)
        self.register_buffer("mel", mel, persistent=False)

    def forward(self, wave: Tensor) -> Tensor:
        margin = (WINDOW - HOP) // 2  # centres frame t on samples 160 t to 160 t + 159
        frames = F.pad(wave, (margin, margin)).unfold(1, WINDOW, HOP)  # [N, T, WINDOW]
        spectrum = torch.fft.rfft(frames * self.window, FFT)
        power = spectrum.real.square() + spectrum.imag.square()
        return ((power @ self.mel + FLOOR).log().transpose(1, 2) + 3.0) / 3.0


class SpecAugment(nn.Module):
    """Other voices from the same spectrogram, in training only: float[N, bands, T] of the same shape.

    A stripe of bands and a stripe of frames set to zero, the mean (Park et al., "SpecAugment", 2019), after a shift
    by up to `shift` bands, which is roughly a longer or shorter vocal tract.
    """

    def __init__(self, shift: int = 3, bands: int = 8, frames: int = 16):
        super().__init__()
        self.shift, self.bands, self.frames = shift, bands, frames

    def forward(self, mel: Tensor) -> Tensor:
        if not self.training:
            return mel
        count, bands, frames = mel.shape
        band = torch.arange(bands, device=mel.device)
        shift = torch.randint(-self.shift, self.shift + 1, (count, 1), device=mel.device)
        mel = mel.gather(1, (band + shift).clamp(0, bands - 1)[..., None].expand_as(mel))
        mel = mel.masked_fill(_stripe(count, bands, self.bands, mel.device)[:, :, None], 0)
        return mel.masked_fill(_stripe(count, frames, self.frames, mel.device)[:, None], 0)


def _stripe(count: int, size: int, widest: int, device: torch.device) -> Tensor:
    """bool[count, size]: in each row one run of True, up to `widest` long."""
    width = torch.randint(0, widest + 1, (count, 1), device=device)
    start = torch.rand(count, 1, device=device) * (size - width)
    place = torch.arange(size, device=device)
    return (place >= start) & (place < start + width)


class MfccStatistics(nn.Module):
    """What a tree can ask about a word, wherever in the clip it lies: float[N, L] -> float[N, size].

    Mean mel-frequency cepstra in each of `parts` successive parts of the word, their standard deviation over the
    whole word, and the mean size of their change from frame to frame. Which frames belong to the word, and to which of
    its parts, is decided softly by their energy, so that the statistics are differentiable in the waveform.
    """

    dct: Tensor  # [bands, cepstra]
    centres: Tensor  # [parts]

    def __init__(self, cepstra: int = 13, parts: int = 5, bands: int = 40):
        from torchaudio.functional import create_dct

        super().__init__()
        self.size = cepstra * (parts + 2)
        self.log_mel = LogMel(bands)
        self.register_buffer("dct", create_dct(cepstra, bands, "ortho"), persistent=False)
        self.register_buffer("centres", (torch.arange(parts) + 0.5) / parts, persistent=False)

    def forward(self, wave: Tensor) -> Tensor:
        mel = self.log_mel(wave)  # [N, bands, T]
        cepstra = mel.transpose(1, 2) @ self.dct  # [N, T, K]
        loudness = mel.mean(1)  # [N, T]
        threshold = 0.5 * (loudness.amax(1, keepdim=True) + loudness.amin(1, keepdim=True))
        speech = torch.sigmoid(8 * (loudness - threshold))
        total = speech.sum(1, keepdim=True)
        progress = (speech.cumsum(1) - 0.5 * speech) / total  # 0 at the first frame of the word, 1 at its last
        near = 1 - len(self.centres) * (progress[:, None] - self.centres[:, None]).abs()  # [N, parts, T]
        weights = near.clamp_min(0) * speech[:, None]
        parts = weights @ cepstra / weights.sum(2, keepdim=True).clamp_min(1e-3)  # [N, parts, K]
        share = (speech / total)[:, None]  # [N, 1, T]
        mean = share @ cepstra  # [N, 1, K]
        spread = (share @ (cepstra - mean).square() + 1e-4).sqrt()
        change = share[..., 1:] @ (cepstra.diff(dim=1).square() + 1e-4).sqrt()
        return torch.cat([parts, spread, change], 1).flatten(1)
