"""What the report lets one hear of a sound: before, after, and the perturbation made audible."""

from __future__ import annotations

import io
import math
import wave
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from carom.common.core.spaces import Space
from carom.common.modality.panels import Panel, Sound

COLUMNS = 240  # of an outline
PEAK = 10 ** (-12 / 20)  # -12 dBFS: nothing in the report is loud, whatever was stored


def panels(space: Space, clean: Tensor, adversarial: Tensor, facts: Mapping[str, Any]) -> list[Panel]:
    """Three sounds of one stored waveform[L]: clean and adversarial with the same gain, and the change times a factor.

    Of the facts, `length` cuts the padding off and `sample_rate` is written into the files.
    """
    rate = int(facts.get("sample_rate", getattr(space, "sample_rate", 16_000)))
    length = int(facts.get("length", clean.shape[-1]))
    before, after = space.decode(clean)[:length], space.decode(adversarial)[:length]
    change = after - before
    loudest = float(torch.stack([before, after]).abs().max())
    gain = PEAK / loudest if loudest else 1.0
    largest = float(change.abs().max())
    caption, factor = "no perturbation", 1.0
    if largest:
        factor = _printable(PEAK / (largest * gain))
        noise = 10 * math.log10(float(before.square().sum()) / float(change.square().sum()) or 1e-30)
        caption = f"perturbation x{factor:g}, {noise:.1f} dB below the sound"
    return [
        _sound("clean", before * gain, rate),
        _sound("adversarial", after * gain, rate),
        _sound(caption, change * gain * factor, rate),
    ]


def _printable(factor: float) -> float:
    """The largest number of two digits that is no larger."""
    digits = 10 ** (math.floor(math.log10(factor)) - 1)
    return round(math.floor(factor / digits + 1e-9) * digits, 6)


def _sound(caption: str, sound: Tensor, rate: int) -> Sound:
    return Sound(caption, wav(sound, rate), outline(sound))


def wav(sound: Tensor, rate: int) -> bytes:
    """A WAV file of 16-bit samples of float[L] in [-1, 1]."""
    samples = (sound * 32768).round().clamp(-32768, 32767).to(torch.int16)
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(rate)
        out.writeframes(samples.cpu().numpy().astype("<i2").tobytes())
    return file.getvalue()


def outline(sound: Tensor, columns: int = COLUMNS) -> list[tuple[float, float]]:
    """(lowest, highest) sample in each of at most `columns` parts of float[L]."""
    parts = sound.tensor_split(min(columns, max(1, len(sound))))
    return [(round(float(p.min()), 4), round(float(p.max()), 4)) if len(p) else (0.0, 0.0) for p in parts]
